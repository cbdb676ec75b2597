/* One connection of the small server: requests, answers, WebSocket messages. It frees nothing and
 * touches no other connection; server.c does. */
#include "common/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/utf8.h"

#define READ_BYTES (64 << 10)
#define PAUSE_BYTES (1 << 20)   /* unsent output above which a WebSocket is not read */
#define BACKLOG_BYTES (8 << 20) /* unsent output besides one message that is tolerated */
#define IDLE_MS (600 * 1000)
#define REQUEST_MS (30 * 1000)
#define WRITE_MS (60 * 1000)
#define ENDING_MS 2000

static void set_state(struct web_connection *c, enum web_state state)
{
	c->state = state;
	c->state_since_ms = c->server->now_ms;
}

static void doom(struct web_connection *c)
{
	c->is_doomed = true;
	web_connection_touch(c);
}

static const char *reason(int status)
{
	static const struct {
		int status;
		const char *text;
	} reasons[] = {
		{ 200, "OK" },
		{ 204, "No Content" },
		{ 400, "Bad Request" },
		{ 404, "Not Found" },
		{ 405, "Method Not Allowed" },
		{ 413, "Content Too Large" },
		{ 426, "Upgrade Required" },
		{ 431, "Request Header Fields Too Large" },
		{ 500, "Internal Server Error" },
		{ 501, "Not Implemented" },
		{ 503, "Service Unavailable" },
		{ 505, "HTTP Version Not Supported" },
	};
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].text;
	return "Other";
}

static void append_date(struct web_buffer *output)
{
	struct tm tm;
	time_t now = time(NULL);
	char text[64];
	if (gmtime_r(&now, &tm) && strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm))
		web_buffer_printf(output, "date: %s\r\n", text);
}

void web_connection_answer(struct web_connection *c, const struct web_answer *answer)
{
	if (c->state != WEB_READING_BODY && c->state != WEB_READING_HEAD)
		return;
	struct web_buffer *output = &c->output;
	bool ends = !c->request.keeps_alive;
	web_buffer_printf(output, "HTTP/1.1 %d %s\r\n", answer->status, reason(answer->status));
	append_date(output);
	if (answer->status != 204)
		web_buffer_printf(output, "content-type: %s\r\ncontent-length: %zu\r\n",
			answer->content_type ? answer->content_type : "text/plain; charset=utf-8",
			answer->body_len);
	if (answer->headers)
		web_buffer_append_text(output, answer->headers);
	web_buffer_printf(output, "connection: %s\r\n\r\n", ends ? "close" : "keep-alive");
	bool is_head = c->request.method && strcmp(c->request.method, "HEAD") == 0;
	if (!is_head && answer->status != 204)
		web_buffer_append(output, answer->body, answer->body_len);
	set_state(c, ends ? WEB_ENDING : WEB_ANSWERED);
	c->last_write_ms = c->server->now_ms;
	if (answer->delay_ms > 0) {
		/* the clock lost its fraction: never early */
		c->held_until_ms = c->server->now_ms + answer->delay_ms + 1;
		if (c->held_until_ms < c->server->next_timer_ms)
			c->server->next_timer_ms = c->held_until_ms;
	}
	web_connection_touch(c);
}

void web_connection_answer_text(struct web_connection *c, int status, const char *text)
{
	web_connection_answer(c,
		&(struct web_answer){ .status = status, .body = text, .body_len = strlen(text) });
}

/* For what is not a request: its method is not known, its end neither. */
static void refuse(struct web_connection *c, int status)
{
	c->request = (struct web_request){ .keeps_alive = false };
	char text[64] = "";
	strncat(text, reason(status), sizeof(text) - 2);
	strcat(text, "\n");
	web_connection_answer_text(c, status, text);
}

bool web_connection_upgrade(struct web_connection *c, const struct web_request *request)
{
	char accept[29];
	const char *key = web_request_header(request, "sec-websocket-key");
	const char *version = web_request_header(request, "sec-websocket-version");
	if (strcmp(request->method, "GET") != 0 ||
		!web_request_header_has(request, "connection", "upgrade") ||
		!web_request_header_has(request, "upgrade", "websocket") || !version ||
		strcmp(version, "13") != 0) {
		static const char text[] = "This is a WebSocket.\n";
		web_connection_answer(c, &(struct web_answer){ .status = 426,
						 .headers = "upgrade: websocket\r\n"
							    "sec-websocket-version: 13\r\n",
						 .body = text,
						 .body_len = sizeof(text) - 1 });
		return false;
	}
	if (!key || !web_socket_accept(key, accept)) {
		web_connection_answer_text(c, 400, "This is no sec-websocket-key.\n");
		return false;
	}
	web_buffer_printf(&c->output,
		"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n"
		"connection: upgrade\r\nsec-websocket-accept: %s\r\n\r\n",
		accept);
	c->is_announced = true;
	c->fragments = 0;
	c->last_write_ms = c->server->now_ms;
	set_state(c, WEB_SOCKET);
	web_connection_touch(c);
	return true;
}

static size_t max_message(const struct web_connection *c)
{
	size_t max = c->server->handlers->max_message_bytes;
	return max > 0 ? max : WEB_MAX_MESSAGE_BYTES;
}

void web_connection_send(struct web_connection *c, const void *bytes, size_t len, bool is_text)
{
	if (c->state != WEB_SOCKET || c->is_doomed)
		return;
	size_t unsent = web_buffer_len(&c->output);
	if (unsent == 0)
		c->last_write_ms = c->server->now_ms;
	web_frame_append(&c->output, is_text ? WEB_TEXT : WEB_BINARY, bytes, len);
	if (unsent > BACKLOG_BYTES)
		doom(c);
	web_connection_touch(c);
}

void web_connection_close(struct web_connection *c, int code)
{
	if (c->state != WEB_SOCKET)
		return;
	web_frame_append_close(&c->output, code);
	set_state(c, WEB_ENDING);
	web_connection_touch(c);
}

/* Whole head: takes it out of the input and apart. False when there is nothing to go on with. */
static bool read_head(struct web_connection *c)
{
	size_t have = web_buffer_len(&c->input);
	while (have >= 2 && c->head_scanned == 0 &&
		memcmp(web_buffer_bytes(&c->input), "\r\n", 2) == 0) {
		/* Some clients end the request before with an empty line (RFC 9112, 2.2). */
		web_buffer_consume(&c->input, 2);
		have -= 2;
	}
	if (have == 0 || (have == 1 && *web_buffer_bytes(&c->input) == '\r'))
		return false;
	if (c->head_scanned == 0)
		c->state_since_ms = c->server->now_ms;
	long len = web_head_end(web_buffer_bytes(&c->input), have, &c->head_scanned);
	if (len > WEB_MAX_HEAD_BYTES || (len == 0 && have > WEB_MAX_HEAD_BYTES)) {
		refuse(c, 431);
		return true;
	}
	if (len == 0)
		return false;
	if (len < 0) {
		refuse(c, 400);
		return true;
	}
	web_buffer_consume(&c->head, web_buffer_len(&c->head));
	web_buffer_append(&c->head, web_buffer_bytes(&c->input), (size_t)len);
	web_buffer_consume(&c->input, (size_t)len);
	c->head_scanned = 0;
	int status = web_request_parse(&c->request, web_buffer_bytes(&c->head), (size_t)len);
	if (status != 0) {
		refuse(c, status);
		return true;
	}
	if (c->request.expects_continue && web_buffer_len(&c->input) == 0)
		web_buffer_append_text(&c->output, "HTTP/1.1 100 Continue\r\n\r\n");
	c->body_state = (struct web_body){ 0 };
	web_buffer_consume(&c->body, web_buffer_len(&c->body));
	set_state(c, WEB_READING_BODY);
	return true;
}

static bool read_body(struct web_connection *c)
{
	int status = web_body_read(&c->body_state, &c->request, &c->input, &c->body);
	if (status == 0)
		return false;
	if (status < 0) {
		refuse(c, -status);
		return true;
	}
	c->request.body_len = web_buffer_len(&c->body);
	if (c->request.body_len > 0)
		c->request.body = web_buffer_bytes(&c->body);
	if (c->server->handlers->on_request)
		c->server->handlers->on_request(c, &c->request);
	if (c->state == WEB_READING_BODY)
		web_connection_answer_text(c, 500, "No answer to this.\n");
	web_buffer_consume(&c->body, web_buffer_len(&c->body));
	return true;
}

static void deliver(struct web_connection *c, const char *bytes, size_t len, bool is_text)
{
	if (is_text && !web_utf8_is_valid(bytes, len))
		web_connection_close(c, 1007);
	else if (c->server->handlers->on_message)
		c->server->handlers->on_message(c, bytes ? bytes : "", len, is_text);
}

/* A data frame: a whole message, or a piece that waits in `body` for the rest. */
static void take_data(struct web_connection *c, const struct web_frame *frame)
{
	if ((frame->opcode == WEB_CONTINUATION) != (c->fragments != 0)) {
		web_connection_close(c, 1002);
		return;
	}
	if (frame->is_final && c->fragments == 0) {
		deliver(c, frame->bytes, frame->len, frame->opcode == WEB_TEXT);
		return;
	}
	if (frame->opcode != WEB_CONTINUATION)
		c->fragments = frame->opcode;
	web_buffer_append(&c->body, frame->bytes, frame->len);
	if (!frame->is_final)
		return;
	bool is_text = c->fragments == WEB_TEXT;
	c->fragments = 0;
	size_t len = web_buffer_len(&c->body);
	deliver(c, len > 0 ? web_buffer_bytes(&c->body) : "", len, is_text);
	web_buffer_consume(&c->body, len);
}

/* Answers with the client's own code when it may be sent (RFC 6455, section 7.4). */
static void take_close(struct web_connection *c, const struct web_frame *frame)
{
	int code = 1000;
	if (frame->len >= 2)
		code = (unsigned char)frame->bytes[0] << 8 | (unsigned char)frame->bytes[1];
	bool is_reserved = code == 1004 || code == 1005 || code == 1006;
	bool is_valid =
		(code >= 1000 && code <= 1014 && !is_reserved) || (code >= 3000 && code <= 4999);
	if (frame->len == 1 || !is_valid ||
		(frame->len > 2 && !web_utf8_is_valid(frame->bytes + 2, frame->len - 2)))
		code = 1002;
	web_connection_close(c, code);
}

static bool read_frame(struct web_connection *c)
{
	if (web_buffer_len(&c->output) > PAUSE_BYTES)
		return false;
	struct web_frame frame;
	int found = web_frame_read(&c->input, max_message(c) - web_buffer_len(&c->body), &frame);
	if (found == 0)
		return false;
	if (found < 0) {
		web_connection_close(c, -found);
		return true;
	}
	if (frame.opcode == WEB_PING)
		web_frame_append(&c->output, WEB_PONG, frame.bytes, frame.len);
	else if (frame.opcode == WEB_CLOSE)
		take_close(c, &frame);
	else if (frame.opcode != WEB_PONG)
		take_data(c, &frame);
	web_buffer_consume(&c->input, frame.total);
	return true;
}

/* Does what the input says, until more must come or go. */
static void process(struct web_connection *c)
{
	bool goes_on = true;
	while (goes_on && !c->is_doomed) {
		switch (c->state) {
		case WEB_READING_HEAD:
			goes_on = read_head(c);
			break;
		case WEB_READING_BODY:
			goes_on = read_body(c);
			break;
		case WEB_SOCKET:
			goes_on = read_frame(c);
			break;
		case WEB_ENDING:
			web_buffer_consume(&c->input, web_buffer_len(&c->input));
			goes_on = false;
			break;
		case WEB_ANSWERED:
			goes_on = false;
			break;
		}
	}
	/* Nothing more comes: only an answer that is on its way is still of use. */
	if (c->has_input_ended && c->state != WEB_ANSWERED &&
		(c->state != WEB_ENDING || web_buffer_len(&c->output) == 0))
		doom(c);
}

void web_connection_read(struct web_connection *c)
{
	char *room = web_buffer_reserve(&c->input, READ_BYTES);
	ssize_t len = recv(c->fd, room, READ_BYTES, 0);
	if (len < 0) {
		if (errno != EAGAIN && errno != EINTR)
			doom(c);
		return;
	}
	if (len == 0)
		c->has_input_ended = true;
	web_buffer_added(&c->input, (size_t)len);
	c->last_read_ms = c->server->now_ms;
	c->was_pinged = false;
	process(c);
	if (web_buffer_len(&c->input) == 0)
		web_buffer_consume(&c->input, 0); /* an idle connection keeps little memory */
	web_connection_touch(c);
}

static void flush(struct web_connection *c)
{
	while (web_buffer_len(&c->output) > 0) {
		ssize_t len = send(c->fd, web_buffer_bytes(&c->output), web_buffer_len(&c->output),
			MSG_NOSIGNAL);
		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0) {
			if (errno != EAGAIN)
				doom(c);
			return;
		}
		web_buffer_consume(&c->output, (size_t)len);
		c->last_write_ms = c->server->now_ms;
	}
}

void web_connection_progress(struct web_connection *c)
{
	if (c->held_until_ms > 0)
		return;
	flush(c);
	while (!c->is_doomed && web_buffer_len(&c->output) == 0 && c->state == WEB_ANSWERED) {
		set_state(c, WEB_READING_HEAD);
		process(c);
		if (c->held_until_ms > 0)
			return;
		flush(c);
	}
	if (c->is_doomed)
		return;
	if (c->state == WEB_SOCKET && web_buffer_len(&c->input) > 0 &&
		web_buffer_len(&c->output) <= PAUSE_BYTES) {
		process(c);
		flush(c);
	}
	/* Closing with unread input would cut off the answer: say the end, wait for theirs. */
	if (c->state == WEB_ENDING && web_buffer_len(&c->output) == 0 && !c->has_shut_down) {
		c->has_shut_down = true;
		c->state_since_ms = c->server->now_ms;
		if (c->has_input_ended || shutdown(c->fd, SHUT_WR) < 0)
			doom(c);
	}
}

uint32_t web_connection_wanted(const struct web_connection *c)
{
	uint32_t events = 0;
	size_t unsent = web_buffer_len(&c->output);
	if (unsent > 0 && c->held_until_ms == 0)
		events |= EPOLLOUT;
	bool reads = c->state != WEB_ANSWERED && (c->state != WEB_SOCKET || unsent <= PAUSE_BYTES);
	/* Whoever waits for a delayed last answer may send nothing more. */
	if (c->held_until_ms > 0)
		reads = false;
	if (reads && !c->has_input_ended)
		events |= EPOLLIN;
	return events;
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int64_t web_connection_check_time(struct web_connection *c)
{
	int64_t now = c->server->now_ms;
	int64_t next = now + 1000;
	if (c->held_until_ms > now)
		return earlier(next, c->held_until_ms);
	if (c->held_until_ms > 0) {
		c->held_until_ms = 0;
		c->last_write_ms = now;
		web_connection_touch(c);
		return next;
	}
	int64_t in_state = now - c->state_since_ms;
	bool has_unsent = web_buffer_len(&c->output) > 0;
	bool is_idle = c->state == WEB_READING_HEAD && web_buffer_len(&c->input) == 0;
	if ((has_unsent && now - c->last_write_ms > WRITE_MS) || (is_idle && in_state > IDLE_MS) ||
		(!is_idle && c->state == WEB_READING_HEAD && in_state > REQUEST_MS) ||
		(c->state == WEB_READING_BODY && now - c->last_read_ms > REQUEST_MS) ||
		(c->has_shut_down && in_state > ENDING_MS)) {
		doom(c);
		return next;
	}
	int64_t ping_after_ms = c->server->handlers->ping_after_ms;
	if (c->state == WEB_SOCKET && ping_after_ms > 0) {
		int64_t silence = now - c->last_read_ms;
		if (silence > 2 * ping_after_ms) {
			doom(c);
		} else if (silence > ping_after_ms && !c->was_pinged) {
			c->was_pinged = true;
			web_frame_append(&c->output, WEB_PING, NULL, 0);
			web_connection_touch(c);
		}
	}
	return next;
}

void web_connection_set_own(struct web_connection *c, void *own)
{
	c->own = own;
}

void *web_connection_own(const struct web_connection *c)
{
	return c->own;
}

void *web_connection_data(const struct web_connection *c)
{
	return c->server->handlers->data;
}

void web_connection_free(struct web_connection *c)
{
	close(c->fd);
	web_buffer_finish(&c->input);
	web_buffer_finish(&c->output);
	web_buffer_finish(&c->head);
	web_buffer_finish(&c->body);
	free(c);
}
