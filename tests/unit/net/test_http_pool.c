/* net/http_pool.c: lanes keep to their limits, and leave threads to others. */
#include "../cmocka_all.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include <uv.h>

#include "net/http_pool.h"

#define THREADS 3
#define LANE 1
#define OTHER_LANE 2
#define LIMIT 2
#define JOBS 40

struct job {
	struct plane_http_job base;
	uv_sem_t *may_end; /* NULL: at once */
	int order;         /* the number of jobs that began before it */
};

static struct {
	uv_loop_t loop;
	struct plane_http_pool *pool;
	uv_sem_t gate, began;
	atomic_int running, most, begun;
	int done, stop_after;
	bool is_closed;
} test;

static void run(struct plane_http_job *base)
{
	struct job *job = (struct job *)base;
	int running = atomic_fetch_add(&test.running, 1) + 1;
	int most = atomic_load(&test.most);
	while (running > most && !atomic_compare_exchange_weak(&test.most, &most, running))
		continue;
	job->order = atomic_fetch_add(&test.begun, 1);
	uv_sem_post(&test.began);
	if (job->may_end)
		uv_sem_wait(job->may_end);
	atomic_fetch_sub(&test.running, 1);
}

static void on_done(struct plane_http_job *base)
{
	(void)base;
	if (++test.done == test.stop_after)
		uv_stop(&test.loop);
}

static void submit(struct job *job, int lane, uv_sem_t *may_end)
{
	*job = (struct job){ .base = { .run = run, .done = on_done, .lane = lane },
		.may_end = may_end };
	plane_http_pool_submit(test.pool, &job->base);
}

/* Until so many jobs in all are done. */
static void wait_done(int count)
{
	test.stop_after = count;
	if (test.done < count)
		(void)uv_run(&test.loop, UV_RUN_DEFAULT); /* until it is stopped */
}

static void on_closed(void *data)
{
	(void)data;
	test.is_closed = true;
}

static int open_pool(void **state)
{
	struct plane_error err = { 0 };
	(void)state;
	memset(&test, 0, sizeof(test));
	assert_int_equal(uv_loop_init(&test.loop), 0);
	assert_int_equal(uv_sem_init(&test.gate, 0), 0);
	assert_int_equal(uv_sem_init(&test.began, 0), 0);
	test.pool = plane_http_pool_create(&test.loop, THREADS, &err);
	assert_non_null(test.pool);
	plane_http_pool_set_limit(test.pool, LANE, LIMIT);
	return 0;
}

static int close_pool(void **state)
{
	(void)state;
	plane_http_pool_close(test.pool, on_closed, NULL);
	(void)uv_run(&test.loop, UV_RUN_DEFAULT);
	assert_true(test.is_closed);
	assert_int_equal(uv_loop_close(&test.loop), 0);
	uv_sem_destroy(&test.gate);
	uv_sem_destroy(&test.began);
	return 0;
}

static void open_gate(int count)
{
	for (int i = 0; i < count; i++)
		uv_sem_post(&test.gate);
}

static void a_full_lane_leaves_threads_to_others(void **state)
{
	struct job waiting[JOBS], other[2];
	(void)state;
	for (int i = 0; i < JOBS; i++)
		submit(&waiting[i], LANE, &test.gate);
	submit(&other[0], 0, NULL);
	submit(&other[1], OTHER_LANE, NULL);
	wait_done(2); /* none of those of the lane can end */
	assert_true(other[0].order <= LIMIT && other[1].order <= LIMIT + 1);
	open_gate(JOBS);
	wait_done(2 + JOBS);
}

static void jobs_of_a_lane_begin_in_order_of_arrival(void **state)
{
	struct job jobs[JOBS];
	(void)state;
	plane_http_pool_set_limit(test.pool, LANE, 1);
	for (int i = 0; i < JOBS; i++)
		submit(&jobs[i], LANE, NULL);
	wait_done(JOBS);
	for (int i = 0; i < JOBS; i++)
		assert_int_equal(jobs[i].order, i);
}

static void a_lane_keeps_to_its_limit_and_uses_it(void **state)
{
	struct job waiting[JOBS];
	(void)state;
	for (int i = 0; i < JOBS; i++)
		submit(&waiting[i], LANE, &test.gate);
	for (int i = 0; i < LIMIT; i++)
		uv_sem_wait(&test.began); /* and none ends */
	open_gate(JOBS);
	wait_done(JOBS);
	assert_int_equal(atomic_load(&test.most), LIMIT);
}

static void jobs_of_no_limit_take_all_threads(void **state)
{
	struct job waiting[THREADS];
	(void)state;
	for (int i = 0; i < THREADS; i++)
		submit(&waiting[i], i == 0 ? OTHER_LANE : 0, &test.gate);
	for (int i = 0; i < THREADS; i++)
		uv_sem_wait(&test.began);
	assert_int_equal(atomic_load(&test.most), THREADS);
	open_gate(THREADS);
	wait_done(THREADS);
}

static void a_pool_that_closes_runs_what_waits_in_a_lane(void **state)
{
	struct job waiting[JOBS];
	for (int i = 0; i < JOBS; i++)
		submit(&waiting[i], LANE, &test.gate);
	open_gate(JOBS);
	(void)close_pool(state);
	assert_int_equal(test.done, JOBS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_full_lane_leaves_threads_to_others, open_pool, close_pool),
		cmocka_unit_test_setup_teardown(
			jobs_of_a_lane_begin_in_order_of_arrival, open_pool, close_pool),
		cmocka_unit_test_setup_teardown(
			a_lane_keeps_to_its_limit_and_uses_it, open_pool, close_pool),
		cmocka_unit_test_setup_teardown(
			jobs_of_no_limit_take_all_threads, open_pool, close_pool),
		cmocka_unit_test_setup(a_pool_that_closes_runs_what_waits_in_a_lane, open_pool),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
