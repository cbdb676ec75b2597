/* One connection at a time on a non-blocking socket of its own: libuv's streams cost a handle and
 * a close turn for each attempt. A timerfd waits for less than libuv's millisecond. */
#include "runtime/native/probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"

#define FIRST_DELAY_US 200
#define LAST_DELAY_US 100000
#define CONNECT_US 100000 /* on one host; a lost SYN is sent again by TCP only after a second */
#define ANSWER "HTTP/"

struct plane_probe {
	struct sockaddr_in peer;
	char host[32];
	int64_t deadline_us; /* CLOCK_MONOTONIC */
	int64_t delay_us;
	plane_probe_done_fn done;
	void *data;
	struct plane_error result;
	bool is_finished; /* `result` counts; only waiting for libuv to close the handles */
	int timer_fd;     /* for the next attempt or the deadline, whichever is first */
	int open_handles; /* freed with the last */
	uv_loop_t *loop;
	uv_poll_t timer;
	uv_poll_t *socket; /* on the heap: closing one and starting the next may overlap */
	size_t received;   /* bytes of ANSWER seen so far */
	bool is_sent;
	bool is_waiting; /* between attempts */
};

/* A socket's handle outlives its attempt, and its descriptor is closed only after libuv let go. */
struct attempt {
	uv_poll_t poll; /* first: cast back and forth */
	struct plane_probe *probe;
	int fd;
};

static void try_now(struct plane_probe *probe);

static void release(struct plane_probe *probe)
{
	if (--probe->open_handles > 0)
		return;
	struct plane_error result = probe->result;
	plane_probe_done_fn done = probe->done;
	void *data = probe->data;
	(void)close(probe->timer_fd); /* a timer loses nothing */
	free(probe);
	done(data, result.code ? &result : NULL);
}

static void on_attempt_closed(uv_handle_t *handle)
{
	struct attempt *attempt = (struct attempt *)handle;
	struct plane_probe *probe = attempt->probe;

	free(attempt);
	release(probe);
}

static void on_timer_closed(uv_handle_t *handle)
{
	release(handle->data);
}

static void drop_connection(struct plane_probe *probe)
{
	if (!probe->socket)
		return;
	struct attempt *attempt = (struct attempt *)probe->socket;
	probe->socket = NULL;
	/* Takes it out of libuv's epoll; once closed, its number may be another thread's. */
	uv_close((uv_handle_t *)&attempt->poll, on_attempt_closed);
	(void)close(attempt->fd); /* the connection ends at once */
}

static void finish(struct plane_probe *probe)
{
	if (probe->is_finished)
		return;
	probe->is_finished = true;
	drop_connection(probe);
	uv_poll_stop(&probe->timer);
	uv_close((uv_handle_t *)&probe->timer, on_timer_closed);
}

static void arm(struct plane_probe *probe, int64_t at_us)
{
	struct itimerspec when = { .it_value = { .tv_sec = at_us / 1000000,
					   .tv_nsec = at_us % 1000000 * 1000 } };

	if (timerfd_settime(probe->timer_fd, TFD_TIMER_ABSTIME, &when, NULL) < 0) {
		plane_error_errno(&probe->result, "set the timer of a probe");
		finish(probe);
	}
}

static void arm_before_deadline(struct plane_probe *probe, int64_t at_us)
{
	arm(probe, at_us < probe->deadline_us ? at_us : probe->deadline_us);
}

static void try_later(struct plane_probe *probe)
{
	int64_t at_us = plane_clock_monotonic_us() + probe->delay_us;

	drop_connection(probe);
	probe->delay_us += probe->delay_us / 2;
	if (probe->delay_us > LAST_DELAY_US)
		probe->delay_us = LAST_DELAY_US;
	probe->is_waiting = true;
	arm_before_deadline(probe, at_us);
}

static void on_timer(uv_poll_t *handle, int status, int events)
{
	struct plane_probe *probe = handle->data;
	uint64_t expirations;

	(void)status;
	(void)events;
	if (read(probe->timer_fd, &expirations, sizeof(expirations)) < 0 || probe->is_finished)
		return; /* set again meanwhile */
	if (plane_clock_monotonic_us() >= probe->deadline_us) {
		plane_error_set(
			&probe->result, -ETIMEDOUT, "%s did not answer HTTP in time", probe->host);
		finish(probe);
	} else if (probe->is_waiting) {
		try_now(probe);
	} else if (!probe->is_sent) {
		try_later(probe);
	} else {
		arm(probe, probe->deadline_us);
	}
}

/* False: the connection is of no use. */
static bool send_request(struct plane_probe *probe, int fd)
{
	char request[128];
	int code = 0;
	socklen_t len = sizeof(code);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0 || code)
		return false;
	int size = snprintf(request, sizeof(request),
		"HEAD / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", probe->host);
	/* Fits into an empty socket buffer whole. */
	probe->is_sent = send(fd, request, (size_t)size, MSG_NOSIGNAL) == size;
	return probe->is_sent;
}

/* 1: ready; 0: wait for more; -1: no use. */
static int read_answer(struct plane_probe *probe, int fd)
{
	char bytes[sizeof(ANSWER) - 1];

	ssize_t len = recv(fd, bytes, strlen(ANSWER) - probe->received, 0);
	if (len < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (len == 0 || memcmp(bytes, &ANSWER[probe->received], (size_t)len) != 0)
		return -1;
	probe->received += (size_t)len;
	return probe->received == strlen(ANSWER);
}

static void on_socket(uv_poll_t *handle, int status, int events)
{
	struct attempt *attempt = (struct attempt *)handle;
	struct plane_probe *probe = attempt->probe;

	(void)events;
	if (handle != probe->socket)
		return;
	if (status < 0) {
		try_later(probe);
	} else if (!probe->is_sent) {
		if (!send_request(probe, attempt->fd) ||
			uv_poll_start(handle, UV_READABLE, on_socket) < 0)
			try_later(probe);
		else
			arm(probe, probe->deadline_us);
	} else {
		int is_ready = read_answer(probe, attempt->fd);
		if (is_ready > 0)
			finish(probe);
		else if (is_ready < 0)
			try_later(probe);
	}
}

static void try_now(struct plane_probe *probe)
{
	probe->is_waiting = false;
	probe->is_sent = false;
	probe->received = 0;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) { /* out of descriptors: may pass */
		try_later(probe);
		return;
	}
	if (connect(fd, (struct sockaddr *)&probe->peer, sizeof(probe->peer)) < 0 &&
		errno != EINPROGRESS) {
		(void)close(fd);
		try_later(probe);
		return;
	}
	struct attempt *attempt = plane_alloc_zero(1, sizeof(*attempt));
	attempt->probe = probe;
	attempt->fd = fd;
	if (uv_poll_init(probe->loop, &attempt->poll, fd) < 0) {
		(void)close(fd);
		free(attempt);
		try_later(probe);
		return;
	}
	probe->open_handles++;
	probe->socket = &attempt->poll;
	if (uv_poll_start(&attempt->poll, UV_WRITABLE, on_socket) < 0)
		try_later(probe);
	else
		arm_before_deadline(probe, plane_clock_monotonic_us() + CONNECT_US);
}

static bool parse_address(const char *text, struct sockaddr_in *peer)
{
	char ip[INET_ADDRSTRLEN];
	int64_t port;
	const char *colon = strrchr(text, ':');

	if (!colon || (size_t)(colon - text) >= sizeof(ip))
		return false;
	snprintf(ip, sizeof(ip), "%.*s", (int)(colon - text), text);
	if (inet_pton(AF_INET, ip, &peer->sin_addr) != 1 ||
		!plane_text_parse_int(colon + 1, 1, 65535, &port))
		return false;
	peer->sin_family = AF_INET;
	peer->sin_port = htons((uint16_t)port);
	return true;
}

struct plane_probe *plane_probe_start(uv_loop_t *loop, const char *address, int64_t timeout_ms,
	plane_probe_done_fn done, void *data, struct plane_error *err)
{
	struct sockaddr_in peer = { 0 };

	if (!address || !parse_address(address, &peer) || timeout_ms < 1 || timeout_ms > 86400000) {
		plane_error_set(err, -EINVAL, "probe %s: bad address or timeout",
			address ? address : "(none)");
		return NULL;
	}
	int timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (timer_fd < 0) {
		plane_error_errno(err, "make the timer of a probe");
		return NULL;
	}
	struct plane_probe *probe = plane_alloc_zero(1, sizeof(*probe));
	probe->loop = loop;
	probe->peer = peer;
	probe->deadline_us = plane_clock_monotonic_us() + timeout_ms * 1000;
	probe->delay_us = FIRST_DELAY_US;
	probe->done = done;
	probe->data = data;
	probe->timer_fd = timer_fd;
	(void)plane_text_copy(probe->host, sizeof(probe->host), address); /* parsed: it fits */
	int code = uv_poll_init(loop, &probe->timer, timer_fd);
	if (code < 0) {
		plane_error_set(err, code, "watch the timer of a probe: %s", uv_strerror(code));
		(void)close(timer_fd);
		free(probe);
		return NULL;
	}
	probe->timer.data = probe;
	probe->open_handles = 1;
	if (uv_poll_start(&probe->timer, UV_READABLE, on_timer) < 0) {
		plane_error_set(&probe->result, -EIO, "watch the timer of a probe");
		finish(probe);
		return probe;
	}
	try_now(probe);
	return probe;
}

void plane_probe_cancel(struct plane_probe *probe)
{
	if (!probe || probe->is_finished)
		return;
	plane_error_set(&probe->result, -ECANCELED, "the probe of %s was cancelled", probe->host);
	finish(probe);
}
