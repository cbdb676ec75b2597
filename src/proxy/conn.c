/* A connection's life: heads of requests, routes, answers of the proxy's own. */
#include "proxy/conn.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "proxy/headers.h"

#define IDLE_MS 75000 /* between requests */
#define LINGER_MS 2000

void plane_conn_free_exchange(struct plane_conn *conn)
{
	struct plane_exchange *exchange = conn->exchange;
	if (!exchange)
		return;
	plane_routes_cancel(plane_worker_shared(conn->worker)->routes, &exchange->waiter);
	plane_buffer_finish(&exchange->held_head);
	plane_buffer_finish(&exchange->sent_head);
	plane_buffer_finish(&exchange->response_in);
	free(exchange);
	conn->exchange = NULL;
}

static void leave_route(struct plane_conn *conn)
{
	struct plane_proxy_shared *shared = plane_worker_shared(conn->worker);
	if (conn->is_counted)
		plane_activity_end(shared->activity, conn->route->backend);
	conn->is_counted = false;
	plane_route_unref(conn->route);
	conn->route = NULL;
}

void plane_conn_kill(struct plane_conn *conn)
{
	struct plane_proxy_shared *shared = plane_worker_shared(conn->worker);
	if (conn->is_dead)
		return;
	if (conn->phase == PLANE_CONN_TUNNEL)
		plane_proxy_count(shared, PLANE_COUNT_TUNNELS, -1);
	conn->is_dead = true;
	plane_end_close(&conn->client);
	plane_upstream_close(conn);
	plane_buffer_finish(&conn->in);
	plane_conn_free_exchange(conn);
	leave_route(conn);
	plane_conn_set_deadline(conn, 0);
	plane_conn_destroy(conn);
}

static void begin_lingering(struct plane_conn *conn)
{
	plane_end_shut(&conn->client);
	plane_buffer_finish(&conn->in);
	conn->phase = PLANE_CONN_LINGERING;
	plane_conn_set_deadline(conn, LINGER_MS);
}

static void begin_answered(struct plane_conn *conn, bool is_keep_alive)
{
	plane_conn_free_exchange(conn);
	leave_route(conn);
	plane_conn_set_deadline(conn, 0);
	conn->is_keep_alive = is_keep_alive && !plane_worker_is_stopping(conn->worker);
	conn->phase = PLANE_CONN_ANSWERED;
}

/* ---- answers of the proxy's own ---- */

static void answer(struct plane_conn *conn, int status, const char *text, const char *location)
{
	struct plane_exchange *exchange = conn->exchange;
	struct plane_proxy_shared *shared = plane_worker_shared(conn->worker);
	bool is_clean = exchange && exchange->wants_keep_alive && !exchange->is_http10 &&
			exchange->request.framing == PLANE_HTTP1_NO_BODY;
	bool closes = !is_clean || plane_worker_is_stopping(conn->worker);
	plane_proxy_count(shared, PLANE_COUNT_OWN_ANSWERS, 1);
	plane_headers_own_answer(&conn->client.out, status, text, location,
		status >= 500 && conn->route ? conn->route->backend : NULL,
		exchange && exchange->is_head_request, closes);
	begin_answered(conn, !closes);
}

void plane_conn_answer(struct plane_conn *conn, int status, const char *text)
{
	answer(conn, status, text, NULL);
}

void plane_conn_finish_exchange(struct plane_conn *conn)
{
	struct plane_exchange *exchange = conn->exchange;
	bool is_keep_alive = exchange->wants_keep_alive && exchange->request.is_done;
	plane_upstream_release(conn);
	begin_answered(conn, is_keep_alive);
}

/* ---- from a head to a route ---- */

static bool is_idempotent(struct plane_slice method)
{
	return plane_slice_equals(method, "GET") || plane_slice_equals(method, "HEAD") ||
	       plane_slice_equals(method, "OPTIONS");
}

static void start_body(struct plane_body *body, enum plane_http1_framing framing, uint64_t length)
{
	*body = (struct plane_body){ .framing = framing,
		.left = length,
		.is_done = framing == PLANE_HTTP1_NO_BODY ||
			   (framing == PLANE_HTTP1_LENGTH && length == 0) };
}

static struct plane_exchange *create_exchange(
	struct plane_conn *conn, const struct plane_http1_head *head)
{
	/* malloc finds what the last request freed, calloc does not look there */
	struct plane_exchange *exchange = plane_alloc(sizeof(*exchange));
	*exchange = (struct plane_exchange){ .conn = conn };
	exchange->wants_keep_alive = head->is_keep_alive;
	exchange->is_http10 = head->minor_version == 0;
	exchange->is_head_request = plane_slice_equals(head->method, "HEAD");
	exchange->is_idempotent = is_idempotent(head->method);
	exchange->is_upgrade = head->is_upgrade;
	exchange->expects_continue = head->expects_continue;
	start_body(&exchange->request, head->framing, head->content_length);
	return exchange;
}

static void follow_route(struct plane_conn *conn, const struct plane_http1_head *head,
	const struct plane_target *target, struct plane_route *owned_route)
{
	struct plane_proxy_shared *shared = plane_worker_shared(conn->worker);
	conn->route = owned_route;
	int status =
		plane_target_check_host(head->host, owned_route->cluster, owned_route->subdomain);
	if (status) {
		plane_conn_answer(conn, status,
			status == 400 ? "The request has no Host."
				      : "This host name does not belong to the link.");
		return;
	}
	conn->is_counted = true;
	if (plane_activity_begin(shared->activity, owned_route->backend))
		plane_control_first_use(shared->control, owned_route->backend);
	plane_upstream_open(conn, head, target);
}

static void gone(struct plane_conn *conn)
{
	plane_conn_answer(conn, 410,
		"This link leads nowhere (any more). Ask the application for a new one.");
}

/* `bytes` are those of the head. */
static void find_route(struct plane_conn *conn, const char *bytes,
	const struct plane_http1_head *head, const struct plane_target *target)
{
	struct plane_proxy_shared *shared = plane_worker_shared(conn->worker);
	struct plane_exchange *exchange = conn->exchange;
	struct plane_route *route = NULL;
	exchange->waiter.inbox = plane_worker_inbox(conn->worker);
	switch (plane_routes_find(shared->routes, target->token, plane_worker_now_ms(conn->worker),
		&exchange->waiter, &route)) {
	case PLANE_ROUTES_FOUND:
		exchange->waiter.inbox = NULL; /* there is nothing to cancel */
		follow_route(conn, head, target, route);
		break;
	case PLANE_ROUTES_NONE:
		exchange->waiter.inbox = NULL;
		gone(conn);
		break;
	case PLANE_ROUTES_WAIT:
		plane_buffer_add(&exchange->held_head, bytes, head->len);
		conn->phase = PLANE_CONN_WAITING;
		plane_conn_set_deadline(conn, shared->config->ready_timeout_ms);
		break;
	}
}

void plane_conn_routed(struct plane_conn *conn, struct plane_route *owned_route)
{
	plane_conn_set_deadline(conn, 0);
	if (owned_route) {
		struct plane_buffer bytes = conn->exchange->held_head;
		struct plane_http1_head head;
		const char *problem;
		conn->exchange->held_head = (struct plane_buffer){ 0 };
		enum plane_http1_result result =
			plane_http1_parse_request(bytes.data, bytes.len, &head, &problem);
		assert(result == PLANE_HTTP1_DONE); /* as it was before */
		(void)result;
		struct plane_target target = plane_target_read(head.target);
		follow_route(conn, &head, &target, owned_route);
		plane_buffer_finish(&bytes);
	} else {
		gone(conn);
	}
	plane_conn_advance(conn);
}

static void dispatch(
	struct plane_conn *conn, const char *bytes, const struct plane_http1_head *head)
{
	struct plane_target target = plane_target_read(head->target);
	struct plane_proxy_shared *shared = plane_worker_shared(conn->worker);
	const char *redirect = shared->config->root_redirect_url;
	plane_proxy_count(shared, PLANE_COUNT_REQUESTS, 1);
	switch (target.kind) {
	case PLANE_TARGET_READY:
		if (atomic_load(&shared->is_connected))
			plane_conn_answer(conn, 200, "");
		else
			plane_conn_answer(conn, 503, "There is no connection to a controller.");
		break;
	case PLANE_TARGET_ROOT:
		if (redirect)
			answer(conn, 301, "", redirect);
		else
			plane_conn_answer(
				conn, 400, "A link to a backend has a token in its path.");
		break;
	case PLANE_TARGET_BAD:
		plane_conn_answer(conn, 400, "A link to a backend has a token in its path.");
		break;
	case PLANE_TARGET_GONE:
		gone(conn);
		break;
	case PLANE_TARGET_TOKEN:
		find_route(conn, bytes, head, &target);
		break;
	}
}

/* ---- reading heads ---- */

static void take_head(
	struct plane_conn *conn, const char *bytes, size_t len, const struct plane_http1_head *head)
{
	plane_conn_set_deadline(conn, 0);
	conn->exchange = create_exchange(conn, head);
	plane_buffer_add(&conn->in, bytes + head->len, len - head->len);
	dispatch(conn, bytes, head);
}

/* True when `bytes`, which begin with a head, decided something; else they are not taken. */
static bool parse_head(struct plane_conn *conn, const char *bytes, size_t len)
{
	struct plane_http1_head head;
	const char *problem = "The request is malformed.";
	switch (plane_http1_parse_request(bytes, len, &head, &problem)) {
	case PLANE_HTTP1_DONE:
		if (head.len <= PLANE_HEAD_MAX)
			take_head(conn, bytes, len, &head);
		else
			plane_conn_answer(conn, 431, "The request's head is too large.");
		return true;
	case PLANE_HTTP1_BAD:
		plane_conn_answer(conn, 400, problem);
		return true;
	case PLANE_HTTP1_TOO_MANY:
		plane_conn_answer(conn, 431, "The request has too many header fields.");
		return true;
	case PLANE_HTTP1_MORE:
		break;
	}
	if (len <= PLANE_HEAD_MAX)
		return false;
	plane_conn_answer(conn, 431, "The request's head is too large.");
	return true;
}

/* The same for the bytes that were kept. */
static bool parse_kept(struct plane_conn *conn)
{
	struct plane_buffer bytes = conn->in;
	conn->in = (struct plane_buffer){ 0 };
	if (bytes.len && parse_head(conn, bytes.data, bytes.len)) {
		plane_buffer_finish(&bytes);
		return true;
	}
	conn->in = bytes;
	return false;
}

/* A head that comes in one piece is understood where it was read. One that comes in many is looked
 * at again only when a line ends: its sender cannot make that dear. */
static bool take_head_bytes(struct plane_conn *conn, const char *bytes, size_t len)
{
	if (conn->in.len == 0 && len && parse_head(conn, bytes, len))
		return true;
	bool is_new = conn->in.len == 0;
	plane_buffer_add(&conn->in, bytes, len);
	if (is_new || (!memchr(bytes, '\n', len) && conn->in.len <= PLANE_HEAD_MAX))
		return false;
	return parse_kept(conn);
}

static bool step_head(struct plane_conn *conn)
{
	char *scratch = plane_worker_scratch(conn->worker);
	bool was_empty = conn->in.len == 0;
	size_t got = plane_end_read(&conn->client, scratch, PLANE_SCRATCH_SIZE);
	if (got && take_head_bytes(conn, scratch, got))
		return true;
	if (conn->client.is_eof || conn->client.is_broken) {
		plane_conn_kill(conn); /* nothing was asked, or not to the end */
		return true;
	}
	if (was_empty && conn->in.len)
		plane_conn_set_deadline(
			conn, plane_worker_shared(conn->worker)->config->header_timeout_ms);
	return got > 0;
}

/* The next request may be there already. */
static bool parse_pipelined(struct plane_conn *conn)
{
	struct plane_proxy_shared *shared = plane_worker_shared(conn->worker);
	conn->phase = PLANE_CONN_HEAD;
	plane_conn_set_deadline(conn, conn->in.len ? shared->config->header_timeout_ms : IDLE_MS);
	(void)parse_kept(conn); /* else it is read on */
	return true;
}

static bool step_answered(struct plane_conn *conn)
{
	struct plane_proxy_shared *shared = plane_worker_shared(conn->worker);
	if (!plane_end_flush(&conn->client)) {
		if (!conn->deadline_ms)
			plane_conn_set_deadline(conn, shared->config->stall_timeout_ms);
		return false;
	}
	if (conn->client.is_broken)
		plane_conn_kill(conn);
	else if (conn->is_keep_alive)
		return parse_pipelined(conn);
	else
		begin_lingering(conn);
	return true;
}

static bool step_lingering(struct plane_conn *conn)
{
	char *scratch = plane_worker_scratch(conn->worker);
	size_t got = plane_end_read(&conn->client, scratch, PLANE_SCRATCH_SIZE);
	if (conn->client.is_eof || conn->client.is_broken)
		plane_conn_kill(conn);
	return got > 0;
}

/* ---- events and time ---- */

/* A client that went away wants no answer any more. One that only said that it sends no more may
 * still read. */
static bool is_client_gone(const struct plane_conn *conn)
{
	return conn->client.is_hung_up &&
	       (conn->phase == PLANE_CONN_WAITING || conn->phase == PLANE_CONN_CONNECTING ||
		       conn->phase == PLANE_CONN_EXCHANGE);
}

static bool step(struct plane_conn *conn)
{
	if (is_client_gone(conn)) {
		plane_conn_kill(conn);
		return true;
	}
	switch (conn->phase) {
	case PLANE_CONN_HEAD:
		return step_head(conn);
	case PLANE_CONN_WAITING:
		return false; /* plane_conn_routed goes on */
	case PLANE_CONN_CONNECTING:
		return plane_upstream_step(conn);
	case PLANE_CONN_EXCHANGE:
		return plane_exchange_step(conn);
	case PLANE_CONN_TUNNEL:
		return plane_tunnel_step(conn);
	case PLANE_CONN_ANSWERED:
		return step_answered(conn);
	case PLANE_CONN_LINGERING:
		return step_lingering(conn);
	}
	return false;
}

void plane_conn_advance(struct plane_conn *conn)
{
	while (!conn->is_dead && step(conn))
		;
}

void plane_conn_expire(struct plane_conn *conn)
{
	switch (conn->phase) {
	case PLANE_CONN_HEAD:
		if (conn->in.len)
			plane_conn_answer(conn, 408, "The request's head did not come in time.");
		else
			plane_conn_kill(conn);
		break;
	case PLANE_CONN_WAITING:
		plane_conn_answer(conn, 504, "The backend did not become ready in time.");
		break;
	case PLANE_CONN_CONNECTING:
		plane_upstream_close(conn);
		plane_conn_answer(conn, 504, "The backend did not accept a connection in time.");
		break;
	default:
		plane_conn_kill(conn); /* neither side moves */
		break;
	}
	plane_conn_advance(conn);
}
