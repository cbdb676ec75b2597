/* When a lease is renewed, and when it ends a backend. */
#include "cmocka_all.h"

#include "drone/lease.h"

#define RETRY_MS 5000

static struct plane_lease granted(void)
{
	struct plane_lease lease = { 0 };
	plane_lease_grant(&lease, &(struct plane_deadlines){ 30000, 40000, 50000 });
	return lease;
}

static void steps_follow_the_deadlines(void **state)
{
	struct plane_lease lease = granted();
	(void)state;
	assert_int_equal(plane_lease_step(&lease, 29999, RETRY_MS), PLANE_LEASE_HOLD);
	assert_int_equal(plane_lease_step(&lease, 30000, RETRY_MS), PLANE_LEASE_RENEW);
	assert_int_equal(plane_lease_step(&lease, 34999, RETRY_MS), PLANE_LEASE_HOLD);
	assert_int_equal(plane_lease_step(&lease, 35000, RETRY_MS), PLANE_LEASE_RENEW);
	assert_int_equal(plane_lease_step(&lease, 40000, RETRY_MS), PLANE_LEASE_SOFT_STOP);
	assert_int_equal(plane_lease_step(&lease, 50000, RETRY_MS), PLANE_LEASE_HARD_STOP);
}

static void lease_stays_expired_if_the_clock_jumps_back(void **state)
{
	struct plane_lease lease = granted();
	(void)state;
	assert_int_equal(plane_lease_step(&lease, 50000, RETRY_MS), PLANE_LEASE_HARD_STOP);
	assert_int_equal(plane_lease_step(&lease, 10, RETRY_MS), PLANE_LEASE_HARD_STOP);
}

static void a_renewal_that_was_overtaken_shortens_nothing(void **state)
{
	struct plane_lease lease = granted();
	(void)state;
	assert_true(plane_lease_renew(&lease, &(struct plane_deadlines){ 60000, 70000, 80000 }));
	assert_false(plane_lease_renew(&lease, &(struct plane_deadlines){ 50000, 60000, 70000 }));
	assert_int_equal(plane_lease_step(&lease, 59999, RETRY_MS), PLANE_LEASE_HOLD);
}

static void a_new_connection_is_asked_at_once(void **state)
{
	struct plane_lease lease = granted();
	(void)state;
	assert_int_equal(plane_lease_step(&lease, 31000, RETRY_MS), PLANE_LEASE_RENEW);
	plane_lease_ask_again(&lease);
	assert_int_equal(plane_lease_step(&lease, 31001, RETRY_MS), PLANE_LEASE_RENEW);
}

static void a_lease_is_renewed_with_others_shortly_before_its_time(void **state)
{
	struct plane_lease lease = granted();
	(void)state;
	assert_int_equal(plane_lease_step(&lease, 19999, RETRY_MS), PLANE_LEASE_HOLD);
	assert_false(plane_lease_renew_early(&lease, 10000, RETRY_MS));
	assert_int_equal(plane_lease_step(&lease, 20000, RETRY_MS), PLANE_LEASE_HOLD);
	assert_true(plane_lease_renew_early(&lease, 10000, RETRY_MS));
	assert_false(plane_lease_renew_early(&lease, 10000, RETRY_MS)); /* its answer may come */
	assert_int_equal(plane_lease_step(&lease, 25000, RETRY_MS), PLANE_LEASE_HOLD);
	assert_true(plane_lease_renew_early(&lease, 10000, RETRY_MS));
	assert_true(plane_lease_renew(&lease, &(struct plane_deadlines){ 55000, 65000, 75000 }));
	assert_int_equal(plane_lease_step(&lease, 30000, RETRY_MS), PLANE_LEASE_HOLD);
}

static void an_expired_lease_is_not_renewed_with_others(void **state)
{
	struct plane_lease lease = granted();
	(void)state;
	assert_int_equal(plane_lease_step(&lease, 40000, RETRY_MS), PLANE_LEASE_SOFT_STOP);
	assert_false(plane_lease_renew_early(&lease, 10000, RETRY_MS));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(steps_follow_the_deadlines),
		cmocka_unit_test(lease_stays_expired_if_the_clock_jumps_back),
		cmocka_unit_test(a_renewal_that_was_overtaken_shortens_nothing),
		cmocka_unit_test(a_new_connection_is_asked_at_once),
		cmocka_unit_test(a_lease_is_renewed_with_others_shortly_before_its_time),
		cmocka_unit_test(an_expired_lease_is_not_renewed_with_others),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
