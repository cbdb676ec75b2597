/* For how long keys wait after the database has become another one. */
#include "../cmocka_all.h"

#include "controller/recovery.h"

static struct plane_recovery recovery;
static struct plane_store_lease held[2];
static struct plane_store_leases leases;
static const struct plane_lease_constants drone_lease = { .expire_ms = 10000 };
static const struct plane_lease_constants key_lease = { .expire_ms = 60000 };

static int set_up(void **state)
{
	(void)state;
	recovery = (struct plane_recovery){ 0 };
	leases = (struct plane_store_leases){ .incarnation = 1, .entries = held };
	return 0;
}

static int64_t observe(int64_t now_ms)
{
	return plane_recovery_observe(&recovery, &leases, now_ms, &drone_lease, &key_lease);
}

static void there_is_none_unless_the_store_says_so(void **state)
{
	(void)state;
	assert_int_equal(observe(5000), 0);
	leases.incarnation = 2; /* the same server, started anew */
	assert_int_equal(observe(6000), 0);
}

static void it_lasts_for_a_lease_by_this_controllers_clock(void **state)
{
	(void)state;
	leases.recovering_since_ms = 1700000000000;
	assert_int_equal(observe(5000), 15000);
	assert_int_equal(observe(9000), 15000);
	assert_int_equal(observe(20000), 15000);
	leases.recovering_since_ms = 0;
	assert_int_equal(observe(21000), 0);
}

static void another_one_begins_anew(void **state)
{
	(void)state;
	leases.recovering_since_ms = 1700000000000;
	assert_int_equal(observe(5000), 15000);
	leases.recovering_since_ms++;
	assert_int_equal(observe(9000), 19000);
	/* a third server, whose clock shows what the second one's did */
	leases.incarnation++;
	assert_int_equal(observe(12000), 22000);
	leases.recovering_since_ms = 0;
	assert_int_equal(observe(13000), 0);
	leases.recovering_since_ms = 1700000000001;
	assert_int_equal(observe(14000), 24000);
}

static void it_lasts_as_long_as_the_longest_lease_that_there_may_be(void **state)
{
	(void)state;
	leases.recovering_since_ms = 1;
	leases.count = 2;
	held[0].expire_ms = 3000;
	held[1].expire_ms = 45000;
	assert_int_equal(observe(1000), 46000);
	leases.has_key_leases = true;
	assert_int_equal(observe(2000), 61000);
	leases.count = 0;
	leases.has_key_leases = false;
	assert_int_equal(observe(3000), 11000);
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(there_is_none_unless_the_store_says_so),
		TEST(it_lasts_for_a_lease_by_this_controllers_clock),
		TEST(another_one_begins_anew),
		TEST(it_lasts_as_long_as_the_longest_lease_that_there_may_be),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
