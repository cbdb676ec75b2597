/* Ordered background work of one owner: jobs run on a thread pool, one after another,
 * and are finished on the loop thread. While one batch runs the next gathers. */
#ifndef PLANE_CONTROLLER_STRAND_H
#define PLANE_CONTROLLER_STRAND_H

#include <stdbool.h>
#include <stddef.h>

#include <uv.h>

#include "net/http_pool.h"

enum plane_job_result {
	PLANE_JOB_DONE,
	PLANE_JOB_RETRY, /* the store did not answer: this job is run again after a pause */
};

/** First member of a job's own struct. */
struct plane_job {
	/** Pool thread; may block. */
	enum plane_job_result (*run)(struct plane_job *job);
	/** Loop thread, after `run` was done, or instead of it when `is_cancelled`. Frees the job.
	 */
	void (*done)(struct plane_job *job, bool is_cancelled);
	struct plane_job *next;
	size_t weight; /* bytes that it holds, about; all jobs of a strand are bounded together */
};

struct plane_strand;

/** `pool` belongs to `loop` and is closed after the strand. */
struct plane_strand *plane_strand_create(uv_loop_t *loop, struct plane_http_pool *pool);
/** Loop thread. False when there are 4096 jobs already, or jobs of 16 MiB: it is cancelled. */
bool plane_strand_submit(struct plane_strand *strand, struct plane_job *owned_job);
/** Jobs that are waiting or running. */
size_t plane_strand_length(const struct plane_strand *strand);
/** Loop thread. Cancels what has not begun; `on_closed` comes when nothing runs any more, and
 *  never from inside this call. Frees the strand. */
void plane_strand_close(struct plane_strand *strand, void (*on_closed)(void *data), void *data);

#endif
