/* What net/http_server.c bears of clients that mean harm, over real sockets on loopback. */
#include "../cmocka_all.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "net/http_server.h"

#define LIMIT_MS 30000
#define CONNECTIONS_MAX 4

struct fixture {
	uv_loop_t loop;
	uv_timer_t limit;
	struct plane_http_server *server;
	struct plane_http_stream *streams[CONNECTIONS_MAX];
	int stream_count, closed_streams, closed_ws, asked, handled;
	size_t ws_bytes;
};

static void on_stream_closed(void *data)
{
	((struct fixture *)data)->closed_streams++;
}

static void start_stream(void *data, struct plane_http_stream *stream)
{
	struct fixture *f = data;
	f->streams[f->stream_count++] = stream;
	plane_http_stream_on_closed(stream, on_stream_closed, f);
}

static void on_ws_closed(void *data)
{
	((struct fixture *)data)->closed_ws++;
}

static void on_ws_text(void *data, const char *text, size_t len)
{
	struct fixture *f = data;
	(void)text;
	f->ws_bytes += len;
}

static void start_ws(void *data, struct plane_ws *ws)
{
	plane_ws_listen(ws, &(struct plane_ws_listener){ .data = data,
				    .on_text = on_ws_text,
				    .on_closed = on_ws_closed,
				    .message_max_bytes = 100 });
}

static void handle(const struct plane_http_request *request, struct plane_http_response *response)
{
	struct fixture *f = request->server_data;
	f->handled++; /* by the only thread, while the loop waits for its answer */
	if (strcmp(request->path, "/stream") == 0) {
		response->start_stream = start_stream;
		response->start_data = f;
	} else if (strcmp(request->path, "/ws") == 0) {
		response->start_ws = start_ws;
		response->start_data = f;
	}
}

static bool takes_body(const struct plane_http_request *request, size_t *max_body_bytes,
	struct plane_http_response *response)
{
	struct fixture *f = request->server_data;
	f->asked++;
	if (strcmp(request->path, "/short") == 0)
		*max_body_bytes = 4;
	if (strcmp(request->path, "/none") == 0)
		*max_body_bytes = 0;
	if (strcmp(request->path, "/known") == 0)
		response->ticket = 7;
	if (strcmp(request->path, "/closed") != 0)
		return true;
	response->status = 401;
	return false;
}

static void on_limit(uv_timer_t *timer)
{
	(void)timer;
	fail_msg("what is waited for has not come");
}

static int set_up(void **state)
{
	struct fixture *f = PLANE_NEW(struct fixture);
	struct plane_error err = { 0 };
	struct plane_http_server_config config = { .listen = "127.0.0.1:0",
		.handler = handle,
		.server_data = f,
		.pool_threads = 1,
		.takes_body = takes_body,
		.max_body_bytes = 1000,
		.max_held_bytes = 2500,
		.max_connections = CONNECTIONS_MAX };
	assert_int_equal(uv_loop_init(&f->loop), 0);
	uv_timer_init(&f->loop, &f->limit);
	uv_timer_start(&f->limit, on_limit, LIMIT_MS, 0);
	f->server = plane_http_server_create(&f->loop, &config, &err);
	if (!f->server)
		fail_msg("%s", err.message);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	plane_http_server_close(f->server, NULL, NULL);
	uv_close((uv_handle_t *)&f->limit, NULL);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&f->loop), 0);
	free(f);
	return 0;
}

static int open_client(const struct fixture *f, const char *text)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const char *port = strrchr(plane_http_server_address(f->server), ':') + 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	address.sin_port = htons((uint16_t)atoi(port));
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
	return fd;
}

/* Turns the loop until something came; "" for the end of the connection. */
static const char *await(struct fixture *f, int fd)
{
	static char text[4096];
	ssize_t got;
	while ((got = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT)) < 0 && errno == EAGAIN)
		uv_run(&f->loop, UV_RUN_ONCE);
	text[got > 0 ? got : 0] = '\0';
	return text;
}

static bool is_open(int fd)
{
	char byte;
	return recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

#define REQUEST "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define STREAM "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n"

static void at_the_limit_who_has_been_silent_longest_gives_way(void **state)
{
	struct fixture *f = *state;
	int fds[CONNECTIONS_MAX];
	fds[0] = open_client(f, STREAM);
	assert_non_null(strstr(await(f, fds[0]), "200 OK"));
	for (int i = 1; i < CONNECTIONS_MAX; i++)
		fds[i] = open_client(f, i == 2 ? "GET / HT" : "");
	/* the half head came last of all, which helps it so far and no further */
	static const int order[] = { 1, 3, 2 };
	int late[3];
	for (int i = 0; i < 3; i++) {
		late[i] = open_client(f, REQUEST);
		assert_non_null(strstr(await(f, late[i]), "200 OK"));
		assert_string_equal(await(f, fds[order[i]]), "");
		for (int j = i + 1; j < 3; j++)
			assert_true(is_open(fds[order[j]]));
	}
	assert_true(is_open(fds[0]));
	assert_int_equal(f->closed_streams, 0);
	for (int i = 0; i < CONNECTIONS_MAX; i++)
		close(fds[i]);
	for (int i = 0; i < 3; i++)
		close(late[i]);
}

static void who_is_served_keeps_its_place(void **state)
{
	struct fixture *f = *state;
	int fds[CONNECTIONS_MAX];
	for (int i = 0; i < CONNECTIONS_MAX; i++) {
		fds[i] = open_client(f, STREAM);
		assert_non_null(strstr(await(f, fds[i]), "200 OK"));
	}
	int late = open_client(f, REQUEST);
	for (int i = 0; i < 100; i++)
		uv_run(&f->loop, UV_RUN_NOWAIT);
	assert_true(is_open(late));
	assert_int_equal(f->closed_streams, 0);
	plane_http_stream_end(f->streams[1]);
	assert_non_null(strstr(await(f, late), "200 OK"));
	assert_int_equal(f->closed_streams, 1);
	for (int i = 0; i < CONNECTIONS_MAX; i++)
		close(fds[i]);
	close(late);
}

static void who_says_nothing_at_first_is_closed_soon(void **state)
{
	struct fixture *f = *state;
	int silent = open_client(f, "");
	assert_string_equal(await(f, silent), ""); /* long before the time between requests */
	close(silent);
}

#define POST(path, more) "POST " path " HTTP/1.1\r\nHost: a\r\n" more "\r\n"

static void who_may_not_ask_is_told_before_the_body_is_read(void **state)
{
	struct fixture *f = *state;
	static const char *const requests[] = { POST("/closed", "Content-Length: 900\r\n"),
		POST("/closed", "Content-Length: 900\r\nExpect: 100-continue\r\n"),
		POST("/closed", "Transfer-Encoding: chunked\r\n") };
	for (int i = 0; i < 3; i++) {
		int fd = open_client(f, requests[i]);
		assert_non_null(strstr(await(f, fd), "HTTP/1.1 401"));
		assert_string_equal(await(f, fd), "");
		close(fd);
	}
	assert_int_equal(f->asked, 3);
	assert_int_equal(f->handled, 0);
}

static void a_route_may_take_less_than_the_server(void **state)
{
	struct fixture *f = *state;
	static const char *const requests[] = { POST("/short", "Content-Length: 5\r\n"),
		POST("/short", "Transfer-Encoding: chunked\r\n") "3\r\nabc\r\n2\r\n",
		POST("/long", "Content-Length: 1001\r\n") };
	for (int i = 0; i < 3; i++) {
		int fd = open_client(f, requests[i]);
		const char *more = i == 1 ? "de" : "";
		assert_int_equal(send(fd, more, strlen(more), 0), (ssize_t)strlen(more));
		assert_non_null(strstr(await(f, fd), "HTTP/1.1 413"));
		close(fd);
	}
	assert_int_equal(f->handled, 0);
	int fd = open_client(f, POST("/short", "Content-Length: 4\r\n") "abcd");
	assert_non_null(strstr(await(f, fd), "HTTP/1.1 200"));
	close(fd);
	fd = open_client(
		f, POST("/short", "Transfer-Encoding: chunked\r\n") "4\r\nabcd\r\n0\r\n\r\n");
	assert_non_null(strstr(await(f, fd), "HTTP/1.1 200"));
	close(fd);
}

static void a_body_that_nobody_wants_is_not_waited_for(void **state)
{
	struct fixture *f = *state;
	static const char *const requests[] = { POST("/none", "Content-Length: 900\r\n"),
		POST("/none", "Content-Length: 40\r\n") "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
		POST("/none", "Transfer-Encoding: chunked\r\n") "5\r\nab" };
	for (int i = 0; i < 3; i++) {
		int fd = open_client(f, requests[i]);
		assert_non_null(strstr(await(f, fd), "HTTP/1.1 200"));
		assert_string_equal(await(f, fd), "");
		close(fd);
	}
	assert_int_equal(f->handled, 3); /* what looks like a request there is none */
}

static void a_body_that_does_not_come_keeps_no_place_for_a_stranger(void **state)
{
	struct fixture *f = *state;
	int known[2], strange[2];
	for (int i = 0; i < 2; i++)
		known[i] = open_client(f, POST("/known", "Content-Length: 9\r\n"));
	for (int i = 0; i < 2; i++)
		strange[i] = open_client(f, POST("/", "Content-Length: 9\r\n"));
	while (f->asked < 4)
		uv_run(&f->loop, UV_RUN_ONCE);
	for (int i = 0; i < 2; i++) {
		int late = open_client(f, STREAM);
		assert_non_null(strstr(await(f, late), "HTTP/1.1 200"));
		assert_string_equal(await(f, strange[i]), "");
		close(strange[i]);
		strange[i] = late;
	}
	for (int i = 0; i < 2; i++) {
		assert_int_equal(send(known[i], "123456789", 9, 0), 9);
		assert_non_null(strstr(await(f, known[i]), "HTTP/1.1 200"));
		close(known[i]);
		close(strange[i]);
	}
}

static void all_bodies_together_are_bounded(void **state)
{
	struct fixture *f = *state;
	char piece[900];
	int fds[3];
	memset(piece, 'x', sizeof(piece));
	for (int i = 0; i < 3; i++) {
		fds[i] = open_client(f, POST("/", "Content-Length: 901\r\n"));
		assert_int_equal(send(fds[i], piece, sizeof(piece), 0), sizeof(piece));
	}
	assert_non_null(strstr(await(f, fds[2]), "HTTP/1.1 503"));
	assert_int_equal(f->handled, 0);
	assert_int_equal(send(fds[0], "x", 1, 0), 1); /* what is held already is served */
	assert_non_null(strstr(await(f, fds[0]), "HTTP/1.1 200"));
	close(fds[2]); /* what it has sent counts no more */
	for (int i = 0; i < 5; i++) {
		int fd = open_client(f, POST("/", "Content-Length: 900\r\n"));
		assert_int_equal(send(fd, piece, sizeof(piece), 0), sizeof(piece));
		assert_non_null(strstr(await(f, fd), "HTTP/1.1 200"));
		close(fd);
	}
	close(fds[0]);
	close(fds[1]);
}

/* Sends it again and again, reading nothing, until the server has closed the connection. */
static void flood(struct fixture *f, int fd, const char *bytes, size_t len)
{
	size_t at = 0;
	while (!f->closed_ws) {
		ssize_t sent = send(fd, bytes + at, len - at, MSG_DONTWAIT | MSG_NOSIGNAL);
		at = sent > 0 ? (at + (size_t)sent) % len : at;
		uv_run(&f->loop, UV_RUN_NOWAIT);
	}
}

static int open_ws(struct fixture *f)
{
	int fd = open_client(f, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n"
				"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
				"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
	assert_non_null(strstr(await(f, fd), "HTTP/1.1 101"));
	return fd;
}

static void a_message_that_is_too_long_ends_the_websocket(void **state)
{
	struct fixture *f = *state;
	char frame[6 + 101] = { (char)0x81, (char)(0x80 | 100) }; /* masked with zeros */
	int fd = open_ws(f);
	assert_int_equal(send(fd, frame, 6 + 100, 0), 6 + 100);
	while (f->ws_bytes < 100)
		uv_run(&f->loop, UV_RUN_ONCE);
	assert_int_equal(f->closed_ws, 0);
	frame[1] = (char)(0x80 | 101);
	assert_int_equal(send(fd, frame, 7, 0), 7); /* its first byte is enough */
	while (!f->closed_ws)
		uv_run(&f->loop, UV_RUN_ONCE);
	assert_int_equal(f->ws_bytes, 100);
	close(fd);
}

static void who_sends_pings_and_reads_no_answers_is_dropped(void **state)
{
	enum { FRAME = 131, FRAMES = 1000 };
	struct fixture *f = *state;
	char *pings = plane_alloc_zero(FRAMES, FRAME);
	int fd = open_ws(f);
	for (size_t i = 0; i < FRAMES; i++) { /* 125 bytes, masked with zeros */
		pings[i * FRAME] = (char)0x89;
		pings[i * FRAME + 1] = (char)(0x80 | 125);
	}
	flood(f, fd, pings, (size_t)FRAMES * FRAME);
	close(fd);
	free(pings);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(at_the_limit_who_has_been_silent_longest_gives_way),
		CASE(who_is_served_keeps_its_place),
		CASE(who_may_not_ask_is_told_before_the_body_is_read),
		CASE(a_route_may_take_less_than_the_server),
		CASE(a_body_that_nobody_wants_is_not_waited_for),
		CASE(a_body_that_does_not_come_keeps_no_place_for_a_stranger),
		CASE(all_bodies_together_are_bounded),
		CASE(a_message_that_is_too_long_ends_the_websocket),
		CASE(who_sends_pings_and_reads_no_answers_is_dropped),
		CASE(who_says_nothing_at_first_is_closed_soon),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
