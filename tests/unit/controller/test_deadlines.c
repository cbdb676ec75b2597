/* controller/deadlines.c. */
#include "../cmocka_all.h"

#include "controller/deadlines.h"

static void deadlines_come_30_40_and_50_seconds_after_the_acquisition(void **state)
{
	struct plane_deadlines deadlines = plane_deadlines_after(&plane_lease_defaults, 1000000);
	assert_int_equal(deadlines.renew_at_ms, 1030000);
	assert_int_equal(deadlines.soft_terminate_at_ms, 1040000);
	assert_int_equal(deadlines.hard_terminate_at_ms, 1050000);
}

static void a_drones_clock_is_estimated_from_its_report_and_our_own_time_since(void **state)
{
	struct plane_clock_report report = { .local_ms = 5000, .arrived_ms = 100 };
	assert_int_equal(plane_clock_report_estimate(&report, 100), 5000);
	assert_int_equal(plane_clock_report_estimate(&report, 3100), 8000);
}

static void the_estimate_is_never_later_than_the_drones_clock(void **state)
{
	/* the drone read 5000 at our 80; the report arrived at 100 */
	struct plane_clock_report report = { .local_ms = 5000, .arrived_ms = 100 };
	for (int64_t now = 100; now < 10000; now += 97)
		assert_true(plane_clock_report_estimate(&report, now) <= 5000 + (now - 80));
}

static void a_clock_before_the_arrival_counts_as_the_arrival(void **state)
{
	struct plane_clock_report report = { .local_ms = 5000, .arrived_ms = 100 };
	assert_int_equal(plane_clock_report_estimate(&report, 0), 5000);
}

static void absurd_clocks_do_not_overflow(void **state)
{
	struct plane_clock_report report = { .local_ms = INT64_MAX, .arrived_ms = 0 };
	int64_t estimate = plane_clock_report_estimate(&report, INT64_MAX);
	struct plane_deadlines deadlines = plane_deadlines_after(&plane_lease_defaults, estimate);
	assert_true(deadlines.hard_terminate_at_ms > deadlines.renew_at_ms);
	report.local_ms = INT64_MIN;
	estimate = plane_clock_report_estimate(&report, 5);
	deadlines = plane_deadlines_after(&plane_lease_defaults, estimate);
	assert_true(deadlines.renew_at_ms < 0);
}

static int check(struct plane_lease_constants constants, const char *message)
{
	struct plane_error err = { 0 };
	int result = plane_lease_constants_check(&constants, "lease", &err);
	assert_string_equal(err.message, message);
	return result;
}

static void constants_must_be_in_order_and_end_before_the_expiry(void **state)
{
	(void)state;
	assert_int_equal(check(plane_lease_defaults, ""), 0);
	assert_int_equal(check((struct plane_lease_constants){ 1, 1, 1, 2 }, ""), 0);
	assert_true(check((struct plane_lease_constants){ 30, 40, 60, 60 },
			    "lease: expiry (60 ms) must come after hard stop (60 ms)") < 0);
	assert_true(check((struct plane_lease_constants){ 0, 40, 50, 60 },
			    "lease: renewal (0 ms) must come after the beginning (0 ms)") < 0);
	assert_true(check((struct plane_lease_constants){ 30, 29, 50, 60 },
			    "lease: soft stop (29 ms) must come not before renewal (30 ms)") < 0);
	assert_true(check((struct plane_lease_constants){ 30, 40, 39, 60 },
			    "lease: hard stop (39 ms) must come not before soft stop (40 ms)") < 0);
	assert_true(
		plane_lease_constants_check(
			&(struct plane_lease_constants){ 1, 2, 3, INT64_MAX }, "lease", NULL) < 0);
}

static void leases_of_drones_scale(void **state)
{
	struct plane_lease_constants constants = plane_lease_constants_scale(10000);
	(void)state;
	assert_int_equal(constants.renew_ms, 2000);
	assert_int_equal(constants.soft_terminate_ms, 6000);
	assert_int_equal(constants.hard_terminate_ms, 8000);
	assert_int_equal(constants.expire_ms, 10000);
	constants = plane_lease_constants_scale(1000);
	assert_int_equal(plane_lease_constants_check(&constants, "lease", NULL), 0);
}

/* A drone that another controller gave 48 s still has them after a renewal that gives it 8 s. */
static void a_renewal_counts_until_the_drone_has_ended_by_all_it_was_told(void **state)
{
	struct plane_lease_constants constants = plane_lease_constants_scale(10000);
	(void)state;
	assert_int_equal(plane_lease_expiry_after(&constants, 0), 10000);
	assert_int_equal(plane_lease_expiry_after(&constants, 8000), 10000);
	assert_int_equal(plane_lease_expiry_after(&constants, 8001), 10001);
	assert_int_equal(plane_lease_expiry_after(&constants, 48000), 50000);
	assert_true(plane_lease_expiry_after(&constants, INT64_MAX) > 50000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(deadlines_come_30_40_and_50_seconds_after_the_acquisition),
		cmocka_unit_test(
			a_drones_clock_is_estimated_from_its_report_and_our_own_time_since),
		cmocka_unit_test(the_estimate_is_never_later_than_the_drones_clock),
		cmocka_unit_test(a_clock_before_the_arrival_counts_as_the_arrival),
		cmocka_unit_test(absurd_clocks_do_not_overflow),
		cmocka_unit_test(constants_must_be_in_order_and_end_before_the_expiry),
		cmocka_unit_test(leases_of_drones_scale),
		cmocka_unit_test(a_renewal_counts_until_the_drone_has_ended_by_all_it_was_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
