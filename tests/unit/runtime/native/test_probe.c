/* The readiness probe against listeners on loopback, in the same loop. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/native/probe.h"

struct outcome {
	int calls, code;
};

static void on_done(void *data, const struct plane_error *err)
{
	struct outcome *outcome = data;

	outcome->calls++;
	outcome->code = err ? err->code : 0;
}

struct server {
	int listener;
	int turn;
	int accepted[4]; /* of each turn; closed at the end */
	uv_poll_t poll;
	const char *const *answers; /* one a connection, the last for all that follow */
};

static void on_connection(uv_poll_t *poll, int status, int events)
{
	struct server *server = poll->data;
	const char *answer = server->answers[server->turn];

	(void)status;
	(void)events;
	int fd = accept(server->listener, NULL, NULL);
	assert_true(fd >= 0);
	assert_int_equal(send(fd, answer, strlen(answer), MSG_NOSIGNAL), strlen(answer));
	/* Closing now would reset the connection when the request comes. */
	shutdown(fd, SHUT_WR);
	server->accepted[server->turn] = fd;
	if (server->answers[server->turn + 1])
		server->turn++;
	else
		uv_close((uv_handle_t *)poll, NULL);
}

static void make_address(struct server *server, char address[32], bool is_listening)
{
	struct sockaddr_in name = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(name);

	server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(server->listener, (struct sockaddr *)&name, sizeof(name)), 0);
	assert_int_equal(getsockname(server->listener, (struct sockaddr *)&name, &len), 0);
	if (is_listening)
		assert_int_equal(listen(server->listener, 8), 0);
	snprintf(address, 32, "127.0.0.1:%u", ntohs(name.sin_port));
}

static struct outcome run(
	struct server *server, bool is_listening, int64_t timeout_ms, bool is_cancelled)
{
	struct outcome outcome = { 0 };
	struct plane_error err = { 0 };
	char address[32];
	uv_loop_t loop;

	assert_int_equal(uv_loop_init(&loop), 0);
	make_address(server, address, is_listening);
	if (server->answers) {
		assert_int_equal(uv_poll_init(&loop, &server->poll, server->listener), 0);
		server->poll.data = server;
		uv_poll_start(&server->poll, UV_READABLE, on_connection);
	}
	struct plane_probe *probe =
		plane_probe_start(&loop, address, timeout_ms, on_done, &outcome, &err);
	assert_non_null(probe);
	if (is_cancelled)
		plane_probe_cancel(probe);
	assert_int_equal(outcome.calls, 0);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	for (int i = 0; i < 4; i++)
		if (server->accepted[i] > 0)
			close(server->accepted[i]);
	close(server->listener);
	assert_int_equal(outcome.calls, 1);
	return outcome;
}

static void any_http_answer_is_ready_and_others_are_tried_again(void **state)
{
	static const char *const answers[] = { "SSH-2.0-x\r\n", "HTT", "HTTP/1.1 500 Oops\r\n\r\n",
		NULL };
	struct server server = { .answers = answers };

	(void)state;
	assert_int_equal(run(&server, true, 10000, false).code, 0);
	assert_int_equal(server.turn, 2);
}

static void a_closed_port_and_a_silent_one_time_out(void **state)
{
	struct server server = { 0 };

	(void)state;
	assert_int_equal(run(&server, false, 30, false).code, -ETIMEDOUT);
	assert_int_equal(run(&server, true, 30, false).code, -ETIMEDOUT);
}

static void a_cancelled_probe_says_so_later(void **state)
{
	struct server server = { 0 };

	(void)state;
	assert_int_equal(run(&server, true, 10000, true).code, -ECANCELED);
}

static void bad_addresses_are_refused(void **state)
{
	static const char *const bad[] = { "", "1.2.3.4", "1.2.3.4:0", "1.2.3.4:65536", "x:80",
		":80", "1.2.3.4:80x", "1.2.3.4.5.6.7.8.9.10.11:80" };
	struct plane_error err = { 0 };
	uv_loop_t loop;

	(void)state;
	assert_int_equal(uv_loop_init(&loop), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_null(plane_probe_start(&loop, bad[i], 100, on_done, NULL, &err));
	assert_null(plane_probe_start(&loop, "127.0.0.1:80", 0, on_done, NULL, &err));
	assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_http_answer_is_ready_and_others_are_tried_again),
		cmocka_unit_test(a_closed_port_and_a_silent_one_time_out),
		cmocka_unit_test(a_cancelled_probe_says_so_later),
		cmocka_unit_test(bad_addresses_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
