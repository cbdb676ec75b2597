/* The listener of the HTTP server, its pool and its end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/alloc.h"
#include "net/address.h"
#include "net/http_internal.h"

#define LISTEN_BACKLOG 1024
#define HANDSHAKES_MAX 256

static void on_room(uv_timer_t *timer);

/* A connection that is closed here is gone when the loop turns: then what waits is accepted. */
static void make_room(struct plane_http_server *server)
{
	uint64_t after_ms = 0;
	if (plane_http_connection_displace(server, &after_ms))
		return;
	if (after_ms)
		(void)uv_timer_start(&server->room_timer, on_room, after_ms, 0); /* succeeds */
	if (server->handshake_count)
		plane_http_tls_hurry(server);
}

static void accept_waiting(uv_stream_t *listener, int status)
{
	struct plane_http_server *server = listener->data;
	if (status < 0 || server->is_closing)
		return;
	/* Without uv_accept libuv stops polling the listener: that is the pause. */
	bool must_wait = server->handshake_count >= server->config.max_handshakes;
	bool is_full = server->connection_count >= server->config.max_connections;
	server->is_accept_paused = must_wait || is_full;
	if (is_full)
		make_room(server);
	else if (must_wait)
		plane_http_tls_hurry(server);
	else
		plane_http_connection_accept(server);
}

static void on_room(uv_timer_t *timer)
{
	plane_http_server_accept_again(timer->data);
}

void plane_http_server_accept_again(struct plane_http_server *server)
{
	if (!server->is_closing && server->is_accept_paused)
		accept_waiting((uv_stream_t *)&server->listener, 0);
}

static int listen_on(struct plane_http_server *server, struct plane_error *err)
{
	struct sockaddr_storage address;
	if (plane_address_parse(server->config.listen, &address, err) < 0)
		return err->code;
	int result = uv_tcp_bind(&server->listener, (struct sockaddr *)&address, 0);
	if (result == 0)
		result =
			uv_listen((uv_stream_t *)&server->listener, LISTEN_BACKLOG, accept_waiting);
	if (result == 0) {
		int len = sizeof(address);
		result = uv_tcp_getsockname(&server->listener, (struct sockaddr *)&address, &len);
	}
	if (result == UV_EADDRINUSE)
		return plane_error_set(err, -EADDRINUSE,
			"listen on %s: the port is in use by another process; stop that one or "
			"choose another port",
			server->config.listen);
	if (result < 0)
		return plane_error_set(err, result, "listen on %s: %s", server->config.listen,
			uv_strerror(result));
	server->address = plane_address_format(&address);
	return 0;
}

static void finish_if_done(struct plane_http_server *server)
{
	if (server->open_handles || !server->is_pool_closed || server->connection_count)
		return;
	void (*on_closed)(void *data) = server->on_closed;
	void *data = server->data;
	plane_tls_context_free(server->tls);
	free(server->address);
	free(server);
	if (on_closed)
		on_closed(data);
}

static void on_pool_closed(void *data)
{
	struct plane_http_server *server = data;
	server->is_pool_closed = true;
	finish_if_done(server);
}

/* Handlers run as long as there are connections: the pool is the last to go. */
static void close_pool_if_unused(struct plane_http_server *server)
{
	if (!server->is_closing || server->connection_count || server->is_pool_closing)
		return;
	server->is_pool_closing = true;
	plane_http_pool_close(server->pool, on_pool_closed, server);
}

void plane_http_server_connection_gone(struct plane_http_server *server)
{
	server->connection_count--;
	if (server->is_closing)
		close_pool_if_unused(server);
	else
		plane_http_server_accept_again(server);
}

static void on_handle_closed(uv_handle_t *handle)
{
	struct plane_http_server *server = handle->data;
	server->open_handles--;
	finish_if_done(server);
}

void plane_http_server_close(
	struct plane_http_server *server, void (*on_closed)(void *data), void *data)
{
	server->is_closing = true;
	server->on_closed = on_closed;
	server->data = data;
	uv_close((uv_handle_t *)&server->listener, on_handle_closed);
	uv_close((uv_handle_t *)&server->room_timer, on_handle_closed);
	struct plane_http_connection *connection = server->connections;
	while (connection) {
		struct plane_http_connection *next = connection->next;
		bool is_answering = connection->phase == PLANE_HTTP_ANSWERING;
		if (is_answering)
			connection->must_close = true;
		else
			plane_http_connection_abort(connection);
		connection = next;
	}
	close_pool_if_unused(server);
}

static void on_failed_handle_closed(uv_handle_t *handle)
{
	struct plane_http_server *server = handle->data;
	if (--server->open_handles == 0)
		free(server);
}

struct plane_http_server *plane_http_server_create(
	uv_loop_t *loop, const struct plane_http_server_config *config, struct plane_error *err)
{
	struct plane_http_server *server = PLANE_NEW(struct plane_http_server);
	server->config = *config;
	server->loop = loop;
	(void)uv_tcp_init(loop, &server->listener);     /* cannot fail without a domain */
	(void)uv_timer_init(loop, &server->room_timer); /* cannot fail */
	server->listener.data = server->room_timer.data = server;
	server->open_handles = 2;
	if (listen_on(server, err) == 0)
		server->pool = plane_http_pool_create(loop, config->pool_threads, err);
	if (!server->pool) {
		free(server->address);
		uv_close((uv_handle_t *)&server->listener, on_failed_handle_closed);
		uv_close((uv_handle_t *)&server->room_timer, on_failed_handle_closed);
		return NULL;
	}
	for (int lane = 1; lane < PLANE_HTTP_LANES; lane++)
		plane_http_pool_set_limit(server->pool, lane, config->lane_limits[lane]);
	server->config.listen = NULL; /* borrowed for the call only */
	server->config.tls = NULL;
	server->tls = config->tls ? plane_tls_context_ref(config->tls) : NULL;
	if (!server->config.max_handshakes)
		server->config.max_handshakes = HANDSHAKES_MAX;
	return server;
}

bool plane_http_connection_is_revoked(const struct plane_http_connection *connection)
{
	const struct plane_http_server_config *config = &connection->server->config;
	if (!plane_http_tls_peer_is_valid(connection))
		return true;
	return connection->ticket && config->ticket_is_valid &&
	       !config->ticket_is_valid(config->server_data, connection->ticket);
}

void plane_http_server_recheck(struct plane_http_server *server)
{
	struct plane_http_connection *connection, *next;
	DL_FOREACH_SAFE (server->connections, connection, next) {
		bool is_stream = connection->phase == PLANE_HTTP_STREAMING;
		if (!is_stream && connection->phase != PLANE_HTTP_WEBSOCKET)
			continue;
		if (!plane_http_connection_is_revoked(connection))
			continue;
		if (is_stream)
			plane_http_connection_arm(connection, 1); /* its end is then told */
		else
			plane_http_ws_cut(connection);
	}
}

const char *plane_http_server_address(const struct plane_http_server *server)
{
	return server->address;
}

const char *plane_http_request_header(const struct plane_http_request *request, const char *name)
{
	for (size_t i = 0; i < request->header_count; i++)
		if (strcmp(request->headers[i].name, name) == 0)
			return request->headers[i].value;
	return NULL;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 32);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* application/x-www-form-urlencoded: '+' is a space; a bad escape stands for itself. */
static char *decode_query(const char *text, size_t len)
{
	char *decoded = plane_alloc(len + 1);
	char *out = decoded;
	for (size_t i = 0; i < len; i++) {
		bool is_escape = text[i] == '%' && i + 2 < len && hex_value(text[i + 1]) >= 0 &&
				 hex_value(text[i + 2]) >= 0;
		int byte = is_escape        ? hex_value(text[i + 1]) * 16 + hex_value(text[i + 2])
			   : text[i] == '+' ? ' '
					    : text[i];
		i += is_escape ? 2 : 0;
		*out++ = (char)(byte ? byte : '?'); /* a NUL would cut the text */
	}
	*out = '\0';
	return decoded;
}

char *plane_http_request_query(const struct plane_http_request *request, const char *name)
{
	const char *next = request->query;
	while (*next) {
		size_t len = strcspn(next, "&");
		size_t name_len = strcspn(next, "=&");
		if (name_len == strlen(name) && strncmp(next, name, name_len) == 0) {
			size_t skip = name_len < len ? name_len + 1 : len;
			return decode_query(next + skip, len - skip);
		}
		next += len + (next[len] == '&');
	}
	return NULL;
}
