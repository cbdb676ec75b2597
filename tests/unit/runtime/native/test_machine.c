/* runtime/native/machine.c, on directories that look like /proc and cgroups. */
#include "../../cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "runtime/native/machine.h"

#define GIB (INT64_C(1) << 30)
#define MIB (INT64_C(1) << 20)

static char root[] = "/tmp/plane-machine-XXXXXX";
static struct plane_runtime_capacity capacity;
static struct plane_error err;

static void put(const char *path, const char *text)
{
	_cleanup_free_ char *full = plane_strdupf("%s/%s", root, path);
	_cleanup_free_ char *directory = plane_strdup(full);
	*strrchr(directory, '/') = '\0';
	assert_int_equal(plane_file_make_directories(directory, 0700, &err), 0);
	assert_int_equal(plane_file_replace(full, text, strlen(text), 0600, false, &err), 0);
}

static int set_up(void **state)
{
	(void)state;
	strcpy(strrchr(root, '-') + 1, "XXXXXX");
	if (!mkdtemp(root))
		return -1;
	put("proc/meminfo", "MemTotal:        8388608 kB\nMemFree:          100 kB\n"
			    "MemAvailable:    6291456 kB\n");
	put("proc/loadavg", "1.25 0.50 0.10 2/300 4242\n");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return plane_file_remove_tree(root, &err);
}

static int read_machine(const char *memory, const char *cpu, enum plane_cgroup_version version)
{
	_cleanup_free_ char *proc = plane_strdupf("%s/proc", root);
	_cleanup_free_ char *memory_group = plane_strdupf("%s/%s", root, memory);
	_cleanup_free_ char *cpu_group = plane_strdupf("%s/%s", root, cpu);
	struct plane_machine_places places = { .proc = proc,
		.memory_group = memory_group,
		.cpu_group = cpu_group,
		.version = version,
		.cpu_count = 4 };
	return plane_machine_read(&places, &capacity, &err);
}

static void without_limits_it_is_the_machine(void **state)
{
	assert_int_equal(read_machine("none", "none", PLANE_CGROUP_V2), 0);
	assert_int_equal(capacity.memory_total_bytes, 8 * GIB);
	assert_int_equal(capacity.memory_available_bytes, 6 * GIB);
	assert_int_equal(capacity.cpu_millis, 4000);
	assert_int_equal(capacity.load_millis, 1250);
}

static void the_least_limit_of_the_groups_of_v2_counts(void **state)
{
	put("cg/cgroup.procs", "");
	put("cg/memory.max", "2147483648\n");
	put("cg/memory.current", "1610612736\n");
	put("cg/memory.stat", "anon 1\ninactive_file 536870912\nactive_file 7\n");
	put("cg/cpu.max", "150000 100000\n");
	put("cg/plane-1/cgroup.procs", "");
	put("cg/plane-1/memory.max", "max\n");
	put("cg/plane-1/cpu.max", "max 100000\n");
	assert_int_equal(read_machine("cg/plane-1", "cg/plane-1", PLANE_CGROUP_V2), 0);
	assert_int_equal(capacity.memory_total_bytes, 2 * GIB);
	assert_int_equal(capacity.memory_available_bytes, GIB); /* the cache can be given back */
	assert_int_equal(capacity.cpu_millis, 1500);
}

static void v1_says_the_least_limit_of_groups_that_are_not_seen(void **state)
{
	put("memory/plane-1/cgroup.procs", "");
	put("memory/plane-1/memory.limit_in_bytes", "9223372036854771712\n");
	put("memory/plane-1/memory.usage_in_bytes", "104857600\n");
	put("memory/plane-1/memory.stat",
		"cache 1\nhierarchical_memory_limit 1073741824\ntotal_inactive_file 0\n");
	put("cpu/plane-1/cgroup.procs", "");
	put("cpu/plane-1/cpu.cfs_quota_us", "-1\n");
	put("cpu/plane-1/cpu.cfs_period_us", "100000\n");
	put("cpu/cgroup.procs", "");
	put("cpu/cpu.cfs_quota_us", "50000\n");
	put("cpu/cpu.cfs_period_us", "100000\n");
	assert_int_equal(read_machine("memory/plane-1", "cpu/plane-1", PLANE_CGROUP_V1), 0);
	assert_int_equal(capacity.memory_total_bytes, GIB);
	assert_int_equal(capacity.memory_available_bytes, GIB - 100 * MIB);
	assert_int_equal(capacity.cpu_millis, 500);
}

static void more_used_than_allowed_leaves_nothing(void **state)
{
	put("cg/cgroup.procs", "");
	put("cg/memory.max", "1048576\n");
	put("cg/memory.current", "2097152\n");
	assert_int_equal(read_machine("cg", "cg", PLANE_CGROUP_V2), 0);
	assert_int_equal(capacity.memory_total_bytes, MIB);
	assert_int_equal(capacity.memory_available_bytes, 0);
}

static void what_cannot_be_read_is_no_limit(void **state)
{
	put("cg/cgroup.procs", "");
	put("cg/memory.max", "many\n");
	put("cg/cpu.max", "");
	put("proc/loadavg", "unknown\n");
	assert_int_equal(read_machine("cg", "cg", PLANE_CGROUP_V2), 0);
	assert_int_equal(capacity.memory_total_bytes, 8 * GIB);
	assert_int_equal(capacity.cpu_millis, 4000);
	assert_int_equal(capacity.load_millis, -1);
}

static void without_meminfo_it_fails(void **state)
{
	_cleanup_free_ char *path = plane_strdupf("%s/proc/meminfo", root);
	assert_int_equal(unlink(path), 0);
	assert_true(read_machine("none", "none", PLANE_CGROUP_V2) < 0);
	assert_non_null(strstr(err.message, "meminfo"));
	put("proc/meminfo", "");
	assert_true(read_machine("none", "none", PLANE_CGROUP_V2) < 0);
}

static void this_machine_has_memory_and_cpus(void **state)
{
	struct plane_machine_places here = { .version = PLANE_CGROUP_V2 };
	assert_int_equal(plane_machine_read(&here, &capacity, &err), 0);
	assert_true(capacity.memory_total_bytes >= capacity.memory_available_bytes);
	assert_true(capacity.memory_available_bytes > 0);
	assert_true(capacity.cpu_millis >= 1000);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(without_limits_it_is_the_machine),
		CASE(the_least_limit_of_the_groups_of_v2_counts),
		CASE(v1_says_the_least_limit_of_groups_that_are_not_seen),
		CASE(more_used_than_allowed_leaves_nothing),
		CASE(what_cannot_be_read_is_no_limit),
		CASE(without_meminfo_it_fails),
		CASE(this_machine_has_memory_and_cpus),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
