/* What must hold at every step, and what must hold in the end. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <uthash.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/text.h"
#include "invariants.h"

bool sim_is_tracing(void)
{
	return sim_options.is_tracing;
}

static void print(const char *format, va_list arguments)
{
	int64_t now = sim_now();
	printf("%6lld.%06lld ", (long long)(now / SIM_SECOND), (long long)(now % SIM_SECOND));
	vprintf(format, arguments);
	putchar('\n');
}

void sim_trace(const char *format, ...)
{
	va_list arguments;
	if (!sim_options.is_tracing)
		return;
	va_start(arguments, format);
	print(format, arguments);
	va_end(arguments);
}

void sim_fail(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	printf("seed %llu: ", (unsigned long long)sim_options.seed);
	print(format, arguments);
	va_end(arguments);
	(void)fflush(stdout);
	_exit(1);
}

/* ---- at every step ---- */

struct started {
	char backend[PLANE_NAME_SIZE];
	const struct sim_machine *machine;
	int boot_number;
	UT_hash_handle hh;
};

struct fence {
	char key[64];
	int64_t greatest;
	UT_hash_handle hh;
};

static struct started *all_started;
static struct fence *fences;

static struct fence *fence_of(const char *key)
{
	struct fence *fence = NULL;
	HASH_FIND_STR(fences, key, fence);
	if (!fence) {
		fence = PLANE_NEW(struct fence);
		(void)plane_text_copy(fence->key, sizeof(fence->key), key);
		HASH_ADD_STR(fences, key, fence);
	}
	return fence;
}

/* A start does not wait for the disk: a machine that lost its power in that moment may take the
 * same order again, when of what it had started nothing is left. */
static bool is_start_again(const struct started *started, const struct sim_machine *machine)
{
	return started->machine == machine && started->boot_number != machine->boot_number;
}

void sim_check_started(
	struct sim_machine *machine, const char *backend, const char *key, int64_t fencing_token)
{
	struct started *started = NULL;
	struct fence *fence = fence_of(key);
	struct memory_seen_backend known;
	if (memory_database_find(sim_database(), backend, &known) &&
		strcmp(known.drone, machine->name) != 0)
		sim_fail("%s was started on %s, and is to run on %s", backend, machine->name,
			known.drone);
	HASH_FIND_STR(all_started, backend, started);
	bool is_again = started && is_start_again(started, machine);
	if (started && !is_again)
		sim_fail("%s was started twice, now on %s", backend, machine->name);
	if (!started) {
		started = PLANE_NEW(struct started);
		(void)plane_text_copy(started->backend, sizeof(started->backend), backend);
		HASH_ADD_STR(all_started, backend, started);
	}
	started->machine = machine;
	started->boot_number = machine->boot_number;
	if (fencing_token < fence->greatest || (fencing_token == fence->greatest && !is_again))
		sim_fail("the fencing token of %s for %s is %lld, after %lld", backend, key,
			(long long)fencing_token, (long long)fence->greatest);
	fence->greatest = fencing_token;
}

void sim_check_route(const char *key, const char *address)
{
	const char *there = sim_runtime_key_at(address);
	if (there && strcmp(there, key) != 0)
		sim_fail("a route of %s leads to %s, a backend of %s", key, address, there);
}

/* The states of a backend in the store move forward only. */
struct seen_status {
	char backend[PLANE_NAME_SIZE];
	enum plane_backend_status status;
	UT_hash_handle hh;
};
static struct seen_status *statuses;

static void check_progress(void *data, const struct memory_seen_backend *backend)
{
	struct seen_status *seen = NULL;
	(void)data;
	HASH_FIND_STR(statuses, backend->name, seen);
	if (!seen) {
		seen = PLANE_NEW(struct seen_status);
		(void)plane_text_copy(seen->backend, sizeof(seen->backend), backend->name);
		HASH_ADD_STR(statuses, backend, seen);
	}
	if (backend->status < seen->status)
		sim_fail("%s went back from %s to %s", backend->name,
			plane_backend_status_text(seen->status),
			plane_backend_status_text(backend->status));
	seen->status = backend->status;
}

void sim_check_store(void)
{
	memory_database_each(sim_database(), check_progress, NULL);
}

struct named {
	char backend[PLANE_NAME_SIZE];
	UT_hash_handle hh;
};
static struct named *must_end, *forgotten;

static void add_once(struct named **set, const char *backend)
{
	struct named *named = NULL;
	HASH_FIND_STR(*set, backend, named);
	if (named)
		return;
	named = PLANE_NEW(struct named);
	(void)plane_text_copy(named->backend, sizeof(named->backend), backend);
	HASH_ADD_STR(*set, backend, named);
}

void sim_check_must_end(const char *backend)
{
	add_once(&must_end, backend);
}

void sim_check_forgotten(const char *backend)
{
	add_once(&forgotten, backend);
}

/* ---- draining ---- */

struct drained {
	char drone[16];
	UT_hash_handle hh;
};
static struct drained *all_drained;

void sim_check_drained(const char *drone, bool is_drained)
{
	struct drained *drained = NULL;
	HASH_FIND_STR(all_drained, drone, drained);
	if (drained && !is_drained) {
		HASH_DEL(all_drained, drained);
		free(drained);
	} else if (!drained && is_drained) {
		drained = PLANE_NEW(struct drained);
		(void)plane_text_copy(drained->drone, sizeof(drained->drone), drone);
		HASH_ADD_STR(all_drained, drone, drained);
	}
}

void sim_check_placed(const char *backend)
{
	struct drained *drained = NULL;
	struct memory_seen_backend known;
	if (!memory_database_find(sim_database(), backend, &known))
		sim_fail("%s was stored, and the store does not know it", backend);
	HASH_FIND_STR(all_drained, known.drone, drained);
	if (drained)
		sim_fail("%s was placed on %s, which drains", backend, known.drone);
}

/* ---- what status streams tell ---- */

static unsigned bit_of(enum plane_backend_status status)
{
	return 1U << (status / 5);
}

/* States only go forward: what the store has between the two, it had before. */
void sim_check_told(
	const char *backend, enum plane_backend_status last, enum plane_backend_status status)
{
	struct memory_seen_backend known;
	const char *former = last ? plane_backend_status_text(last) : "nothing";
	if (status <= last)
		sim_fail("a stream of %s tells %s after %s", backend,
			plane_backend_status_text(status), former);
	if (!memory_database_find(sim_database(), backend, &known))
		return;
	unsigned after_last = last ? ~(2 * bit_of(last) - 1) : ~0U;
	if (known.states & after_last & (bit_of(status) - 1))
		sim_fail("a stream of %s tells %s after %s, and leaves out what was between",
			backend, plane_backend_status_text(status), former);
	if (!(known.states & bit_of(status)))
		sim_fail("a stream of %s tells %s, which it never was", backend,
			plane_backend_status_text(status));
}

void sim_check_told_all(const char *backend, enum plane_backend_status last)
{
	struct memory_seen_backend known;
	if (memory_database_find(sim_database(), backend, &known) && known.status != last)
		sim_fail("%s is %s, and its stream has told no more than %s", backend,
			plane_backend_status_text(known.status),
			last ? plane_backend_status_text(last) : "nothing");
}

/* ---- once the faults are over and all has come to rest ---- */

static void check_agreement(void *data, const struct memory_seen_backend *backend)
{
	bool is_running = sim_runtime_is_running(backend->name);
	(void)data;
	if (backend->status == PLANE_TERMINATED && is_running)
		sim_fail("%s has ended for the store, and still runs", backend->name);
	if (backend->status != PLANE_TERMINATED && !is_running)
		sim_fail("%s is %s for the store, and does not run", backend->name,
			plane_backend_status_text(backend->status));
	if (backend->status != PLANE_TERMINATED && backend->status != PLANE_READY)
		sim_fail("%s stays %s", backend->name, plane_backend_status_text(backend->status));
	if (backend->pending_orders)
		sim_fail("an order for %s is not taken", backend->name);
}

void sim_check_ends(void)
{
	struct named *ordered, *next;
	struct memory_seen_backend known;
	HASH_ITER (hh, must_end, ordered, next)
		if (memory_database_find(sim_database(), ordered->backend, &known) &&
			known.status != PLANE_TERMINATED)
			sim_fail("%s was ordered to end, and is %s", known.name,
				plane_backend_status_text(known.status));
}

void sim_check_rest(void)
{
	struct started *started, *next;
	struct named *ordered = NULL;
	struct memory_seen_backend known;
	sim_check_ends();
	memory_database_each(sim_database(), check_agreement, NULL);
	HASH_ITER (hh, all_started, started, next) {
		HASH_FIND_STR(forgotten, started->backend, ordered);
		if (!memory_database_find(sim_database(), started->backend, &known) &&
			(!ordered || sim_runtime_is_running(started->backend)))
			sim_fail("%s was started, and the store knows nothing of it",
				started->backend);
	}
}

static void check_ended(void *data, const struct memory_seen_backend *backend)
{
	(void)data;
	if (backend->status != PLANE_TERMINATED)
		sim_fail("%s was to end and is %s", backend->name,
			plane_backend_status_text(backend->status));
}

void sim_check_end(struct sim_machine *const *machines, int count)
{
	memory_database_each(sim_database(), check_ended, NULL);
	for (int i = 0; i < count; i++) {
		if (sim_runtime_running(machines[i]))
			sim_fail("backends run on on %s", machines[i]->name);
		if (sim_journal_has_events(machines[i]))
			sim_fail("events of %s are not acknowledged", machines[i]->name);
	}
}

/* ---- the log of the roles ---- */

bool plane_log_enabled(enum plane_log_level level)
{
	return sim_options.is_tracing && level >= PLANE_LOG_INFO;
}

void plane_log_write(enum plane_log_level level, const char *backend, const char *format, ...)
{
	char text[1024];
	va_list arguments;
	(void)level;
	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	sim_trace("[%s] %s%s%s", sim_current()->name, backend ? backend : "", backend ? ": " : "",
		text);
}
