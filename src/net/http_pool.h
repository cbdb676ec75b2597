/* A fixed set of threads that run jobs in order of arrival, and hand them back to a libuv loop.
 * Jobs that may wait for others than this process have lanes with limits, so that they never keep
 * all of the threads. */
#ifndef PLANE_NET_HTTP_POOL_H
#define PLANE_NET_HTTP_POOL_H

#include <uv.h>

#include "base/error.h"

#define PLANE_HTTP_LANES 4

struct plane_http_pool;

/** Embedded in the caller's object; neither function may be NULL except `run`. */
struct plane_http_job {
	void (*run)(struct plane_http_job *job);  /* on a pool thread; NULL: nothing to do there */
	void (*done)(struct plane_http_job *job); /* on the loop thread */
	int lane;        /* below PLANE_HTTP_LANES; 0 for those that wait for nobody */
	uint64_t number; /* the pool's: of its arrival */
	struct plane_http_job *next;
};

struct plane_http_pool *plane_http_pool_create(
	uv_loop_t *loop, int threads, struct plane_error *err);

/**
 * At most `limit` jobs of the lane run at once; 0, as from the start: any number. What is beyond
 * waits for its turn without a thread, and jobs of other lanes overtake it. Call it before there
 * are jobs.
 */
void plane_http_pool_set_limit(struct plane_http_pool *pool, int lane, int limit);

/** Runs the job on a thread, then its `done` on the loop. Any thread. */
void plane_http_pool_submit(struct plane_http_pool *pool, struct plane_http_job *job);

/** Ends threads after the jobs submitted so far; `on_closed` comes on the loop after their `done`s.
 */
void plane_http_pool_close(struct plane_http_pool *pool, void (*on_closed)(void *data), void *data);

#endif
