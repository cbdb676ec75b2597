/* Handshake, registration and end of a node's socket. */
#include "controller/node_session.h"

#include <errno.h>
#include <string.h>

#include <utlist.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "controller/run.h"
#include "net/websocket.h"

#define HANDSHAKE_TIMEOUT_MS 10000
/* A node need not wait for the answer to its handshake, but it must not send without end. */
#define EARLY_MESSAGES_MAX 1024
#define EARLY_WEIGHT_MAX ((size_t)4 << 20)
#define HANDSHAKE_MAX_BYTES ((size_t)16 << 10)
/* The longest are inventories and metrics reports of a thousand backends, some 200 KiB, and lines
 * of logs. */
#define MESSAGE_MAX_BYTES ((size_t)1 << 20)
#define VALUE_BYTES 100 /* of a JSON value in memory, about, beside its text */

struct session_job {
	struct plane_job base;
	struct plane_node_session *session;
	bool is_failed;
	struct plane_error refusal; /* code 0: none */
};

static void on_strand_closed(void *data)
{
	struct plane_node_session *session = data;
	struct plane_controller *controller = session->controller;
	DL_DELETE(controller->sessions, session);
	json_decref(STEAL(session->early));
	session->role->free_session(session);
	plane_controller_session_freed(controller);
}

static void on_timer_closed(uv_handle_t *handle)
{
	struct plane_node_session *session = handle->data;
	plane_strand_close(session->strand, on_strand_closed, session);
}

static void finish(struct plane_node_session *session)
{
	uv_close((uv_handle_t *)&session->timer, on_timer_closed);
}

static enum plane_job_result unregister_run(struct plane_job *job)
{
	struct plane_node_session *session = ((struct session_job *)job)->session;
	struct plane_error err = { 0 };
	if (session->node_id == 0)
		return PLANE_JOB_DONE; /* never registered */
	if (plane_store_node_disconnected(
		    session->controller->store, session->node_id, session->connection_id, &err) < 0)
		plane_warn("unregister %s: %s", session->name, err.message);
	return PLANE_JOB_DONE; /* its heartbeats end anyway: nothing depends on it */
}

static void unregister_done(struct plane_job *job, bool is_cancelled)
{
	(void)is_cancelled;
	struct plane_node_session *session = ((struct session_job *)job)->session;
	free(job);
	finish(session);
}

static struct session_job *new_job(struct plane_node_session *session,
	enum plane_job_result (*run)(struct plane_job *), void (*done)(struct plane_job *, bool))
{
	struct session_job *job = PLANE_NEW(struct session_job);
	job->base.run = run;
	job->base.done = done;
	job->session = session;
	return job;
}

/* Ends the session after its connection. */
static void on_deferred_end(uv_timer_t *timer)
{
	struct plane_node_session *session = timer->data;
	if (session->was_serving) {
		plane_info("%s disconnected", session->name);
		session->role->on_closed(session);
	}
	if (session->name[0])
		(void)plane_strand_submit(
			session->strand, &new_job(session, unregister_run, unregister_done)->base);
	else
		finish(session);
}

/* May come from inside a send: what belongs to the session is released when the loop turns. */
static void on_ws_closed(void *data)
{
	struct plane_node_session *session = data;
	session->was_serving |= session->phase == PLANE_SESSION_SERVING;
	session->phase = PLANE_SESSION_CLOSED;
	session->ws = NULL;
	atomic_store(&session->is_gone, true);
	(void)uv_timer_start(&session->timer, on_deferred_end, 0, 0);
}

void plane_node_session_retire(struct plane_node_session *session)
{
	session->phase = PLANE_SESSION_CLOSED;
	(void)uv_timer_stop(&session->timer);
	session->role->on_closed(session);
	plane_node_session_refuse(session, "a node of this name has connected after it");
}

/* The same node has connected again: its older connections are dead, they just do not know yet. */
static void close_older_sessions(struct plane_node_session *session)
{
	struct plane_node_session *other;
	DL_FOREACH (session->controller->sessions, other) {
		if (other != session && other->phase == PLANE_SESSION_SERVING &&
			other->node_id == session->node_id) {
			plane_info("%s has connected again: its older connection is closed",
				session->name);
			plane_node_session_retire(other);
		}
	}
}

static enum plane_job_result register_run(struct plane_job *job)
{
	struct session_job *registration = (struct session_job *)job;
	struct plane_node_session *session = registration->session;
	struct plane_store_node node = { .kind = session->role->kind,
		.name = session->name,
		.cluster = session->cluster[0] ? session->cluster : NULL,
		.controller = session->controller->name,
		.controller_url = session->controller->advertise_url,
		.version = session->version,
		.git_hash = session->git_hash,
		.ip = session->peer_address,
		.pool = session->pool,
		.has_lease = session->has_lease };
	struct plane_error err = { 0 };
	registration->is_failed = true;
	if (atomic_load(&session->is_gone))
		return PLANE_JOB_DONE; /* it may be registered elsewhere by now */
	if (session->role->describe)
		session->role->describe(session, &node);
	int result = plane_store_node_connected(session->controller->store, &node,
		&session->node_id, &session->connection_id, &err);
	if (result == 0 && session->role->check_registered)
		result = session->role->check_registered(session, &err);
	registration->is_failed = result < 0;
	if (result == -EADDRINUSE)
		registration->refusal = err;
	if (result < 0)
		plane_warn("register %s: %s", session->name, err.message);
	return PLANE_JOB_DONE;
}

static void handle(struct plane_node_session *session, const json_t *json, size_t weight)
{
	session->message_weight = weight;
	session->role->on_message(session, json);
	session->message_weight = 0;
}

static void take_early_messages(struct plane_node_session *session)
{
	_cleanup_json_ json_t *early = STEAL(session->early);
	size_t count = json_array_size(early);
	for (size_t i = 0; i < count; i++)
		if (session->phase == PLANE_SESSION_SERVING)
			handle(session, json_array_get(early, i), session->early_weight / count);
}

static void keep_early_message(struct plane_node_session *session, json_t *json, size_t weight)
{
	session->early_weight += weight;
	if (session->early_weight > EARLY_WEIGHT_MAX ||
		json_array_size(session->early) == EARLY_MESSAGES_MAX) {
		plane_warn("%s does not wait for the handshake's answer: closing", session->name);
		plane_node_session_refuse(
			session, "too much was sent before the handshake was answered");
		return;
	}
	if (!session->early)
		session->early = json_array();
	json_array_append(session->early, json);
}

static void register_done(struct plane_job *job, bool is_cancelled)
{
	struct plane_node_session *session = ((struct session_job *)job)->session;
	bool is_failed = ((struct session_job *)job)->is_failed || is_cancelled;
	struct plane_error refusal = ((struct session_job *)job)->refusal;
	free(job);
	if (session->phase != PLANE_SESSION_REGISTERING)
		return;
	if (is_failed) {
		plane_node_session_refuse(session,
			refusal.code ? refusal.message : "the store could not take it; try again");
		return;
	}
	(void)uv_timer_stop(&session->timer);
	session->phase = PLANE_SESSION_SERVING;
	session->registered_at_ms = plane_clock_boot_ms();
	close_older_sessions(session);
	plane_info("%s connected from %s (version %s, cluster %s)", session->name,
		session->peer_address, session->version,
		session->cluster[0] ? session->cluster : "none");
	plane_node_session_send(
		session, plane_handshake_write(session->controller->name,
				 session->has_extensions ? session->role->extensions : NULL));
	session->role->on_registered(session);
	take_early_messages(session);
}

/* Is what it was let in with good for this node? */
static int check_limits(struct plane_node_session *session, struct plane_error *err)
{
	struct plane_access *access = session->controller->access;
	struct plane_node_limits *limits = &session->limits;
	const char *kind = plane_node_limits_kind(session->role->kind);
	if (access &&
		!plane_access_limits(access, session->ticket, plane_clock_realtime_ms(), limits))
		return plane_error_set(err, EACCES, "its token or certificate is good no longer");
	if (limits->kind[0] && strcmp(limits->kind, kind) != 0)
		return plane_error_set(
			err, EACCES, "its token is for a %s, not for a %s", limits->kind, kind);
	if (limits->name[0] && strcmp(limits->name, session->name) != 0)
		return plane_error_set(err, EACCES, "its token is for %s", limits->name);
	if (limits->cluster[0] && strcmp(limits->cluster, session->cluster) != 0)
		return plane_error_set(
			err, EACCES, "its token is for cluster %.80s", limits->cluster);
	return 0;
}

static int check_handshake(
	struct plane_node_session *session, const json_t *json, struct plane_error *err)
{
	struct plane_handshake handshake = { 0 };
	enum plane_node_kind kind = PLANE_NODE_CONTROLLER;
	int result = plane_handshake_read(json, &handshake, err);
	if (result < 0)
		return result;
	if (!plane_node_kind_of(handshake.name, &kind) || kind != session->role->kind)
		return plane_error_set(err, EPROTO, "\"%.60s\" is not the name of a %s",
			handshake.name, plane_node_kind_text(session->role->kind));
	result = plane_name_check(handshake.name, plane_node_prefix(kind), err);
	if (result < 0)
		return result;
	if (!plane_text_copy(session->version, sizeof(session->version), handshake.version) ||
		!plane_text_copy(session->git_hash, sizeof(session->git_hash), handshake.git_hash))
		return plane_error_set(err, EPROTO, "version too long");
	(void)plane_text_copy(session->name, sizeof(session->name), handshake.name); /* checked */
	session->has_extensions = handshake.extensions[0] != NULL;
	session->has_metrics = plane_handshake_has(&handshake, PLANE_EXTENSION_METRICS);
	session->has_logs = plane_handshake_has(&handshake, PLANE_EXTENSION_LOGS);
	session->has_lease = plane_handshake_has(&handshake, PLANE_EXTENSION_LEASE);
	session->has_revoke = plane_handshake_has(&handshake, PLANE_EXTENSION_REVOKE);
	result = check_limits(session, err);
	if (result == 0 && session->role->check)
		result = session->role->check(session, &handshake, err);
	return result;
}

static void on_ws_text(void *data, const char *text, size_t len);

static void listen_to(struct plane_node_session *session, size_t message_max_bytes)
{
	plane_ws_listen(session->ws, &(struct plane_ws_listener){ .data = session,
					     .on_text = on_ws_text,
					     .on_closed = on_ws_closed,
					     .message_max_bytes = message_max_bytes });
}

static void on_handshake(struct plane_node_session *session, const json_t *json)
{
	struct plane_error err = { 0 };
	if (check_handshake(session, json, &err) < 0) {
		plane_warn("refusing a connection from %s: handshake: %s", session->peer_address,
			err.message);
		plane_node_session_refuse(session, err.message);
		return;
	}
	session->phase = PLANE_SESSION_REGISTERING;
	listen_to(session, MESSAGE_MAX_BYTES);
	(void)plane_strand_submit(
		session->strand, &new_job(session, register_run, register_done)->base);
}

static void on_ws_text(void *data, const char *text, size_t len)
{
	struct plane_node_session *session = data;
	struct plane_error err = { 0 };
	struct plane_json_size size;
	_cleanup_json_ json_t *json = plane_json_parse_foreign(text, len, &size, &err);
	size_t weight = len + size.values * VALUE_BYTES;
	if (session->phase == PLANE_SESSION_HANDSHAKE) {
		on_handshake(session, json);
	} else if (!json) {
		plane_warn("skipping a message of %s: %s", session->name, err.message);
	} else if (session->phase == PLANE_SESSION_REGISTERING) {
		keep_early_message(session, json, weight);
	} else if (session->phase == PLANE_SESSION_SERVING) {
		handle(session, json, weight);
	}
}

static void on_handshake_timeout(uv_timer_t *timer)
{
	struct plane_node_session *session = timer->data;
	plane_warn("closing a connection from %s: no handshake within %d s", session->peer_address,
		HANDSHAKE_TIMEOUT_MS / 1000);
	plane_node_session_refuse(session, "no handshake came");
}

void plane_node_session_init(struct plane_node_session *session,
	struct plane_controller *controller, const struct plane_node_role *role,
	const char *cluster, const struct plane_node_caller *caller)
{
	session->controller = controller;
	session->role = role;
	(void)plane_text_copy(session->cluster, sizeof(session->cluster), cluster);
	(void)plane_text_copy(
		session->peer_address, sizeof(session->peer_address), caller->peer_address);
	session->is_own_machine = caller->is_own_machine;
	session->ticket = caller->ticket;
}

void plane_node_session_start(struct plane_node_session *owned_session, struct plane_ws *ws)
{
	struct plane_node_session *session = owned_session;
	struct plane_controller *controller = session->controller;
	session->ws = ws;
	session->phase = PLANE_SESSION_HANDSHAKE;
	session->strand = plane_strand_create(&controller->loop, controller->workers);
	(void)uv_timer_init(&controller->loop, &session->timer); /* always succeeds */
	session->timer.data = session;
	(void)uv_timer_start(&session->timer, on_handshake_timeout, HANDSHAKE_TIMEOUT_MS, 0);
	DL_APPEND(controller->sessions, session);
	controller->open_sessions++;
	listen_to(session, HANDSHAKE_MAX_BYTES);
}

void plane_node_session_send_text(struct plane_node_session *session, const char *text)
{
	if (session->ws)
		(void)plane_ws_send_text(session->ws, text, strlen(text)); /* false: it closes */
}

void plane_node_session_send(struct plane_node_session *session, json_t *owned_json)
{
	_cleanup_json_ json_t *json = owned_json;
	_cleanup_free_ char *text = json ? plane_json_dump(json) : NULL;
	if (text)
		plane_node_session_send_text(session, text);
	else
		plane_error("a message to %s could not be written as JSON", session->name);
}

void plane_node_session_refuse(struct plane_node_session *session, const char *why)
{
	if (session->ws)
		plane_ws_close_because(session->ws, PLANE_WEBSOCKET_REFUSED, why);
}

void plane_node_session_close(struct plane_node_session *session)
{
	if (session->ws)
		plane_ws_close(session->ws);
}

bool plane_node_session_submit(struct plane_node_session *session, struct plane_job *owned_job)
{
	owned_job->weight = session->message_weight;
	bool is_taken = plane_strand_submit(session->strand, owned_job);
	if (!is_taken && session->phase == PLANE_SESSION_SERVING) {
		plane_warn("%s sends faster than the store takes: closing", session->name);
		plane_node_session_refuse(session, "it sends faster than the store takes");
	}
	return is_taken;
}
