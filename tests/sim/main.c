/* The program: many seeds, each in a process of its own, so that one that crashes is only one that
 * fails; or one seed, told in all detail. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "sim.h"

#define SEED_CPU_MAX_SECONDS 20 /* it takes a second at most; more, and it runs for ever */

struct sim_options sim_options;

static const struct {
	const char *name;
	int seeds; /* within which it must be found */
} mutants[SIM_MUTANT_COUNT] = {
	[SIM_MUTANT_NO_MARGIN] = { "no-margin", 600 },
	[SIM_MUTANT_BREAKS_EARLY] = { "breaks-early", 100 },
	[SIM_MUTANT_COUNTS_FROM_ANSWER] = { "counts-from-answer", 600 },
	[SIM_MUTANT_UNSYNCED_ACK] = { "unsynced-ack", 400 },
	[SIM_MUTANT_FORGETFUL_JOURNAL] = { "forgetful-journal", 400 },
	[SIM_MUTANT_DROPPED_EVENTS] = { "dropped-events", 400 },
	[SIM_MUTANT_IDLE_SHIM] = { "idle-shim", 200 },
	[SIM_MUTANT_FORGOTTEN_ID] = { "forgotten-id", 100 },
	[SIM_MUTANT_LOST_NEWS] = { "lost-news", 100 },
	[SIM_MUTANT_FORGOTTEN_REFUSALS] = { "forgotten-refusals", 2000 },
	[SIM_MUTANT_SHORT_KEY_LEASES] = { "short-key-leases", 400 },
	[SIM_MUTANT_RENEWS_BROKEN] = { "renews-broken", 100 },
	[SIM_MUTANT_DROPPED_ORDERS] = { "dropped-orders", 100 },
	[SIM_MUTANT_ANY_STATE] = { "any-state", 200 },
	[SIM_MUTANT_SAME_TOKEN] = { "same-token", 100 },
	[SIM_MUTANT_STOLEN_KEY] = { "stolen-key", 100 },
	[SIM_MUTANT_KEPT_TOKENS] = { "kept-tokens", 100 },
	[SIM_MUTANT_FORGOTTEN_ENDS] = { "forgotten-ends", 100 },
	[SIM_MUTANT_BREAKS_RENEWED] = { "breaks-renewed", 800 },
	[SIM_MUTANT_PLACES_ON_DRAINED] = { "places-on-drained", 200 },
	[SIM_MUTANT_DROPPED_ENDS] = { "dropped-ends", 100 },
	[SIM_MUTANT_SHORT_HISTORY] = { "short-history", 100 },
	[SIM_MUTANT_KEPT_REVOKED] = { "kept-revoked", 100 },
	[SIM_MUTANT_UNTOLD_REVOCATIONS] = { "untold-revocations", 200 },
	[SIM_MUTANT_NO_RECOVERY] = { "no-recovery", 400 },
};

/* Killed processes leave their memory behind, as they do in truth. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0:detect_stack_use_after_return=0";
}

static void run_seed(uint64_t seed)
{
	sim_options.seed = seed;
	json_object_seed(1); /* else it is another one in each process */
	sim_seed(seed);
	sim_options.controllers = (int)sim_between(1, 3);
	sim_options.drones = (int)sim_between(2, 4);
	sim_options.proxies = (int)sim_between(1, 2);
	sim_options.keys = (int)sim_between(1, 8);
	sim_options.has_power_cuts = true;
	sim_options.has_originals =
		sim_options.mutant == SIM_MUTANT_SHORT_KEY_LEASES || sim_chance(350);
	sim_options.faults_until = sim_between(60, 180) * SIM_SECOND;
	if (sim_options.has_originals)
		sim_options.faults_until *= 2; /* what they wait for is far longer */
	sim_cluster_run();
	sim_trace("seed %llu: passed, %lld events", (unsigned long long)seed,
		(long long)sim_event_count());
}

static void tell_replay(const char *program, uint64_t seed, int status)
{
	if (WIFSIGNALED(status))
		printf("seed %llu: crashed by signal %d\n", (unsigned long long)seed,
			WTERMSIG(status));
	printf("replay: %s --seed %llu --trace", program, (unsigned long long)seed);
	if (sim_options.mutant)
		printf(" --mutant %s", mutants[sim_options.mutant].name);
	putchar('\n');
}

struct running {
	pid_t pid;
	uint64_t seed;
};

struct tally {
	int passed, failed;
};

static void reap(const char *program, struct running *running, int jobs, struct tally *tally)
{
	int status;
	pid_t pid = wait(&status);
	for (int i = 0; i < jobs; i++) {
		if (running[i].pid != pid)
			continue;
		running[i].pid = 0;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
			tally->passed++;
			return;
		}
		tally->failed++;
		if (!sim_options.mutant)
			tell_replay(program, running[i].seed, status);
	}
}

static void start(struct running *running, uint64_t seed)
{
	(void)fflush(stdout);
	running->seed = seed;
	running->pid = fork();
	if (running->pid != 0)
		return;
	if (sim_options.mutant && !freopen("/dev/null", "w", stdout))
		_exit(0); /* a failure is what is wanted, and is not told */
	(void)setrlimit(RLIMIT_CPU, &(struct rlimit){ SEED_CPU_MAX_SECONDS, SEED_CPU_MAX_SECONDS });
	run_seed(seed);
	(void)fflush(stdout);
	_exit(0);
}

/* Stops at the first failure if that is wanted. */
static struct tally run_many(const char *program, uint64_t first, int count, bool is_first_enough)
{
	struct running running[64] = { 0 };
	struct tally tally = { 0 };
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	int jobs = processors < 1 ? 1 : processors > 64 ? 64 : (int)processors;
	int started = 0, busy = 0;
	while (started < count || busy) {
		bool is_enough = is_first_enough && tally.failed;
		for (int i = 0; i < jobs && started < count && !is_enough; i++) {
			if (running[i].pid)
				continue;
			start(&running[i], first + (uint64_t)started++);
			busy++;
		}
		if (!busy)
			break;
		reap(program, running, jobs, &tally);
		busy--;
	}
	return tally;
}

static double seconds(void)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* The last line, and for who counts tests over many programs. */
static int tell_totals(const struct tally *tally, const char *path)
{
	FILE *file = path ? fopen(path, "w") : NULL;
	printf("%d passed, %d failed\n", tally->passed, tally->failed);
	if (file) {
		(void)fprintf(file, "%d passed, %d failed\n", tally->passed, tally->failed);
		(void)fclose(file);
	}
	return tally->failed != 0 || (path && !file);
}

static int run_mutants(const char *program, const char *totals)
{
	struct tally all = { 0 };
	for (int i = 1; i < SIM_MUTANT_COUNT; i++) {
		sim_options.mutant = (enum sim_mutant)i;
		struct tally tally = run_many(program, 1, mutants[i].seeds, true);
		bool is_found = tally.failed > 0;
		printf("%s: %s within %d seeds\n", mutants[i].name,
			is_found ? "found" : "NOT FOUND", tally.passed + tally.failed);
		all.passed += is_found;
		all.failed += !is_found;
	}
	return tell_totals(&all, totals);
}

/* ---- many keys ---- */

static long memory_mib(void)
{
	struct rusage usage;
	(void)getrusage(RUSAGE_SELF, &usage);
	return usage.ru_maxrss / 1024;
}

static int run_scale(void)
{
	double began = seconds();
	sim_options.controllers = 2;
	sim_options.drones = 1000;
	sim_options.keys = 1000000;
	sim_options.seed = 1;
	json_object_seed(1);
	sim_seed(1);
	sim_options.faults_until = 3600 * SIM_SECOND;
	sim_cluster_run_scale();
	printf("%d keys on %d drones for %d s of virtual time: %.1f s, %ld MiB, %lld events\n",
		sim_options.keys, sim_options.drones, 3600, seconds() - began, memory_mib(),
		(long long)sim_event_count());
	return 0;
}

static enum sim_mutant mutant_of(const char *name)
{
	for (int i = 1; i < SIM_MUTANT_COUNT; i++)
		if (strcmp(mutants[i].name, name) == 0)
			return (enum sim_mutant)i;
	(void)fprintf(stderr, "no such variant: %s\n", name);
	exit(2);
}

struct arguments {
	uint64_t seed, first;
	int count;
	const char *totals; /* a file, or NULL */
	bool has_seed, are_mutants;
};

static bool read_arguments(int argc, char **argv, struct arguments *arguments)
{
	static const struct option options[] = { { "seed", required_argument, NULL, 's' },
		{ "seeds", required_argument, NULL, 'n' },
		{ "first", required_argument, NULL, 'f' }, { "trace", no_argument, NULL, 't' },
		{ "mutant", required_argument, NULL, 'm' }, { "mutants", no_argument, NULL, 'M' },
		{ "scale", no_argument, NULL, 'S' }, { "totals", required_argument, NULL, 'T' },
		{ 0 } };
	int option;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 's':
			arguments->seed = strtoull(optarg, NULL, 10);
			arguments->has_seed = true;
			break;
		case 'n':
			arguments->count = atoi(optarg);
			break;
		case 'f':
			arguments->first = strtoull(optarg, NULL, 10);
			break;
		case 't':
			sim_options.is_tracing = true;
			break;
		case 'm':
			sim_options.mutant = mutant_of(optarg);
			break;
		case 'M':
			arguments->are_mutants = true;
			break;
		case 'S':
			sim_options.is_scale = true;
			break;
		case 'T':
			arguments->totals = optarg;
			break;
		default:
			return false;
		}
	}
	return optind == argc;
}

static int run_seeds(const char *program, const struct arguments *arguments)
{
	double began = seconds();
	struct rusage usage;
	struct tally tally = run_many(program, arguments->first, arguments->count, false);
	(void)getrusage(RUSAGE_CHILDREN, &usage);
	printf("%.1f s, at most %ld MiB for one seed\n", seconds() - began, usage.ru_maxrss / 1024);
	return tell_totals(&tally, arguments->totals);
}

int main(int argc, char **argv)
{
	struct arguments arguments = { .first = 1, .count = 200 };
	if (!read_arguments(argc, argv, &arguments)) {
		(void)fprintf(stderr,
			"usage: %s [--seeds N] [--first N] | --seed N [--trace] [--mutant NAME] | "
			"--mutants | --scale\n",
			argv[0]);
		return 2;
	}
	if (sim_options.is_scale)
		return run_scale();
	if (arguments.has_seed) {
		run_seed(arguments.seed);
		printf("seed %llu: passed\n", (unsigned long long)arguments.seed);
		return 0;
	}
	return arguments.are_mutants ? run_mutants(argv[0], arguments.totals)
				     : run_seeds(argv[0], &arguments);
}
