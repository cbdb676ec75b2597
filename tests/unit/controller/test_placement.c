/* controller/placement.c. */
#include "../cmocka_all.h"

#include "controller/placement.h"

#define GIB (INT64_C(1) << 30)

static const struct plane_resources nothing;

static uint64_t always_first(uint64_t bound)
{
	(void)bound;
	return 0;
}

static uint64_t always_last(uint64_t bound)
{
	return bound - 1;
}

static struct plane_placement_drone with_count(int64_t count)
{
	return (struct plane_placement_drone){ .resources.backend_count = count };
}

/* 8 GiB and 4 CPUs, all free, none overcommitted. */
static struct plane_placement_drone sized(int64_t reserved_bytes, int64_t reserved_millis)
{
	struct plane_resources total = { 8 * GIB, 4000 };
	return (struct plane_placement_drone){ .is_sized = true,
		.resources = { .total = total,
			.allocatable = total,
			.reserved = { reserved_bytes, reserved_millis },
			.memory_available_bytes = 8 * GIB,
			.load_millis = -1 } };
}

static void no_drone_gives_none(void **state)
{
	assert_true(
		plane_placement_choose(NULL, 0, &nothing, 2, always_first) == PLANE_PLACEMENT_NONE);
}

static void best_of_less_than_one_gives_none(void **state)
{
	struct plane_placement_drone one = with_count(1);
	assert_true(
		plane_placement_choose(&one, 1, &nothing, 0, always_first) == PLANE_PLACEMENT_NONE);
	assert_true(plane_placement_choose(&one, 1, &nothing, -3, always_first) ==
		    PLANE_PLACEMENT_NONE);
}

static void of_the_drawn_ones_the_least_loaded_wins(void **state)
{
	struct plane_placement_drone drones[] = { with_count(5), with_count(3), with_count(0) };
	assert_int_equal(plane_placement_choose(drones, 3, &nothing, 2, always_first), 1);
	/* draws 2, then of {1, 0 moved} the last: index 0 was swapped to the end */
	assert_int_equal(plane_placement_choose(drones, 3, &nothing, 2, always_last), 2);
}

static void best_of_more_than_there_are_takes_the_least_loaded_of_all(void **state)
{
	struct plane_placement_drone drones[] = { with_count(5), with_count(3), with_count(0),
		with_count(9) };
	assert_int_equal(plane_placement_choose(drones, 4, &nothing, 1000, always_first), 2);
	assert_int_equal(plane_placement_choose(drones, 4, &nothing, 1000, always_last), 2);
}

static void ties_go_to_the_first_drawn(void **state)
{
	struct plane_placement_drone drones[] = { with_count(4), with_count(4), with_count(4) };
	assert_int_equal(plane_placement_choose(drones, 3, &nothing, 3, always_first), 0);
	assert_int_equal(plane_placement_choose(drones, 3, &nothing, 3, always_last), 2);
}

static void a_drone_is_filled_to_the_last_byte_and_no_further(void **state)
{
	struct plane_placement_drone drone = sized(7 * GIB, 0);
	struct plane_resources fits = { GIB, 0 }, too_much = { GIB + 1, 0 };
	assert_int_equal(plane_placement_choose(&drone, 1, &fits, 2, always_first), 0);
	assert_true(plane_placement_choose(&drone, 1, &too_much, 2, always_first) ==
		    PLANE_PLACEMENT_NONE);
	drone.resources.allocatable.memory_bytes = 16 * GIB; /* overcommitted */
	assert_int_equal(plane_placement_choose(&drone, 1, &too_much, 2, always_first), 0);
}

static void cpu_and_memory_must_both_have_room(void **state)
{
	struct plane_placement_drone drone = sized(0, 3500);
	struct plane_resources fits = { GIB, 500 }, too_much = { GIB, 501 };
	assert_true(plane_placement_has_room(&drone, &fits));
	assert_false(plane_placement_has_room(&drone, &too_much));
}

static void what_is_not_asked_for_fits_also_where_too_much_is_reserved(void **state)
{
	struct plane_placement_drone drone = sized(9 * GIB, 0);
	struct plane_resources cpu = { 0, 1000 };
	assert_true(plane_placement_has_room(&drone, &nothing));
	assert_true(plane_placement_has_room(&drone, &cpu));
}

static void a_drone_that_does_not_tell_its_size_has_room(void **state)
{
	struct plane_placement_drone drone = with_count(1000);
	struct plane_resources much = { PLANE_MEMORY_BYTES_MAX, PLANE_CPU_MILLIS_MAX };
	assert_int_equal(plane_placement_choose(&drone, 1, &much, 1, always_first), 0);
}

static void full_drones_are_not_drawn(void **state)
{
	struct plane_resources asked = { GIB, 0 };
	struct plane_placement_drone drones[] = { sized(8 * GIB, 0), sized(8 * GIB, 0),
		sized(6 * GIB, 0), sized(7 * GIB, 0) };
	/* the first two are drawn first, and do not count: the next ones are */
	assert_int_equal(plane_placement_choose(drones, 4, &asked, 2, always_first), 2);
	assert_int_equal(plane_placement_choose(drones, 4, &asked, 1, always_first), 2);
}

static void the_scarcer_of_memory_and_cpu_decides(void **state)
{
	struct plane_resources asked = { GIB, 100 };
	/* 1/4 of the memory and 3/4 of the CPUs; 1/2 of each */
	struct plane_placement_drone drones[] = { sized(2 * GIB, 3000), sized(4 * GIB, 2000) };
	assert_int_equal(plane_placement_choose(drones, 2, &asked, 2, always_first), 1);
}

static void a_strained_drone_is_taken_only_when_all_drawn_ones_are(void **state)
{
	struct plane_resources asked = { GIB, 0 };
	struct plane_placement_drone drones[] = { sized(0, 0), sized(6 * GIB, 0) };
	drones[0].resources.memory_available_bytes = GIB; /* a twentieth must be left */
	assert_int_equal(plane_placement_choose(drones, 2, &asked, 2, always_first), 1);
	drones[1].resources.load_millis = 8001; /* more than two a CPU */
	assert_int_equal(plane_placement_choose(drones, 2, &asked, 2, always_first), 0);
	drones[1].resources.load_millis = 8000;
	assert_int_equal(plane_placement_choose(drones, 2, &asked, 2, always_first), 1);
}

static void among_equal_parts_the_number_of_backends_decides(void **state)
{
	struct plane_placement_drone drones[] = { sized(GIB, 0), sized(GIB, 0) };
	drones[0].resources.backend_count = 3;
	drones[1].resources.backend_count = 2;
	assert_int_equal(plane_placement_choose(drones, 2, &nothing, 2, always_first), 1);
}

static void silent_ones_are_drawn_beside_and_come_last(void **state)
{
	struct plane_placement_drone drones[] = { sized(0, 0), sized(0, 0), sized(6 * GIB, 0) };
	drones[0].is_silent = drones[1].is_silent = true;
	drones[2].resources.memory_available_bytes = 0; /* strained */
	assert_int_equal(plane_placement_choose(drones, 3, &nothing, 1, always_first), 2);
	drones[2].is_silent = true;
	assert_int_equal(plane_placement_choose(drones, 3, &nothing, 2, always_first), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_drone_gives_none),
		cmocka_unit_test(best_of_less_than_one_gives_none),
		cmocka_unit_test(of_the_drawn_ones_the_least_loaded_wins),
		cmocka_unit_test(best_of_more_than_there_are_takes_the_least_loaded_of_all),
		cmocka_unit_test(ties_go_to_the_first_drawn),
		cmocka_unit_test(a_drone_is_filled_to_the_last_byte_and_no_further),
		cmocka_unit_test(cpu_and_memory_must_both_have_room),
		cmocka_unit_test(what_is_not_asked_for_fits_also_where_too_much_is_reserved),
		cmocka_unit_test(a_drone_that_does_not_tell_its_size_has_room),
		cmocka_unit_test(full_drones_are_not_drawn),
		cmocka_unit_test(the_scarcer_of_memory_and_cpu_decides),
		cmocka_unit_test(a_strained_drone_is_taken_only_when_all_drawn_ones_are),
		cmocka_unit_test(among_equal_parts_the_number_of_backends_decides),
		cmocka_unit_test(silent_ones_are_drawn_beside_and_come_last),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
