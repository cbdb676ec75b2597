/* The worker's loop: accepting, events, deadlines, messages from other threads. */
#include "proxy/worker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utlist.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "proxy/conn.h"
#include "proxy/pool.h"

#define EVENTS_MAX 256
#define ACCEPTS_MAX 64 /* at once, so that nobody waits behind a crowd */
#define SLOTS 256
#define SLOT_MS 250
#define ACCEPT_PAUSE_MS 200
#define COMPOSE_KEPT ((size_t)128 << 10)

struct revocation {
	struct revocation *next;
	char *backend, *user;
};

struct plane_worker {
	struct plane_proxy_shared *shared;
	pthread_t thread;
	int epoll_fd, listen_fd;
	struct plane_route_inbox inbox; /* its event_fd wakes the loop for everything */
	struct plane_pool *pool;
	struct plane_conn *conns, *graveyard;
	struct plane_upstream *upstream_graveyard;
	struct plane_conn *slots[SLOTS]; /* by deadline, coarsely; the deadline itself counts */
	int timed;                       /* how many are in slots */
	int64_t now_ms, last_slot;
	int64_t accept_again_ms; /* 0: accepting */
	char *scratch;
	struct plane_buffer compose;
	/* other threads */
	pthread_mutex_t mutex;
	struct revocation *revocations;
	bool must_stop;
	/* stopping */
	bool is_stopping;
	int64_t stop_at_ms;
};

struct plane_proxy_shared *plane_worker_shared(struct plane_worker *worker)
{
	return worker->shared;
}

int64_t plane_worker_now_ms(const struct plane_worker *worker)
{
	return worker->now_ms;
}

char *plane_worker_scratch(struct plane_worker *worker)
{
	return worker->scratch;
}

bool plane_worker_is_stopping(const struct plane_worker *worker)
{
	return worker->is_stopping;
}

struct plane_buffer *plane_worker_compose(struct plane_worker *worker)
{
	if (worker->compose.capacity > COMPOSE_KEPT)
		plane_buffer_finish(&worker->compose);
	plane_buffer_clear(&worker->compose);
	return &worker->compose;
}

struct plane_pool *plane_worker_pool(struct plane_worker *worker)
{
	return worker->pool;
}

struct plane_route_inbox *plane_worker_inbox(struct plane_worker *worker)
{
	return &worker->inbox;
}

int plane_worker_watch(struct plane_worker *worker, struct plane_end *end)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
		.data.ptr = end };
	return epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, end->fd, &event);
}

void plane_worker_bury(struct plane_worker *worker, struct plane_upstream *owned_upstream)
{
	owned_upstream->next = worker->upstream_graveyard;
	worker->upstream_graveyard = owned_upstream;
}

/* ---- deadlines ---- */

static int slot_of(int64_t time_ms)
{
	return (int)((time_ms / SLOT_MS) % SLOTS);
}

static void leave_slot(struct plane_conn *conn)
{
	if (conn->timer_slot < 0)
		return;
	DL_DELETE2(conn->worker->slots[conn->timer_slot], conn, timer_prev, timer_next);
	conn->timer_slot = -1;
	conn->worker->timed--;
}

static void enter_slot(struct plane_conn *conn)
{
	int64_t ahead_ms = conn->deadline_ms - conn->worker->now_ms;
	/* one that is further away than the wheel is long is looked at again then */
	int64_t at_ms = ahead_ms < SLOT_MS * (SLOTS - 2)
				? conn->deadline_ms
				: conn->worker->now_ms + SLOT_MS * (SLOTS - 2);
	conn->timer_slot = slot_of(at_ms + SLOT_MS); /* never before its time */
	DL_APPEND2(conn->worker->slots[conn->timer_slot], conn, timer_prev, timer_next);
	conn->worker->timed++;
}

void plane_conn_set_deadline(struct plane_conn *conn, int64_t after_ms)
{
	int64_t old_ms = conn->deadline_ms;
	conn->deadline_ms = after_ms ? conn->worker->now_ms + after_ms : 0;
	if (!after_ms) {
		leave_slot(conn);
	} else if (conn->timer_slot < 0 || conn->deadline_ms < old_ms) {
		leave_slot(conn);
		enter_slot(conn);
	} /* else its slot comes sooner, and it is put into the right one then */
}

/* Only as many as there are now: one whose time has not come may be put into this very slot again,
 * when many slots are caught up with after a pause. */
static void expire_slot(struct plane_worker *worker, int slot)
{
	const struct plane_conn *at;
	int count = 0;
	DL_COUNT2(worker->slots[slot], at, count, timer_next);
	for (; count > 0 && worker->slots[slot]; count--) {
		struct plane_conn *conn = worker->slots[slot];
		leave_slot(conn);
		if (conn->deadline_ms > worker->now_ms)
			enter_slot(conn);
		else
			plane_conn_expire(conn);
	}
}

static void expire(struct plane_worker *worker)
{
	int64_t slot = worker->now_ms / SLOT_MS;
	if (slot - worker->last_slot > SLOTS)
		worker->last_slot = slot - SLOTS;
	while (worker->last_slot < slot)
		expire_slot(worker, (int)(++worker->last_slot % SLOTS));
	plane_pool_expire(worker->pool, worker->now_ms);
}

/* ---- connections ---- */

static void ip_text(const struct sockaddr_storage *address, char text[46])
{
	const void *ip = address->ss_family == AF_INET6
				 ? (const void *)&((const struct sockaddr_in6 *)address)->sin6_addr
				 : (const void *)&((const struct sockaddr_in *)address)->sin_addr;
	if (!inet_ntop(address->ss_family, ip, text, 46))
		text[0] = '\0';
}

static void add_conn(struct plane_worker *worker, int owned_fd, const struct sockaddr_storage *peer)
{
	struct plane_conn *conn = PLANE_NEW(struct plane_conn);
	conn->worker = worker;
	conn->client = (struct plane_end){
		.conn = conn, .fd = owned_fd, .is_readable = true, .is_writable = true
	};
	conn->timer_slot = -1;
	ip_text(peer, conn->client_ip);
	DL_APPEND(worker->conns, conn);
	plane_proxy_count(worker->shared, PLANE_COUNT_CONNECTIONS, 1);
	if (plane_worker_watch(worker, &conn->client) < 0) {
		plane_conn_kill(conn);
		return;
	}
	plane_conn_set_deadline(conn, worker->shared->config->header_timeout_ms);
	plane_conn_advance(conn);
}

void plane_conn_destroy(struct plane_conn *conn)
{
	struct plane_worker *worker = conn->worker;
	DL_DELETE(worker->conns, conn);
	conn->next = worker->graveyard;
	worker->graveyard = conn;
	plane_proxy_count(worker->shared, PLANE_COUNT_CONNECTIONS, -1);
}

static void reap(struct plane_worker *worker)
{
	while (worker->graveyard) {
		struct plane_conn *conn = worker->graveyard;
		worker->graveyard = conn->next;
		free(conn);
	}
	while (worker->upstream_graveyard) {
		struct plane_upstream *upstream = worker->upstream_graveyard;
		worker->upstream_graveyard = upstream->next;
		free(upstream);
	}
}

static bool is_full(struct plane_worker *worker)
{
	return atomic_load_explicit(&worker->shared->counts[PLANE_COUNT_CONNECTIONS],
		       memory_order_relaxed) >= worker->shared->max_connections;
}

static void refuse(struct plane_worker *worker, int fd)
{
	static const char text[] = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n"
				   "connection: close\r\n\r\n";
	(void)send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL | MSG_DONTWAIT); /* a courtesy */
	(void)close(fd);                                                     /* refused */
	plane_proxy_count(worker->shared, PLANE_COUNT_REFUSED, 1);
}

static void watch_listener(struct plane_worker *worker, bool is_on)
{
	struct epoll_event event = { .events = is_on ? EPOLLIN : 0, .data.ptr = worker };
	(void)epoll_ctl(worker->epoll_fd, EPOLL_CTL_MOD, worker->listen_fd, &event); /* is there */
}

/* The listener stays ready while somebody waits there, so it is not looked at for a while. */
static void pause_accepting(struct plane_worker *worker, int error)
{
	plane_error("accept a connection: %s", strerror(error));
	worker->accept_again_ms = worker->now_ms + ACCEPT_PAUSE_MS;
	watch_listener(worker, false);
}

/* After attempt `*i` of this turn failed with `error`: whether to make another one. */
static bool goes_on_accepting(struct plane_worker *worker, int error, int *i)
{
	bool is_out_of_files = error == EMFILE || error == ENFILE;
	if (is_out_of_files && *i > 0)
		return false; /* said before it is looked whether anybody is there */
	if (is_out_of_files && plane_pool_drop_oldest(worker->pool)) {
		*i = -1; /* what is idle makes room for who is there */
		return true;
	}
	if (is_out_of_files || error == ENOMEM || error == ENOBUFS) {
		pause_accepting(worker, error);
		return false;
	}
	return error == EINTR || error == ECONNABORTED; /* else nobody is there any more */
}

static void accept_some(struct plane_worker *worker)
{
	for (int i = 0; i < ACCEPTS_MAX; i++) {
		struct sockaddr_storage peer = { 0 };
		socklen_t len = sizeof(peer);
		int fd = accept4(worker->listen_fd, (struct sockaddr *)&peer, &len,
			SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0 && is_full(worker)) {
			refuse(worker, fd);
		} else if (fd >= 0) {
			add_conn(worker, fd, &peer);
		} else if (!goes_on_accepting(worker, errno, &i)) {
			return;
		}
	}
}

/* ---- messages ---- */

static void apply_revocation(struct plane_worker *worker, const struct revocation *revocation)
{
	struct plane_conn *conn, *next;
	DL_FOREACH_SAFE (worker->conns, conn, next) {
		const struct plane_route *route = conn->route;
		if (route && plane_text_equal(route->backend, revocation->backend) &&
			plane_text_equal(route->user, revocation->user))
			plane_conn_kill(conn);
	}
}

static void begin_stop(struct plane_worker *worker)
{
	struct plane_conn *conn, *next;
	worker->is_stopping = true;
	worker->stop_at_ms = worker->now_ms + worker->shared->config->grace_ms;
	(void)close(worker->listen_fd); /* leaves epoll by itself */
	worker->listen_fd = -1;
	for (conn = worker->conns; conn; conn = next) {
		next = conn->next;
		if (conn->phase == PLANE_CONN_HEAD && conn->in.len == 0)
			plane_conn_kill(conn);
	}
}

static void take_messages(struct plane_worker *worker)
{
	uint64_t count;
	(void)!read(worker->inbox.event_fd, &count, sizeof(count)); /* only wakes */
	pthread_mutex_lock(&worker->mutex);
	struct revocation *revocations = STEAL(worker->revocations);
	bool must_stop = worker->must_stop;
	pthread_mutex_unlock(&worker->mutex);
	struct plane_route_waiter *waiter;
	while ((waiter = plane_routes_take(worker->shared->routes, &worker->inbox))) {
		struct plane_exchange *exchange =
			(struct plane_exchange *)((char *)waiter -
						  offsetof(struct plane_exchange, waiter));
		plane_conn_routed(exchange->conn, STEAL(waiter->route));
	}
	while (revocations) {
		struct revocation *revocation = revocations;
		revocations = revocation->next;
		apply_revocation(worker, revocation);
		free(revocation->backend);
		free(revocation->user);
		free(revocation);
	}
	if (must_stop && !worker->is_stopping)
		begin_stop(worker);
}

static void wake(struct plane_worker *worker)
{
	uint64_t one = 1;
	(void)!write(worker->inbox.event_fd, &one, sizeof(one)); /* or it is awake */
}

void plane_worker_revoke(struct plane_worker *worker, const char *backend, const char *user)
{
	struct revocation *revocation = PLANE_NEW(struct revocation);
	revocation->backend = plane_strdup(backend);
	revocation->user = plane_strdup(user);
	pthread_mutex_lock(&worker->mutex);
	LL_PREPEND(worker->revocations, revocation);
	pthread_mutex_unlock(&worker->mutex);
	wake(worker);
}

void plane_worker_stop(struct plane_worker *worker)
{
	pthread_mutex_lock(&worker->mutex);
	worker->must_stop = true;
	pthread_mutex_unlock(&worker->mutex);
	wake(worker);
}

/* ---- the loop ---- */

/* The sockets' events are noted, all of them, before any is acted on: who takes a connection from
 * the pool knows already if its peer closed it. */
static void note_event(struct plane_worker *worker, const struct epoll_event *event)
{
	if (event->data.ptr == worker || event->data.ptr == &worker->inbox)
		return;
	struct plane_end *end = event->data.ptr;
	uint32_t error = EPOLLHUP | EPOLLERR;
	end->is_readable |= (event->events & (EPOLLIN | EPOLLRDHUP | error)) != 0;
	end->is_writable |= (event->events & (EPOLLOUT | error)) != 0;
	end->is_peer_done |= (event->events & (EPOLLRDHUP | error)) != 0;
	end->is_hung_up |= (event->events & error) != 0;
}

static void act_on_event(struct plane_worker *worker, const struct epoll_event *event)
{
	if (event->data.ptr == worker) {
		accept_some(worker);
		return;
	}
	if (event->data.ptr == &worker->inbox) {
		take_messages(worker);
		return;
	}
	struct plane_end *end = event->data.ptr;
	if (end->fd < 0)
		return; /* closed on the way here */
	if (end->conn)
		plane_conn_advance(end->conn);
	else if (end->is_readable || end->is_peer_done)
		plane_pool_drop(worker->pool, (struct plane_upstream *)end);
}

/* Requests keep the thread; tunnels end when nothing else is left. */
static bool has_requests(const struct plane_worker *worker)
{
	const struct plane_conn *conn;
	DL_FOREACH (worker->conns, conn)
		if (conn->phase != PLANE_CONN_TUNNEL)
			return true;
	return false;
}

static int wait_ms(const struct plane_worker *worker)
{
	bool is_timed = worker->timed > 0 || worker->accept_again_ms || worker->is_stopping ||
			plane_pool_count(worker->pool) > 0;
	return is_timed ? SLOT_MS : -1;
}

static void resume_accepting(struct plane_worker *worker)
{
	if (!worker->accept_again_ms || worker->now_ms < worker->accept_again_ms)
		return;
	worker->accept_again_ms = 0;
	if (worker->listen_fd >= 0)
		watch_listener(worker, true);
}

static void *run(void *data)
{
	struct plane_worker *worker = data;
	struct epoll_event events[EVENTS_MAX];
	for (;;) {
		int count = epoll_wait(worker->epoll_fd, events, EVENTS_MAX, wait_ms(worker));
		worker->now_ms = plane_clock_boot_ms();
		for (int i = 0; i < count; i++)
			note_event(worker, &events[i]);
		for (int i = 0; i < count; i++)
			act_on_event(worker, &events[i]);
		expire(worker);
		resume_accepting(worker);
		reap(worker);
		if (worker->is_stopping &&
			(worker->now_ms >= worker->stop_at_ms || !has_requests(worker)))
			break;
	}
	while (worker->conns)
		plane_conn_kill(worker->conns);
	reap(worker);
	return NULL;
}

/* ---- lifetime ---- */

/* Accepted sockets inherit all this. */
static int listen_at(int fd, const struct sockaddr *address, socklen_t len)
{
	int one = 1;
	plane_end_set_options(fd);
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) < 0 ||
		bind(fd, address, len) < 0)
		return -1;
	return listen(fd, 4096);
}

static int open_listener(struct plane_worker *worker, const struct sockaddr_storage *address,
	struct plane_error *err)
{
	socklen_t len = address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
						       : sizeof(struct sockaddr_in);
	worker->listen_fd =
		socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (worker->listen_fd < 0)
		return plane_error_errno(err, "make a socket");
	if (listen_at(worker->listen_fd, (const struct sockaddr *)address, len) < 0)
		return plane_error_errno(err, "listen");
	return 0;
}

static int watch_own(struct plane_worker *worker, struct plane_error *err)
{
	struct epoll_event listener = { .events = EPOLLIN, .data.ptr = worker };
	struct epoll_event inbox = { .events = EPOLLIN, .data.ptr = &worker->inbox };
	if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, worker->listen_fd, &listener) < 0 ||
		epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, worker->inbox.event_fd, &inbox) < 0)
		return plane_error_errno(err, "watch the worker's descriptors");
	return 0;
}

struct plane_worker *plane_worker_create(struct plane_proxy_shared *shared,
	const struct sockaddr_storage *address, struct plane_error *err)
{
	struct plane_worker *worker = PLANE_NEW(struct plane_worker);
	worker->shared = shared;
	worker->listen_fd = -1;
	pthread_mutex_init(&worker->mutex, NULL);
	worker->pool = plane_pool_create(worker);
	worker->scratch = plane_alloc(PLANE_SCRATCH_SIZE);
	worker->now_ms = plane_clock_boot_ms();
	worker->last_slot = worker->now_ms / SLOT_MS;
	worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	worker->inbox.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	int result = worker->epoll_fd < 0 || worker->inbox.event_fd < 0
			     ? plane_error_errno(err, "set up a worker")
			     : open_listener(worker, address, err);
	if (result == 0)
		result = watch_own(worker, err);
	if (result < 0) {
		plane_worker_destroy(worker);
		return NULL;
	}
	return worker;
}

void plane_worker_destroy(struct plane_worker *worker)
{
	if (!worker)
		return;
	plane_closep(&worker->listen_fd);
	plane_closep(&worker->epoll_fd);
	plane_closep(&worker->inbox.event_fd);
	plane_pool_destroy(worker->pool);
	reap(worker);
	plane_buffer_finish(&worker->compose);
	pthread_mutex_destroy(&worker->mutex);
	free(worker->scratch);
	free(worker);
}

void plane_worker_address(const struct plane_worker *worker, struct sockaddr_storage *address)
{
	socklen_t len = sizeof(*address);
	(void)getsockname(worker->listen_fd, (struct sockaddr *)address, &len); /* it is bound */
}

int plane_worker_start(struct plane_worker *worker, struct plane_error *err)
{
	int result = pthread_create(&worker->thread, NULL, run, worker);
	return result ? plane_error_set(err, result, "start a worker: %s", strerror(result)) : 0;
}

void plane_worker_join(struct plane_worker *worker)
{
	(void)pthread_join(worker->thread, NULL); /* it was started */
}
