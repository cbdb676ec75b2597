/* controller/pace.c. */
#include "../cmocka_all.h"

#include "controller/pace.h"

#define POLL_MS 500

static void at_first_it_reads_and_then_at_every_poll(void **state)
{
	struct plane_pace pace = { .poll_ms = POLL_MS };
	struct plane_pace_step step = plane_pace_next(&pace, 1000);
	assert_true(step.reads);
	assert_false(step.notifies);
	assert_int_equal(step.wait_ms, POLL_MS);
	step = plane_pace_next(&pace, 1000 + POLL_MS - 1);
	assert_false(step.reads);
	assert_int_equal(step.wait_ms, 1);
	step = plane_pace_next(&pace, 1000 + POLL_MS);
	assert_true(step.reads);
}

static void news_of_others_are_read_at_once(void **state)
{
	struct plane_pace pace = {
		.poll_ms = POLL_MS, .poll_at_ms = 5000, .has_others_news = true
	};
	struct plane_pace_step step = plane_pace_next(&pace, 1000);
	assert_true(step.reads);
	assert_int_equal(step.wait_ms, POLL_MS);
	step = plane_pace_next(&pace, 1001);
	assert_false(step.reads);
}

static void the_first_own_news_are_notified_at_once_and_the_next_together(void **state)
{
	struct plane_pace pace = { .poll_ms = POLL_MS, .poll_at_ms = 5000, .has_own_news = true };
	struct plane_pace_step step = plane_pace_next(&pace, 1000);
	assert_true(step.notifies);
	assert_false(step.reads);
	for (int64_t now_ms = 1000; now_ms < 1000 + PLANE_PACE_NOTIFY_MS; now_ms++) {
		pace.has_own_news = true;
		step = plane_pace_next(&pace, now_ms);
		assert_false(step.notifies);
		assert_int_equal(step.wait_ms, 1000 + PLANE_PACE_NOTIFY_MS - now_ms);
	}
	step = plane_pace_next(&pace, 1000 + PLANE_PACE_NOTIFY_MS);
	assert_true(step.notifies);
	assert_int_equal(step.wait_ms, 5000 - 1000 - PLANE_PACE_NOTIFY_MS);
	step = plane_pace_next(&pace, 2000);
	assert_false(step.notifies);
}

static void without_news_nobody_is_notified(void **state)
{
	struct plane_pace pace = { .poll_ms = POLL_MS };
	for (int64_t now_ms = 1; now_ms < 3000; now_ms += 7)
		assert_false(plane_pace_next(&pace, now_ms).notifies);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(at_first_it_reads_and_then_at_every_poll),
		cmocka_unit_test(news_of_others_are_read_at_once),
		cmocka_unit_test(the_first_own_news_are_notified_at_once_and_the_next_together),
		cmocka_unit_test(without_news_nobody_is_notified),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
