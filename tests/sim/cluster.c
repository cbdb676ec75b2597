/* The cluster of one run: its machines and processes, who uses it, and what goes wrong. */
#include "cluster.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "controller/controller.h"
#include "drone/drone.h"
#include "invariants.h"
#include "proxy/control.h"

#define DRIFT_PPM 80000 /* bounds of the clocks' rates: the margin of leases must cover both */
#define DRIFT_ORIGINAL_PPM 20000 /* the original's margin is smaller, for what it must cover */
#define ENDS (75 * SIM_SECOND)
#define REST (150 * SIM_SECOND)
#define REST_ORIGINAL (400 * SIM_SECOND) /* what is lost is given up after minutes */

struct sim_cluster sim_cluster;

/* ---- what runs where ---- */

static void run_controller(struct sim_process *process)
{
	struct sim_node *node = process->node;
	struct plane_error err = { 0 };
	if (plane_controller_run(&node->controller, &err) < 0)
		sim_trace("%s: %s", process->name, err.message);
}

static void run_drone(struct sim_process *process)
{
	struct sim_node *node = process->node;
	struct plane_error err = { 0 };
	if (plane_drone_run(&node->drone, &err) < 0)
		sim_trace("%s: %s", process->name, err.message);
}

static void on_proxy_connected(void *data)
{
	(void)data;
}

static void on_proxy_revoked(void *data, const char *backend, const char *user)
{
	sim_links_cut(data, backend, user);
}

/* The control thread of a proxy, whole; of its workers only what asks for routes. */
static void run_proxy(struct sim_process *process)
{
	struct sim_node *node = process->node;
	struct plane_control_listener listener = { node, on_proxy_connected, on_proxy_revoked };
	struct plane_error err = { 0 };
	uv_loop_t *loop = PLANE_NEW(uv_loop_t);
	struct plane_proxy_shared *shared = PLANE_NEW(struct plane_proxy_shared);
	(void)uv_loop_init(loop);
	shared->config = &node->proxy;
	shared->activity = plane_activity_create();
	shared->control = plane_control_create(loop, shared, &listener, &err);
	shared->routes = plane_routes_create(plane_control_ask, shared->control);
	if (plane_control_start(shared->control, node->name, &err) < 0)
		sim_fail("%s: %s", node->name, err.message);
	node->shared = shared;
	(void)uv_run(loop, UV_RUN_DEFAULT);
}

static void start(void *data)
{
	static void (*const mains[])(
		struct sim_process * process) = { run_controller, run_drone, run_proxy };
	struct sim_node *node = data;
	if (node->machine->is_off || sim_process_is_alive(node->process))
		return;
	node->shared = NULL;
	node->process =
		sim_process_start(node->machine, node->role, node->name, mains[node->role], node);
	node->process->is_original = node->is_original;
}

/* What a service manager does; once a second it looks. */
static void supervise(void *data)
{
	for (int i = 0; i < sim_cluster.count; i++) {
		struct sim_node *node = &sim_cluster.nodes[i];
		if (!sim_process_is_alive(node->process) && sim_now() >= node->not_before)
			start(node);
	}
	(void)sim_after(NULL, SIM_SECOND, supervise, data);
}

static void set_up_controller(struct sim_node *node)
{
	node->controller = plane_controller_config_defaults;
	node->controller.db_url = "postgres://the-database";
	node->controller.id = node->name;
	node->controller.default_cluster = "c:1";
	node->controller.termination_grace_ms = 5000;
	if (sim_options.mutant == SIM_MUTANT_NO_MARGIN)
		node->controller.drone_lease.hard_terminate_ms =
			node->controller.drone_lease.expire_ms - 1;
}

static void add_node(enum sim_role role, int number)
{
	static const char *const names[] = { "co-%d", "dr-%d", "px-%d" };
	struct sim_node *node = &sim_cluster.nodes[sim_cluster.count++];
	int64_t drift_ppm = sim_options.has_originals ? DRIFT_ORIGINAL_PPM : DRIFT_PPM;
	node->role = role;
	(void)snprintf(node->name, sizeof(node->name), names[role], number);
	node->machine = sim_machine_create(node->name, sim_between(-drift_ppm, drift_ppm));
	if (role == SIM_CONTROLLER) {
		set_up_controller(node);
	} else if (role == SIM_DRONE) {
		node->drone = plane_drone_config_defaults;
		node->drone.controller_url = "http://controllers";
		node->drone.cluster = "c:1";
		node->drone.name = node->name;
		node->drone.data_dir = node->drone.images_dir = "/nowhere";
		node->drone.grace_ms = 3000;
		node->drone.startup_timeout_ms = 5000;
		node->is_original = sim_options.has_originals && sim_chance(600);
	} else {
		node->proxy.controller_url = "http://controllers";
		node->proxy.cluster = "c:1";
	}
	start(node);
}

struct sim_process *sim_cluster_pick_controller(void)
{
	struct sim_node *node = sim_cluster_pick(SIM_CONTROLLER);
	return sim_process_is_alive(node->process) ? node->process : NULL;
}

struct sim_node *sim_cluster_pick(enum sim_role role)
{
	int counts[] = { sim_options.controllers, sim_options.drones, sim_options.proxies };
	int first[] = { 0, counts[0], counts[0] + counts[1] };
	return counts[role]
		       ? &sim_cluster.nodes[first[role] + (int)sim_below((uint64_t)counts[role])]
		       : NULL;
}

/* The variant whose controllers wait for a shorter time than they told the drones. */
static void shorten_watch(void *data)
{
	(void)data;
	for (int i = 0; i < sim_options.controllers; i++)
		sim_cluster.nodes[i].controller.drone_lease.expire_ms = 5000;
}

static void check_store(void *data)
{
	sim_check_store();
	sim_links_check();
	(void)sim_after(NULL, SIM_SECOND / 4, check_store, data);
}

static void build(void)
{
	size_t count = (size_t)sim_options.controllers + (size_t)sim_options.drones +
		       (size_t)sim_options.proxies;
	sim_cluster.nodes = plane_alloc_zero(count, sizeof(struct sim_node));
	sim_database_start();
	if (sim_options.mutant >= SIM_MUTANT_RENEWS_BROKEN)
		memory_database_set_fault(sim_database(),
			(enum memory_fault)(sim_options.mutant - SIM_MUTANT_RENEWS_BROKEN +
					    MEMORY_FAULT_RENEW_BROKEN));
	for (int i = 0; i < sim_options.controllers; i++)
		add_node(SIM_CONTROLLER, i);
	for (int i = 0; i < sim_options.drones; i++)
		add_node(SIM_DRONE, i);
	for (int i = 0; i < sim_options.proxies; i++)
		add_node(SIM_PROXY, i);
	if (sim_options.mutant == SIM_MUTANT_BREAKS_EARLY)
		(void)sim_after(NULL, 2 * SIM_SECOND, shorten_watch, NULL);
	(void)sim_after(NULL, SIM_SECOND, supervise, NULL);
	if (!sim_options.is_scale)
		(void)sim_after(NULL, SIM_SECOND, check_store, NULL);
}

static void end_of_drones(void)
{
	struct sim_machine **machines =
		plane_alloc_zero((size_t)sim_options.drones, sizeof(struct sim_machine *));
	for (int i = 0; i < sim_options.drones; i++)
		machines[i] = sim_cluster.nodes[sim_options.controllers + i].machine;
	sim_check_end(machines, sim_options.drones);
	free(machines);
}

void sim_cluster_run(void)
{
	build();
	sim_users_start();
	sim_faults_start();
	sim_run_until(sim_options.faults_until);
	sim_trace("---- the faults are over");
	sim_cluster.is_quiet = true;
	sim_faults_end();
	sim_run_until(sim_options.faults_until + ENDS);
	sim_check_ends();
	int64_t rest = sim_options.has_originals ? REST_ORIGINAL : REST;
	sim_run_until(sim_options.faults_until + rest);
	sim_check_rest();
	sim_streams_check();
	sim_trace("---- all is ended");
	sim_users_end_all();
	sim_run_until(sim_options.faults_until + 2 * rest);
	end_of_drones();
	sim_streams_check();
}

/* Its keys are asked for one after the other in the first three quarters of the time. */
void sim_cluster_run_scale(void)
{
	build();
	sim_users_start_scale(sim_options.faults_until * 3 / 4);
	sim_faults_start_scale();
	for (int i = 1; i <= 12; i++) {
		sim_run_until(sim_options.faults_until * i / 12);
		printf("after %d minutes: %d backends run\n", i * 5, sim_runtime_running(NULL));
		(void)fflush(stdout);
	}
	sim_cluster.is_quiet = true;
	sim_faults_end();
	sim_run_until(sim_options.faults_until + REST);
	sim_check_store();
	sim_check_rest();
}
