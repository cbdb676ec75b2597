/* controller/placements.c. */
#include "../cmocka_all.h"

#include "controller/placements.h"

#define MIB (INT64_C(1) << 20)
#define COUNTS_MS 20000
#define RENEWED_MS 3000

static struct plane_placements *placements;
static struct plane_store_drone one; /* room for 100 MiB */
static struct plane_store_drones drones = { 1, &one };
static const struct plane_resources asked = { 40 * MIB, 0 };

static int set_up(void **state)
{
	struct plane_resources total = { 100 * MIB, 1000 };
	(void)state;
	one = (struct plane_store_drone){ .id = 7,
		.has_resources = true,
		.resources = { .total = total,
			.allocatable = total,
			.memory_available_bytes = 100 * MIB,
			.load_millis = -1 } };
	placements = plane_placements_create(COUNTS_MS, RENEWED_MS);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	plane_placements_destroy(placements);
	return 0;
}

static bool place(int64_t now_ms, struct plane_placement *placement)
{
	return plane_placements_choose(placements, &drones, &asked, 2, now_ms, placement) == 0;
}

static void what_was_placed_since_the_report_counts(void **state)
{
	struct plane_placement placement;
	assert_true(place(1000, &placement));
	assert_true(place(1000, &placement));
	assert_false(place(1000, &placement));
}

static void a_drone_whose_lease_should_have_been_renewed_comes_last(void **state)
{
	struct plane_store_drone both[] = { one, one };
	struct plane_store_drones two = { 2, both };
	struct plane_placement placement;
	both[1].id = 8;
	both[0].lease_epoch = both[1].lease_epoch = 1;
	both[0].silent_ms = RENEWED_MS + 1;
	both[1].silent_ms = RENEWED_MS;
	for (int i = 0; i < 2; i++)
		assert_int_equal(
			plane_placements_choose(placements, &two, &asked, 1, 1000, &placement), 1);
	/* rather there than nowhere */
	assert_int_equal(plane_placements_choose(placements, &two, &asked, 1, 1000, &placement), 0);
}

static void a_drone_without_a_lease_is_not_silent(void **state)
{
	struct plane_placement placement;
	struct plane_store_drone both[] = { one, one };
	struct plane_store_drones two = { 2, both };
	both[0].silent_ms = 10 * RENEWED_MS;
	both[1].resources.reserved.memory_bytes = 10 * MIB;
	assert_int_equal(plane_placements_choose(placements, &two, &asked, 2, 1000, &placement), 0);
}

static void what_was_not_stored_counts_no_more(void **state)
{
	struct plane_placement first, second;
	assert_true(place(1000, &first));
	assert_true(place(1000, &second));
	plane_placements_cancel(placements, &first);
	assert_true(place(1000, &first));
	assert_false(place(1000, &first));
}

static void a_report_that_knows_of_it_counts_instead(void **state)
{
	struct plane_placement first, second, third;
	assert_true(place(1000, &first));
	assert_true(place(1000, &second));
	plane_placements_confirm(placements, &first, 50);
	plane_placements_confirm(placements, &second, 51);
	one.resources.last_fencing_token = 50; /* the second is still on its way */
	one.resources.reserved.memory_bytes = 40 * MIB;
	assert_false(place(1001, &third));
	one.resources.last_fencing_token = 51; /* both have come, and the first has ended */
	assert_true(place(1002, &third));
}

static void what_is_not_stored_yet_is_not_taken_for_told(void **state)
{
	struct plane_placement first, second;
	assert_true(place(1000, &first));
	assert_true(place(1000, &second));
	one.resources.last_fencing_token = 1000;
	assert_false(place(1001, &second));
}

static void what_was_refused_counts_no_more(void **state)
{
	struct plane_placement first, second;
	assert_true(place(1000, &first));
	assert_true(place(1000, &second));
	plane_placements_confirm(placements, &first, 50);
	plane_placements_confirm(placements, &second, 51);
	plane_placements_refused(placements, 7, 51);
	plane_placements_refused(placements, 8, 50); /* another drone's */
	assert_true(place(1000, &second));
	assert_false(place(1000, &second));
}

static void a_placement_counts_for_a_time_only(void **state)
{
	struct plane_placement placement;
	assert_true(place(1000, &placement));
	assert_true(place(2000, &placement));
	plane_placements_confirm(placements, &placement, 50);
	assert_false(place(999 + COUNTS_MS, &placement));
	assert_true(place(1000 + COUNTS_MS, &placement));
	assert_false(place(1000 + COUNTS_MS, &placement));
}

static void a_drone_that_tells_nothing_is_balanced_by_what_it_was_given(void **state)
{
	struct plane_store_drone two[] = { { .id = 1 }, { .id = 2 } };
	struct plane_store_drones both = { 2, two };
	struct plane_placement placement;
	int given[2] = { 0, 0 };
	for (int i = 0; i < 10; i++)
		given[plane_placements_choose(placements, &both, &asked, 2, 1000, &placement)]++;
	assert_int_equal(given[0], 5);
	assert_int_equal(given[1], 5);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(what_was_placed_since_the_report_counts),
		CASE(a_drone_whose_lease_should_have_been_renewed_comes_last),
		CASE(a_drone_without_a_lease_is_not_silent),
		CASE(what_was_not_stored_counts_no_more),
		CASE(a_report_that_knows_of_it_counts_instead),
		CASE(what_is_not_stored_yet_is_not_taken_for_told),
		CASE(what_was_refused_counts_no_more),
		CASE(a_placement_counts_for_a_time_only),
		CASE(a_drone_that_tells_nothing_is_balanced_by_what_it_was_given),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
