/* The loop of the small server: listens, waits, and frees what has ended. */
#include "common/server.h"

#include <arpa/inet.h>
#include <errno.h>
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

#include "common/connection.h"

#define MAX_EVENTS 64
#define RESERVED_FILES 32

int64_t web_now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

uint16_t web_port(void)
{
	const char *text = getenv("PORT");
	if (!text)
		return 8080;
	char *end;
	errno = 0;
	long port = strtol(text, &end, 10);
	bool is_port = errno == 0 && *text >= '0' && *text <= '9' && *end == '\0';
	return is_port && port > 0 && port <= UINT16_MAX ? (uint16_t)port : 0;
}

/* Both families through one socket; IPv4 alone where there is no IPv6. -1 with errno. */
static int open_listener(uint16_t port)
{
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(port) };
	int on = 1;
	int off = 0;
	int flags = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
	int fd = socket(AF_INET6, flags, 0);
	if (fd >= 0) {
		/* Without these two the program still serves, only less well. */
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
		if (bind(fd, (struct sockaddr *)&six, sizeof(six)) == 0 && listen(fd, 1024) == 0)
			return fd;
		close(fd);
	}
	fd = socket(AF_INET, flags, 0);
	if (fd < 0)
		return -1;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)); /* as above */
	if (bind(fd, (struct sockaddr *)&four, sizeof(four)) == 0 && listen(fd, 1024) == 0)
		return fd;
	int code = errno;
	close(fd);
	errno = code;
	return -1;
}

static size_t raise_file_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 256;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit); /* what we have now is fine too */
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur <= 2 * RESERVED_FILES)
		return RESERVED_FILES;
	return limit.rlim_cur - RESERVED_FILES;
}

static bool watch(struct web_server *server, int fd, void *pointer)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = pointer };
	return epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

struct web_server *web_server_create(uint16_t port, const struct web_handlers *handlers)
{
	struct web_server *server = calloc(1, sizeof(*server));
	if (!server) {
		fprintf(stderr, "no memory\n");
		return NULL;
	}
	size_t files = raise_file_limit();
	size_t wanted = handlers->max_connections;
	server->max_connections = wanted > 0 && wanted < files ? wanted : files;
	server->handlers = handlers;
	server->next_timer_ms = INT64_MAX;
	server->signal_fd = server->epoll_fd = -1;
	server->listen_fd = open_listener(port);
	if (server->listen_fd < 0) {
		fprintf(stderr, "cannot listen on port %u: %s\n", port, strerror(errno));
		web_server_destroy(server);
		return NULL;
	}
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	server->signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
	server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	server->is_accepting = true;
	if (server->signal_fd < 0 || server->epoll_fd < 0 ||
		!watch(server, server->signal_fd, &server->signal_fd) ||
		!watch(server, server->listen_fd, &server->listen_fd)) {
		fprintf(stderr, "cannot wait for events: %s\n", strerror(errno));
		web_server_destroy(server);
		return NULL;
	}
	return server;
}

void web_connection_touch(struct web_connection *c)
{
	if (c->is_touched)
		return;
	c->is_touched = true;
	c->next_touched = c->server->touched;
	c->server->touched = c;
}

static void set_accepting(struct web_server *server, bool accepts)
{
	if (server->is_accepting == accepts)
		return;
	struct epoll_event event = { .events = accepts ? EPOLLIN : 0,
		.data.ptr = &server->listen_fd };
	if (epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, server->listen_fd, &event) == 0)
		server->is_accepting = accepts;
}

static bool add_connection(struct web_server *server, int owned_fd)
{
	struct web_connection *c = calloc(1, sizeof(*c));
	if (!c || !watch(server, owned_fd, c)) {
		free(c);
		close(owned_fd);
		return false;
	}
	int on = 1;
	/* Without these two it still works, later or longer. */
	(void)setsockopt(owned_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(owned_fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	c->server = server;
	c->fd = owned_fd;
	c->events = EPOLLIN;
	c->state_since_ms = c->last_read_ms = c->last_write_ms = server->now_ms;
	c->next = server->connections;
	if (c->next)
		c->next->previous = c;
	server->connections = c;
	server->connection_count++;
	if (server->next_timer_ms > server->now_ms + 1000)
		server->next_timer_ms = server->now_ms + 1000;
	return true;
}

static void accept_connections(struct web_server *server)
{
	for (int i = 0; i < MAX_EVENTS; i++) {
		if (server->connection_count >= server->max_connections) {
			set_accepting(server, false);
			return;
		}
		int fd = accept4(server->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			(void)add_connection(server, fd); /* closed when there is no memory */
			continue;
		}
		if (errno == ECONNABORTED || errno == EINTR)
			continue;
		if (errno != EAGAIN) {
			/* No files or memory left: wait a moment, or for a connection's end. */
			set_accepting(server, false);
			if (server->next_timer_ms > server->now_ms + 1000)
				server->next_timer_ms = server->now_ms + 1000;
		}
		return;
	}
}

static void remove_connection(struct web_connection *c)
{
	struct web_server *server = c->server;
	if (c->previous)
		c->previous->next = c->next;
	else
		server->connections = c->next;
	if (c->next)
		c->next->previous = c->previous;
	server->connection_count--;
	web_connection_free(c);
	set_accepting(server, true);
}

static void settle(struct web_connection *c)
{
	c->is_touched = false;
	if (!c->is_doomed)
		web_connection_progress(c);
	if (c->is_announced && (c->is_doomed || c->state != WEB_SOCKET)) {
		c->is_announced = false;
		if (c->server->handlers->on_close)
			c->server->handlers->on_close(c);
	}
	if (c->is_touched)
		return; /* there is more: it is in the list again */
	if (c->is_doomed) {
		remove_connection(c);
		return;
	}
	uint32_t wanted = web_connection_wanted(c);
	struct epoll_event event = { .events = wanted, .data.ptr = c };
	if (wanted != c->events &&
		epoll_ctl(c->server->epoll_fd, EPOLL_CTL_MOD, c->fd, &event) == 0)
		c->events = wanted;
}

static void settle_all(struct web_server *server)
{
	while (server->touched) {
		struct web_connection *c = server->touched;
		server->touched = c->next_touched;
		settle(c);
	}
}

static void run_timers(struct web_server *server)
{
	if (server->now_ms < server->next_timer_ms)
		return;
	int64_t next = INT64_MAX;
	for (struct web_connection *c = server->connections; c; c = c->next) {
		int64_t at_ms = web_connection_check_time(c);
		if (at_ms < next)
			next = at_ms;
	}
	if (server->connection_count < server->max_connections)
		set_accepting(server, true);
	server->next_timer_ms = next;
}

static int wait_ms(const struct web_server *server)
{
	if (server->next_timer_ms == INT64_MAX)
		return -1;
	int64_t left = server->next_timer_ms - web_now_ms();
	return left < 0 ? 0 : left > 1000 ? 1000 : (int)left;
}

static void say_goodbye(struct web_server *server)
{
	for (struct web_connection *c = server->connections; c; c = c->next)
		web_connection_close(c, 1001);
	settle_all(server);
}

/* False when a signal asks to end. */
static bool handle(struct web_server *server, const struct epoll_event *event)
{
	if (event->data.ptr == &server->signal_fd)
		return false;
	if (event->data.ptr == &server->listen_fd) {
		accept_connections(server);
		return true;
	}
	struct web_connection *c = event->data.ptr;
	if (event->events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
		if (c->events & EPOLLIN || !(event->events & EPOLLIN))
			web_connection_read(c);
		if (event->events & (EPOLLERR | EPOLLHUP))
			c->is_doomed = true;
	}
	web_connection_touch(c);
	return true;
}

int web_server_run(struct web_server *server)
{
	for (;;) {
		struct epoll_event events[MAX_EVENTS];
		int count = epoll_wait(server->epoll_fd, events, MAX_EVENTS, wait_ms(server));
		if (count < 0 && errno != EINTR) {
			fprintf(stderr, "cannot wait for events: %s\n", strerror(errno));
			return 1;
		}
		server->now_ms = web_now_ms();
		for (int i = 0; i < count; i++) {
			if (!handle(server, &events[i])) {
				say_goodbye(server);
				return 0;
			}
		}
		run_timers(server);
		settle_all(server);
	}
}

void web_server_destroy(struct web_server *server)
{
	if (!server)
		return;
	while (server->connections) {
		struct web_connection *next = server->connections->next;
		web_connection_free(server->connections);
		server->connections = next;
	}
	int fds[] = { server->listen_fd, server->signal_fd, server->epoll_fd };
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(server);
}
