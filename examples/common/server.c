/* The server's loop, see server.h. */
#include "common/server.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/utf8.h"

#define EVENTS_MAX 64
#define READ_BYTES (64 << 10)
#define MAX_UNREAD_BYTES (8 << 20)
#define TICK_MS 1000
#define GOODBYE_MS 500

enum phase { PHASE_HEAD, PHASE_BODY, PHASE_ANSWERED, PHASE_SOCKET, PHASE_CLOSING };

struct web_connection {
	struct web_server *server;
	struct web_connection *next, *prev;
	int fd;
	enum phase phase;
	struct web_buffer input, output;
	size_t scanned; /* of the input, for the end of the head */
	char *head;     /* taken apart; the request's strings live in it */
	struct web_request request;
	struct web_body body_state;
	struct web_buffer body;
	bool wants_write, is_doomed;
	struct web_buffer delayed; /* an answer that waits for its time */
	int64_t send_at_ms;        /* 0: none */
	/* WebSocket */
	struct web_buffer message;
	bool is_text, is_in_message, is_opened;
	int64_t heard_at_ms, pinged_at_ms;
	void *own;
};

struct web_server {
	const struct web_handlers *handlers;
	int epoll_fd, listen_fd, signal_fd;
	struct web_connection *connections;
	size_t count;
	bool is_stopping;
};

int64_t web_now_ms(void)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_MONOTONIC, &now); /* always there */
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

uint16_t web_port(void)
{
	const char *text = getenv("PORT");
	char *end = NULL;
	if (!text || !*text)
		return 8080;
	long port = strtol(text, &end, 10);
	return *end == '\0' && port > 0 && port <= UINT16_MAX ? (uint16_t)port : 0;
}

/* ---- answers ---- */

static const char *reason(int status)
{
	switch (status) {
	case 200:
		return "OK";
	case 400:
		return "Bad Request";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 413:
		return "Content Too Large";
	case 426:
		return "Upgrade Required";
	case 431:
		return "Request Header Fields Too Large";
	default:
		return status < 400 ? "OK" : "Error";
	}
}

void web_connection_answer(struct web_connection *connection, const struct web_answer *answer)
{
	const struct web_request *request = &connection->request;
	bool is_head = request->method && strcmp(request->method, "HEAD") == 0;
	struct web_buffer *into = answer->delay_ms > 0 ? &connection->delayed : &connection->output;
	web_buffer_printf(into, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n",
		answer->status, reason(answer->status),
		answer->content_type ? answer->content_type : "text/plain; charset=utf-8",
		answer->body_len);
	web_buffer_append_text(into, answer->headers ? answer->headers : "");
	if (!request->keeps_alive)
		web_buffer_append_text(into, "Connection: close\r\n");
	web_buffer_append_text(into, "\r\n");
	if (!is_head)
		web_buffer_append(into, answer->body, answer->body_len);
	if (answer->delay_ms > 0)
		connection->send_at_ms = web_now_ms() + answer->delay_ms;
	connection->phase = PHASE_ANSWERED;
}

void web_connection_answer_text(struct web_connection *connection, int status, const char *text)
{
	struct web_answer answer = { .status = status, .body = text, .body_len = strlen(text) };
	web_connection_answer(connection, &answer);
}

/* ---- a connection's end ---- */

static void destroy(struct web_connection *connection)
{
	struct web_server *server = connection->server;
	if (connection->is_opened && server->handlers->on_close)
		server->handlers->on_close(connection);
	if (connection->prev)
		connection->prev->next = connection->next;
	else
		server->connections = connection->next;
	if (connection->next)
		connection->next->prev = connection->prev;
	server->count--;
	(void)close(connection->fd); /* leaves epoll by itself */
	web_buffer_finish(&connection->input);
	web_buffer_finish(&connection->output);
	web_buffer_finish(&connection->body);
	web_buffer_finish(&connection->delayed);
	web_buffer_finish(&connection->message);
	free(connection->head);
	free(connection);
}

/* ---- WebSockets ---- */

bool web_connection_upgrade(struct web_connection *connection, const struct web_request *request)
{
	char accept[29];
	const char *key = web_request_header(request, "sec-websocket-key");
	const char *version = web_request_header(request, "sec-websocket-version");
	bool is_asked = web_request_header_has(request, "connection", "upgrade") &&
			web_request_header_has(request, "upgrade", "websocket");
	if (!is_asked || !version || strcmp(version, "13") != 0) {
		struct web_answer answer = { .status = 426,
			.headers = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
			.body = "this is a WebSocket\n",
			.body_len = strlen("this is a WebSocket\n") };
		web_connection_answer(connection, &answer);
		return false;
	}
	if (!key || !web_socket_accept(key, accept)) {
		web_connection_answer_text(connection, 400, "bad Sec-WebSocket-Key\n");
		return false;
	}
	web_buffer_printf(&connection->output,
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		"Sec-WebSocket-Accept: %s\r\n\r\n",
		accept);
	connection->phase = PHASE_SOCKET;
	connection->is_opened = true;
	connection->heard_at_ms = web_now_ms();
	return true;
}

void web_connection_send(
	struct web_connection *connection, const void *bytes, size_t len, bool is_text)
{
	if (connection->phase != PHASE_SOCKET || connection->is_doomed)
		return;
	if (web_buffer_len(&connection->output) > MAX_UNREAD_BYTES) {
		connection->is_doomed = true;
		return;
	}
	web_frame_append(&connection->output, is_text ? WEB_TEXT : WEB_BINARY, bytes, len);
}

void web_connection_close(struct web_connection *connection, int code)
{
	if (connection->phase != PHASE_SOCKET)
		return;
	web_frame_append_close(&connection->output, code);
	connection->phase = PHASE_CLOSING;
}

void web_connection_set_own(struct web_connection *connection, void *own)
{
	connection->own = own;
}

void *web_connection_own(const struct web_connection *connection)
{
	return connection->own;
}

void *web_connection_data(const struct web_connection *connection)
{
	return connection->server->handlers->data;
}

static size_t max_message(const struct web_connection *connection)
{
	size_t max = connection->server->handlers->max_message_bytes;
	return max ? max : WEB_MAX_MESSAGE_BYTES;
}

static void end_message(struct web_connection *connection)
{
	const struct web_handlers *handlers = connection->server->handlers;
	const char *bytes =
		web_buffer_len(&connection->message) ? web_buffer_bytes(&connection->message) : "";
	size_t len = web_buffer_len(&connection->message);
	connection->is_in_message = false;
	if (connection->is_text && !web_utf8_is_valid(bytes, len))
		web_connection_close(connection, 1007);
	else if (handlers->on_message)
		handlers->on_message(connection, bytes, len, connection->is_text);
	web_buffer_consume(&connection->message, len);
}

static void take_data(struct web_connection *connection, const struct web_frame *frame)
{
	bool is_start = frame->opcode != WEB_CONTINUATION;
	if (is_start == connection->is_in_message) {
		web_connection_close(connection, 1002);
		return;
	}
	if (is_start)
		connection->is_text = frame->opcode == WEB_TEXT;
	connection->is_in_message = true;
	if (web_buffer_len(&connection->message) + frame->len > max_message(connection)) {
		web_connection_close(connection, 1009);
		return;
	}
	web_buffer_append(&connection->message, frame->bytes, frame->len);
	if (frame->is_final)
		end_message(connection);
}

static void take_frame(struct web_connection *connection, const struct web_frame *frame)
{
	if (frame->opcode == WEB_PING)
		web_frame_append(&connection->output, WEB_PONG, frame->bytes, frame->len);
	else if (frame->opcode == WEB_CLOSE)
		web_connection_close(connection, 1000);
	else if (frame->opcode != WEB_PONG)
		take_data(connection, frame);
}

static void read_frames(struct web_connection *connection)
{
	struct web_frame frame;
	int result = 0;
	while (connection->phase == PHASE_SOCKET &&
		(result = web_frame_read(&connection->input, max_message(connection), &frame)) >
			0) {
		take_frame(connection, &frame);
		web_buffer_consume(&connection->input, frame.total);
	}
	if (result < 0)
		web_connection_close(connection, -result);
}

/* ---- requests ---- */

static void refuse(struct web_connection *connection, int status)
{
	connection->request = (struct web_request){ 0 }; /* and so without keep-alive */
	web_connection_answer_text(connection, status, "the request was refused\n");
}

static void handle(struct web_connection *connection)
{
	struct web_request *request = &connection->request;
	request->body_len = web_buffer_len(&connection->body);
	request->body = request->body_len ? web_buffer_bytes(&connection->body) : "";
	connection->server->handlers->on_request(connection, request);
}

/* True when a head was there. */
static bool read_head(struct web_connection *connection)
{
	struct web_buffer *input = &connection->input;
	if (web_buffer_len(input) == 0)
		return false;
	long len =
		web_head_end(web_buffer_bytes(input), web_buffer_len(input), &connection->scanned);
	if (len == 0 && web_buffer_len(input) <= WEB_MAX_HEAD_BYTES)
		return false;
	if (len <= 0 || len > WEB_MAX_HEAD_BYTES) {
		refuse(connection, len < 0 ? 400 : 431);
		return true;
	}
	connection->head = malloc((size_t)len + 1);
	if (!connection->head)
		_Exit(1);
	memcpy(connection->head, web_buffer_bytes(input), (size_t)len);
	connection->head[len] = '\0';
	web_buffer_consume(input, (size_t)len);
	connection->scanned = 0;
	int status = web_request_parse(&connection->request, connection->head, (size_t)len);
	if (status != 0) {
		refuse(connection, status);
		return true;
	}
	connection->phase = PHASE_BODY;
	connection->body_state = (struct web_body){ 0 };
	if (connection->request.expects_continue)
		web_buffer_append_text(&connection->output, "HTTP/1.1 100 Continue\r\n\r\n");
	return true;
}

/* True when the request is complete, or refused. */
static bool read_body(struct web_connection *connection)
{
	int result = web_body_read(&connection->body_state, &connection->request,
		&connection->input, &connection->body);
	if (result == 0)
		return false;
	if (result < 0)
		refuse(connection, -result);
	else
		handle(connection);
	return true;
}

/* The answer is out: ready for the next request. False when the connection ends. */
static bool next_request(struct web_connection *connection)
{
	bool keeps_alive = connection->request.keeps_alive && !connection->server->is_stopping;
	free(connection->head);
	connection->head = NULL;
	web_buffer_consume(&connection->body, web_buffer_len(&connection->body));
	connection->phase = PHASE_HEAD;
	return keeps_alive;
}

/* ---- bytes ---- */

static void watch_write(struct web_connection *connection, bool wants_write)
{
	if (connection->wants_write == wants_write)
		return;
	struct epoll_event event = { .events = EPOLLIN | (wants_write ? EPOLLOUT : 0),
		.data.ptr = connection };
	connection->wants_write = wants_write;
	(void)epoll_ctl(connection->server->epoll_fd, EPOLL_CTL_MOD, connection->fd, &event);
}

/* False when the connection broke. */
static bool flush(struct web_connection *connection)
{
	struct web_buffer *output = &connection->output;
	while (web_buffer_len(output) > 0) {
		ssize_t sent = send(connection->fd, web_buffer_bytes(output),
			web_buffer_len(output), MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno != EAGAIN)
			return false;
		if (sent < 0)
			break;
		web_buffer_consume(output, (size_t)sent);
	}
	watch_write(connection, web_buffer_len(output) > 0);
	return true;
}

/* Goes as far as the input allows; false when the connection is over. */
static bool advance(struct web_connection *connection)
{
	for (;;) {
		bool has_moved = false;
		if (connection->phase == PHASE_HEAD)
			has_moved = read_head(connection);
		else if (connection->phase == PHASE_BODY)
			has_moved = read_body(connection);
		else if (connection->phase == PHASE_SOCKET)
			read_frames(connection);
		if (!flush(connection) || connection->is_doomed)
			return false;
		bool is_out = web_buffer_len(&connection->output) == 0 && !connection->send_at_ms;
		if (connection->phase == PHASE_CLOSING && is_out)
			return false;
		if (connection->phase == PHASE_ANSWERED && is_out) {
			if (!next_request(connection))
				return false;
			has_moved = true;
		}
		if (!has_moved)
			return true;
	}
}

static bool read_some(struct web_connection *connection)
{
	char *room = web_buffer_reserve(&connection->input, READ_BYTES);
	ssize_t got = recv(connection->fd, room, READ_BYTES, 0);
	if (got < 0)
		return errno == EAGAIN || errno == EINTR;
	if (got == 0)
		return false;
	connection->heard_at_ms = web_now_ms();
	connection->pinged_at_ms = 0;
	web_buffer_added(&connection->input, (size_t)got);
	/* a client that sends on while its answer is made waits, up to a limit */
	return web_buffer_len(&connection->input) <= MAX_UNREAD_BYTES + max_message(connection);
}

static void take_event(struct web_connection *connection, uint32_t events)
{
	bool is_alive = true;
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		is_alive = read_some(connection);
	if (is_alive)
		is_alive = advance(connection);
	if (!is_alive)
		destroy(connection);
}

/* What callbacks put into other connections' outputs. */
static void flush_all(struct web_server *server)
{
	struct web_connection *next;
	for (struct web_connection *connection = server->connections; connection;
		connection = next) {
		next = connection->next;
		if (connection->phase != PHASE_SOCKET && connection->phase != PHASE_CLOSING)
			continue;
		if (connection->is_doomed || !flush(connection))
			destroy(connection);
	}
}

/* ---- accepting, time, the loop ---- */

static void accept_one(struct web_server *server)
{
	int one = 1;
	int fd = accept4(server->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	size_t max = server->handlers->max_connections;
	struct web_connection *connection =
		max && server->count >= max ? NULL : calloc(1, sizeof(*connection));
	if (!connection) {
		(void)close(fd); /* no room */
		return;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* only faster */
	connection->server = server;
	connection->fd = fd;
	connection->next = server->connections;
	if (server->connections)
		server->connections->prev = connection;
	server->connections = connection;
	server->count++;
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = connection };
	if (epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		destroy(connection);
}

static void send_delayed(struct web_connection *connection)
{
	struct web_buffer *delayed = &connection->delayed;
	connection->send_at_ms = 0;
	web_buffer_append(&connection->output, web_buffer_bytes(delayed), web_buffer_len(delayed));
	web_buffer_consume(delayed, web_buffer_len(delayed));
	if (!advance(connection))
		destroy(connection);
}

/* False when it was silent for too long. */
static bool check_silence(struct web_connection *connection, int64_t now_ms)
{
	int64_t after_ms = connection->server->handlers->ping_after_ms;
	if (connection->phase != PHASE_SOCKET || after_ms <= 0)
		return true;
	if (connection->pinged_at_ms)
		return now_ms - connection->pinged_at_ms <= after_ms;
	if (now_ms - connection->heard_at_ms > after_ms) {
		connection->pinged_at_ms = now_ms;
		web_frame_append(&connection->output, WEB_PING, "", 0);
	}
	return true;
}

static void tick(struct web_server *server)
{
	int64_t now_ms = web_now_ms();
	struct web_connection *next;
	for (struct web_connection *connection = server->connections; connection;
		connection = next) {
		next = connection->next;
		if (!check_silence(connection, now_ms))
			destroy(connection);
		else if (connection->send_at_ms && now_ms >= connection->send_at_ms)
			send_delayed(connection);
	}
}

/* Until the next delayed answer, at most a tick; for ever when there is nothing to wait for. */
static int wait_ms(const struct web_server *server)
{
	int64_t now_ms = web_now_ms();
	int64_t wait = -1;
	for (const struct web_connection *at = server->connections; at; at = at->next) {
		int64_t its = at->send_at_ms ? at->send_at_ms - now_ms
			      : at->phase == PHASE_SOCKET && server->handlers->ping_after_ms > 0
				      ? TICK_MS
				      : -1;
		if (its >= 0 && (wait < 0 || its < wait))
			wait = its;
		else if (its < 0 && at->send_at_ms)
			wait = 0;
	}
	return (int)(wait > TICK_MS ? TICK_MS : wait);
}

static void say_goodbye(struct web_server *server)
{
	struct web_connection *next;
	server->is_stopping = true;
	for (struct web_connection *connection = server->connections; connection;
		connection = next) {
		next = connection->next;
		web_connection_close(connection, 1001);
		if (!flush(connection) || web_buffer_len(&connection->output) == 0)
			destroy(connection);
	}
}

int web_server_run(struct web_server *server)
{
	struct epoll_event events[EVENTS_MAX];
	int64_t end_ms = 0;
	while (!server->is_stopping || (server->connections && web_now_ms() < end_ms)) {
		int count = epoll_wait(server->epoll_fd, events, EVENTS_MAX,
			server->is_stopping ? GOODBYE_MS : wait_ms(server));
		if (count < 0 && errno != EINTR) {
			perror("epoll_wait");
			return 1;
		}
		for (int i = 0; i < count; i++) {
			if (events[i].data.ptr == server)
				accept_one(server);
			else if (events[i].data.ptr == &server->signal_fd) {
				say_goodbye(server);
				end_ms = web_now_ms() + GOODBYE_MS;
				break; /* the other events may be of connections that went */
			} else
				take_event(events[i].data.ptr, events[i].events);
			/* one event may end other connections: theirs come again */
			if (server->is_stopping)
				break;
		}
		tick(server);
		flush_all(server);
	}
	while (server->connections)
		destroy(server->connections);
	return 0;
}

static int watch(struct web_server *server, int fd, void *pointer)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = pointer };
	return epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static int open_signals(void)
{
	sigset_t ends;
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	if (sigprocmask(SIG_BLOCK, &ends, NULL) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return -1;
	return signalfd(-1, &ends, SFD_NONBLOCK | SFD_CLOEXEC);
}

static int open_listener(uint16_t port)
{
	int one = 1;
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY), .sin_port = htons(port)
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0 && (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
			       bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
			       listen(fd, SOMAXCONN) < 0)) {
		(void)close(fd); /* never used */
		return -1;
	}
	return fd;
}

struct web_server *web_server_create(uint16_t port, const struct web_handlers *handlers)
{
	struct rlimit files;
	struct web_server *server = calloc(1, sizeof(*server));
	if (!server)
		return NULL;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files); /* fewer connections, then */
	}
	server->handlers = handlers;
	server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	server->signal_fd = open_signals();
	server->listen_fd = open_listener(port);
	if (server->epoll_fd < 0 || server->signal_fd < 0 || server->listen_fd < 0 ||
		watch(server, server->listen_fd, server) < 0 ||
		watch(server, server->signal_fd, &server->signal_fd) < 0) {
		fprintf(stderr, "listen on port %u: %s\n", port, strerror(errno));
		web_server_destroy(server);
		return NULL;
	}
	return server;
}

void web_server_destroy(struct web_server *server)
{
	if (!server)
		return;
	if (server->listen_fd >= 0)
		(void)close(server->listen_fd); /* it ends */
	if (server->signal_fd >= 0)
		(void)close(server->signal_fd); /* it ends */
	if (server->epoll_fd >= 0)
		(void)close(server->epoll_fd); /* it ends */
	free(server);
}
