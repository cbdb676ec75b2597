/* net/http_server.c and net/channel.c against each other, over real sockets on loopback. */
#include "../cmocka_all.h"

#include <arpa/inet.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/json.h"
#include "net/channel.h"
#include "net/http_server.h"

#define LIMIT_MS 20000

struct fixture {
	uv_loop_t loop;
	uv_timer_t limit;
	struct plane_http_server *server;
	struct plane_ws *ws;
	struct plane_channel *channel;
	int connected, disconnected, texts;
	atomic_int attempts; /* counted on the server's threads */
	atomic_int step_ms;  /* so long each step of the server's takes */
	uv_timer_t answer;
	char last[64];
	char *received; /* by the raw client */
	bool is_stream_closed;
	struct plane_http_stream *stream;
};

static void answer_handshake(uv_timer_t *timer)
{
	struct fixture *f = timer->data;
	const char *answer = "{\"version\":{\"version\":\"0.5.5\",\"git_hash\":\"x\"},"
			     "\"name\":\"co-test\"}";
	if (f->ws)
		assert_true(plane_ws_send_text(f->ws, answer, strlen(answer)));
}

static void on_ws_text(void *data, const char *text, size_t len)
{
	struct fixture *f = data;
	if (f->texts++ == 0) { /* the handshake */
		(void)uv_timer_start(&f->answer, answer_handshake, (uint64_t)f->step_ms, 0);
		return;
	}
	assert_true(plane_ws_send_text(f->ws, text, len)); /* an echo */
}

static void on_ws_closed(void *data)
{
	struct fixture *f = data;
	f->ws = NULL;
}

static void start_ws(void *data, struct plane_ws *ws)
{
	struct fixture *f = data;
	f->ws = ws;
	f->texts = 0;
	plane_ws_listen(ws, &(struct plane_ws_listener){ f, on_ws_text, on_ws_closed });
}

static void on_stream_closed(void *data)
{
	((struct fixture *)data)->is_stream_closed = true;
}

static void start_stream(void *data, struct plane_http_stream *stream)
{
	struct fixture *f = data;
	f->stream = stream;
	plane_http_stream_on_closed(stream, on_stream_closed, f);
	assert_true(plane_http_stream_write(stream, "one", 3));
	assert_true(plane_http_stream_write(stream, "two", 3));
	plane_http_stream_end(stream);
	assert_false(plane_http_stream_write(stream, "three", 5));
}

static void handle(const struct plane_http_request *request, struct plane_http_response *response)
{
	response->start_data = request->server_data;
	response->content_type = "text/plain";
	if (strcmp(request->path, "/ws") == 0) {
		struct fixture *f = request->server_data;
		const char *auth = plane_http_request_header(request, "authorization");
		f->attempts++; /* there is one at a time */
		(void)usleep((useconds_t)f->step_ms * 1000);
		if (!auth || strcmp(auth, "Bearer secret") != 0)
			response->status = 401;
		else
			response->start_ws = start_ws;
	} else if (strcmp(request->path, "/stream") == 0) {
		response->start_stream = start_stream;
	} else {
		_cleanup_free_ char *q = plane_http_request_query(request, "q");
		plane_buffer_addf(&response->body, "%s %s %s %.*s", request->method, request->path,
			q ? q : "-", (int)request->body_len, request->body);
	}
}

static void on_limit(uv_timer_t *timer)
{
	fail_msg("the test took too long");
}

static void open_fixture(struct fixture *f)
{
	*f = (struct fixture){ 0 };
	struct plane_error err = { 0 };
	assert_int_equal(uv_loop_init(&f->loop), 0);
	uv_timer_init(&f->loop, &f->limit);
	uv_timer_start(&f->limit, on_limit, LIMIT_MS, 0);
	uv_timer_init(&f->loop, &f->answer);
	f->answer.data = f;
	struct plane_http_server_config config = { .listen = "127.0.0.1:0",
		.handler = handle,
		.server_data = f,
		.pool_threads = 2,
		.max_body_bytes = 1000,
		.max_connections = 4 };
	f->server = plane_http_server_create(&f->loop, &config, &err);
	if (!f->server)
		fail_msg("%s", err.message);
}

static void close_fixture(struct fixture *f)
{
	plane_http_server_close(f->server, NULL, NULL);
	uv_close((uv_handle_t *)&f->limit, NULL);
	uv_close((uv_handle_t *)&f->answer, NULL);
	assert_int_equal(uv_run(&f->loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(&f->loop), 0);
	free(f->received);
}

static char *url_of(struct fixture *f, const char *user)
{
	return plane_strdupf("http://%s%s", user, plane_http_server_address(f->server));
}

/* Sends bytes on a new connection from a thread; the answer until EOF goes to `received`. */
struct raw {
	uv_work_t work;
	struct fixture *f;
	const char *bytes;
	int port;
	bool is_done;
};

static void raw_run(uv_work_t *work)
{
	struct raw *raw = work->data;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)raw->port) };
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(write(fd, raw->bytes, strlen(raw->bytes)), strlen(raw->bytes));
	struct plane_buffer all = { 0 };
	ssize_t len;
	while ((len = read(fd, plane_buffer_reserve(&all, 4096), 4096)) > 0)
		all.len += (size_t)len;
	close(fd);
	free(raw->f->received);
	raw->f->received = plane_buffer_steal(&all);
}

static void raw_done(uv_work_t *work, int status)
{
	((struct raw *)work->data)->is_done = true;
}

static const char *talk(struct fixture *f, const char *bytes)
{
	struct raw raw = { .f = f, .bytes = bytes };
	raw.port = atoi(strrchr(plane_http_server_address(f->server), ':') + 1);
	raw.work.data = &raw;
	uv_queue_work(&f->loop, &raw.work, raw_run, raw_done);
	while (!raw.is_done)
		uv_run(&f->loop, UV_RUN_ONCE);
	return f->received;
}

static void assert_answers(struct fixture *f, const char *bytes, const char *expected)
{
	const char *answer = talk(f, bytes);
	if (!strstr(answer, expected))
		fail_msg("no \"%s\" in:\n%s", expected, answer);
}

static void requests_are_answered_in_order(void **state)
{
	struct fixture f;
	open_fixture(&f);
	const char *answer =
		talk(&f, "GET /a?q=x%20y+z HTTP/1.1\r\nHost: h\r\n\r\n"
			 "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
			 "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
			 "Connection: close\r\n\r\n2\r\nde\r\n0\r\n\r\n");
	const char *a = strstr(answer, "GET /a x y z "), *b = strstr(answer, "POST /b - abc"),
		   *c = strstr(answer, "POST /c - de");
	assert_true(a && b && c && a < b && b < c);
	assert_non_null(strstr(answer, "Server: Plane/"));
	answer = talk(&f, "HEAD /a HTTP/1.0\r\n\r\n");
	assert_non_null(strstr(answer, "Content-Length: 10\r\n"));
	assert_null(strstr(answer, "HEAD /a"));
	close_fixture(&f);
}

static void bad_requests_are_refused_and_closed(void **state)
{
	struct fixture f;
	open_fixture(&f);
	assert_answers(&f, "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ");
	assert_answers(&f, "GET x HTTP/1.1\r\nHost: h\r\n\r\n", "not a path");
	assert_answers(&f, "nonsense\r\n\r\n", "HTTP/1.1 400 ");
	assert_answers(
		&f, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n", "HTTP/1.1 413 ");
	assert_answers(&f, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"HTTP/1.1 400 ");
	char *huge = plane_alloc_zero(1, 40000);
	strcpy(huge, "GET / HTTP/1.1\r\nX: ");
	memset(huge + strlen(huge), 'a', 39000);
	assert_answers(&f, huge, "HTTP/1.1 431 ");
	free(huge);
	assert_answers(&f,
		"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nConnection: close\r\n"
		"Content-Length: 1001\r\n\r\n",
		"HTTP/1.1 413 ");
	close_fixture(&f);
}

static void a_stream_is_chunked_and_ends(void **state)
{
	struct fixture f;
	open_fixture(&f);
	assert_answers(&f, "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n",
		"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n");
	while (!f.is_stream_closed)
		uv_run(&f.loop, UV_RUN_ONCE);
	assert_answers(&f, "GET /stream HTTP/1.0\r\n\r\n", "\r\n\r\nonetwo");
	close_fixture(&f);
}

static void on_connected(void *data, const struct plane_handshake *peer)
{
	struct fixture *f = data;
	assert_string_equal(peer->name, "co-test");
	f->connected++;
}

static void on_message(void *data, const json_t *message)
{
	struct fixture *f = data;
	snprintf(f->last, sizeof(f->last), "%s", json_string_value(message));
}

static void on_disconnected(void *data)
{
	((struct fixture *)data)->disconnected++;
}

static void on_channel_closed(void *data)
{
	((struct fixture *)data)->channel = NULL;
}

static void a_channel_talks_and_reconnects(void **state)
{
	struct fixture f;
	open_fixture(&f);
	struct plane_error err = { 0 };
	const char *extensions[] = { "logs", NULL };
	struct plane_channel_listener listener = { &f, on_connected, on_message, on_disconnected };
	_cleanup_free_ char *url = url_of(&f, "secret@");
	f.channel = plane_channel_connect(
		&f.loop, url, NULL, "/ws", "dr-test", extensions, &listener, &err);
	assert_non_null(f.channel);
	assert_false(plane_channel_send(f.channel, json_string("too early")));
	while (!f.connected)
		uv_run(&f.loop, UV_RUN_ONCE);
	assert_true(plane_channel_send(f.channel, json_string("hello")));
	while (!f.last[0])
		uv_run(&f.loop, UV_RUN_ONCE);
	assert_string_equal(f.last, "hello");
	plane_ws_close(f.ws);
	while (f.connected < 2)
		uv_run(&f.loop, UV_RUN_ONCE);
	assert_int_equal(f.disconnected, 1);
	plane_channel_close(f.channel, on_channel_closed, &f);
	while (f.channel || f.ws)
		uv_run(&f.loop, UV_RUN_ONCE);
	close_fixture(&f);
}

/* Connects with the least patience to a server each of whose steps takes so long. */
static void connect_slowly(struct fixture *f, int step_ms)
{
	struct plane_error err = { 0 };
	struct plane_channel_listener listener = { f, on_connected, on_message, on_disconnected };
	_cleanup_free_ char *url = url_of(f, "secret@");
	f->step_ms = step_ms;
	f->channel =
		plane_channel_connect(&f->loop, url, NULL, "/ws", "dr-test", NULL, &listener, &err);
	plane_channel_set_patience(f->channel, 500);
	while (!f->connected)
		uv_run(&f->loop, UV_RUN_ONCE);
	plane_channel_close(f->channel, on_channel_closed, f);
	while (f->channel || f->ws)
		uv_run(&f->loop, UV_RUN_ONCE);
}

static void a_channel_is_patient_with_each_step(void **state)
{
	struct fixture f;
	open_fixture(&f);
	connect_slowly(&f, 300); /* both together take longer than its patience */
	assert_int_equal(f.attempts, 1);
	close_fixture(&f);
}

static void a_channel_has_more_patience_after_a_step_that_took_too_long(void **state)
{
	struct fixture f;
	open_fixture(&f);
	connect_slowly(&f, 700);
	assert_in_range(f.attempts, 2, 3);
	close_fixture(&f);
}

static void a_channel_that_is_refused_tries_on_until_closed(void **state)
{
	struct fixture f;
	open_fixture(&f);
	struct plane_error err = { 0 };
	struct plane_channel_listener listener = { &f, on_connected, on_message, on_disconnected };
	_cleanup_free_ char *url = url_of(&f, "wrong@");
	f.channel =
		plane_channel_connect(&f.loop, url, NULL, "/ws", "dr-test", NULL, &listener, &err);
	for (int i = 0; i < 20; i++)
		uv_run(&f.loop, UV_RUN_ONCE);
	assert_int_equal(f.connected, 0);
	plane_channel_close(f.channel, on_channel_closed, &f);
	while (f.channel)
		uv_run(&f.loop, UV_RUN_ONCE);
	assert_null(
		plane_channel_connect(&f.loop, "ftp://x", NULL, "/", "n", NULL, &listener, &err));
	assert_non_null(strstr(err.message, "expected http"));
	assert_null(
		plane_channel_connect(&f.loop, "http://", NULL, "/", "n", NULL, &listener, &err));
	close_fixture(&f);
}

static void a_port_in_use_is_told(void **state)
{
	struct fixture f;
	open_fixture(&f);
	struct plane_error err = { 0 };
	struct plane_http_server_config config = {
		.listen = plane_http_server_address(f.server), .handler = handle, .pool_threads = 1
	};
	assert_null(plane_http_server_create(&f.loop, &config, &err));
	assert_non_null(strstr(err.message, "in use by another process"));
	config.listen = "localhost:80";
	assert_null(plane_http_server_create(&f.loop, &config, &err));
	assert_non_null(strstr(err.message, "is no address"));
	close_fixture(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_are_answered_in_order),
		cmocka_unit_test(bad_requests_are_refused_and_closed),
		cmocka_unit_test(a_stream_is_chunked_and_ends),
		cmocka_unit_test(a_channel_talks_and_reconnects),
		cmocka_unit_test(a_channel_is_patient_with_each_step),
		cmocka_unit_test(a_channel_has_more_patience_after_a_step_that_took_too_long),
		cmocka_unit_test(a_channel_that_is_refused_tries_on_until_closed),
		cmocka_unit_test(a_port_in_use_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
