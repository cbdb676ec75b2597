/* net/wake.c: nothing that was written before a send is missed, from however many threads. */
#include "../cmocka_all.h"

#include <pthread.h>
#include <string.h>

#include "net/wake.h"

#define THREADS 4
#define SENDS 20000

static struct {
	uv_loop_t loop;
	struct plane_wake wake;
	atomic_int written; /* before each send */
	int seen;           /* by the callback */
	int callbacks;
	bool is_closed;
} test;

static void on_closed(uv_handle_t *handle)
{
	(void)handle;
	test.is_closed = true;
}

static void on_wake(struct plane_wake *wake)
{
	test.callbacks++;
	test.seen = atomic_load(&test.written);
	if (test.seen == THREADS * SENDS)
		uv_stop(wake->poll.loop);
}

static void *send_many(void *unused)
{
	for (int i = 0; i < SENDS; i++) {
		atomic_fetch_add(&test.written, 1);
		plane_wake_send(&test.wake);
	}
	return unused;
}

static void the_last_send_of_many_threads_is_seen(void **state)
{
	pthread_t threads[THREADS];
	(void)state;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, send_many, NULL), 0);
	(void)uv_run(&test.loop, UV_RUN_DEFAULT); /* until it is stopped */
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	plane_wake_close(&test.wake, on_closed); /* not before all have sent */
	(void)uv_run(&test.loop, UV_RUN_DEFAULT);
	assert_true(test.is_closed);
	assert_int_equal(test.seen, THREADS * SENDS);
	assert_in_range(test.callbacks, 1, THREADS * SENDS);
}

static void sends_before_the_loop_runs_are_one_callback(void **state)
{
	(void)state;
	plane_wake_send(&test.wake);
	plane_wake_send(&test.wake);
	(void)uv_run(&test.loop, UV_RUN_NOWAIT);
	assert_int_equal(test.callbacks, 1);
	(void)uv_run(&test.loop, UV_RUN_NOWAIT);
	assert_int_equal(test.callbacks, 1);
	assert_false(plane_wake_is_closing(&test.wake));
	plane_wake_close(&test.wake, on_closed);
	assert_true(plane_wake_is_closing(&test.wake));
}

static int set_up(void **state)
{
	struct plane_error err = { 0 };
	(void)state;
	memset(&test, 0, sizeof(test));
	assert_int_equal(uv_loop_init(&test.loop), 0);
	return plane_wake_init(&test.loop, &test.wake, on_wake, &err);
}

static int tear_down(void **state)
{
	(void)state;
	(void)uv_run(&test.loop, UV_RUN_DEFAULT);
	return uv_loop_close(&test.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			the_last_send_of_many_threads_is_seen, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			sends_before_the_loop_runs_are_one_callback, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
