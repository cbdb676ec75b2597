/* What goes wrong, and when it is over: all of it drawn from the seed. */
#include <signal.h>

#include "base/alloc.h"
#include "cluster.h"

#define LONG (25 * SIM_SECOND)          /* longer than a lease */
#define LONG_ORIGINAL (90 * SIM_SECOND) /* than one of the original */

/* Short ones are as likely as long ones. */
static int64_t some_time(void)
{
	if (sim_options.has_originals && sim_chance(200))
		return sim_between(0, LONG_ORIGINAL);
	return sim_chance(500) ? sim_between(SIM_MS, 3 * SIM_SECOND) : sim_between(0, LONG);
}

static struct sim_node *pick_any(void)
{
	return &sim_cluster.nodes[sim_below((uint64_t)sim_cluster.count)];
}

/* ---- processes ---- */

static void kill_one(void)
{
	struct sim_node *node = pick_any();
	node->not_before = sim_now() + some_time();
	sim_process_kill(node->process);
}

static void stop_one(void)
{
	struct sim_node *node = pick_any();
	if (!sim_process_is_alive(node->process) || node->role == SIM_PROXY)
		return;
	node->not_before = sim_now() + some_time();
	sim_trace("%s gets SIGTERM", node->name);
	sim_process_signal(node->process, SIGTERM);
}

static void resume_process(void *data)
{
	struct sim_process *process = data;
	if (process->owner.is_paused)
		sim_trace("%s gets SIGCONT", process->name);
	sim_resume(&process->owner);
}

static void pause_one(void)
{
	struct sim_node *node = pick_any();
	if (!sim_process_is_alive(node->process) || node->process->owner.is_paused)
		return;
	sim_trace("%s gets SIGSTOP", node->name);
	sim_pause(&node->process->owner);
	(void)sim_after(NULL, some_time(), resume_process, node->process);
}

/* ---- machines ---- */

static void resume_machine(void *data)
{
	struct sim_machine *machine = data;
	if (!machine->owner.is_paused)
		return;
	sim_trace("machine %s goes on", machine->name);
	sim_resume(&machine->owner);
	sim_runtime_resumed(machine);
}

static void suspend_one(void)
{
	struct sim_node *node = sim_cluster_pick(SIM_DRONE);
	if (node->machine->owner.is_paused || node->machine->is_off)
		return;
	sim_trace("machine %s is suspended", node->name);
	sim_pause(&node->machine->owner);
	(void)sim_after(NULL, some_time(), resume_machine, node->machine);
}

static void boot(void *data)
{
	struct sim_machine *machine = data;
	if (!machine->is_off)
		return;
	sim_trace("machine %s boots", machine->name);
	machine->is_off = false;
	machine->boot_number++;
	machine->wall_offset_ms += sim_boot_us(machine) / SIM_MS;
	machine->booted_at = sim_now();
	machine->boot_offset_us = sim_between(SIM_SECOND, 100 * SIM_SECOND);
	machine->wall_offset_ms -= sim_boot_us(machine) / SIM_MS; /* that clock goes on */
}

static void cut_power(void)
{
	struct sim_node *node = sim_cluster_pick(SIM_DRONE);
	if (!sim_options.has_power_cuts || node->machine->is_off || node->machine->owner.is_paused)
		return;
	sim_trace("machine %s loses its power", node->name);
	node->machine->is_off = true;
	sim_process_kill(node->process);
	sim_runtime_power_cut(node->machine);
	sim_journal_power_cut(node->machine);
	if (sim_chance(200))
		sim_journal_lose(node->machine);
	(void)sim_after(NULL, some_time(), boot, node->machine);
}

/* The drone's directory is gone, and its backends run on. */
static void lose_journal(void)
{
	struct sim_node *node = sim_cluster_pick(SIM_DRONE);
	if (node->machine->owner.is_paused)
		return;
	sim_trace("the journal of %s is lost", node->name);
	sim_process_kill(node->process);
	sim_journal_lose(node->machine);
	node->not_before = sim_now() + some_time();
}

/* The original's drones count by it. */
static void jump_clock(void)
{
	struct sim_node *node = pick_any();
	if (node->role != SIM_DRONE || !sim_options.has_originals)
		node->machine->wall_offset_ms += sim_between(-3600000, 3600000);
}

static void crash_backend(void)
{
	struct sim_node *node = sim_cluster_pick(SIM_DRONE);
	if (!node->machine->owner.is_paused)
		sim_runtime_crash_one(node->machine);
}

/* ---- the network ---- */

struct cut {
	int from, to;
};

static void heal(void *data)
{
	struct cut *cut = data;
	sim_network_cut(cut->from, cut->to, false);
	free(cut);
}

static void cut_way(int from, int to, int64_t duration)
{
	struct cut *cut = PLANE_NEW(struct cut);
	cut->from = from;
	cut->to = to;
	sim_network_cut(from, to, true);
	sim_trace("cut from %d to %d for %lld ms", from, to, (long long)(duration / SIM_MS));
	(void)sim_after(NULL, duration, heal, cut);
}

static void partition(void)
{
	const struct sim_node *node = pick_any(), *other = sim_cluster_pick(SIM_CONTROLLER);
	bool is_database = node->role == SIM_CONTROLLER;
	int from = node->machine->index;
	int64_t duration = some_time();
	uint64_t ways = 1 + sim_below(3);
	/* from all controllers, or from one */
	for (int i = 0; i < sim_options.controllers; i++) {
		int to = is_database ? SIM_DATABASE : sim_cluster.nodes[i].machine->index;
		if (!is_database && ways != 3 && &sim_cluster.nodes[i] != other)
			continue;
		if (ways & 1)
			cut_way(from, to, duration);
		if (ways & 2)
			cut_way(to, from, duration);
		if (is_database)
			break;
	}
}

static void end_slow_network(void *data)
{
	(void)data;
	sim_network_set_slow(false);
}

static void slow_network(void)
{
	sim_network_set_slow(true);
	(void)sim_after(NULL, some_time(), end_slow_network, NULL);
}

/* ---- the database ---- */

static void end_outage(void *data)
{
	(void)data;
	sim_database_set_down(false);
}

static void outage(void)
{
	sim_trace("the database is away");
	sim_database_set_down(true);
	(void)sim_after(NULL, some_time(), end_outage, NULL);
}

static void end_slow_database(void *data)
{
	(void)data;
	sim_database_set_slow(false);
}

static void slow_database(void)
{
	sim_database_set_slow(true);
	(void)sim_after(NULL, some_time(), end_slow_database, NULL);
}

/* With drones of the original its clock counts: it may go on too fast by less than their margin. */
static void fail_over(void)
{
	static int64_t last_jump_at = -LONG_ORIGINAL;
	int64_t forward_ms = 20000;
	if (sim_options.has_originals)
		forward_ms = sim_now() - last_jump_at < LONG_ORIGINAL ? 0 : 4000;
	int64_t jump_ms = sim_between(-20000, forward_ms);
	if (jump_ms > 0)
		last_jump_at = sim_now();
	int64_t forget_ms = sim_chance(700) ? sim_between(10, 5000) : 0;
	sim_trace("the database fails over, and forgets %lld ms", (long long)forget_ms);
	sim_database_fail_over(jump_ms, forget_ms);
}

/* A drone of the original becomes one of ours, or the other way, in the same place; it may find
 * nothing of what its predecessor knew. What runs is there, and has its deadlines. */
static void exchange_one(void)
{
	struct sim_node *node = sim_cluster_pick(SIM_DRONE);
	if (!sim_options.has_originals || node->machine->owner.is_paused || node->machine->is_off)
		return;
	node->is_original = !node->is_original;
	node->not_before = sim_now() + some_time();
	sim_trace("%s is exchanged for one of %s", node->name,
		node->is_original ? "the original" : "ours");
	if (sim_chance(500)) {
		sim_process_signal(node->process, SIGTERM);
		return;
	}
	sim_process_kill(node->process);
	if (sim_chance(500))
		sim_journal_lose(node->machine);
}

static void break_connection(void)
{
	sim_network_break_one(false);
}

/* When all else is over, so that nothing else can hide what they do not hear then. */
static void break_proxies(void *data)
{
	if (sim_now() > sim_options.faults_until + SIM_CLUSTER_PROBING)
		return;
	sim_network_break_one(true);
	(void)sim_after(NULL, sim_between(SIM_SECOND, 8 * SIM_SECOND), break_proxies, data);
}

static void kill_isolated(void *data)
{
	struct sim_node *node = data;
	node->not_before = sim_now() + 5 * SIM_SECOND;
	sim_process_kill(node->process);
}

/* A controller that does not hear of anything any more, while its proxies hear from it, and then
 * is gone: another one must tell them. */
static void isolate_one(void *data)
{
	struct sim_node *node = sim_cluster_pick(SIM_CONTROLLER);
	int64_t duration = sim_between(0, LONG);
	(void)data;
	cut_way(node->machine->index, SIM_DATABASE, duration);
	cut_way(SIM_DATABASE, node->machine->index, duration);
	(void)sim_after(NULL, duration, kill_isolated, node);
}

/* ---- */

static void go_wrong(void *data)
{
	static const struct {
		void (*run)(void);
		unsigned weight;
	} kinds[] = {
		{ break_connection, 25 },
		{ kill_one, 12 },
		{ stop_one, 6 },
		{ pause_one, 14 },
		{ suspend_one, 8 },
		{ cut_power, 8 },
		{ lose_journal, 3 },
		{ jump_clock, 4 },
		{ crash_backend, 5 },
		{ partition, 16 },
		{ slow_network, 6 },
		{ outage, 6 },
		{ slow_database, 6 },
		{ fail_over, 5 },
		{ exchange_one, 5 },
	};
	unsigned total = 0, index = 0;
	if (sim_cluster.is_quiet)
		return;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		total += kinds[i].weight;
	unsigned drawn = (unsigned)sim_below(total);
	while (drawn >= kinds[index].weight)
		drawn -= kinds[index++].weight;
	kinds[index].run();
	(void)sim_after(NULL, sim_between(50 * SIM_MS, 5 * SIM_SECOND), go_wrong, data);
}

void sim_faults_start(void)
{
	(void)sim_after(NULL, 3 * SIM_SECOND, go_wrong, NULL);
}

static void go_wrong_at_scale(void *data)
{
	static void (*const kinds[])(void) = { kill_one, pause_one, suspend_one, break_connection };
	if (sim_cluster.is_quiet)
		return;
	kinds[sim_below(sizeof(kinds) / sizeof(kinds[0]))]();
	(void)sim_after(NULL, sim_between(0, 60 * SIM_SECOND), go_wrong_at_scale, data);
}

void sim_faults_start_scale(void)
{
	(void)sim_after(NULL, 60 * SIM_SECOND, go_wrong_at_scale, NULL);
}

void sim_faults_end(void)
{
	sim_network_set_slow(false);
	sim_network_heal();
	sim_database_set_slow(false);
	sim_database_set_down(false);
	for (int i = 0; i < sim_cluster.count; i++) {
		struct sim_node *node = &sim_cluster.nodes[i];
		boot(node->machine);
		resume_machine(node->machine);
		if (sim_process_is_alive(node->process))
			resume_process(node->process);
		node->not_before = 0;
	}
	if (sim_options.is_scale)
		return;
	break_proxies(NULL);
	if (sim_options.controllers > 1)
		(void)sim_after(NULL, 3 * SIM_SECOND, isolate_one, NULL);
}
