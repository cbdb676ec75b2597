/* A proxy's socket. Routes are in proxy_routes.c. */
#include "controller/proxy_internal.h"

#include <utlist.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"

/* How long a certificate lease lasts (reference section 3). */
#define CERT_LEASE_MS 60000
#define TICK_MS 5000
/* Told again when some may have been missed. */
#define REVOCATIONS_AGAIN_MS 60000

struct message_job {
	struct plane_job base;
	struct plane_proxy_session *proxy;
	json_t *json; /* the message borrows from it; NULL for one of our own */
	struct plane_proxy_message message;
	struct plane_store_revocations revocations;
	bool is_accepted; /* keep-alive: the backend lives; certificates: as answered */
	bool is_stored;   /* keep-alive, together with one before it */
};

#define TOGETHER_MAX 256 /* keep-alives in one transaction */

static enum plane_job_result run_message(struct plane_job *base);

/* This one and those that wait right behind it. They come again: a failure is only logged. */
static int keep_alive(struct message_job *first, struct plane_error *err)
{
	struct message_job *jobs[TOGETHER_MAX];
	const char *backends[TOGETHER_MAX] = { NULL };
	bool is_alive[TOGETHER_MAX];
	size_t count = 0;
	struct plane_job *next = &first->base;
	for (; next && count < TOGETHER_MAX && next->run == run_message; next = next->next) {
		struct message_job *job = (struct message_job *)next;
		if (job->message.kind != PLANE_PROXY_KEEP_ALIVE)
			break;
		jobs[count] = job;
		job->is_stored = job->is_accepted = true; /* unless the store knows better */
		backends[count++] = job->message.backend;
	}
	int result = plane_store_backends_keep_alive(
		first->proxy->base.controller->store, backends, count, is_alive, err);
	for (size_t i = 0; i < count && result == 0; i++)
		jobs[i]->is_accepted = is_alive[i];
	return result;
}

static enum plane_job_result run_message(struct plane_job *base)
{
	struct message_job *job = (struct message_job *)base;
	struct plane_node_session *session = &job->proxy->base;
	struct plane_store *store = session->controller->store;
	struct plane_error err = { 0 };
	int result = 0;
	switch (job->message.kind) {
	case PLANE_PROXY_KEEP_ALIVE:
		result = job->is_stored ? 0 : keep_alive(job, &err);
		break;
	case PLANE_PROXY_CERT_LEASE_REQUEST:
		result = plane_store_cert_lease(store, session->cluster, session->node_id,
			CERT_LEASE_MS, &job->is_accepted, &err);
		break;
	case PLANE_PROXY_CERT_SET_TXT:
		result = plane_store_cert_set_txt(store, session->cluster, session->node_id,
			job->message.txt_value, &job->is_accepted, &err);
		break;
	case PLANE_PROXY_CERT_RELEASE:
		result = plane_store_cert_release(store, session->cluster, session->node_id, &err);
		break;
	case PLANE_PROXY_REVOKED_SINCE:
		result = plane_store_revocations(
			store, job->message.since_ms, &job->revocations, &err);
		if (result < 0 && !atomic_load(&session->is_gone)) {
			plane_warn("revocations for %s: %s", session->name, err.message);
			return PLANE_JOB_RETRY; /* it would not ask again */
		}
		break;
	case PLANE_PROXY_ROUTE_INFO_REQUEST:
		break; /* never submitted */
	}
	if (result < 0)
		plane_warn("message of %s: %s", session->name, err.message);
	return PLANE_JOB_DONE; /* keep-alives come again; a certificate request is answered no */
}

static void tell_revocations(struct message_job *job)
{
	struct plane_node_session *session = &job->proxy->base;
	for (size_t i = 0; i < job->revocations.count && session->has_revoke; i++) {
		struct plane_proxy_order order = { .kind = PLANE_ORDER_REVOKE_TOKENS,
			.backend = job->revocations.entries[i].backend,
			.user = job->revocations.entries[i].user };
		plane_node_session_send(session, plane_proxy_order_write(&order));
	}
}

static void answer(struct message_job *job)
{
	struct plane_proxy_order order = { .is_accepted = job->is_accepted,
		.backend = job->message.backend };
	switch (job->message.kind) {
	case PLANE_PROXY_KEEP_ALIVE:
		if (job->is_accepted)
			return;
		order.kind = PLANE_ORDER_BACKEND_REMOVED;
		break;
	case PLANE_PROXY_CERT_LEASE_REQUEST:
		order.kind = PLANE_ORDER_CERT_LEASE_RESPONSE;
		break;
	case PLANE_PROXY_CERT_SET_TXT:
		order.kind = PLANE_ORDER_CERT_TXT_RESPONSE;
		break;
	case PLANE_PROXY_REVOKED_SINCE:
		tell_revocations(job);
		return;
	case PLANE_PROXY_CERT_RELEASE:
	case PLANE_PROXY_ROUTE_INFO_REQUEST:
		return;
	}
	plane_node_session_send(&job->proxy->base, plane_proxy_order_write(&order));
}

static void after_message(struct plane_job *base, bool is_cancelled)
{
	struct message_job *job = (struct message_job *)base;
	if (!is_cancelled && job->proxy->base.phase == PLANE_SESSION_SERVING)
		answer(job);
	plane_store_revocations_finish(&job->revocations);
	json_decref(job->json);
	free(job);
}

static void submit(
	struct plane_proxy_session *proxy, const json_t *json, struct plane_proxy_message message)
{
	struct message_job *job = PLANE_NEW(struct message_job);
	job->base.run = run_message;
	job->base.done = after_message;
	job->proxy = proxy;
	job->json = json_incref((json_t *)json); /* NULL stays NULL */
	job->message = message;
	(void)plane_node_session_submit(&proxy->base, &job->base); /* closes when it cannot */
}

static void on_message(struct plane_node_session *session, const json_t *json)
{
	struct plane_proxy_session *proxy = (struct plane_proxy_session *)session;
	struct plane_error err = { 0 };
	struct plane_proxy_message message;
	if (plane_proxy_message_read(json, &message, &err) < 0) {
		plane_warn("skipping a message of %s: %s", session->name, err.message);
		return;
	}
	if (message.kind == PLANE_PROXY_ROUTE_INFO_REQUEST) {
		plane_proxy_routes_ask(proxy, message.token);
		return;
	}
	if (message.kind == PLANE_PROXY_KEEP_ALIVE)
		plane_metrics_add(&session->controller->metrics, PLANE_METRIC_KEEP_ALIVES, 1);
	submit(proxy, json, message);
}

static void on_tick(uv_timer_t *timer)
{
	plane_proxy_routes_tick(timer->data);
}

static void on_registered(struct plane_node_session *session)
{
	plane_metrics_add(&session->controller->metrics, PLANE_METRIC_PROXY_SESSIONS, 1);
	(void)uv_timer_start(&session->timer, on_tick, TICK_MS, TICK_MS);
}

static void on_closed(struct plane_node_session *session)
{
	plane_metrics_add(&session->controller->metrics, PLANE_METRIC_PROXY_SESSIONS, -1);
	plane_proxy_routes_finish((struct plane_proxy_session *)session);
}

static void free_session(struct plane_node_session *session)
{
	free(session);
}

static const char *const extensions[] = { PLANE_EXTENSION_REVOKED_SINCE, NULL };

static const struct plane_node_role proxy_role = {
	.kind = PLANE_NODE_PROXY,
	.extensions = extensions,
	.on_registered = on_registered,
	.on_message = on_message,
	.on_closed = on_closed,
	.free_session = free_session,
};

struct plane_node_session *plane_proxy_session_create(struct plane_controller *controller,
	const char *cluster, const struct plane_node_caller *caller)
{
	struct plane_proxy_session *proxy = PLANE_NEW(struct plane_proxy_session);
	plane_node_session_init(&proxy->base, controller, &proxy_role, cluster, caller);
	return &proxy->base;
}

static void broadcast(struct plane_controller *controller, const struct plane_proxy_order *order)
{
	_cleanup_json_ json_t *json = plane_proxy_order_write(order);
	_cleanup_free_ char *text = json ? plane_json_dump(json) : NULL;
	struct plane_node_session *session, *next;
	DL_FOREACH_SAFE (controller->sessions, session, next) {
		if (session->role == &proxy_role && session->phase == PLANE_SESSION_SERVING &&
			(order->kind != PLANE_ORDER_REVOKE_TOKENS || session->has_revoke) && text)
			plane_node_session_send_text(session, text);
	}
}

void plane_proxy_broadcast_removed(struct plane_controller *controller, const char *backend)
{
	broadcast(controller, &(struct plane_proxy_order){
				      .kind = PLANE_ORDER_BACKEND_REMOVED, .backend = backend });
}

void plane_proxy_broadcast_revoked(
	struct plane_controller *controller, const char *backend, const char *user)
{
	struct plane_node_session *session;
	DL_FOREACH (controller->sessions, session) {
		if (session->role == &proxy_role && session->phase == PLANE_SESSION_SERVING)
			plane_proxy_routes_revoked(
				(struct plane_proxy_session *)session, backend, user);
	}
	broadcast(controller,
		&(struct plane_proxy_order){
			.kind = PLANE_ORDER_REVOKE_TOKENS, .backend = backend, .user = user });
}

void plane_proxy_sessions_look(struct plane_controller *controller)
{
	struct plane_node_session *session, *next;
	DL_FOREACH_SAFE (controller->sessions, session, next) {
		if (session->role == &proxy_role && session->phase == PLANE_SESSION_SERVING)
			submit((struct plane_proxy_session *)session, NULL,
				(struct plane_proxy_message){ .kind = PLANE_PROXY_REVOKED_SINCE,
					.since_ms = REVOCATIONS_AGAIN_MS });
	}
}
