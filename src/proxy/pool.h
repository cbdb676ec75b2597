/* Idle connections to backends, of one worker. They stay watched: what happens to one of them ends
 * it. */
#ifndef PLANE_PROXY_POOL_H
#define PLANE_PROXY_POOL_H

#include <stdbool.h>
#include <stdint.h>

struct plane_pool;
struct plane_upstream;
struct plane_worker;

struct plane_pool *plane_pool_create(struct plane_worker *worker);
void plane_pool_destroy(struct plane_pool *pool);
/** Keeps it for requests to `backend`; closes it, or another, when it cannot be kept. */
void plane_pool_put(struct plane_pool *pool, const char *backend,
	struct plane_upstream *owned_upstream, int64_t now_ms);
/** The one used last that is open and silent as far as is known, or NULL. The caller owns it. */
struct plane_upstream *plane_pool_take(struct plane_pool *pool, const char *backend);
/** Closes one that is in the pool. */
void plane_pool_drop(struct plane_pool *pool, struct plane_upstream *upstream);
/** Closes the one that is idle for longest; false when there is none. */
bool plane_pool_drop_oldest(struct plane_pool *pool);
/** Closes those that are idle for too long. */
void plane_pool_expire(struct plane_pool *pool, int64_t now_ms);
/** Are there any? */
int plane_pool_count(const struct plane_pool *pool);

#endif
