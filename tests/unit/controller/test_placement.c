/* controller/placement.c. */
#include "../cmocka_all.h"

#include "controller/placement.h"

static uint64_t always_first(uint64_t bound)
{
	(void)bound;
	return 0;
}

static uint64_t always_last(uint64_t bound)
{
	return bound - 1;
}

static void no_drone_gives_none(void **state)
{
	assert_true(plane_placement_choose(NULL, 0, 2, always_first) == PLANE_PLACEMENT_NONE);
}

static void best_of_less_than_one_gives_none(void **state)
{
	int64_t counts[] = { 1 };
	assert_true(plane_placement_choose(counts, 1, 0, always_first) == PLANE_PLACEMENT_NONE);
	assert_true(plane_placement_choose(counts, 1, -3, always_first) == PLANE_PLACEMENT_NONE);
}

static void of_the_drawn_ones_the_least_loaded_wins(void **state)
{
	int64_t counts[] = { 5, 3, 0 };
	assert_int_equal(plane_placement_choose(counts, 3, 2, always_first), 1);
	/* draws 2, then of {1, 0 moved} the last: index 0 was swapped to the end */
	assert_int_equal(plane_placement_choose(counts, 3, 2, always_last), 2);
}

static void best_of_more_than_there_are_takes_the_least_loaded_of_all(void **state)
{
	int64_t counts[] = { 5, 3, 0, 9 };
	assert_int_equal(plane_placement_choose(counts, 4, 1000, always_first), 2);
	assert_int_equal(plane_placement_choose(counts, 4, 1000, always_last), 2);
}

static void ties_go_to_the_first_drawn(void **state)
{
	int64_t counts[] = { 4, 4, 4 };
	assert_int_equal(plane_placement_choose(counts, 3, 3, always_first), 0);
	assert_int_equal(plane_placement_choose(counts, 3, 3, always_last), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_drone_gives_none),
		cmocka_unit_test(best_of_less_than_one_gives_none),
		cmocka_unit_test(of_the_drawn_ones_the_least_loaded_wins),
		cmocka_unit_test(best_of_more_than_there_are_takes_the_least_loaded_of_all),
		cmocka_unit_test(ties_go_to_the_first_drawn),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
