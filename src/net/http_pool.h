/* A fixed set of threads that run jobs in order of arrival, and hand them back to a libuv loop. */
#ifndef PLANE_NET_HTTP_POOL_H
#define PLANE_NET_HTTP_POOL_H

#include <uv.h>

#include "base/error.h"

struct plane_http_pool;

/** Embedded in the caller's object; neither function may be NULL except `run`. */
struct plane_http_job {
	void (*run)(struct plane_http_job *job);  /* on a pool thread; NULL: nothing to do there */
	void (*done)(struct plane_http_job *job); /* on the loop thread */
	struct plane_http_job *next;
};

struct plane_http_pool *plane_http_pool_create(
	uv_loop_t *loop, int threads, struct plane_error *err);

/** Runs the job on a thread, then its `done` on the loop. Any thread. */
void plane_http_pool_submit(struct plane_http_pool *pool, struct plane_http_job *job);

/** Ends threads after the jobs submitted so far; `on_closed` comes on the loop after their `done`s.
 */
void plane_http_pool_close(struct plane_http_pool *pool, void (*on_closed)(void *data), void *data);

#endif
