/* The pool: by the backend's name, never by address, so that a connection to a backend that ended
 * cannot serve one that got its address. */
#include "proxy/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <uthash.h>
#include <utlist.h>

#include "base/alloc.h"
#include "base/text.h"
#include "model/names.h"
#include "proxy/conn.h"

#define IDLE_MAX 512
#define IDLE_MS 15000

/* Stays while it is empty, until the next look at what is idle for too long. */
struct plane_pool_backend {
	char name[PLANE_NAME_SIZE];
	struct plane_upstream *idle; /* the one used last in front */
	UT_hash_handle hh;
};

struct plane_pool {
	struct plane_worker *worker;
	struct plane_pool_backend *backends;
	struct plane_upstream *list; /* oldest first */
	int count;
	int64_t look_again_ms;
};

struct plane_pool *plane_pool_create(struct plane_worker *worker)
{
	struct plane_pool *pool = PLANE_NEW(struct plane_pool);
	pool->worker = worker;
	return pool;
}

static void leave(struct plane_pool *pool, struct plane_upstream *upstream)
{
	DL_DELETE2(upstream->backend->idle, upstream, same_prev, same_next);
	DL_DELETE(pool->list, upstream);
	upstream->backend = NULL;
	pool->count--;
}

void plane_pool_drop(struct plane_pool *pool, struct plane_upstream *upstream)
{
	leave(pool, upstream);
	plane_upstream_destroy(pool->worker, upstream);
}

bool plane_pool_drop_oldest(struct plane_pool *pool)
{
	if (!pool->list)
		return false;
	plane_pool_drop(pool, pool->list);
	return true;
}

static void forget_empty(struct plane_pool *pool)
{
	struct plane_pool_backend *backend, *next;
	HASH_ITER (hh, pool->backends, backend, next) {
		if (backend->idle)
			continue;
		HASH_DEL(pool->backends, backend);
		free(backend);
	}
}

void plane_pool_destroy(struct plane_pool *pool)
{
	if (!pool)
		return;
	while (plane_pool_drop_oldest(pool))
		;
	forget_empty(pool);
	free(pool);
}

/* A server that closed, or spoke unasked, is not to be used again. */
static bool is_silent(const struct plane_end *end)
{
	char byte;
	if (end->is_peer_done)
		return false;
	return !end->is_readable || (recv(end->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
					    (errno == EAGAIN || errno == EWOULDBLOCK));
}

static struct plane_pool_backend *backend_of(struct plane_pool *pool, const char *name)
{
	struct plane_pool_backend *backend = NULL;
	HASH_FIND_STR(pool->backends, name, backend);
	if (backend)
		return backend;
	backend = PLANE_NEW(struct plane_pool_backend);
	if (!plane_text_copy(backend->name, sizeof(backend->name), name)) {
		free(backend);
		return NULL;
	}
	HASH_ADD_STR(pool->backends, name, backend);
	return backend;
}

void plane_pool_put(struct plane_pool *pool, const char *name,
	struct plane_upstream *owned_upstream, int64_t now_ms)
{
	struct plane_pool_backend *backend = backend_of(pool, name);
	owned_upstream->end.conn = NULL;
	if (!backend || !is_silent(&owned_upstream->end)) {
		plane_upstream_destroy(pool->worker, owned_upstream);
		return;
	}
	owned_upstream->end.is_readable = false;
	if (pool->count == IDLE_MAX)
		(void)plane_pool_drop_oldest(pool); /* there is one */
	owned_upstream->backend = backend;
	owned_upstream->idle_since_ms = now_ms;
	DL_PREPEND2(backend->idle, owned_upstream, same_prev, same_next);
	DL_APPEND(pool->list, owned_upstream);
	pool->count++;
}

struct plane_upstream *plane_pool_take(struct plane_pool *pool, const char *name)
{
	struct plane_pool_backend *backend = NULL;
	HASH_FIND_STR(pool->backends, name, backend);
	while (backend && backend->idle) {
		struct plane_upstream *upstream = backend->idle;
		leave(pool, upstream);
		/* an event of this turn may have said something about it */
		if (!upstream->end.is_readable && !upstream->end.is_peer_done)
			return upstream;
		plane_upstream_destroy(pool->worker, upstream);
	}
	return NULL;
}

void plane_pool_expire(struct plane_pool *pool, int64_t now_ms)
{
	while (pool->list && now_ms - pool->list->idle_since_ms > IDLE_MS)
		plane_pool_drop(pool, pool->list);
	if (now_ms < pool->look_again_ms)
		return;
	pool->look_again_ms = now_ms + IDLE_MS;
	forget_empty(pool);
}

int plane_pool_count(const struct plane_pool *pool)
{
	return pool->count;
}
