/* One job of the pool a strand: a batch of jobs in order, retried from where it stopped. */
#include "controller/strand.h"

#include <stddef.h>
#include <stdlib.h>

#include "base/alloc.h"

#define STRAND_JOBS_MAX 4096
#define STRAND_WEIGHT_MAX ((size_t)16 << 20)
#define RETRY_FIRST_MS 100
#define RETRY_MAX_MS 5000

struct plane_strand {
	struct plane_http_pool *pool;
	struct plane_http_job work;
	uv_timer_t retry_timer;
	struct plane_job *waiting_first, *waiting_last;
	struct plane_job *batch;     /* owned by the pool thread while it works */
	struct plane_job *batch_end; /* first job that was not done; set by the pool thread */
	size_t length, weight;
	unsigned retry_ms;
	bool is_working, is_paused, is_closing;
	void (*on_closed)(void *data);
	void *data;
};

static void start(struct plane_strand *strand);

static void on_timer_closed(uv_handle_t *handle)
{
	struct plane_strand *strand = handle->data;
	void (*on_closed)(void *data) = strand->on_closed;
	void *data = strand->data;
	free(strand);
	if (on_closed)
		on_closed(data);
}

/* It is over: `done` frees it. */
static void finish_job(struct plane_strand *strand, struct plane_job *job, bool is_cancelled)
{
	strand->length--;
	strand->weight -= job->weight;
	job->done(job, is_cancelled); /* may submit or close */
}

static void cancel_all(struct plane_strand *strand)
{
	while (strand->waiting_first) {
		struct plane_job *job = strand->waiting_first;
		strand->waiting_first = job->next;
		finish_job(strand, job, true);
	}
	strand->waiting_last = NULL;
}

static void finish_closing(struct plane_strand *strand)
{
	cancel_all(strand);
	uv_close((uv_handle_t *)&strand->retry_timer, on_timer_closed);
}

static struct plane_strand *strand_of(struct plane_http_job *work)
{
	return (struct plane_strand *)((char *)work - offsetof(struct plane_strand, work));
}

static void run_batch(struct plane_http_job *work)
{
	struct plane_strand *strand = strand_of(work);
	struct plane_job *job = strand->batch;
	while (job && job->run(job) == PLANE_JOB_DONE)
		job = job->next;
	strand->batch_end = job;
}

static void on_retry(uv_timer_t *timer)
{
	struct plane_strand *strand = timer->data;
	strand->is_paused = false;
	start(strand);
}

/* Jobs that were not done go back in front of the waiting ones. */
static void put_back(struct plane_strand *strand, struct plane_job *first)
{
	struct plane_job *last = first;
	while (last->next)
		last = last->next;
	last->next = strand->waiting_first;
	strand->waiting_first = first;
	if (!strand->waiting_last)
		strand->waiting_last = last;
}

static void pause_strand(struct plane_strand *strand)
{
	strand->is_paused = true;
	strand->retry_ms = strand->retry_ms ? strand->retry_ms * 2 : RETRY_FIRST_MS;
	if (strand->retry_ms > RETRY_MAX_MS)
		strand->retry_ms = RETRY_MAX_MS;
	(void)uv_timer_start(&strand->retry_timer, on_retry, strand->retry_ms, 0); /* not closing */
}

static void after_batch(struct plane_http_job *work)
{
	struct plane_strand *strand = strand_of(work);
	struct plane_job *job = strand->batch, *end = strand->batch_end;
	strand->batch = strand->batch_end = NULL;
	if (end)
		put_back(strand, end);
	else
		strand->retry_ms = 0;
	while (job != end) {
		struct plane_job *next = job->next;
		finish_job(strand, job, false);
		job = next;
	}
	strand->is_working = false;
	if (strand->is_closing)
		finish_closing(strand);
	else if (end)
		pause_strand(strand);
	else
		start(strand);
}

static void start(struct plane_strand *strand)
{
	if (strand->is_working || strand->is_paused || strand->is_closing || !strand->waiting_first)
		return;
	strand->batch = strand->waiting_first;
	strand->waiting_first = strand->waiting_last = NULL;
	strand->is_working = true;
	plane_http_pool_submit(strand->pool, &strand->work);
}

struct plane_strand *plane_strand_create(uv_loop_t *loop, struct plane_http_pool *pool)
{
	struct plane_strand *strand = PLANE_NEW(struct plane_strand);
	strand->pool = pool;
	strand->work = (struct plane_http_job){ .run = run_batch, .done = after_batch };
	(void)uv_timer_init(loop, &strand->retry_timer); /* always succeeds */
	strand->retry_timer.data = strand;
	return strand;
}

bool plane_strand_submit(struct plane_strand *strand, struct plane_job *owned_job)
{
	owned_job->next = NULL;
	bool is_full = strand->length >= STRAND_JOBS_MAX ||
		       (strand->length && strand->weight + owned_job->weight > STRAND_WEIGHT_MAX);
	if (strand->is_closing || is_full) {
		owned_job->done(owned_job, true);
		return false;
	}
	if (strand->waiting_last)
		strand->waiting_last->next = owned_job;
	else
		strand->waiting_first = owned_job;
	strand->waiting_last = owned_job;
	strand->length++;
	strand->weight += owned_job->weight;
	start(strand);
	return true;
}

size_t plane_strand_length(const struct plane_strand *strand)
{
	return strand->length;
}

void plane_strand_close(struct plane_strand *strand, void (*on_closed)(void *data), void *data)
{
	strand->on_closed = on_closed;
	strand->data = data;
	if (strand->is_closing)
		return;
	strand->is_closing = true;
	if (!strand->is_working)
		finish_closing(strand);
}
