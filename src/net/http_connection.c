/* One connection of the HTTP server: reading requests, time limits, its end. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include <utlist.h>

#include "base/alloc.h"
#include "net/http_internal.h"

#define FIRST_BYTE_TIMEOUT_MS 10000 /* from the connection's begin */
#define IDLE_TIMEOUT_MS 75000       /* between requests */
#define SPARED_MS 2000              /* silent for less, a connection keeps its place */
#define HEAD_TIMEOUT_MS 30000
#define BODY_TIMEOUT_MS 30000 /* without any progress */
#define BODY_TOTAL_MS 60000
#define READ_SIZE 65536

static void on_handle_closed(uv_handle_t *handle)
{
	struct plane_http_connection *connection = handle->data;
	if (--connection->open_handles > 0)
		return;
	struct plane_http_server *server = connection->server;
	DL_DELETE(server->connections, connection);
	plane_buffer_finish(&connection->in);
	plane_http_request_finish(connection);
	plane_websocket_destroy(connection->ws.endpoint);
	plane_tls_destroy(connection->tls);
	free(connection->peer_common_name);
	free(connection);
	plane_http_server_connection_gone(server);
}

void plane_http_connection_leave_silent(struct plane_http_connection *connection)
{
	if (connection->silent_since_ms)
		DL_DELETE2(connection->server->silent, connection, silent_prev, silent_next);
	connection->silent_since_ms = 0;
}

static void enter_silent(struct plane_http_connection *connection)
{
	plane_http_connection_leave_silent(connection);
	connection->silent_since_ms = (int64_t)uv_now(connection->server->loop) + 1; /* never 0 */
	DL_APPEND2(connection->server->silent, connection, silent_prev, silent_next);
}

/* Not read yet: the loop may have been busy elsewhere. */
static bool has_unread_input(const struct plane_http_connection *connection)
{
	char byte;
	uv_os_fd_t fd;
	return uv_fileno((const uv_handle_t *)&connection->tcp, &fd) == 0 &&
	       recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

bool plane_http_connection_displace(struct plane_http_server *server, uint64_t *after_ms)
{
	struct plane_http_connection *connection = server->silent;
	*after_ms = 0;
	if (!connection)
		return false; /* all are in use: the end of one makes room */
	int64_t left_ms = connection->silent_since_ms + SPARED_MS - (int64_t)uv_now(server->loop);
	if (left_ms <= 0 && has_unread_input(connection)) {
		left_ms = 1;
		enter_silent(connection); /* it may be a slow head: so the turn is the next one's */
	}
	if (left_ms <= 0)
		plane_http_connection_abort(connection);
	else
		*after_ms = (uint64_t)left_ms;
	return left_ms <= 0;
}

/* Tells whoever feeds this connection that it is gone. */
static void tell_owner(struct plane_http_connection *connection, enum plane_http_phase phase)
{
	void (*on_closed)(void *data) = NULL;
	void *data = NULL;
	if (phase == PLANE_HTTP_STREAMING) {
		on_closed = connection->stream.on_closed;
		data = connection->stream.data;
	} else if (phase == PLANE_HTTP_WEBSOCKET) {
		on_closed = connection->ws.listener.on_closed;
		data = connection->ws.listener.data;
	}
	connection->stream.on_closed = NULL;
	connection->ws.listener = (struct plane_ws_listener){ 0 };
	if (on_closed)
		on_closed(data);
}

void plane_http_connection_abort(struct plane_http_connection *connection)
{
	enum plane_http_phase phase = connection->phase;
	if (phase == PLANE_HTTP_CLOSED)
		return;
	if (phase == PLANE_HTTP_HANDLING) {
		connection->must_close = true; /* the handler still uses the request */
		return;
	}
	connection->phase = PLANE_HTTP_CLOSED;
	plane_http_connection_leave_silent(connection);
	uv_close((uv_handle_t *)&connection->tcp, on_handle_closed);
	uv_close((uv_handle_t *)&connection->timer, on_handle_closed);
	tell_owner(connection, phase);
	plane_http_tls_leave(connection);
}

static void on_timeout(uv_timer_t *timer)
{
	struct plane_http_connection *connection = timer->data;
	switch (connection->phase) {
	case PLANE_HTTP_HEAD:
		plane_http_refuse(connection, 408, "The request's head took too long.");
		break;
	case PLANE_HTTP_BODY:
		plane_http_refuse(connection, 408, "The request's body took too long.");
		break;
	case PLANE_HTTP_WEBSOCKET:
		plane_http_ws_tick(connection);
		break;
	default:
		plane_http_connection_abort(connection);
	}
}

void plane_http_connection_arm(struct plane_http_connection *connection, uint64_t timeout_ms)
{
	if (timeout_ms)
		(void)uv_timer_start(&connection->timer, on_timeout, timeout_ms, 0);
	else
		(void)uv_timer_stop(&connection->timer);
}

/* The head in one block of texts, so that the input may move on. */
static void copy_head(struct plane_http_connection *connection, const struct plane_http1_head *head)
{
	size_t size = head->method.len + head->target.len + 4;
	for (size_t i = 0; i < head->header_count; i++)
		size += head->headers[i].name.len + head->headers[i].value.len + 2;
	char *next = plane_alloc(size);
	connection->copy.text = next;
	connection->copy.headers =
		plane_alloc_zero(head->header_count + 1, sizeof(struct plane_http_header));
	struct plane_http_request *request = &connection->request;
	*request = (struct plane_http_request){ .headers = connection->copy.headers,
		.header_count = head->header_count,
		.peer_address = connection->peer_address,
		.peer_common_name = plane_http_tls_peer_is_valid(connection)
					    ? connection->peer_common_name
					    : NULL,
		.server_data = connection->server->config.server_data };
	request->method = next;
	next = mempcpy(next, head->method.data, head->method.len);
	*next++ = '\0';
	request->path = next;
	char *question = memchr(next, '?',
		(size_t)((char *)mempcpy(next, head->target.data, head->target.len) - next));
	next[head->target.len] = '\0';
	request->query = question ? question + 1 : next + head->target.len;
	if (question)
		*question = '\0';
	next += head->target.len + 1;
	for (size_t i = 0; i < head->header_count; i++) {
		struct plane_http_header *header = &connection->copy.headers[i];
		header->name = next;
		for (size_t c = 0; c < head->headers[i].name.len; c++) {
			char letter = head->headers[i].name.data[c];
			*next++ = letter >= 'A' && letter <= 'Z' ? (char)(letter + 32) : letter;
		}
		*next++ = '\0';
		header->value = next;
		next = mempcpy(next, head->headers[i].value.data, head->headers[i].value.len);
		*next++ = '\0';
	}
}

static void on_handled(struct plane_http_job *job)
{
	struct plane_http_connection *connection =
		(struct plane_http_connection *)((char *)job -
						 offsetof(struct plane_http_connection, job));
	connection->phase = PLANE_HTTP_ANSWERING;
	plane_http_answer(connection);
}

static void run_handler(struct plane_http_job *job)
{
	struct plane_http_connection *connection =
		(struct plane_http_connection *)((char *)job -
						 offsetof(struct plane_http_connection, job));
	connection->server->config.handler(&connection->request, &connection->response);
}

static void start_handler(struct plane_http_connection *connection)
{
	const struct plane_http_server_config *config = &connection->server->config;
	plane_http_connection_leave_silent(connection);
	connection->request.body = plane_buffer_text(&connection->body);
	connection->request.body_len = connection->body.len;
	connection->phase = PLANE_HTTP_HANDLING;
	plane_http_connection_arm(connection, 0);
	(void)uv_read_stop((uv_stream_t *)&connection->tcp);
	connection->job.run = run_handler;
	connection->job.done = on_handled;
	connection->job.lane = config->lane_of ? config->lane_of(&connection->request) : 0;
	plane_http_pool_submit(connection->server->pool, &connection->job);
}

/* Keeps a piece of the body. False: refused. */
static bool hold(struct plane_http_connection *connection, const char *bytes, size_t len)
{
	struct plane_http_server *server = connection->server;
	if (len > connection->max_body_bytes - connection->body.len) {
		plane_http_refuse(connection, 413, "The body is too large.");
		return false;
	}
	if (server->config.max_held_bytes &&
		len > server->config.max_held_bytes - server->held_bytes) {
		plane_http_refuse(connection, 503,
			"The bodies of other requests are as large as all may be together; try "
			"again.");
		return false;
	}
	plane_buffer_add(&connection->body, bytes, len);
	server->held_bytes += len;
	return true;
}

/* Takes what the input holds of the body. False: refused. */
static bool read_chunks(struct plane_http_connection *connection, bool *is_complete)
{
	size_t at = 0;
	while (at < connection->in.len && !*is_complete) {
		size_t taken = 0;
		struct plane_slice data;
		enum plane_http1_result result = plane_http1_chunked_next(&connection->chunked,
			connection->in.data + at, connection->in.len - at, &taken, &data);
		if (result == PLANE_HTTP1_BAD) {
			plane_http_refuse(connection, 400, "The body is not chunked correctly.");
			return false;
		}
		if (!hold(connection, data.data, data.len))
			return false;
		at += taken;
		*is_complete = result == PLANE_HTTP1_DONE;
	}
	plane_buffer_consume(&connection->in, at);
	return true;
}

static bool read_body(struct plane_http_connection *connection, bool *is_complete)
{
	if (connection->framing == PLANE_HTTP1_CHUNKED)
		return read_chunks(connection, is_complete);
	size_t len = connection->in.len < connection->body_left ? connection->in.len
								: (size_t)connection->body_left;
	if (!hold(connection, connection->in.data, len))
		return false;
	plane_buffer_consume(&connection->in, len);
	connection->body_left -= len;
	*is_complete = connection->body_left == 0;
	return true;
}

static void advance_body(struct plane_http_connection *connection)
{
	bool is_complete = false;
	if (!read_body(connection, &is_complete))
		return;
	if (is_complete) {
		start_handler(connection);
		return;
	}
	if (connection->is_eof) {
		plane_http_connection_abort(connection);
		return;
	}
	if (connection->wants_continue) {
		struct plane_buffer line = { 0 };
		connection->wants_continue = false;
		plane_buffer_add_text(&line, "HTTP/1.1 100 Continue\r\n\r\n");
		plane_http_write(connection, &line, NULL);
	}
	int64_t left_ms = connection->body_deadline_ms - (int64_t)uv_now(connection->server->loop);
	plane_http_connection_arm(connection, left_ms > BODY_TIMEOUT_MS ? BODY_TIMEOUT_MS
					      : left_ms > 1             ? (uint64_t)left_ms
									: 1);
}

static bool is_head_acceptable(
	struct plane_http_connection *connection, const struct plane_http1_head *head)
{
	if (!head->host.data && head->minor_version == 1)
		plane_http_refuse(connection, 400, "The request has no Host header.");
	else if (head->framing == PLANE_HTTP1_LENGTH &&
		 head->content_length > connection->max_body_bytes)
		plane_http_refuse(connection, 413, "The body is too large.");
	else if (head->target.data[0] != '/' && !plane_slice_equals(head->target, "*"))
		plane_http_refuse(connection, 400, "The request's target is not a path.");
	else
		return true;
	return false;
}

/* Who has shown nothing for itself keeps no place with a body that does not come. */
static bool is_known(const struct plane_http_connection *connection)
{
	return connection->response.ticket || connection->request.peer_common_name;
}

/* False: answered, or handled, without a look at the body. */
static bool is_body_wanted(
	struct plane_http_connection *connection, const struct plane_http1_head *head)
{
	const struct plane_http_server_config *config = &connection->server->config;
	bool has_body = head->framing == PLANE_HTTP1_CHUNKED || connection->body_left;
	if (!has_body || !config->takes_body)
		return true;
	if (!config->takes_body(
		    &connection->request, &connection->max_body_bytes, &connection->response)) {
		connection->must_close = true;
		connection->phase = PLANE_HTTP_ANSWERING;
		plane_http_answer(connection);
		return false;
	}
	if (connection->max_body_bytes == 0) {
		connection->must_close = true;
		start_handler(connection);
		return false;
	}
	if (connection->body_left > connection->max_body_bytes) {
		plane_http_refuse(connection, 413, "The body is too large.");
		return false;
	}
	if (!is_known(connection))
		enter_silent(connection);
	return true;
}

static void begin_request(
	struct plane_http_connection *connection, const struct plane_http1_head *head)
{
	plane_http_connection_leave_silent(connection);
	connection->max_body_bytes = connection->server->config.max_body_bytes;
	if (!is_head_acceptable(connection, head))
		return;
	copy_head(connection, head);
	connection->framing = head->framing;
	connection->body_left = head->framing == PLANE_HTTP1_LENGTH ? head->content_length : 0;
	connection->chunked = (struct plane_http1_chunked){ 0 };
	connection->is_head_request = plane_slice_equals(head->method, "HEAD");
	connection->is_http10 = head->minor_version == 0;
	connection->is_keep_alive = head->is_keep_alive;
	connection->wants_continue = head->expects_continue && !connection->is_http10;
	plane_buffer_consume(&connection->in, head->len);
	connection->phase = PLANE_HTTP_BODY;
	connection->body_deadline_ms = (int64_t)uv_now(connection->server->loop) + BODY_TOTAL_MS;
	if (is_body_wanted(connection, head))
		advance_body(connection);
}

static void advance_head(struct plane_http_connection *connection)
{
	struct plane_http1_head head;
	const char *problem = "";
	enum plane_http1_result result =
		plane_http1_parse_request(connection->in.data ? connection->in.data : "",
			connection->in.len, &head, &problem);
	if (result == PLANE_HTTP1_DONE && head.len <= PLANE_HTTP_HEAD_MAX) {
		begin_request(connection, &head);
	} else if (result == PLANE_HTTP1_BAD) {
		char message[160];
		snprintf(message, sizeof(message), "The request is malformed: %s.", problem);
		plane_http_refuse(connection, 400, message);
	} else if (result == PLANE_HTTP1_TOO_MANY || connection->in.len > PLANE_HTTP_HEAD_MAX) {
		plane_http_refuse(connection, 431, "The request's head is too large.");
	} else if (connection->is_eof) {
		plane_http_connection_abort(connection);
	} else if (connection->in.len && connection->phase == PLANE_HTTP_IDLE) {
		connection->phase = PLANE_HTTP_HEAD;
		enter_silent(connection);
		plane_http_connection_arm(connection, HEAD_TIMEOUT_MS);
	}
}

void plane_http_connection_advance(struct plane_http_connection *connection)
{
	if (connection->phase == PLANE_HTTP_IDLE || connection->phase == PLANE_HTTP_HEAD)
		advance_head(connection);
	else if (connection->phase == PLANE_HTTP_BODY)
		advance_body(connection);
}

static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	static char bytes[READ_SIZE]; /* used up before the loop thread reads again */
	*buffer = uv_buf_init(bytes, sizeof(bytes));
}

void plane_http_connection_on_eof(struct plane_http_connection *connection, ssize_t result)
{
	connection->is_eof = true;
	bool is_reading = connection->phase <= PLANE_HTTP_BODY;
	if (result == UV_EOF && is_reading && connection->in.len)
		plane_http_connection_advance(connection);
	else if (result != UV_EOF || connection->phase != PLANE_HTTP_ANSWERING)
		plane_http_connection_abort(connection);
}

void plane_http_connection_take(
	struct plane_http_connection *connection, const char *bytes, size_t len)
{
	if (connection->phase == PLANE_HTTP_WEBSOCKET) {
		plane_http_ws_read(connection, bytes, len);
	} else if (connection->phase <= PLANE_HTTP_BODY) {
		plane_buffer_add(&connection->in, bytes, len);
		plane_http_connection_advance(connection);
	} /* else thrown away: nobody may talk while a stream is sent */
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer)
{
	struct plane_http_connection *connection = stream->data;
	if (len < 0)
		plane_http_connection_on_eof(connection, len);
	else if (connection->tls)
		plane_http_tls_read(connection, buffer->base, (size_t)len);
	else
		plane_http_connection_take(connection, buffer->base, (size_t)len);
}

void plane_http_connection_resume(struct plane_http_connection *connection)
{
	(void)uv_read_start((uv_stream_t *)&connection->tcp, on_allocate, on_read);
}

static void await_request(struct plane_http_connection *connection, uint64_t timeout_ms)
{
	connection->phase = PLANE_HTTP_IDLE;
	enter_silent(connection);
	plane_http_connection_arm(connection, timeout_ms);
	plane_http_connection_resume(connection);
	plane_http_connection_advance(connection); /* a pipelined request */
}

void plane_http_connection_begin(struct plane_http_connection *connection)
{
	if (connection->server->is_closing)
		plane_http_connection_abort(connection);
	else
		await_request(connection, FIRST_BYTE_TIMEOUT_MS);
}

void plane_http_connection_answered(struct plane_http_connection *connection)
{
	plane_http_request_finish(connection);
	if (connection->must_close || connection->server->is_closing)
		plane_http_connection_abort(connection);
	else
		await_request(connection, IDLE_TIMEOUT_MS);
}

static void read_peer_address(struct plane_http_connection *connection)
{
	struct sockaddr_storage address;
	int len = sizeof(address);
	if (uv_tcp_getpeername(&connection->tcp, (struct sockaddr *)&address, &len) < 0 ||
		uv_ip_name((struct sockaddr *)&address, connection->peer_address,
			sizeof(connection->peer_address)) < 0)
		strcpy(connection->peer_address, "unknown");
}

void plane_http_connection_accept(struct plane_http_server *server)
{
	struct plane_http_connection *connection = PLANE_NEW(struct plane_http_connection);
	connection->server = server;
	connection->open_handles = 2;
	(void)uv_tcp_init(server->loop, &connection->tcp);     /* cannot fail without a domain */
	(void)uv_timer_init(server->loop, &connection->timer); /* cannot fail */
	connection->tcp.data = connection->timer.data = connection;
	DL_APPEND(server->connections, connection);
	server->connection_count++;
	if (uv_accept((uv_stream_t *)&server->listener, (uv_stream_t *)&connection->tcp) < 0) {
		plane_http_connection_abort(connection);
		return;
	}
	(void)uv_tcp_nodelay(&connection->tcp, 1); /* slower, not wrong, without */
	read_peer_address(connection);
	if (server->tls)
		plane_http_tls_begin(connection);
	else
		plane_http_connection_begin(connection);
}
