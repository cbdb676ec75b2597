/* Clients, backends and time for the proxy's worker. The linker hands us its system calls (see
 * meson.build): what it accepts and connects to are socket pairs, its epoll never waits, and its
 * thread is this one. */
#include "proxy_world.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "proxy/worker.h"

#define BEGIN_MS 1000000
#define SMALL_BUFFER 2048
#define END_CHECKS 8 /* with 400 s between them: longer than any deadline of the proxy */

static struct world *active;

static const struct plane_proxy_config config = {
	.cluster = WORLD_CLUSTER,
	.root_redirect_url = "http://root.test/",
	.header_timeout_ms = 30000,
	.stall_timeout_ms = 60000,
	.connect_timeout_ms = 10000,
	.ready_timeout_ms = 300000,
	.grace_ms = 10000,
};

/* ---- what the linker hands over ---- */

int __real_epoll_wait(int epoll_fd, struct epoll_event *events, int max, int timeout_ms);
int __wrap_epoll_wait(int epoll_fd, struct epoll_event *events, int max, int timeout_ms);
int __real_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags);
int __real_connect(int fd, const struct sockaddr *address, socklen_t len);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len);
int __real_pthread_create(
	pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *data), void *data);
int __wrap_pthread_create(
	pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *data), void *data);
int __real_pthread_join(pthread_t thread, void **result);
int __wrap_pthread_join(pthread_t thread, void **result);
time_t __real_time(time_t *seconds);
time_t __wrap_time(time_t *seconds);
int64_t __real_plane_clock_boot_ms(void);
int64_t __wrap_plane_clock_boot_ms(void);
void __wrap_plane_control_first_use(struct plane_control *control, const char *backend);

int64_t __wrap_plane_clock_boot_ms(void)
{
	return active ? active->now_ms : __real_plane_clock_boot_ms();
}

time_t __wrap_time(time_t *seconds)
{
	if (!active)
		return __real_time(seconds);
	if (seconds)
		*seconds = 1;
	return 1;
}

void __wrap_plane_control_first_use(struct plane_control *control, const char *backend)
{
	(void)control;
	FUZZ_CHECK(backend[0]);
}

/* The worker's thread is not started; whoever joins it runs it. */
int __wrap_pthread_create(
	pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *data), void *data)
{
	if (!active)
		return __real_pthread_create(thread, attributes, run, data);
	active->run = run;
	active->run_data = data;
	return 0;
}

int __wrap_pthread_join(pthread_t thread, void **result)
{
	if (!active)
		return __real_pthread_join(thread, result);
	(void)active->run(active->run_data);
	return 0;
}

static void make_pair(struct world *world, int ends[2])
{
	int size = SMALL_BUFFER;
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
	if (world->has_small_buffers)
		FUZZ_CHECK(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) == 0);
}

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
	struct world *world = active;
	int ends[2];
	if (!world)
		return __real_accept4(fd, address, len, flags);
	if (world->accepting < 0) {
		errno = EAGAIN;
		return -1;
	}
	make_pair(world, ends);
	struct sockaddr_in peer = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(0xc0000201) }; /* WORLD_CLIENT_IP */
	memcpy(address, &peer, sizeof(peer));
	*len = sizeof(peer);
	world->clients[world->accepting].fd = ends[1];
	world_peer_send(&world->clients[world->accepting], world->first.data, world->first.len);
	plane_buffer_finish(&world->first);
	world->accepting = -1;
	return ends[0];
}

/* A connection that never comes about: a descriptor that is never writable. */
static int hang(int fd)
{
	_cleanup_close_ int never = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uint64_t full = UINT64_MAX - 1;
	FUZZ_CHECK(write(never, &full, sizeof(full)) == sizeof(full));
	FUZZ_CHECK(dup3(never, fd, O_CLOEXEC) == fd);
	errno = EINPROGRESS;
	return -1;
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len)
{
	struct world *world = active;
	int ends[2];
	if (!world)
		return __real_connect(fd, address, len);
	if (world->hangs_connections)
		return hang(fd);
	if (world->refuses_connections || world->backend_count == WORLD_BACKENDS) {
		errno = ECONNREFUSED;
		return -1;
	}
	make_pair(world, ends);
	FUZZ_CHECK(dup3(ends[0], fd, O_CLOEXEC) == fd);
	(void)close(ends[0]);
	world->backends[world->backend_count++] =
		(struct world_peer){ .fd = ends[1], .was_connected = true };
	errno = EINPROGRESS;
	return -1;
}

/* ---- routes ---- */

static json_t *user_data; /* one for all, for as long as the process runs */

struct plane_route_info world_route_of(const char *token, bool *exists)
{
	struct plane_route_info route = { .backend = "b-with-user",
		.address = "10.0.0.2:8080",
		.secret_token = WORLD_SECRET,
		.cluster = WORLD_CLUSTER,
		.user = WORLD_USER,
		.user_data = user_data };
	*exists = token[0] != 'n';
	if (strncmp(token, "s.", 2) == 0) {
		route.backend = "b-static";
		route.secret_token = "";
	}
	if (strncmp(token, "s.", 2) == 0 || token[0] == 'a') {
		route.user = NULL;
		route.user_data = NULL;
	}
	if (token[0] == 'a')
		route.backend = "b-anonymous";
	if (token[0] == 'u')
		route.subdomain = WORLD_SUBDOMAIN;
	if (token[0] == 'x') /* of the controller's making: unusable */
		route.address = "nowhere";
	return route;
}

static void on_ask(void *data, const char *token)
{
	struct world *world = data;
	FUZZ_CHECK(strlen(token) >= PLANE_PROXY_TOKEN_MIN);
	FUZZ_CHECK(strlen(token) <= PLANE_PROXY_TOKEN_MAX);
	plane_buffer_add(&world->asked, token, strlen(token) + 1);
}

void world_answer_routes(struct world *world, bool exist)
{
	struct plane_buffer asked = world->asked;
	world->asked = (struct plane_buffer){ 0 };
	for (size_t at = 0; at < asked.len; at += strlen(asked.data + at) + 1) {
		bool exists;
		struct plane_route_info info = world_route_of(asked.data + at, &exists);
		struct plane_route *route =
			exist && exists ? plane_route_create(&info, NULL) : NULL;
		plane_routes_answer(world->shared.routes, asked.data + at, route, world->now_ms);
	}
	plane_buffer_finish(&asked);
}

/* ---- the far ends ---- */

/* True when something was read, or its end was seen. */
static bool read_peer(struct world_peer *peer)
{
	char bytes[16384];
	bool has_read = false;
	while (peer->fd >= 0 && !peer->is_paused && !peer->is_ended) {
		ssize_t got = recv(peer->fd, bytes, sizeof(bytes), 0);
		if (got < 0 && errno == EAGAIN)
			break;
		has_read = true;
		if (got > 0)
			plane_buffer_add(&peer->received, bytes, (size_t)got);
		else
			peer->is_ended = true;
	}
	return has_read;
}

static bool read_all(struct world *world)
{
	bool has_read = false;
	for (size_t i = 0; i < WORLD_CLIENTS; i++)
		has_read |= read_peer(&world->clients[i]);
	for (size_t i = 0; i < world->backend_count; i++)
		has_read |= read_peer(&world->backends[i]);
	return has_read;
}

void world_peer_send(struct world_peer *peer, const void *bytes, size_t len)
{
	size_t sent = 0;
	while (peer->fd >= 0 && sent < len) {
		ssize_t n = send(peer->fd, (const char *)bytes + sent, len - sent, MSG_NOSIGNAL);
		if (n < 0)
			break; /* the proxy closed it, or does not read */
		sent += (size_t)n;
	}
	plane_buffer_add(&peer->sent, bytes, sent);
}

void world_client_send(struct world *world, size_t client, const void *bytes, size_t len)
{
	struct world_peer *peer = &world->clients[client];
	if (peer->was_connected) {
		world_peer_send(peer, bytes, len);
		return;
	}
	peer->was_connected = true;
	world->accepting = (int)client;
	plane_buffer_add(&world->first, bytes, len);
}

void world_peer_shut(struct world_peer *peer)
{
	if (peer && peer->fd >= 0)
		(void)shutdown(peer->fd, SHUT_WR); /* the other end may be gone */
}

void world_peer_close(struct world_peer *peer)
{
	if (!peer || peer->fd < 0)
		return;
	(void)close(peer->fd);
	peer->fd = -1;
}

struct world_peer *world_backend(struct world *world, size_t age)
{
	for (size_t i = world->backend_count; i > 0; i--)
		if (world->backends[i - 1].fd >= 0 && age-- == 0)
			return &world->backends[i - 1];
	return NULL;
}

void world_pass_time(struct world *world, int64_t ms)
{
	world->now_ms += ms;
	world->has_passed_time = true;
}

/* ---- the run ---- */

/* Ends everything, a step each time: clients, what they left behind, and then the worker. */
static void step_to_end(struct world *world)
{
	int step = world->end_step++;
	if (step == 0) {
		world->holds_routes = false;
		for (size_t i = 0; i < WORLD_CLIENTS; i++)
			world->clients[i].is_paused = false;
		for (size_t i = 0; i < world->backend_count; i++)
			world->backends[i].is_paused = false;
	} else if (step == 1) {
		for (size_t i = 0; i < WORLD_CLIENTS; i++)
			world_peer_shut(&world->clients[i]);
	} else if (step == 2) {
		for (size_t i = 0; i < WORLD_CLIENTS; i++)
			world_peer_close(&world->clients[i]);
	} else if (step < END_CHECKS) {
		world_pass_time(world, 400000);
	} else if (step == END_CHECKS) {
		FUZZ_CHECK(world->shared.counts[PLANE_COUNT_CONNECTIONS] == 0);
		FUZZ_CHECK(world->shared.counts[PLANE_COUNT_TUNNELS] == 0);
		plane_worker_stop(world->worker);
	} else {
		FUZZ_CHECK(step < END_CHECKS + 100); /* else it never stops */
		world_pass_time(world, 1000);
	}
}

int __wrap_epoll_wait(int epoll_fd, struct epoll_event *events, int max, int timeout_ms)
{
	struct world *world = active;
	if (!world)
		return __real_epoll_wait(epoll_fd, events, max, timeout_ms);
	for (;;) {
		int count = __real_epoll_wait(epoll_fd, events, max, 0);
		if (count != 0)
			return count;
		if (world->accepting >= 0) {
			events[0] = (struct epoll_event){ .events = EPOLLIN,
				.data.ptr = world->worker };
			return 1;
		}
		if (world->has_passed_time) {
			world->has_passed_time = false;
			return 0;
		}
		if (read_all(world))
			continue;
		if (!world->holds_routes && world->asked.len)
			world_answer_routes(world, true);
		else if (world->end_step || !world->step(world, world->step_data))
			step_to_end(world);
	}
}

static void create(struct world *world)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_storage storage = { 0 };
	struct plane_error err = { 0 };
	memcpy(&storage, &address, sizeof(address));
	world->now_ms = BEGIN_MS;
	world->accepting = -1;
	for (size_t i = 0; i < WORLD_CLIENTS; i++)
		world->clients[i].fd = -1;
	for (size_t i = 0; i < WORLD_BACKENDS; i++)
		world->backends[i].fd = -1;
	world->shared = (struct plane_proxy_shared){ .config = &config,
		.is_connected = true,
		.max_connections = WORLD_CLIENTS,
		.routes = plane_routes_create(on_ask, world),
		.activity = plane_activity_create() };
	world->worker = plane_worker_create(&world->shared, &storage, &err);
	FUZZ_CHECK(world->worker);
	FUZZ_CHECK(plane_worker_start(world->worker, &err) == 0);
}

void world_run(struct world *world, bool (*step)(struct world *world, void *data), void *data)
{
	if (!user_data)
		user_data = json_pack("{s:s,s:s}", "name", "\xc3\xa4", "line", "a\nb");
	world->step = step;
	world->step_data = data;
	active = world;
	create(world);
	plane_worker_join(world->worker); /* this runs it */
	active = NULL;
	plane_worker_destroy(world->worker);
	plane_routes_destroy(world->shared.routes);
	plane_activity_destroy(world->shared.activity);
	/* what arrived last */
	(void)read_all(world);
}

static void show_peer(const char *name, size_t index, const struct world_peer *peer)
{
	if (!peer->was_connected)
		return;
	fprintf(stderr, "---- %s %zu sent ----\n%.*s\n---- %s %zu received%s ----\n%.*s\n", name,
		index, (int)peer->sent.len, peer->sent.data ? peer->sent.data : "", name, index,
		peer->is_ended ? ", to the end" : "", (int)peer->received.len,
		peer->received.data ? peer->received.data : "");
}

void world_show(const struct world *world)
{
	for (size_t i = 0; i < WORLD_CLIENTS; i++)
		show_peer("client", i, &world->clients[i]);
	for (size_t i = 0; i < world->backend_count; i++)
		show_peer("backend", i, &world->backends[i]);
}

static void finish_peer(struct world_peer *peer)
{
	world_peer_close(peer);
	plane_buffer_finish(&peer->sent);
	plane_buffer_finish(&peer->received);
}

void world_finish(struct world *world)
{
	for (size_t i = 0; i < WORLD_CLIENTS; i++)
		finish_peer(&world->clients[i]);
	for (size_t i = 0; i < WORLD_BACKENDS; i++)
		finish_peer(&world->backends[i]);
	plane_buffer_finish(&world->asked);
	plane_buffer_finish(&world->first);
}
