/* The pool: by the backend's name, never by address, so that a connection to a backend that ended
 * cannot serve one that got its address. */
#include "proxy/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utlist.h>

#include "base/alloc.h"
#include "base/text.h"
#include "model/names.h"

#define IDLE_MAX 512
#define IDLE_MS 15000

struct idle {
	struct idle *prev, *next;
	char backend[PLANE_NAME_SIZE];
	int fd;
	int64_t since_ms;
};

struct plane_pool {
	struct idle *list; /* oldest first */
	int count;
};

struct plane_pool *plane_pool_create(void)
{
	return PLANE_NEW(struct plane_pool);
}

static int take(struct plane_pool *pool, struct idle *idle)
{
	int fd = idle->fd;
	DL_DELETE(pool->list, idle);
	pool->count--;
	free(idle);
	return fd;
}

void plane_pool_destroy(struct plane_pool *pool)
{
	while (pool && pool->list)
		(void)close(take(pool, pool->list)); /* idle */
	free(pool);
}

void plane_pool_put(struct plane_pool *pool, const char *backend, int owned_fd, int64_t now_ms)
{
	if (pool->count == IDLE_MAX)
		(void)close(take(pool, pool->list)); /* idle */
	struct idle *idle = PLANE_NEW(struct idle);
	(void)plane_text_copy(idle->backend, sizeof(idle->backend), backend);
	idle->fd = owned_fd;
	idle->since_ms = now_ms;
	DL_APPEND(pool->list, idle);
	pool->count++;
}

/* A server that closed, or spoke unasked, is not to be used again. */
static bool is_usable(int fd)
{
	char byte;
	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
	       (errno == EAGAIN || errno == EWOULDBLOCK);
}

int plane_pool_take(struct plane_pool *pool, const char *backend)
{
	struct idle *idle, *next;
	DL_FOREACH_SAFE (pool->list, idle, next) {
		if (strcmp(idle->backend, backend) != 0)
			continue;
		int fd = take(pool, idle);
		if (is_usable(fd))
			return fd;
		(void)close(fd); /* the server did already */
	}
	return -1;
}

void plane_pool_expire(struct plane_pool *pool, int64_t now_ms)
{
	while (pool->list && now_ms - pool->list->since_ms > IDLE_MS)
		(void)close(take(pool, pool->list)); /* idle */
}

int plane_pool_count(const struct plane_pool *pool)
{
	return pool->count;
}
