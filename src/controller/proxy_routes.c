/* Route requests of a proxy. One that comes while its backend starts waits for the hub; the store
 * is asked again once after the subscription, so that no change between is missed. */
#include "controller/proxy_internal.h"

#include <string.h>

#include <uthash.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#define WAITS_MAX 10000 /* per proxy */
#define WAIT_LIMIT_MS (30 * 60 * 1000)

enum wait_phase {
	WAIT_LOOKUP,  /* the store is asked */
	WAIT_CONFIRM, /* subscribed, and the store is asked again */
	WAIT_EVENT,   /* the hub will say */
};

struct plane_route_wait {
	char token[PLANE_TOKEN_SIZE];
	int64_t number; /* tells it from an earlier one for the same token */
	struct plane_proxy_session *proxy;
	enum wait_phase phase;
	bool is_stale; /* a revocation came while the store was asked: ask it again */
	int64_t since_ms;
	struct plane_hub_subscription subscription;
	struct plane_store_route route; /* valid from WAIT_CONFIRM on */
	UT_hash_handle hh;
};

struct route_job {
	struct plane_job base;
	struct plane_proxy_session *proxy;
	char token[PLANE_TOKEN_SIZE];
	int64_t number; /* of the wait */
	bool is_found;
	struct plane_store_route route; /* owned */
};

static struct plane_route_wait *find_wait(struct plane_proxy_session *proxy, const char *token)
{
	struct plane_route_wait *wait = NULL;
	HASH_FIND_STR(proxy->waits, token, wait);
	return wait;
}

static void forget(struct plane_route_wait *wait)
{
	struct plane_controller *controller = wait->proxy->base.controller;
	HASH_DEL(wait->proxy->waits, wait);
	plane_metrics_add(&controller->metrics, PLANE_METRIC_ROUTES_WAITING, -1);
	plane_hub_unsubscribe(controller->hub, &wait->subscription);
	plane_store_route_finish(&wait->route);
	free(wait);
}

static void send_route(struct plane_proxy_session *proxy, const char *token,
	const struct plane_store_route *route, const char *address)
{
	struct plane_proxy_order order = {
		.kind = PLANE_ORDER_ROUTE_INFO, .token = token, .has_route = route != NULL
	};
	if (route)
		order.route = (struct plane_route_info){ .backend = route->backend,
			.address = address,
			.secret_token = route->secret_token ? route->secret_token : "",
			.cluster = route->cluster,
			.user = route->user,
			.user_data = route->auth,
			.subdomain = route->subdomain };
	plane_node_session_send(&proxy->base, plane_proxy_order_write(&order));
}

/* Answers the wait if the state decides it. */
static bool decide(struct plane_route_wait *wait, const struct plane_backend_state *state)
{
	if (state->status < PLANE_READY)
		return false;
	bool is_ready = state->status == PLANE_READY;
	send_route(wait->proxy, wait->token, is_ready ? &wait->route : NULL, state->address);
	forget(wait);
	return true;
}

static enum plane_job_result run_lookup(struct plane_job *base)
{
	struct route_job *job = (struct route_job *)base;
	struct plane_node_session *session = &job->proxy->base;
	struct plane_error err = { 0 };
	if (plane_store_route_find(session->controller->store, job->token, &job->is_found,
		    &job->route, &err) < 0) {
		plane_warn("route lookup for %s: %s", session->name, err.message);
		return atomic_load(&session->is_gone) ? PLANE_JOB_DONE : PLANE_JOB_RETRY;
	}
	return PLANE_JOB_DONE;
}

static void look_up(struct plane_route_wait *wait);

static void on_event(void *data, const struct plane_hub_event *event)
{
	struct plane_route_wait *wait = data;
	if (event->kind == PLANE_HUB_STATE)
		(void)decide(wait, &event->state);
	else
		look_up(wait);
}

static void after_first_lookup(struct plane_route_wait *wait, struct route_job *job)
{
	wait->route = job->route;
	memset(&job->route, 0, sizeof(job->route));
	if (decide(wait, &wait->route.state))
		return;
	wait->phase = WAIT_CONFIRM;
	plane_hub_subscribe(wait->proxy->base.controller->hub, &wait->subscription,
		wait->route.backend, on_event, wait);
	look_up(wait);
}

static void after_lookup(struct plane_job *base, bool is_cancelled)
{
	struct route_job *job = (struct route_job *)base;
	struct plane_route_wait *wait = find_wait(job->proxy, job->token);
	/* no wait, or another: answered by an event meanwhile, or the session is over */
	if (wait && wait->number == job->number && !is_cancelled) {
		if (!job->is_found) {
			send_route(job->proxy, job->token, NULL, NULL);
			forget(wait);
		} else if (wait->phase == WAIT_LOOKUP && wait->is_stale) {
			wait->is_stale = false;
			look_up(wait);
		} else if (wait->phase == WAIT_LOOKUP) {
			after_first_lookup(wait, job);
		} else if (!decide(wait, &job->route.state)) {
			wait->phase = WAIT_EVENT;
		}
	}
	plane_store_route_finish(&job->route);
	free(job);
}

static void look_up(struct plane_route_wait *wait)
{
	struct route_job *job = PLANE_NEW(struct route_job);
	job->base.run = run_lookup;
	job->base.done = after_lookup;
	job->proxy = wait->proxy;
	memcpy(job->token, wait->token, sizeof(job->token));
	job->number = wait->number;
	(void)plane_node_session_submit(&wait->proxy->base, &job->base); /* closes when it cannot */
}

void plane_proxy_routes_ask(struct plane_proxy_session *proxy, const char *token)
{
	struct plane_controller *controller = proxy->base.controller;
	plane_metrics_add(&controller->metrics, PLANE_METRIC_ROUTE_REQUESTS, 1);
	if (strlen(token) >= PLANE_TOKEN_SIZE) {
		send_route(proxy, token, NULL, NULL);
		return;
	}
	if (find_wait(proxy, token))
		return; /* one answer serves both */
	if (HASH_COUNT(proxy->waits) >= WAITS_MAX) {
		plane_warn("%s waits for too many routes: refusing one", proxy->base.name);
		send_route(proxy, token, NULL, NULL);
		return;
	}
	struct plane_route_wait *wait = PLANE_NEW(struct plane_route_wait);
	(void)plane_text_copy(wait->token, sizeof(wait->token), token);
	wait->number = ++proxy->last_wait_number;
	wait->proxy = proxy;
	wait->since_ms = plane_clock_boot_ms();
	HASH_ADD_STR(proxy->waits, token, wait);
	plane_metrics_add(&controller->metrics, PLANE_METRIC_ROUTES_WAITING, 1);
	look_up(wait);
}

void plane_proxy_routes_revoked(
	struct plane_proxy_session *proxy, const char *backend, const char *user)
{
	struct plane_route_wait *wait, *next;
	HASH_ITER (hh, proxy->waits, wait, next) {
		if (wait->phase == WAIT_LOOKUP) {
			wait->is_stale = true;
		} else if (wait->route.user && strcmp(wait->route.backend, backend) == 0 &&
			   strcmp(wait->route.user, user) == 0) {
			send_route(proxy, wait->token, NULL, NULL);
			forget(wait);
		}
	}
}

void plane_proxy_routes_tick(struct plane_proxy_session *proxy)
{
	int64_t now_ms = plane_clock_boot_ms();
	struct plane_route_wait *wait, *next;
	HASH_ITER (hh, proxy->waits, wait, next) {
		if (now_ms - wait->since_ms > WAIT_LIMIT_MS) {
			send_route(proxy, wait->token, NULL, NULL);
			forget(wait);
		}
	}
}

void plane_proxy_routes_finish(struct plane_proxy_session *proxy)
{
	struct plane_route_wait *wait, *next;
	HASH_ITER (hh, proxy->waits, wait, next)
		forget(wait);
}
