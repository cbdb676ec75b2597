/* A request and its answer pass through: bodies as they come, each side as fast as the other reads.
 * No more is kept than one read of what the receiver did not take. */
#include <string.h>

#include "proxy/conn.h"
#include "proxy/headers.h"

#define HALF_CLOSED_MS 60000
#define TOGETHER_MAX ((size_t)16 << 10)

/* How many of the bytes belong to the body; `*is_bad` for broken chunks. `payload` (may be NULL)
 * gets what chunks carry; `*trailers` (may be NULL) how many of the bytes are in the trailer
 * section. */
static size_t take_body(struct plane_body *body, const char *bytes, size_t len,
	struct plane_buffer *payload, size_t *trailers, bool *is_bad)
{
	size_t all = 0, unused = 0;
	*is_bad = false;
	trailers = trailers ? trailers : &unused;
	*trailers = 0;
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
		bool is_trailer = body->chunked.is_in_trailers;
		enum plane_http1_result result = plane_http1_chunked_next(
			&body->chunked, bytes + all, len - all, &taken, &data);
		if (payload)
			plane_buffer_add(payload, data.data, data.len);
		all += taken;
		*trailers += is_trailer ? taken : 0;
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
	plane_upstream_close(conn);
	if (exchange->has_response_head)
		plane_conn_kill(conn);
	else
		plane_conn_answer(conn, 400, "The request's body is malformed.");
}

/* Trailers are dropped (RFC 9110 section 6.5.1): some servers take them for fields of the head,
 * where clients may not say everything. */
static void send_request_bytes(struct plane_conn *conn, const char *bytes, size_t len)
{
	static const char end[] = "\r\n"; /* of a trailer section without trailers */
	struct plane_exchange *exchange = conn->exchange;
	size_t trailers;
	bool is_bad;
	size_t taken = take_body(&exchange->request, bytes, len, NULL, &trailers, &is_bad);
	if (is_bad) {
		refuse_request(conn);
		return;
	}
	if (exchange->request.is_done && trailers == strlen(end))
		trailers = 0; /* these bytes are the end itself */
	plane_end_write(&conn->upstream->end, bytes, taken - trailers);
	if (exchange->request.is_done && trailers)
		plane_end_write(&conn->upstream->end, end, strlen(end));
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
	struct plane_end *upstream = &conn->upstream->end;
	char *scratch = plane_worker_scratch(conn->worker);
	if (exchange->is_request_broken)
		return false;
	/* what came with the head goes with it */
	bool has_moved = !exchange->request.is_done && upstream->out.len <= PLANE_SCRATCH_SIZE &&
			 send_from_in(conn);
	if (conn->is_dead || conn->phase != PLANE_CONN_EXCHANGE)
		return true;
	bool is_flushed = plane_end_flush(upstream);
	if (upstream->is_broken) {
		exchange->is_request_broken = true; /* its answer may still come */
		exchange->wants_keep_alive =
			exchange->wants_keep_alive && exchange->request.is_done;
		return false;
	}
	if (exchange->request.is_done || !is_flushed || has_moved)
		return has_moved;
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

/* Into the worker's buffer, to be sent alone or with the first of the body. */
static struct plane_buffer *compose_head(struct plane_conn *conn,
	const struct plane_http1_head *head, bool is_interim, bool is_upgraded)
{
	struct plane_buffer *composed = plane_worker_compose(conn->worker);
	struct plane_exchange *exchange = conn->exchange;
	struct plane_response_plan plan = { .backend = conn->route->backend,
		.is_chunked = head->framing == PLANE_HTTP1_CHUNKED && !exchange->strips_chunks,
		.closes = !exchange->wants_keep_alive || plane_worker_is_stopping(conn->worker),
		.is_http10 = exchange->is_http10,
		.is_interim = is_interim,
		.is_upgraded = is_upgraded };
	plane_headers_response(composed, head, &plan);
	return composed;
}

static void write_head(struct plane_conn *conn, const struct plane_http1_head *head,
	bool is_interim, bool is_upgraded)
{
	const struct plane_buffer *composed = compose_head(conn, head, is_interim, is_upgraded);
	plane_end_write(&conn->client, composed->data, composed->len);
}

/* ---- the answer's body ---- */

/* The client must see that it is not complete: by its length or its chunks, and by a reset where
 * nothing but the end of the connection is its end. */
static void cut_answer(struct plane_conn *conn)
{
	const struct plane_exchange *exchange = conn->exchange;
	if (exchange->response.framing == PLANE_HTTP1_UNTIL_CLOSE || exchange->strips_chunks)
		plane_end_reset(&conn->client);
	plane_conn_kill(conn);
}

/* `composed` (may be NULL) is the head, which goes first: with the body in one send if that is not
 * large. */
static void send_response_bytes(
	struct plane_conn *conn, struct plane_buffer *composed, const char *bytes, size_t len)
{
	struct plane_exchange *exchange = conn->exchange;
	struct plane_buffer payload = { 0 };
	bool is_bad;
	size_t taken = take_body(&exchange->response, bytes, len,
		exchange->strips_chunks ? &payload : NULL, NULL, &is_bad);
	if (is_bad) {
		cut_answer(conn);
		plane_buffer_finish(&payload);
		return;
	}
	struct plane_slice body = { bytes, taken };
	if (exchange->strips_chunks)
		body = (struct plane_slice){ payload.data, payload.len };
	if (composed && body.len <= TOGETHER_MAX) {
		plane_buffer_add(composed, body.data, body.len);
		body.len = 0;
	}
	if (composed)
		plane_end_write(&conn->client, composed->data, composed->len);
	if (body.len)
		plane_end_write(&conn->client, body.data, body.len);
	plane_buffer_finish(&payload);
	if (taken < len && exchange->response.is_done)
		exchange->can_reuse_upstream = false; /* it says more than was asked */
	else if (taken < len)
		plane_buffer_add(&exchange->response_in, bytes + taken, len - taken);
}

/* `rest` is what came behind the head. */
static void take_response_head(struct plane_conn *conn, const struct plane_http1_head *head,
	const char *rest, size_t rest_len)
{
	struct plane_exchange *exchange = conn->exchange;
	if (head->status == 101 && !exchange->is_upgrade) {
		plane_upstream_failed(conn, "it changes to a protocol that nobody asked for");
	} else if (head->status == 101) {
		write_head(conn, head, false, true);
		plane_tunnel_begin(conn, rest, rest_len);
	} else if (head->status >= 200) {
		exchange->has_response_head = true;
		start_response_body(exchange, head);
		send_response_bytes(conn, compose_head(conn, head, false, false), rest, rest_len);
	} else if (!exchange->is_http10) {
		write_head(conn, head, true, false);
	}
}

/* Reads one head, or keeps what is there of it. How many bytes are understood. */
static size_t parse_response_head(struct plane_conn *conn, const char *bytes, size_t len)
{
	struct plane_exchange *exchange = conn->exchange;
	struct plane_http1_head head;
	const char *problem = "malformed";
	switch (plane_http1_parse_response(
		bytes, len, exchange->is_head_request, &head, &problem)) {
	case PLANE_HTTP1_DONE:
		take_response_head(conn, &head, bytes + head.len, len - head.len);
		return head.len;
	case PLANE_HTTP1_MORE:
		if (len <= PLANE_HEAD_MAX) {
			plane_buffer_add(&exchange->response_in, bytes, len);
			return len;
		}
		problem = "its head is too large";
		break;
	case PLANE_HTTP1_TOO_MANY:
		problem = "it has too many header fields";
		break;
	case PLANE_HTTP1_BAD:
		break;
	}
	plane_upstream_failed(conn, problem);
	return len;
}

/* `bytes` begin where the last ones that were understood ended. */
static void take_response_bytes(struct plane_conn *conn, const char *bytes, size_t len)
{
	struct plane_exchange *exchange = conn->exchange;
	if (exchange->has_response_head) {
		send_response_bytes(conn, NULL, bytes, len);
		return;
	}
	while (len && !conn->is_dead && conn->phase == PLANE_CONN_EXCHANGE &&
		!exchange->has_response_head) {
		size_t taken = parse_response_head(conn, bytes, len);
		bytes += taken;
		len -= taken;
	}
}

static bool end_of_response(struct plane_conn *conn)
{
	struct plane_exchange *exchange = conn->exchange;
	if (!exchange->has_response_head)
		plane_upstream_failed(conn, "it closed the connection without an answer");
	else if (exchange->response.framing == PLANE_HTTP1_UNTIL_CLOSE &&
		 !conn->upstream->end.is_broken)
		exchange->response.is_done = true;
	else
		cut_answer(conn);
	return true;
}

static bool pump_response(struct plane_conn *conn)
{
	struct plane_exchange *exchange = conn->exchange;
	const struct plane_end *upstream = &conn->upstream->end;
	char *scratch = plane_worker_scratch(conn->worker);
	if (exchange->has_response_head && exchange->response.is_done)
		return false;
	if (!plane_end_flush(&conn->client))
		return false;
	size_t got = plane_end_read(&conn->upstream->end, scratch, PLANE_SCRATCH_SIZE);
	if (got == 0)
		return upstream->is_eof || upstream->is_broken ? end_of_response(conn) : false;
	exchange->is_answered = true;
	if (exchange->response_in.len == 0) {
		take_response_bytes(conn, scratch, got);
		return true;
	}
	plane_buffer_add(&exchange->response_in, scratch, got);
	/* a head is looked at again only when a line ends: its sender cannot make that dear */
	if (!exchange->has_response_head && !memchr(scratch, '\n', got) &&
		exchange->response_in.len <= PLANE_HEAD_MAX)
		return true;
	struct plane_buffer bytes = exchange->response_in;
	exchange->response_in = (struct plane_buffer){ 0 };
	take_response_bytes(conn, bytes.data, bytes.len);
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
					!exchange->expects_continue);
	bool waits_for_backend = conn->upstream->end.out.len > 0;
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
