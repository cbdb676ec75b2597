/* When a drone's lease is broken, by what was seen of it. */
#include "../cmocka_all.h"

#include "controller/lease_watch.h"

#define EXPIRE_MS 10000

static struct plane_lease_watch *watch;
static struct plane_store_lease seen[4], expired[4];
static struct plane_store_leases leases = { .incarnation = 1, .entries = seen };

static int set_up(void **state)
{
	(void)state;
	watch = plane_lease_watch_create();
	leases.incarnation = 1;
	leases.count = 0;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	plane_lease_watch_destroy(watch);
	return 0;
}

static void set(size_t index, int64_t drone_id, int64_t epoch, int64_t renewals)
{
	seen[index] = (struct plane_store_lease){
		.drone_id = drone_id, .epoch = epoch, .renewals = renewals
	};
	if (leases.count <= index)
		leases.count = index + 1;
}

static size_t observe(int64_t now_ms)
{
	return plane_lease_watch_observe(watch, &leases, now_ms, EXPIRE_MS, expired);
}

static void a_lease_that_stays_the_same_expires(void **state)
{
	(void)state;
	set(0, 1, 3, 40);
	assert_int_equal(observe(500), 0);
	assert_int_equal(observe(10499), 0);
	assert_int_equal(observe(10500), 1);
	assert_int_equal(expired[0].drone_id, 1);
	assert_int_equal(expired[0].epoch, 3);
	assert_int_equal(expired[0].renewals, 40);
	assert_int_equal(observe(10600), 1); /* it could not be broken: again */
}

static void each_change_begins_it_anew(void **state)
{
	(void)state;
	set(0, 1, 3, 40);
	set(1, 2, 8, 90);
	assert_int_equal(observe(0), 0);
	set(0, 1, 3, 41);
	assert_int_equal(observe(9000), 0);
	assert_int_equal(observe(10000), 1);
	assert_int_equal(expired[0].drone_id, 2);
	set(1, 2, 9, 1); /* another epoch; a smaller number is as much a change as a greater one */
	assert_int_equal(observe(18999), 0);
	assert_int_equal(observe(19000), 1);
	assert_int_equal(expired[0].drone_id, 1);
	assert_int_equal(observe(28999), 2);
}

/* By a controller whose leases last longer, or by one that counts as another one does. */
static void what_the_last_renewal_said_is_waited_for(void **state)
{
	(void)state;
	set(0, 1, 3, 40);
	set(1, 2, 3, 40);
	seen[0].expire_ms = EXPIRE_MS + 5000;
	seen[1].expire_ms = EXPIRE_MS - 5000;
	assert_int_equal(observe(0), 0);
	assert_int_equal(observe(9999), 0);
	assert_int_equal(observe(10000), 1);
	assert_int_equal(expired[0].drone_id, 2);
	assert_int_equal(observe(14999), 1);
	assert_int_equal(observe(15000), 2);
	set(0, 1, 3, 41); /* less by now */
	assert_int_equal(observe(16000), 1);
	assert_int_equal(observe(26000), 2);
}

static void a_controller_that_begins_gives_all_their_whole_time(void **state)
{
	(void)state;
	set(0, 1, 3, 40); /* whatever the store says about how long ago that was */
	assert_int_equal(observe(1000000), 0);
	assert_int_equal(observe(1009999), 0);
	assert_int_equal(observe(1010000), 1);
}

static void another_database_gives_all_their_whole_time(void **state)
{
	(void)state;
	set(0, 1, 3, 40);
	assert_int_equal(observe(0), 0);
	leases.incarnation = 2; /* it may not know of the last renewals */
	assert_int_equal(observe(10000), 0);
	assert_int_equal(observe(19999), 0);
	assert_int_equal(observe(20000), 1);
}

static void a_lease_that_was_gone_begins_anew(void **state)
{
	(void)state;
	set(0, 1, 3, 40);
	assert_int_equal(observe(0), 0);
	leases.count = 0; /* broken by somebody */
	assert_int_equal(observe(5000), 0);
	set(0, 1, 3, 40);
	assert_int_equal(observe(10000), 0);
	assert_int_equal(observe(20000), 1);
}

static void a_clock_that_jumps_back_breaks_nothing_early(void **state)
{
	(void)state;
	set(0, 1, 3, 40);
	assert_int_equal(observe(50000), 0);
	assert_int_equal(observe(100), 0);
	assert_int_equal(observe(10099), 0);
	assert_int_equal(observe(10100), 1);
}

static void rounds_are_a_fraction_of_the_expiry(void **state)
{
	(void)state;
	assert_int_equal(plane_lease_watch_period_ms(60000), 1000);
	assert_int_equal(plane_lease_watch_period_ms(3000), 375);
	assert_int_equal(plane_lease_watch_period_ms(1), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_lease_that_stays_the_same_expires, set_up, tear_down),
		cmocka_unit_test_setup_teardown(each_change_begins_it_anew, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			what_the_last_renewal_said_is_waited_for, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			a_controller_that_begins_gives_all_their_whole_time, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			another_database_gives_all_their_whole_time, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			a_lease_that_was_gone_begins_anew, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			a_clock_that_jumps_back_breaks_nothing_early, set_up, tear_down),
		cmocka_unit_test(rounds_are_a_fraction_of_the_expiry),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
