/* Worker threads beside a libuv loop. libuv's own pool is not used: it is shared with DNS lookups
 * and files of the whole process, and handlers may block on the store. */
#include "net/http_pool.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "net/wake.h"

struct job_list {
	struct plane_http_job *first, **last;
};

struct lane {
	struct job_list todo;
	int limit; /* 0: none */
	int running;
};

struct plane_http_pool {
	struct plane_wake wake;
	pthread_mutex_t mutex;
	pthread_cond_t wakeup;
	struct lane lanes[PLANE_HTTP_LANES];
	uint64_t next_number;
	struct job_list finished;
	pthread_t *threads;
	int thread_count;
	int unfinished; /* submitted, and `done` not yet called */
	bool is_closing;
	void (*on_closed)(void *data);
	void *data;
};

static void list_init(struct job_list *list)
{
	list->first = NULL;
	list->last = &list->first;
}

static void list_add(struct job_list *list, struct plane_http_job *job)
{
	job->next = NULL;
	*list->last = job;
	list->last = &job->next;
}

static struct plane_http_job *list_take(struct job_list *list)
{
	struct plane_http_job *job = list->first;
	if (job && !(list->first = job->next))
		list->last = &list->first;
	return job;
}

static bool may_run(const struct lane *lane)
{
	return !lane->limit || lane->running < lane->limit;
}

/* The one that has waited longest of those that may run now; NULL for none. */
static struct plane_http_job *take_job(struct plane_http_pool *pool)
{
	struct lane *best = NULL;
	for (int i = 0; i < PLANE_HTTP_LANES; i++) {
		struct lane *lane = &pool->lanes[i];
		if (!lane->todo.first || !may_run(lane))
			continue;
		if (!best || lane->todo.first->number < best->todo.first->number)
			best = lane;
	}
	if (!best)
		return NULL;
	best->running++;
	return list_take(&best->todo);
}

/* Whoever ends a job takes the next one itself, so that a lane with room again needs no signal, and
 * a job for a full one wakes nobody. */
static void *thread_main(void *data)
{
	struct plane_http_pool *pool = data;
	pthread_mutex_lock(&pool->mutex);
	for (;;) {
		struct plane_http_job *job = take_job(pool);
		if (job) {
			pthread_mutex_unlock(&pool->mutex);
			job->run(job);
			pthread_mutex_lock(&pool->mutex);
			pool->lanes[job->lane].running--;
			list_add(&pool->finished, job);
			plane_wake_send(&pool->wake);
		} else if (pool->is_closing) {
			break;
		} else {
			pthread_cond_wait(&pool->wakeup, &pool->mutex);
		}
	}
	pthread_mutex_unlock(&pool->mutex);
	return NULL;
}

static void on_wake_closed(uv_handle_t *handle)
{
	struct plane_http_pool *pool = handle->data;
	void (*on_closed)(void *data) = pool->on_closed;
	void *data = pool->data;
	pthread_mutex_destroy(&pool->mutex);
	pthread_cond_destroy(&pool->wakeup);
	free(pool->threads);
	free(pool);
	if (on_closed)
		on_closed(data);
}

static void finish_if_idle(struct plane_http_pool *pool)
{
	if (!pool->is_closing || pool->unfinished || plane_wake_is_closing(&pool->wake))
		return;
	for (int i = 0; i < pool->thread_count; i++)
		pthread_join(pool->threads[i], NULL);
	plane_wake_close(&pool->wake, on_wake_closed);
}

static void on_wake(struct plane_wake *wake)
{
	struct plane_http_pool *pool = wake->poll.data;
	for (;;) {
		pthread_mutex_lock(&pool->mutex);
		struct plane_http_job *job = list_take(&pool->finished);
		pool->unfinished -= job != NULL;
		pthread_mutex_unlock(&pool->mutex);
		if (!job)
			break;
		job->done(job);
	}
	pthread_mutex_lock(&pool->mutex);
	bool may_finish = pool->is_closing && !pool->unfinished;
	pthread_mutex_unlock(&pool->mutex);
	if (may_finish)
		finish_if_idle(pool);
}

struct plane_http_pool *plane_http_pool_create(
	uv_loop_t *loop, int threads, struct plane_error *err)
{
	struct plane_http_pool *pool = PLANE_NEW(struct plane_http_pool);
	int result = plane_wake_init(loop, &pool->wake, on_wake, err);
	if (result < 0) {
		(void)plane_error_prefix(err, "start worker threads");
		free(pool);
		return NULL;
	}
	pool->wake.poll.data = pool;
	pthread_mutex_init(&pool->mutex, NULL);
	pthread_cond_init(&pool->wakeup, NULL);
	for (int i = 0; i < PLANE_HTTP_LANES; i++)
		list_init(&pool->lanes[i].todo);
	list_init(&pool->finished);
	pool->threads = plane_alloc_zero((size_t)threads, sizeof(pthread_t));
	while (pool->thread_count < threads) {
		result =
			pthread_create(&pool->threads[pool->thread_count], NULL, thread_main, pool);
		if (result != 0)
			break;
		pool->thread_count++;
	}
	if (pool->thread_count == 0) {
		plane_error_set(err, -result, "start worker threads: %s", uv_strerror(-result));
		plane_http_pool_close(pool, NULL, NULL);
		return NULL;
	}
	return pool;
}

void plane_http_pool_set_limit(struct plane_http_pool *pool, int lane, int limit)
{
	assert(lane > 0 && lane < PLANE_HTTP_LANES && limit >= 0);
	pthread_mutex_lock(&pool->mutex);
	pool->lanes[lane].limit = limit;
	pthread_mutex_unlock(&pool->mutex);
}

void plane_http_pool_submit(struct plane_http_pool *pool, struct plane_http_job *job)
{
	pthread_mutex_lock(&pool->mutex);
	pool->unfinished++;
	if (job->run) {
		struct lane *lane = &pool->lanes[job->lane];
		job->number = pool->next_number++;
		list_add(&lane->todo, job);
		if (may_run(lane))
			pthread_cond_signal(&pool->wakeup);
	} else {
		list_add(&pool->finished, job);
		plane_wake_send(&pool->wake);
	}
	pthread_mutex_unlock(&pool->mutex);
}

void plane_http_pool_close(struct plane_http_pool *pool, void (*on_closed)(void *data), void *data)
{
	pthread_mutex_lock(&pool->mutex);
	pool->is_closing = true;
	pool->on_closed = on_closed;
	pool->data = data;
	pthread_cond_broadcast(&pool->wakeup);
	plane_wake_send(&pool->wake); /* the last look is on_wake's */
	pthread_mutex_unlock(&pool->mutex);
}
