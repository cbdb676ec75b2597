/* WebSockets on the server's side. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/version.h"
#include "net/http_internal.h"

#define PING_INTERVAL_MS 15000
#define DEAD_AFTER_MS 40000
#define CLOSE_TIMEOUT_MS 5000
#define WAITING_MAX ((size_t)16 << 20)

static struct plane_http_connection *connection_of(struct plane_ws *ws)
{
	return (struct plane_http_connection *)((char *)ws -
						offsetof(struct plane_http_connection, ws));
}

static void on_text(void *data, const char *text, size_t len)
{
	struct plane_http_connection *connection = data;
	struct plane_ws_listener *listener = &connection->ws.listener;
	if (connection->phase == PLANE_HTTP_WEBSOCKET && listener->on_text &&
		!connection->ws.must_close)
		listener->on_text(listener->data, text, len);
}

static bool is_too_much(const struct plane_http_connection *connection, size_t more)
{
	const uv_stream_t *stream = (const uv_stream_t *)&connection->tcp;
	return uv_stream_get_write_queue_size(stream) + more > WAITING_MAX;
}

/* The peer does not read what it is sent. */
static void drop(struct plane_http_connection *connection)
{
	connection->ws.must_close = connection->ws.is_dropped = true;
	plane_http_connection_arm(connection, 1); /* not from inside the owner's call */
}

/* Also answers to pings: a peer that reads none of them may send no more. */
static void flush(struct plane_http_connection *connection)
{
	struct plane_buffer *output = plane_websocket_output(connection->ws.endpoint);
	if (!output->len || connection->phase != PLANE_HTTP_WEBSOCKET)
		return;
	if (is_too_much(connection, output->len)) {
		plane_buffer_finish(output);
		drop(connection);
	} else {
		plane_http_write(connection, output, NULL);
	}
}

void plane_http_ws_start(struct plane_http_connection *connection)
{
	struct plane_http_response *response = &connection->response;
	void (*start)(void *data, struct plane_ws *ws) = response->start_ws;
	void *data = response->start_data;
	const char *key = plane_http_request_header(&connection->request, "sec-websocket-key");
	char accept[PLANE_WEBSOCKET_ACCEPT_SIZE];
	plane_websocket_accept(key ? key : "", accept);
	struct plane_buffer out = { 0 };
	plane_buffer_addf(&out,
		"HTTP/1.1 101 Switching Protocols\r\nServer: Plane/%s-%s\r\n"
		"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		PLANE_VERSION, PLANE_GIT_HASH, accept);
	bool is_over = connection->must_close || connection->server->is_closing;
	connection->ticket = response->ticket;
	connection->phase = PLANE_HTTP_WEBSOCKET;
	connection->ws =
		(struct plane_ws){ .heard_at_ms = (int64_t)uv_now(connection->server->loop),
			.endpoint = plane_websocket_create(false, on_text, connection) };
	connection->must_close = true;
	plane_http_write(connection, &out, NULL);
	plane_http_request_finish(connection);
	start(data, &connection->ws);
	if (connection->phase != PLANE_HTTP_WEBSOCKET)
		return;
	if (is_over) {
		plane_ws_close(&connection->ws);
		return;
	}
	if (plane_http_connection_is_revoked(connection)) {
		plane_http_ws_cut(connection);
		return;
	}
	plane_http_connection_arm(connection, PING_INTERVAL_MS);
	struct plane_buffer early = connection->in;
	connection->in = (struct plane_buffer){ 0 };
	plane_http_connection_resume(connection);
	if (early.len)
		plane_http_ws_read(connection, early.data, early.len);
	plane_buffer_finish(&early);
}

void plane_http_ws_read(struct plane_http_connection *connection, const char *bytes, size_t len)
{
	struct plane_ws *ws = &connection->ws;
	ws->heard_at_ms = (int64_t)uv_now(connection->server->loop);
	ws->is_feeding = true;
	int result = plane_websocket_feed(ws->endpoint, bytes, len);
	ws->is_feeding = false;
	flush(connection);
	if (result < 0)
		plane_warn(
			"connection from %s: closed, as its frames are wrong or a message is too "
			"long",
			connection->peer_address);
	if (result < 0 || ws->is_dropped || plane_websocket_is_closed(ws->endpoint))
		plane_http_connection_abort(connection);
}

void plane_http_ws_tick(struct plane_http_connection *connection)
{
	struct plane_ws *ws = &connection->ws;
	int64_t silent_ms = (int64_t)uv_now(connection->server->loop) - ws->heard_at_ms;
	if (ws->must_close || silent_ms > DEAD_AFTER_MS) {
		plane_http_connection_abort(connection);
		return;
	}
	plane_websocket_send_ping(ws->endpoint);
	flush(connection);
	plane_http_connection_arm(connection, PING_INTERVAL_MS);
}

void plane_ws_listen(struct plane_ws *ws, const struct plane_ws_listener *listener)
{
	ws->listener = *listener;
	plane_websocket_set_message_max(ws->endpoint, listener->message_max_bytes
							      ? listener->message_max_bytes
							      : PLANE_WEBSOCKET_MESSAGE_MAX);
}

bool plane_ws_send_text(struct plane_ws *ws, const char *text, size_t len)
{
	struct plane_http_connection *connection = connection_of(ws);
	if (connection->phase != PLANE_HTTP_WEBSOCKET || ws->must_close)
		return false;
	if (is_too_much(connection, len)) {
		drop(connection);
		return false;
	}
	plane_websocket_send_text(ws->endpoint, text, len);
	if (!ws->is_feeding)
		flush(connection);
	return true;
}

void plane_ws_close(struct plane_ws *ws)
{
	plane_ws_close_because(ws, PLANE_WEBSOCKET_NORMAL, NULL);
}

void plane_ws_close_because(struct plane_ws *ws, int code, const char *reason)
{
	struct plane_http_connection *connection = connection_of(ws);
	if (connection->phase != PLANE_HTTP_WEBSOCKET || ws->must_close)
		return;
	ws->must_close = true;
	plane_websocket_send_close(ws->endpoint, code, reason);
	if (!ws->is_feeding)
		flush(connection);
	plane_http_connection_arm(connection, CLOSE_TIMEOUT_MS);
}

void plane_http_ws_cut(struct plane_http_connection *connection)
{
	struct plane_ws *ws = &connection->ws;
	if (connection->phase != PLANE_HTTP_WEBSOCKET)
		return;
	if (!ws->must_close)
		plane_websocket_send_close(
			ws->endpoint, PLANE_WEBSOCKET_REFUSED, "its token is valid no more");
	ws->must_close = true;
	flush(connection);
	plane_http_connection_arm(connection, 1); /* written by then, or not at all */
}
