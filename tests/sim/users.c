/* Who uses the cluster: connects to keys, follows links through proxies, ends backends. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"
#include "cluster.h"
#include "controller/connect.h"
#include "controller/terminate.h"
#include "invariants.h"

#define USERS 12

static json_t *executable;

struct connecting {
	char key[64];
	struct sim_process *process;
	bool has_lifetime;
	int64_t memory_bytes;
	const char *user;
};

static void terminate(const char *backend);

static void run_connect(void *controller, void *data)
{
	struct connecting *connecting = data;
	struct plane_connect_request request = { .has_key = true,
		.key_name = connecting->key,
		.key_namespace = "",
		.key_tag = "",
		.has_spawn_config = true,
		.pool = "",
		.executable = executable,
		.lifetime_limit_seconds = connecting->has_lifetime ? 30 : -1,
		.max_idle_seconds = connecting->has_lifetime ? 15 : -1,
		.resources = { .memory_bytes = connecting->memory_bytes },
		.user = connecting->user };
	struct plane_connect_result result = { 0 };
	struct plane_connect_failure failure;
	if (plane_connect(controller, &request, &result, &failure)) {
		sim_links_add(result.token, result.backend, connecting->key, connecting->user);
		if (result.is_spawned && !sim_options.is_scale && sim_chance(400))
			sim_streams_watch(result.backend);
		if (result.is_spawned && sim_chance(50)) /* while it is only scheduled */
			terminate(result.backend);
		sim_trace("a link to %s of %s, by %s%s", result.backend, connecting->key,
			connecting->process->name, result.is_spawned ? ": new" : "");
	}
	free(connecting);
}

static void connect_key(int number, bool has_lifetime)
{
	static const char *const names[] = { "alice", "bob", "carol", "dave", "erin", "frank" };
	struct connecting *connecting = PLANE_NEW(struct connecting);
	connecting->process = sim_cluster_pick_controller();
	connecting->has_lifetime = has_lifetime;
	connecting->user = names[sim_below(sizeof(names) / sizeof(names[0]))];
	/* several fill a drone, at times */
	connecting->memory_bytes = sim_chance(500) || sim_options.is_scale ? 0 : SIM_MEMORY_BYTES;
	(void)snprintf(connecting->key, sizeof(connecting->key), "key-%d", number);
	if (!sim_network_call(connecting->process, run_connect, connecting))
		free(connecting);
}

struct ending {
	char backend[PLANE_NAME_SIZE];
	enum plane_termination_kind kind;
};

static void run_terminate(void *controller, void *data)
{
	struct ending *ending = data;
	struct plane_error err = { 0 };
	if (plane_terminate(
		    controller, ending->backend, ending->kind, PLANE_REASON_EXTERNAL, &err) == 0)
		sim_check_must_end(ending->backend);
	free(ending);
}

static void terminate(const char *backend)
{
	struct ending *ending = PLANE_NEW(struct ending);
	ending->kind = sim_chance(700) ? PLANE_KIND_SOFT : PLANE_KIND_HARD;
	(void)plane_text_copy(ending->backend, sizeof(ending->backend), backend);
	if (!sim_network_call(sim_cluster_pick_controller(), run_terminate, ending))
		free(ending);
}

/* ---- draining ---- */

struct draining {
	struct sim_node *node;
	bool is_draining;
};

static void run_drain(void *data_controller, void *data)
{
	struct plane_controller *controller = data_controller;
	struct draining draining = *(struct draining *)data;
	struct plane_error err = { 0 };
	bool is_changed = false;
	free(data);
	int result = plane_store_drone_drain(controller->store, draining.node->drone.cluster,
		draining.node->name, draining.is_draining, &is_changed, &err);
	draining.node->drain_caller = NULL;
	if (result == 0 && draining.is_draining) {
		sim_trace("%s drains", draining.node->name);
		sim_check_drained(draining.node->name, true);
	}
}

static void connect_any(void *data)
{
	(void)data;
	connect_key((int)sim_below((uint64_t)sim_options.keys), false);
}

/* One after the other for each drone: else nobody could say what it is to be. Others place on it
 * meanwhile. */
static void drain(void)
{
	struct sim_node *node = sim_cluster_pick(SIM_DRONE);
	struct sim_process *controller = sim_cluster_pick_controller();
	if (sim_process_is_alive(node->drain_caller))
		return;
	struct draining *draining = PLANE_NEW(struct draining);
	*draining = (struct draining){ node, sim_chance(400) };
	for (int i = 0; i < 3 && draining->is_draining; i++)
		(void)sim_after(NULL, sim_between(0, 5 * SIM_MS), connect_any, NULL);
	node->drain_caller = controller;
	if (!draining->is_draining)
		sim_check_drained(node->name, false);
	if (!sim_network_call(controller, run_drain, draining)) {
		node->drain_caller = NULL;
		free(draining);
	}
}

/* ---- */

static void do_something(void)
{
	uint64_t what = sim_below(100);
	const char *backend = sim_links_pick();
	if (what < 55)
		connect_key((int)sim_below((uint64_t)sim_options.keys), sim_chance(200));
	else if (what < 86)
		sim_links_follow();
	else if (what < 90)
		sim_links_revoke();
	else if (what < 95)
		drain();
	else if (backend)
		terminate(backend);
}

static void act(void *data)
{
	if (!sim_cluster.is_quiet)
		do_something();
	else if (sim_now() > sim_options.faults_until + SIM_CLUSTER_PROBING)
		return;
	else if (sim_chance(50))
		sim_links_revoke();
	else
		sim_links_follow();
	(void)sim_after(NULL, sim_between(20 * SIM_MS, 1500 * SIM_MS), act, data);
}

void sim_users_start(void)
{
	executable = json_pack("{s:s}", "image", "echo");
	for (int i = 0; i < USERS; i++)
		(void)sim_after(NULL, sim_between(0, 2 * SIM_SECOND), act, NULL);
}

static struct {
	int64_t pause;
	int next;
} scale;

static void act_at_scale(void *data)
{
	if (scale.next < sim_options.keys)
		connect_key(scale.next++, false);
	else if (!sim_cluster.is_quiet) /* those whose backends were lost begin anew */
		connect_key((int)sim_below((uint64_t)sim_options.keys), false);
	(void)sim_after(NULL, scale.pause, act_at_scale, data);
}

void sim_users_start_scale(int64_t until)
{
	executable = json_pack("{s:s}", "image", "echo");
	scale.pause = until / sim_options.keys;
	(void)sim_after(NULL, 3 * SIM_SECOND, act_at_scale, NULL);
}

static void end_one(void *data, const struct memory_seen_backend *backend)
{
	(void)data;
	if (backend->status != PLANE_TERMINATED)
		terminate(backend->name);
}

void sim_users_end_all(void)
{
	memory_database_each(sim_database(), end_one, NULL);
}
