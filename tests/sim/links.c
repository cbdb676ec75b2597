/* Links to backends: given out, followed through proxies, kept open, revoked. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/alloc.h"
#include "base/text.h"
#include "cluster.h"
#include "controller/revoke.h"
#include "invariants.h"

#define LINKS_MAX 256
#define TUNNEL_MAX (120 * SIM_SECOND)
#define SLICE (500 * SIM_MS)
/* Within which a proxy that has its controller, which has the database, knows of a revocation: a
 * controller looks twice a second, or once more after a call that failed. What is open is asked for
 * on a new connection, after a call that failed in several seconds. */
#define ROUTE_BOUND (6 * SIM_SECOND)
#define TUNNEL_BOUND (20 * SIM_SECOND)

struct link_given {
	char token[PLANE_TOKEN_SIZE], backend[PLANE_NAME_SIZE], key[64];
	const char *user;
	int64_t given_at;
	int64_t revoked_at; /* that was answered then; 0: it is not */
};

/* A request or tunnel. */
struct request {
	struct link_given link;
	struct sim_node *node;
	struct sim_process *process;
	struct plane_route_inbox inbox;
	struct plane_route_waiter waiter;
	bool is_open; /* it has its route */
	bool is_cut;
	struct request *prev, *next;
};

/* The last links that were given out, in a circle. */
static struct link_given links[LINKS_MAX];
static size_t link_count;
static struct request *requests;

static size_t known_links(void)
{
	return link_count < LINKS_MAX ? link_count : LINKS_MAX;
}

void sim_links_add(const char *token, const char *backend, const char *key, const char *user)
{
	struct link_given *link = &links[link_count++ % LINKS_MAX];
	*link = (struct link_given){ .user = user, .given_at = sim_now() };
	(void)plane_text_copy(link->token, sizeof(link->token), token);
	(void)plane_text_copy(link->backend, sizeof(link->backend), backend);
	(void)plane_text_copy(link->key, sizeof(link->key), key);
}

const char *sim_links_pick(void)
{
	size_t known = known_links();
	return known ? links[sim_below(known)].backend : NULL;
}

/* ---- a request through a proxy ---- */

static void check_link(const struct request *request, int64_t bound, const char *what)
{
	/* to one that has ended nothing leads any more, whatever the proxy knows */
	bool is_running = sim_runtime_is_running(request->link.backend);
	int64_t since = is_running ? request->link.revoked_at : 0;
	if (since && since < request->node->unsettled_at)
		since = request->node->unsettled_at;
	if (since && sim_now() > since + bound)
		sim_fail("%s: the link of %s to %s was revoked at %lld ms, and %s",
			request->node->name, request->link.user, request->link.backend,
			(long long)(request->link.revoked_at / SIM_MS), what);
}

static void use_route(struct request *request, struct plane_route *route, int64_t duration)
{
	struct plane_proxy_shared *shared = request->node->shared;
	char address[PLANE_ADDRESS_SIZE];
	const struct sockaddr_in *in = (const struct sockaddr_in *)&route->address;
	const unsigned char *bytes = (const unsigned char *)&in->sin_addr;
	(void)snprintf(address, sizeof(address), "%d.%d.%d.%d:%d", bytes[0], bytes[1], bytes[2],
		bytes[3], ntohs(in->sin_port));
	if (strcmp(route->backend, request->link.backend) != 0)
		sim_fail("a link to %s leads to %s", request->link.backend, route->backend);
	sim_check_route(request->link.key, address);
	check_link(request, ROUTE_BOUND, "is followed");
	request->is_open = true;
	if (plane_activity_begin(shared->activity, route->backend))
		plane_control_first_use(shared->control, route->backend);
	int64_t until = sim_now() + duration;
	while (sim_now() < until && !request->is_cut &&
		sim_runtime_is_running(request->link.backend))
		sim_sleep(until - sim_now() < SLICE ? until - sim_now() : SLICE);
	plane_activity_end(shared->activity, route->backend);
}

static void run_request(void *data)
{
	struct request *request = data;
	struct plane_proxy_shared *shared = request->node->shared;
	struct plane_route_waiter *waiter = &request->waiter;
	struct plane_route *route = NULL;
	struct plane_slice token = { request->link.token, strlen(request->link.token) };
	bool is_tunnel = sim_chance(200);
	int64_t until = sim_now() + 20 * SIM_SECOND;
	enum plane_routes_answer answer =
		plane_routes_find(shared->routes, token, sim_now() / SIM_MS, waiter, &route);
	while (answer == PLANE_ROUTES_WAIT && !plane_routes_take(shared->routes, &request->inbox) &&
		sim_now() < until)
		sim_sleep(20 * SIM_MS);
	if (answer == PLANE_ROUTES_WAIT && waiter->state == PLANE_WAITER_IDLE)
		route = waiter->route;
	plane_routes_cancel(shared->routes, waiter);
	if (route)
		use_route(request, route,
			sim_between(SIM_MS, is_tunnel ? TUNNEL_MAX : 3 * SIM_SECOND));
	plane_route_unref(route);
	DL_DELETE(requests, request);
	free(request);
}

void sim_links_follow(void)
{
	struct sim_node *node = sim_cluster_pick(SIM_PROXY);
	size_t known = known_links();
	if (!node || !node->shared || !known || !sim_process_is_alive(node->process) ||
		node->process->owner.is_paused || node->machine->owner.is_paused)
		return;
	struct request *request = PLANE_NEW(struct request);
	request->node = node;
	request->process = node->process;
	request->inbox.event_fd = -1;
	request->waiter.inbox = &request->inbox;
	request->link = links[sim_below(known)];
	DL_APPEND(requests, request);
	sim_fiber_start(node->process, run_request, request);
}

/* ---- revocations ---- */

/* What a worker of the proxy does: whatever it has of that user is cut, also what is answered and
 * not taken yet. */
void sim_links_cut(struct sim_node *node, const char *backend, const char *user)
{
	struct request *request;
	DL_FOREACH (requests, request)
		if (request->node == node &&
			(request->is_open || request->waiter.state == PLANE_WAITER_ANSWERED) &&
			strcmp(request->link.backend, backend) == 0 &&
			strcmp(request->link.user, user) == 0)
			request->is_cut = true;
}

struct revoking {
	char backend[PLANE_NAME_SIZE];
	const char *user;
	int64_t asked_at;
};

static void mark_revoked(struct link_given *link, const struct revoking *revoking)
{
	if (!link->revoked_at && link->given_at <= revoking->asked_at &&
		strcmp(link->backend, revoking->backend) == 0 &&
		strcmp(link->user, revoking->user) == 0)
		link->revoked_at = sim_now();
}

static void run_revoke(void *controller, void *data)
{
	struct revoking *revoking = data;
	struct plane_error err = { 0 };
	struct request *request;
	if (plane_revoke(controller, revoking->backend, revoking->user, &err) == 0) {
		sim_trace("the links of %s to %s are revoked", revoking->user, revoking->backend);
		for (size_t i = 0; i < known_links(); i++)
			mark_revoked(&links[i], revoking);
		DL_FOREACH (requests, request)
			mark_revoked(&request->link, revoking);
	}
	free(revoking);
}

/* One that is in use, or was given out not long ago, or any. Not one that is revoked already: who
 * was not told of that, would be now. */
static const struct link_given *pick_to_revoke(void)
{
	const struct request *request;
	size_t known = known_links(), count;
	DL_COUNT(requests, request, count);
	const struct link_given *link = NULL;
	if (count && sim_chance(600)) {
		size_t index = (size_t)sim_below(count);
		for (request = requests; index; index--)
			request = request->next;
		link = &request->link;
	} else if (known) {
		size_t back = (size_t)sim_below(sim_chance(700) && known > 8 ? 8 : known);
		link = &links[(link_count - 1 - back) % LINKS_MAX];
	}
	return link && !link->revoked_at ? link : NULL;
}

void sim_links_revoke(void)
{
	const struct link_given *link = pick_to_revoke();
	if (!link)
		return;
	struct revoking *revoking = PLANE_NEW(struct revoking);
	(void)plane_text_copy(revoking->backend, sizeof(revoking->backend), link->backend);
	revoking->user = link->user;
	revoking->asked_at = sim_now();
	if (!sim_network_call(sim_cluster_pick_controller(), run_revoke, revoking))
		free(revoking);
}

/* ---- */

static bool is_settled(const struct sim_node *node)
{
	return sim_process_is_alive(node->process) && !node->process->owner.is_paused &&
	       !node->machine->owner.is_paused && sim_network_is_settled(node->process);
}

void sim_links_check(void)
{
	struct request *request, *next;
	for (int i = 0; i < sim_cluster.count; i++)
		if (sim_cluster.nodes[i].role == SIM_PROXY && !is_settled(&sim_cluster.nodes[i]))
			sim_cluster.nodes[i].unsettled_at = sim_now();
	DL_FOREACH_SAFE (requests, request, next) {
		if (!sim_process_is_alive(request->process))
			DL_DELETE(requests, request); /* it went with its proxy */
		else if (request->is_open && !request->is_cut)
			check_link(request, TUNNEL_BOUND, "goes on being used");
	}
}
