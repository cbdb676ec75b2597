/* drone/capacity.c. */
#include "../cmocka_all.h"

#include <string.h>

#include "drone/capacity.h"

#define MIB (INT64_C(1) << 20)

static struct plane_capacity make(int64_t memory_millis, int64_t cpu_millis)
{
	return (struct plane_capacity){ .config = { .overcommit_memory_millis = memory_millis,
						.overcommit_cpu_millis = cpu_millis } };
}

static const struct plane_runtime_capacity machine = {
	.memory_total_bytes = 1000 * MIB,
	.memory_available_bytes = 600 * MIB,
	.cpu_millis = 2000,
	.load_millis = 700,
};

static void a_drone_of_unknown_size_has_room(void **state)
{
	struct plane_capacity capacity = make(1000, 1000);
	struct plane_resources much = { PLANE_MEMORY_BYTES_MAX, PLANE_CPU_MILLIS_MAX };
	char reason[128];
	assert_true(plane_capacity_has_room(&capacity, &much, reason, sizeof(reason)));
}

static void backends_may_ask_for_what_there_is_times_the_factor(void **state)
{
	struct plane_capacity capacity = make(1500, 4000);
	struct plane_resources all = { 1500 * MIB, 8000 }, more = { 1500 * MIB + 1, 0 };
	char reason[256];
	plane_capacity_measured(&capacity, &machine);
	assert_true(plane_capacity_has_room(&capacity, &all, reason, sizeof(reason)));
	assert_false(plane_capacity_has_room(&capacity, &more, reason, sizeof(reason)));
	assert_non_null(strstr(reason, "1500 MiB of memory and 8.000 CPUs is reserved"));
	assert_int_equal(capacity.resources.memory_available_bytes, 600 * MIB);
	assert_int_equal(capacity.resources.load_millis, 700);
}

static void what_was_taken_is_given_back(void **state)
{
	struct plane_capacity capacity = make(1000, 1000);
	struct plane_resources half = { 500 * MIB, 1000 }, rest = { 500 * MIB + 1, 0 };
	char reason[128];
	plane_capacity_measured(&capacity, &machine);
	plane_capacity_take(&capacity, &half, 9);
	assert_false(plane_capacity_has_room(&capacity, &rest, reason, sizeof(reason)));
	assert_true(plane_capacity_has_room(&capacity, &half, reason, sizeof(reason)));
	plane_capacity_take(&capacity, &half, 4);
	assert_int_equal(capacity.resources.backend_count, 2);
	assert_int_equal(capacity.resources.last_fencing_token, 9);
	plane_capacity_give(&capacity, &half);
	plane_capacity_give(&capacity, &half);
	assert_true(plane_capacity_has_room(&capacity, &rest, reason, sizeof(reason)));
	assert_int_equal(capacity.resources.reserved.memory_bytes, 0);
	assert_int_equal(capacity.resources.backend_count, 0);
	assert_int_equal(capacity.resources.last_fencing_token, 9);
}

static void flags_count_instead_of_what_is_found(void **state)
{
	struct plane_capacity capacity = make(1000, 1000);
	capacity.config.memory_bytes = 64 * MIB;
	capacity.config.cpu_millis = 500;
	plane_capacity_measured(&capacity, &machine);
	assert_int_equal(capacity.resources.total.memory_bytes, 64 * MIB);
	assert_int_equal(capacity.resources.allocatable.cpu_millis, 500);
	assert_int_equal(capacity.resources.memory_available_bytes, 64 * MIB);
}

static void a_machine_that_shrinks_keeps_what_it_has_and_takes_no_more(void **state)
{
	struct plane_capacity capacity = make(1000, 1000);
	struct plane_runtime_capacity smaller = { .memory_total_bytes = 100 * MIB };
	struct plane_resources some = { 200 * MIB, 0 }, little = { 1, 0 }, none = { 0, 0 };
	char reason[256];
	plane_capacity_measured(&capacity, &machine);
	plane_capacity_take(&capacity, &some, 1);
	plane_capacity_measured(&capacity, &smaller);
	assert_false(plane_capacity_has_room(&capacity, &little, reason, sizeof(reason)));
	assert_true(plane_capacity_has_room(&capacity, &none, reason, sizeof(reason)));
	assert_int_equal(capacity.resources.reserved.memory_bytes, 200 * MIB);
}

static void a_huge_factor_does_not_overflow(void **state)
{
	struct plane_capacity capacity = make(1000000, 1000000);
	struct plane_runtime_capacity huge = { .memory_total_bytes = PLANE_MEMORY_BYTES_MAX,
		.cpu_millis = PLANE_CPU_MILLIS_MAX };
	plane_capacity_measured(&capacity, &huge);
	assert_int_equal(capacity.resources.allocatable.memory_bytes, PLANE_MEMORY_BYTES_MAX);
	assert_int_equal(capacity.resources.allocatable.cpu_millis, PLANE_CPU_MILLIS_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_drone_of_unknown_size_has_room),
		cmocka_unit_test(backends_may_ask_for_what_there_is_times_the_factor),
		cmocka_unit_test(what_was_taken_is_given_back),
		cmocka_unit_test(flags_count_instead_of_what_is_found),
		cmocka_unit_test(a_machine_that_shrinks_keeps_what_it_has_and_takes_no_more),
		cmocka_unit_test(a_huge_factor_does_not_overflow),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
