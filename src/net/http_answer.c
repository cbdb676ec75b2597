/* Answers of the HTTP server: whole ones and streams. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/version.h"
#include "net/http_internal.h"

#define WRITE_TIMEOUT_MS 60000 /* for a whole answer to a slow reader */
#define LINGER_TIMEOUT_MS 2000
#define STREAM_WAITING_MAX ((size_t)4 << 20)

static const char *reason_of(int status)
{
	static const struct {
		int status;
		const char *reason;
	} reasons[] = { { 101, "Switching Protocols" }, { 200, "OK" }, { 204, "No Content" },
		{ 400, "Bad Request" }, { 401, "Unauthorized" }, { 403, "Forbidden" },
		{ 404, "Not Found" }, { 405, "Method Not Allowed" }, { 408, "Request Timeout" },
		{ 409, "Conflict" }, { 413, "Content Too Large" },
		{ 415, "Unsupported Media Type" }, { 422, "Unprocessable Content" },
		{ 426, "Upgrade Required" }, { 431, "Request Header Fields Too Large" },
		{ 500, "Internal Server Error" }, { 502, "Bad Gateway" },
		{ 503, "Service Unavailable" }, { 504, "Gateway Timeout" } };
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return status < 400 ? "OK" : "Error";
}

struct write_job {
	uv_write_t request;
	struct plane_buffer bytes;
	void (*on_written)(struct plane_http_connection *connection);
};

static void on_write_done(uv_write_t *request, int status)
{
	struct write_job *job = request->data;
	struct plane_http_connection *connection = request->handle->data;
	void (*on_written)(struct plane_http_connection * connection) = job->on_written;
	plane_buffer_finish(&job->bytes);
	free(job);
	if (status < 0)
		plane_http_connection_abort(connection);
	else if (on_written && connection->phase != PLANE_HTTP_CLOSED)
		on_written(connection);
}

void plane_http_write_wire(struct plane_http_connection *connection, struct plane_buffer *bytes,
	void (*on_written)(struct plane_http_connection *connection))
{
	struct write_job *job = PLANE_NEW(struct write_job);
	job->bytes = *bytes;
	*bytes = (struct plane_buffer){ 0 };
	job->on_written = on_written;
	job->request.data = job;
	uv_buf_t piece = uv_buf_init(job->bytes.data, (unsigned)job->bytes.len);
	int result =
		uv_write(&job->request, (uv_stream_t *)&connection->tcp, &piece, 1, on_write_done);
	if (result < 0) { /* its callback never comes; the timer ends the connection */
		plane_buffer_finish(&job->bytes);
		free(job);
		plane_http_connection_arm(connection, 1);
	}
}

void plane_http_write(struct plane_http_connection *connection, struct plane_buffer *bytes,
	void (*on_written)(struct plane_http_connection *connection))
{
	if (connection->tls && plane_http_tls_encrypt(connection, bytes) < 0) {
		plane_buffer_finish(bytes);
		plane_http_connection_arm(connection, 1);
		return;
	}
	plane_http_write_wire(connection, bytes, on_written);
}

void plane_http_request_finish(struct plane_http_connection *connection)
{
	free(connection->copy.text);
	free(connection->copy.headers);
	connection->copy.text = NULL;
	connection->copy.headers = NULL;
	connection->server->held_bytes -= connection->body.len;
	plane_buffer_finish(&connection->body);
	plane_buffer_finish(&connection->response.body);
	plane_buffer_finish(&connection->response.extra_headers);
	connection->response = (struct plane_http_response){ 0 };
}

/* The peer may still be sending: closing now would reset the connection under our answer. */
static void linger(struct plane_http_connection *connection)
{
	connection->phase = PLANE_HTTP_LINGERING;
	plane_http_connection_arm(connection, LINGER_TIMEOUT_MS);
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
	free(request); /* the peer's EOF or the timer ends the connection */
}

void plane_http_shut_down(struct plane_http_connection *connection)
{
	plane_http_tls_close(connection);
	uv_shutdown_t *request = PLANE_NEW(uv_shutdown_t);
	if (uv_shutdown(request, (uv_stream_t *)&connection->tcp, on_shutdown) < 0)
		free(request);
	linger(connection);
	plane_http_connection_resume(connection);
}

static void on_refused(struct plane_http_connection *connection)
{
	plane_http_shut_down(connection);
}

static void add_head(struct plane_buffer *out, int status, const char *content_type)
{
	plane_buffer_addf(out, "HTTP/1.1 %d %s\r\nServer: Plane/%s-%s\r\n", status,
		reason_of(status), PLANE_VERSION, PLANE_GIT_HASH);
	if (content_type)
		plane_buffer_addf(out, "Content-Type: %s\r\n", content_type);
}

void plane_http_refuse(struct plane_http_connection *connection, int status, const char *message)
{
	struct plane_buffer out = { 0 };
	add_head(&out, status, "text/plain; charset=utf-8");
	plane_buffer_addf(&out, "Content-Length: %zu\r\nConnection: close\r\n\r\n%s\n",
		strlen(message) + 1, message);
	plane_buffer_clear(&connection->in);
	plane_http_connection_leave_silent(connection);
	connection->phase = PLANE_HTTP_ANSWERING;
	plane_http_connection_arm(connection, WRITE_TIMEOUT_MS);
	plane_http_write(connection, &out, on_refused);
}

static void on_answered(struct plane_http_connection *connection)
{
	if (connection->must_close && !connection->is_eof)
		plane_http_shut_down(connection);
	else
		plane_http_connection_answered(connection);
}

static void answer_whole(struct plane_http_connection *connection)
{
	struct plane_http_response *response = &connection->response;
	struct plane_buffer out = { 0 };
	connection->must_close |= !connection->is_keep_alive || connection->server->is_closing;
	add_head(&out, response->status, response->content_type);
	plane_buffer_add(&out, response->extra_headers.data, response->extra_headers.len);
	if (response->status != 204)
		plane_buffer_addf(&out, "Content-Length: %zu\r\n", response->body.len);
	if (connection->must_close)
		plane_buffer_add_text(&out, "Connection: close\r\n");
	else if (connection->is_http10)
		plane_buffer_add_text(&out, "Connection: keep-alive\r\n");
	plane_buffer_add_text(&out, "\r\n");
	if (!connection->is_head_request && response->status != 204)
		plane_buffer_add(&out, response->body.data, response->body.len);
	plane_http_connection_arm(connection, WRITE_TIMEOUT_MS);
	plane_http_write(connection, &out, on_answered);
}

/* A stream ends with its connection: whoever follows one does not reuse it. */
static void answer_stream(struct plane_http_connection *connection)
{
	struct plane_http_response *response = &connection->response;
	void (*start)(void *data, struct plane_http_stream *stream) = response->start_stream;
	void *data = response->start_data;
	struct plane_buffer out = { 0 };
	add_head(&out, response->status, response->content_type);
	plane_buffer_add(&out, response->extra_headers.data, response->extra_headers.len);
	plane_buffer_add_text(&out, "Connection: close\r\n");
	if (!connection->is_http10)
		plane_buffer_add_text(&out, "Transfer-Encoding: chunked\r\n");
	plane_buffer_add_text(&out, "\r\n");
	connection->ticket = response->ticket;
	bool is_over = connection->must_close || connection->is_head_request ||
		       connection->server->is_closing ||
		       plane_http_connection_is_revoked(connection);
	connection->stream = (struct plane_http_stream){ .is_chunked = !connection->is_http10,
		.is_ended = connection->is_head_request };
	connection->must_close = true;
	connection->phase = PLANE_HTTP_STREAMING;
	plane_http_write(connection, &out, NULL);
	plane_http_request_finish(connection);
	start(data, &connection->stream);
	if (connection->phase == PLANE_HTTP_STREAMING)
		plane_http_connection_resume(connection); /* to see the client go */
	if (is_over && connection->phase == PLANE_HTTP_STREAMING)
		plane_http_connection_arm(connection, 1); /* the head is out by then, or never */
}

void plane_http_answer(struct plane_http_connection *connection)
{
	struct plane_http_response *response = &connection->response;
	if (!response->status)
		response->status = 200;
	if (response->start_ws)
		plane_http_ws_start(connection);
	else if (response->start_stream)
		answer_stream(connection);
	else
		answer_whole(connection);
}

static struct plane_http_connection *connection_of(struct plane_http_stream *stream)
{
	return (struct plane_http_connection *)((char *)stream -
						offsetof(struct plane_http_connection, stream));
}

void plane_http_stream_on_closed(
	struct plane_http_stream *stream, void (*on_closed)(void *data), void *data)
{
	stream->on_closed = on_closed;
	stream->data = data;
}

bool plane_http_stream_write(struct plane_http_stream *stream, const void *bytes, size_t len)
{
	struct plane_http_connection *connection = connection_of(stream);
	if (connection->phase != PLANE_HTTP_STREAMING || stream->is_ended)
		return false;
	if (uv_stream_get_write_queue_size((uv_stream_t *)&connection->tcp) + len >
		STREAM_WAITING_MAX) {
		stream->is_ended = true;
		plane_http_connection_arm(connection, 1); /* not from inside the owner's call */
		return false;
	}
	struct plane_buffer out = { 0 };
	if (len && stream->is_chunked)
		plane_buffer_addf(&out, "%zx\r\n", len);
	plane_buffer_add(&out, bytes, len);
	if (len && stream->is_chunked)
		plane_buffer_add_text(&out, "\r\n");
	if (out.len)
		plane_http_write(connection, &out, NULL);
	return true;
}

static void on_stream_flushed(struct plane_http_connection *connection)
{
	plane_http_connection_abort(connection);
}

void plane_http_stream_end(struct plane_http_stream *stream)
{
	struct plane_http_connection *connection = connection_of(stream);
	if (connection->phase != PLANE_HTTP_STREAMING || stream->is_ended)
		return;
	stream->is_ended = true;
	struct plane_buffer out = { 0 };
	plane_buffer_add_text(&out, stream->is_chunked ? "0\r\n\r\n" : "");
	plane_http_connection_arm(connection, WRITE_TIMEOUT_MS);
	plane_http_write(connection, &out, on_stream_flushed);
	plane_http_tls_close(connection);
}
