/* controller/usage.c. */
#include "../cmocka_all.h"

#include <stdio.h>
#include <string.h>

#include "controller/usage.h"

static struct plane_usage *usage;

static int set_up(void **state)
{
	(void)state;
	usage = plane_usage_create();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	plane_usage_destroy(usage);
	return 0;
}

static void put(const char *backend, int64_t memory_bytes, int64_t cpu_ns, int64_t now_ms)
{
	struct plane_backend_use use = { memory_bytes, 0, cpu_ns };
	plane_usage_put(usage, "dr-a", backend, &use, now_ms);
}

static void the_first_report_has_no_average_and_the_second_has(void **state)
{
	struct plane_usage_entry entry;
	put("one", 1000, 5000000000, 10000);
	assert_true(plane_usage_find(usage, "one", 10500, &entry));
	assert_int_equal(entry.cpu_millis, -1);
	assert_int_equal(entry.use.memory_bytes, 1000);
	assert_int_equal(entry.age_ms, 500);
	put("one", 2000, 7500000000, 20000); /* a quarter of a CPU */
	assert_true(plane_usage_find(usage, "one", 20000, &entry));
	assert_int_equal(entry.cpu_millis, 250);
	assert_int_equal(entry.use.memory_bytes, 2000);
}

static void two_reports_at_once_do_not_make_an_average_of_a_moment(void **state)
{
	struct plane_usage_entry entry;
	put("one", 1, 0, 10000);
	put("one", 1, 10000000000, 20000);
	put("one", 1, 10050000000, 20010);
	assert_true(plane_usage_find(usage, "one", 20010, &entry));
	assert_int_equal(entry.cpu_millis, 1000);
	assert_int_equal(entry.use.cpu_ns, 10050000000);
}

static void a_counter_that_goes_back_is_another_life(void **state)
{
	struct plane_usage_entry entry;
	put("one", 1, 9000000000, 10000);
	put("one", 1, 1000000, 20000);
	assert_true(plane_usage_find(usage, "one", 20000, &entry));
	assert_int_equal(entry.cpu_millis, -1);
	put("one", 1, 1000000 + 10000000000, 30000);
	assert_true(plane_usage_find(usage, "one", 30000, &entry));
	assert_int_equal(entry.cpu_millis, 1000);
}

static void what_is_not_reported_any_more_is_forgotten(void **state)
{
	struct plane_usage_entry entry;
	put("old", 1, 1, 1000);
	put("new", 1, 1, 2000);
	assert_true(plane_usage_find(usage, "old", 999 + PLANE_USAGE_FRESH_MS, &entry));
	assert_false(plane_usage_find(usage, "old", 1000 + PLANE_USAGE_FRESH_MS, &entry));
	assert_true(plane_usage_find(usage, "new", 1000 + PLANE_USAGE_FRESH_MS, &entry));
	assert_false(plane_usage_find(usage, "never", 2000, &entry));
}

static void cpu_times_since_the_last_message_are_summed(void **state)
{
	struct plane_usage_entry entry;
	struct plane_backend_metrics metrics = {
		.mem_used = 7, .mem_limit = 9, .cpu_used = 2000000000
	};
	plane_usage_add(usage, "dr-b", "one", &metrics, 10000);
	plane_usage_add(usage, "dr-b", "one", &metrics, 20000);
	assert_true(plane_usage_find(usage, "one", 20000, &entry));
	assert_int_equal(entry.use.cpu_ns, 4000000000);
	assert_int_equal(entry.use.memory_limit_bytes, 9);
	assert_int_equal(entry.cpu_millis, 200);
}

static void the_text_is_bounded_and_has_those_that_use_most(void **state)
{
	struct plane_buffer text = { 0 };
	char name[32];
	for (int i = 0; i < PLANE_USAGE_TEXT_MAX + 5; i++) {
		(void)snprintf(name, sizeof(name), "bk-%d", i);
		put(name, 100 + i, 1500000000, 1000);
	}
	plane_usage_write(usage, 1000, &text);
	const char *written = plane_buffer_text(&text);
	assert_non_null(strstr(written, "plane_backends_measured 1005\n"));
	assert_non_null(strstr(written, "plane_backends_left_out 5\n"));
	assert_null(strstr(written, "{backend=\"bk-4\","));
	assert_non_null(strstr(
		written, "plane_backend_memory_bytes{backend=\"bk-5\",drone=\"dr-a\"} 105\n"));
	assert_non_null(strstr(written,
		"plane_backend_cpu_seconds_total{backend=\"bk-1004\",drone=\"dr-a\"} 1.500\n"));
	plane_buffer_finish(&text);
}

static void drones_are_asked_again_only_while_somebody_wants_to_know(void **state)
{
	assert_false(plane_usage_is_wanted(usage, 1000));
	assert_true(plane_usage_want(usage, 1000));
	assert_false(plane_usage_want(usage, 2000));
	assert_true(plane_usage_is_wanted(usage, 1999 + PLANE_USAGE_WANTED_MS));
	assert_false(plane_usage_is_wanted(usage, 2000 + PLANE_USAGE_WANTED_MS));
	assert_true(plane_usage_want(usage, 1000 + PLANE_USAGE_WANTED_MS / 2));
}

static void who_waits_waits_for_the_last_answer_and_not_for_drones_that_do_not_come(void **state)
{
	assert_true(plane_usage_want(usage, 1000));
	plane_usage_asked(usage, 2);
	plane_usage_answered(usage);
	plane_usage_answered(usage);
	plane_usage_wait(usage, 3600000); /* returns at once */
	plane_usage_answered(usage);      /* one too many changes nothing */
	assert_true(plane_usage_want(usage, 1000 + 2 * PLANE_USAGE_WANTED_MS));
	plane_usage_asked(usage, 0);
	plane_usage_wait(usage, 3600000);
	assert_true(plane_usage_want(usage, 1000 + 4 * PLANE_USAGE_WANTED_MS));
	plane_usage_asked(usage, 1);
	plane_usage_wait(usage, 1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(the_first_report_has_no_average_and_the_second_has),
		CASE(two_reports_at_once_do_not_make_an_average_of_a_moment),
		CASE(a_counter_that_goes_back_is_another_life),
		CASE(what_is_not_reported_any_more_is_forgotten),
		CASE(cpu_times_since_the_last_message_are_summed),
		CASE(the_text_is_bounded_and_has_those_that_use_most),
		CASE(drones_are_asked_again_only_while_somebody_wants_to_know),
		CASE(who_waits_waits_for_the_last_answer_and_not_for_drones_that_do_not_come),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
