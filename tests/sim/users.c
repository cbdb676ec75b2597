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

#define LINKS_MAX 256
#define USERS 12

/* The last links that were given out, in a circle. */
static struct link_given {
	char token[PLANE_TOKEN_SIZE], backend[PLANE_NAME_SIZE], key[64];
} links[LINKS_MAX];
static size_t link_count;
static json_t *executable;

struct connecting {
	char key[64];
	struct sim_process *process;
	bool has_lifetime;
	int64_t memory_bytes;
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
		.user = "alice" };
	struct plane_connect_result result = { 0 };
	struct plane_connect_failure failure;
	if (plane_connect(controller, &request, &result, &failure)) {
		struct link_given *link = &links[link_count++ % LINKS_MAX];
		(void)plane_text_copy(link->token, sizeof(link->token), result.token);
		(void)plane_text_copy(link->backend, sizeof(link->backend), result.backend);
		(void)plane_text_copy(link->key, sizeof(link->key), connecting->key);
		if (result.is_spawned && sim_chance(50)) /* while it is only scheduled */
			terminate(result.backend);
		sim_trace("a link to %s of %s, by %s%s", result.backend, connecting->key,
			connecting->process->name, result.is_spawned ? ": new" : "");
	}
	free(connecting);
}

static void connect_key(int number, bool has_lifetime)
{
	struct connecting *connecting = PLANE_NEW(struct connecting);
	connecting->process = sim_cluster_pick_controller();
	connecting->has_lifetime = has_lifetime;
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

/* ---- a request through a proxy ---- */

struct request {
	struct link_given link;
	struct sim_node *node;
};

static void use_route(
	struct plane_proxy_shared *shared, const struct request *request, struct plane_route *route)
{
	char address[PLANE_ADDRESS_SIZE];
	const struct sockaddr_in *in = (const struct sockaddr_in *)&route->address;
	const unsigned char *bytes = (const unsigned char *)&in->sin_addr;
	(void)snprintf(address, sizeof(address), "%d.%d.%d.%d:%d", bytes[0], bytes[1], bytes[2],
		bytes[3], ntohs(in->sin_port));
	if (strcmp(route->backend, request->link.backend) != 0)
		sim_fail("a link to %s leads to %s", request->link.backend, route->backend);
	sim_check_route(request->link.key, address);
	if (plane_activity_begin(shared->activity, route->backend))
		plane_control_first_use(shared->control, route->backend);
	sim_sleep(sim_between(SIM_MS, 3 * SIM_SECOND));
	plane_activity_end(shared->activity, route->backend);
	plane_route_unref(route);
}

static void run_request(void *data)
{
	struct request *request = data;
	struct plane_proxy_shared *shared = request->node->shared;
	struct plane_route_inbox inbox = { .event_fd = -1 };
	struct plane_route_waiter waiter = { .inbox = &inbox };
	struct plane_route *route = NULL;
	struct plane_slice token = { request->link.token, strlen(request->link.token) };
	int64_t until = sim_now() + 20 * SIM_SECOND;
	enum plane_routes_answer answer =
		plane_routes_find(shared->routes, token, sim_now() / SIM_MS, &waiter, &route);
	while (answer == PLANE_ROUTES_WAIT && !plane_routes_take(shared->routes, &inbox) &&
		sim_now() < until)
		sim_sleep(20 * SIM_MS);
	if (answer == PLANE_ROUTES_WAIT)
		route = waiter.route;
	plane_routes_cancel(shared->routes, &waiter);
	if (route)
		use_route(shared, request, route);
	free(request);
}

static void follow_link(void)
{
	struct sim_node *node = sim_cluster_pick(SIM_PROXY);
	size_t known = link_count < LINKS_MAX ? link_count : LINKS_MAX;
	if (!node || !node->shared || !known || !sim_process_is_alive(node->process) ||
		node->process->owner.is_paused || node->machine->owner.is_paused)
		return;
	struct request *request = PLANE_NEW(struct request);
	request->node = node;
	request->link = links[sim_below(known)];
	sim_fiber_start(node->process, run_request, request);
}

/* ---- */

static void act(void *data)
{
	size_t known = link_count < LINKS_MAX ? link_count : LINKS_MAX;
	uint64_t what = sim_below(100);
	if (sim_cluster.is_quiet)
		return;
	if (what < 60)
		connect_key((int)sim_below((uint64_t)sim_options.keys), sim_chance(200));
	else if (what < 95)
		follow_link();
	else if (known)
		terminate(links[sim_below(known)].backend);
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
