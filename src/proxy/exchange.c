/* A request and its answer pass through: bodies as they come, each side as fast as the other reads.
 * No more is kept than one read of what the receiver did not take. */
#include <stdlib.h>
#include <string.h>

#include "proxy/conn.h"
#include "proxy/headers.h"

#define HALF_CLOSED_MS 60000

/* How many of the bytes belong to the body; `*is_bad` for broken chunks. `payload` (may be NULL)
 * gets what chunks carry. */
static size_t take_body(struct plane_body *body, const char *bytes, size_t len,
	struct plane_buffer *payload, bool *is_bad)
{
	size_t all = 0;
	*is_bad = false;
	switch (body->framing) {
	case PLANE_HTTP1_NO_BODY:
		return 0;
	case PLANE_HTTP1_UNTIL_CLOSE:
		return len;
	case PLANE_HTTP1_LENGTH:
		all = len < body->left ? len : (size_t)body->left;
		body->left -= all;
		body->is_done = body->left == 0;
		return all;
	case PLANE_HTTP1_CHUNKED:
		break;
	}
	while (all < len && !body->is_done) {
		struct plane_slice data = { 0 };
		size_t taken = 0;
		enum plane_http1_result result = plane_http1_chunked_next(
			&body->chunked, bytes + all, len - all, &taken, &data);
		if (payload)
			plane_buffer_add(payload, data.data, data.len);
		all += taken;
		body->is_done = result == PLANE_HTTP1_DONE;
		*is_bad = result == PLANE_HTTP1_BAD || result == PLANE_HTTP1_TOO_MANY;
		if (*is_bad || (result == PLANE_HTTP1_MORE && taken == 0))
			break;
	}
	return all;
}

/* ---- the request ---- */

/* Broken framing: nobody can say where the next request begins. */
static void refuse_request(struct plane_conn *conn)
{
	struct plane_exchange *exchange = conn->exchange;
	exchange->wants_keep_alive = false;
	plane_end_close(&conn->upstream);
	if (exchange->has_response_head)
		plane_conn_kill(conn);
	else
		plane_conn_answer(conn, 400, "The request's body is malformed.");
}

static void send_request_bytes(struct plane_conn *conn, const char *bytes, size_t len)
{
	struct plane_exchange *exchange = conn->exchange;
	bool is_bad;
	size_t taken = take_body(&exchange->request, bytes, len, NULL, &is_bad);
	if (is_bad) {
		refuse_request(conn);
		return;
	}
	plane_end_write(&conn->upstream, bytes, taken);
	if (taken < len) /* the next request, or an unfinished line of a chunk */
		plane_buffer_add(&conn->in, bytes + taken, len - taken);
}

/* What was read together with the head, or left over before. */
static bool send_from_in(struct plane_conn *conn)
{
	struct plane_buffer bytes = conn->in;
	if (bytes.len == 0)
		return false;
	conn->in = (struct plane_buffer){ 0 };
	send_request_bytes(conn, bytes.data, bytes.len);
	bool has_moved = conn->is_dead || conn->in.len < bytes.len;
	plane_buffer_finish(&bytes);
	return has_moved;
}

static bool pump_request(struct plane_conn *conn)
{
	struct plane_exchange *exchange = conn->exchange;
	char *scratch = plane_worker_scratch(conn->worker);
	if (exchange->is_request_broken)
		return false;
	bool is_flushed = plane_end_flush(&conn->upstream);
	if (conn->upstream.is_broken) {
		exchange->is_request_broken = true; /* its answer may still come */
		exchange->wants_keep_alive =
			exchange->wants_keep_alive && exchange->request.is_done;
		return false;
	}
	if (exchange->request.is_done || !is_flushed)
		return false;
	if (send_from_in(conn))
		return true;
	size_t got = plane_end_read(&conn->client, scratch, PLANE_SCRATCH_SIZE);
	if (got == 0)
		return false;
	if (conn->in.len) { /* a chunk's line goes on */
		plane_buffer_add(&conn->in, scratch, got);
		return send_from_in(conn) || conn->in.len <= PLANE_SCRATCH_SIZE;
	}
	send_request_bytes(conn, scratch, got);
	return true;
}

/* ---- the answer's head ---- */

static void start_response_body(
	struct plane_exchange *exchange, const struct plane_http1_head *head)
{
	exchange->response = (struct plane_body){ .framing = head->framing,
		.left = head->content_length,
		.is_done = head->framing == PLANE_HTTP1_NO_BODY ||
			   (head->framing == PLANE_HTTP1_LENGTH && head->content_length == 0) };
	exchange->can_reuse_upstream =
		head->is_keep_alive && head->framing != PLANE_HTTP1_UNTIL_CLOSE;
	exchange->strips_chunks = exchange->is_http10 && head->framing == PLANE_HTTP1_CHUNKED;
	if (exchange->strips_chunks || head->framing == PLANE_HTTP1_UNTIL_CLOSE ||
		!exchange->request.is_done)
		exchange->wants_keep_alive = false;
}

static void write_head(struct plane_conn *conn, const struct plane_http1_head *head,
	bool is_interim, bool is_upgraded)
{
	struct plane_exchange *exchange = conn->exchange;
	struct plane_response_plan plan = { .backend = conn->route->backend,
		.is_chunked = head->framing == PLANE_HTTP1_CHUNKED && !exchange->strips_chunks,
		.closes = !exchange->wants_keep_alive || plane_worker_is_stopping(conn->worker),
		.is_http10 = exchange->is_http10,
		.is_interim = is_interim,
		.is_upgraded = is_upgraded };
	plane_headers_response(&conn->client.out, head, &plan);
}

/* What follows the head goes back to be read as body. */
static struct plane_buffer rest_of(struct plane_exchange *exchange, size_t head_len)
{
	struct plane_buffer rest = exchange->response_in;
	exchange->response_in = (struct plane_buffer){ 0 };
	plane_buffer_consume(&rest, head_len);
	return rest;
}

static void send_response_bytes(struct plane_conn *conn, const char *bytes, size_t len);

static void take_response_head(struct plane_conn *conn, const struct plane_http1_head *head)
{
	struct plane_exchange *exchange = conn->exchange;
	if (head->status == 101 && !exchange->head.is_upgrade) {
		plane_upstream_failed(conn, "it changes to a protocol that nobody asked for");
		return;
	}
	if (head->status == 101) {
		write_head(conn, head, false, true);
		plane_buffer_consume(&exchange->response_in, head->len);
		plane_tunnel_begin(conn);
		return;
	}
	if (head->status < 200) {
		if (!exchange->is_http10)
			write_head(conn, head, true, false);
		struct plane_buffer rest = rest_of(exchange, head->len);
		exchange->response_in = rest;
		return;
	}
	exchange->has_response_head = true;
	start_response_body(exchange, head);
	write_head(conn, head, false, false);
	struct plane_buffer rest = rest_of(exchange, head->len);
	if (rest.len)
		send_response_bytes(conn, rest.data, rest.len);
	plane_buffer_finish(&rest);
}

/* True when a head was there. */
static bool parse_response_head(struct plane_conn *conn)
{
	struct plane_exchange *exchange = conn->exchange;
	struct plane_http1_head head;
	const char *problem = "malformed";
	if (exchange->response_in.len == 0)
		return false;
	switch (plane_http1_parse_response(exchange->response_in.data, exchange->response_in.len,
		exchange->is_head_request, &head, &problem)) {
	case PLANE_HTTP1_DONE:
		take_response_head(conn, &head);
		return true;
	case PLANE_HTTP1_MORE:
		if (exchange->response_in.len <= PLANE_HEAD_MAX)
			return false;
		problem = "its head is too large";
		break;
	case PLANE_HTTP1_TOO_MANY:
		problem = "it has too many header fields";
		break;
	case PLANE_HTTP1_BAD:
		break;
	}
	exchange->is_reused = false; /* it answered: not again */
	plane_upstream_failed(conn, problem);
	return true;
}

/* ---- the answer's body ---- */

static void send_response_bytes(struct plane_conn *conn, const char *bytes, size_t len)
{
	struct plane_exchange *exchange = conn->exchange;
	struct plane_buffer payload = { 0 };
	bool is_bad;
	size_t taken = take_body(&exchange->response, bytes, len,
		exchange->strips_chunks ? &payload : NULL, &is_bad);
	if (is_bad) {
		plane_conn_kill(conn); /* the client sees that it is not complete */
		plane_buffer_finish(&payload);
		return;
	}
	if (conn->client.out.len && taken <= PLANE_SCRATCH_SIZE && !exchange->strips_chunks) {
		plane_buffer_add(&conn->client.out, bytes, taken); /* with the head, in one send */
		(void)plane_end_flush(&conn->client);
	} else if (exchange->strips_chunks) {
		plane_end_write(&conn->client, payload.data ? payload.data : "", payload.len);
	} else {
		plane_end_write(&conn->client, bytes, taken);
	}
	plane_buffer_finish(&payload);
	if (taken < len && exchange->response.is_done)
		exchange->can_reuse_upstream = false; /* it says more than was asked */
	else if (taken < len)
		plane_buffer_add(&exchange->response_in, bytes + taken, len - taken);
}

static bool end_of_response(struct plane_conn *conn)
{
	struct plane_exchange *exchange = conn->exchange;
	if (!exchange->has_response_head)
		plane_upstream_failed(conn, "it closed the connection without an answer");
	else if (exchange->response.framing == PLANE_HTTP1_UNTIL_CLOSE && !conn->upstream.is_broken)
		exchange->response.is_done = true;
	else
		plane_conn_kill(conn); /* cut off: the client sees it too */
	return true;
}

static bool pump_response(struct plane_conn *conn)
{
	struct plane_exchange *exchange = conn->exchange;
	char *scratch = plane_worker_scratch(conn->worker);
	if (exchange->has_response_head && exchange->response.is_done)
		return false;
	if (!plane_end_flush(&conn->client))
		return false;
	size_t got = plane_end_read(&conn->upstream, scratch, PLANE_SCRATCH_SIZE);
	if (got == 0)
		return conn->upstream.is_eof || conn->upstream.is_broken ? end_of_response(conn)
									 : false;
	if (exchange->has_response_head && exchange->response_in.len == 0) {
		send_response_bytes(conn, scratch, got);
		return true;
	}
	plane_buffer_add(&exchange->response_in, scratch, got);
	if (!exchange->has_response_head) {
		while (!conn->is_dead && conn->phase == PLANE_CONN_EXCHANGE &&
			!exchange->has_response_head && parse_response_head(conn))
			;
		return true;
	}
	struct plane_buffer bytes = rest_of(exchange, 0);
	send_response_bytes(conn, bytes.data, bytes.len);
	plane_buffer_finish(&bytes);
	return true;
}

/* ---- both ---- */

static bool is_over(const struct plane_conn *conn)
{
	const struct plane_exchange *exchange = conn->exchange;
	return exchange && exchange->has_response_head && exchange->response.is_done;
}

/* A side that does not take what waits for it, or a client that owes its body, has limited time;
 * a backend may think for as long as it likes. */
static void watch_stall(struct plane_conn *conn, bool has_moved)
{
	struct plane_exchange *exchange = conn->exchange;
	int64_t stall_ms = plane_worker_shared(conn->worker)->config->stall_timeout_ms;
	bool waits_for_client = conn->client.out.len > 0 ||
				(!exchange->request.is_done && !exchange->is_request_broken &&
					!exchange->head.expects_continue);
	bool waits_for_backend = conn->upstream.out.len > 0;
	if (waits_for_client || waits_for_backend) {
		if (has_moved || !conn->deadline_ms)
			plane_conn_set_deadline(conn, stall_ms);
	} else if (conn->client.is_peer_done) {
		if (!conn->deadline_ms)
			plane_conn_set_deadline(conn, HALF_CLOSED_MS);
	} else {
		plane_conn_set_deadline(conn, 0);
	}
}

bool plane_exchange_step(struct plane_conn *conn)
{
	bool has_moved = pump_request(conn);
	if (conn->is_dead || conn->phase != PLANE_CONN_EXCHANGE)
		return true;
	has_moved |= pump_response(conn);
	if (conn->is_dead || conn->phase != PLANE_CONN_EXCHANGE)
		return true;
	if (conn->client.is_broken || (conn->client.is_eof && !conn->exchange->request.is_done)) {
		plane_conn_kill(conn);
		return true;
	}
	if (is_over(conn)) {
		plane_conn_set_deadline(conn, 0);
		plane_conn_finish_exchange(conn);
		return true;
	}
	watch_stall(conn, has_moved);
	return has_moved;
}
