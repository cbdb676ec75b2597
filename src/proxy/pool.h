/* Idle connections to backends, of one worker. */
#ifndef PLANE_PROXY_POOL_H
#define PLANE_PROXY_POOL_H

#include <stdint.h>

struct plane_pool;

struct plane_pool *plane_pool_create(void);
void plane_pool_destroy(struct plane_pool *pool);
/** Keeps `owned_fd` for requests to `backend`; closes it, or another, when there are too many. */
void plane_pool_put(struct plane_pool *pool, const char *backend, int owned_fd, int64_t now_ms);
/** A connection that was open and silent a moment ago, or -1. */
int plane_pool_take(struct plane_pool *pool, const char *backend);
/** Closes those that are idle for too long. */
void plane_pool_expire(struct plane_pool *pool, int64_t now_ms);
/** Are there any? */
int plane_pool_count(const struct plane_pool *pool);

#endif
