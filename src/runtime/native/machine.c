/* Kernel: proc_meminfo(5), proc_loadavg(5), Documentation/admin-guide/cgroup-v1/memory.rst,
 * scheduler/sched-bwc.rst, admin-guide/cgroup-v2.rst. */
#include "runtime/native/machine.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "model/resources.h"
#include "runtime/native/cgroup_driver.h"

#define GROUP_DEPTH_MAX 32

static int64_t least(int64_t one, int64_t two)
{
	return one < two ? one : two;
}

static bool read_file(const char *directory, const char *name, struct plane_buffer *text)
{
	_cleanup_free_ char *path = plane_strdupf("%s/%s", directory, name);
	plane_buffer_clear(text);
	return plane_file_read(path, 65536, text, NULL) == 0;
}

/* The number in a file; `none` when it is not there, or "max". */
static int64_t read_number(const char *directory, const char *name, int64_t none)
{
	struct plane_buffer text = { 0 };
	int64_t value = none;
	char *end;
	if (read_file(directory, name, &text)) {
		long long number = strtoll(plane_buffer_text(&text), &end, 10);
		if (end != plane_buffer_text(&text) && number >= 0)
			value = number;
	}
	plane_buffer_finish(&text);
	return value;
}

static int read_meminfo(
	const char *proc, struct plane_runtime_capacity *capacity, struct plane_error *err)
{
	_cleanup_free_ char *path = plane_strdupf("%s/meminfo", proc);
	struct plane_buffer text = { 0 };
	int result = plane_file_read(path, 65536, &text, err);
	if (result == 0) {
		capacity->memory_total_bytes =
			plane_cgroup_find(plane_buffer_text(&text), "MemTotal:") * 1024;
		capacity->memory_available_bytes =
			plane_cgroup_find(plane_buffer_text(&text), "MemAvailable:") * 1024;
		if (capacity->memory_total_bytes <= 0)
			result = plane_error_set(err, -EIO, "%s does not say MemTotal", path);
	}
	plane_buffer_finish(&text);
	return result;
}

static void read_load(const char *proc, struct plane_runtime_capacity *capacity)
{
	struct plane_buffer text = { 0 };
	char *end;
	capacity->load_millis = -1;
	if (read_file(proc, "loadavg", &text)) {
		double load = strtod(plane_buffer_text(&text), &end);
		if (end != plane_buffer_text(&text) && load >= 0 && load < 1e6)
			capacity->load_millis = (int64_t)(load * 1000);
	}
	plane_buffer_finish(&text);
}

/* One group's own limit and use. */
static void limit_memory(const char *group, enum plane_cgroup_version version,
	struct plane_runtime_capacity *capacity)
{
	bool is_v2 = version == PLANE_CGROUP_V2;
	struct plane_buffer text = { 0 };
	int64_t limit =
		read_number(group, is_v2 ? "memory.max" : "memory.limit_in_bytes", INT64_MAX);
	/* v1 names the least limit of all groups above, also of those that cannot be seen here */
	if (!is_v2 && read_file(group, "memory.stat", &text)) {
		int64_t above =
			plane_cgroup_find(plane_buffer_text(&text), "hierarchical_memory_limit");
		limit = above > 0 ? least(limit, above) : limit;
	}
	if (limit < capacity->memory_total_bytes) {
		int64_t used =
			read_number(group, is_v2 ? "memory.current" : "memory.usage_in_bytes", 0);
		/* page cache that is given back when memory is short */
		int64_t cache = read_file(group, "memory.stat", &text)
					? plane_cgroup_find(plane_buffer_text(&text),
						  is_v2 ? "inactive_file" : "total_inactive_file")
					: 0;
		int64_t left = limit - used + least(cache, used);
		capacity->memory_total_bytes = limit;
		capacity->memory_available_bytes =
			least(capacity->memory_available_bytes, left > 0 ? left : 0);
	}
	plane_buffer_finish(&text);
}

static void limit_cpu(const char *group, enum plane_cgroup_version version,
	struct plane_runtime_capacity *capacity)
{
	struct plane_buffer text = { 0 };
	long long quota = -1, period = 0;
	if (version == PLANE_CGROUP_V2) {
		if (read_file(group, "cpu.max", &text) &&
			sscanf(plane_buffer_text(&text), "%lld %lld", &quota, &period) != 2)
			quota = -1; /* "max ..." */
	} else {
		quota = read_number(group, "cpu.cfs_quota_us", -1);
		period = read_number(group, "cpu.cfs_period_us", 0);
	}
	if (quota > 0 && period > 0 && quota < PLANE_CPU_MILLIS_MAX)
		capacity->cpu_millis = least(capacity->cpu_millis, quota * 1000 / period);
	plane_buffer_finish(&text);
}

/* The group and those that it is in, as far as they can be seen. */
static void limit_by_groups(const char *group, enum plane_cgroup_version version,
	void (*limit)(const char *group, enum plane_cgroup_version version,
		struct plane_runtime_capacity *capacity),
	struct plane_runtime_capacity *capacity)
{
	_cleanup_free_ char *path = plane_strdup(group);
	for (int depth = 0; path && depth < GROUP_DEPTH_MAX; depth++) {
		_cleanup_free_ char *processes = plane_strdupf("%s/cgroup.procs", path);
		if (access(processes, F_OK) < 0)
			break;
		limit(path, version, capacity);
		char *slash = strrchr(path, '/');
		if (!slash || slash == path)
			break;
		*slash = '\0';
	}
}

static int usable_cpus(void)
{
	cpu_set_t *cpus = CPU_ALLOC(8192);
	size_t size = CPU_ALLOC_SIZE(8192);
	int count = 0;
	if (cpus && sched_getaffinity(0, size, cpus) == 0)
		count = CPU_COUNT_S(size, cpus);
	CPU_FREE(cpus);
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	return count > 0 ? count : online > 0 ? (int)online : 1;
}

int plane_machine_read(const struct plane_machine_places *places,
	struct plane_runtime_capacity *capacity, struct plane_error *err)
{
	const char *proc = places->proc ? places->proc : "/proc";
	struct plane_runtime_capacity read = { 0 };
	int result = read_meminfo(proc, &read, err);
	if (result < 0)
		return plane_error_prefix(err, "find out how much memory there is");
	read_load(proc, &read);
	read.cpu_millis = 1000 * (places->cpu_count ? places->cpu_count : usable_cpus());
	if (places->memory_group)
		limit_by_groups(places->memory_group, places->version, limit_memory, &read);
	if (places->cpu_group)
		limit_by_groups(places->cpu_group, places->version, limit_cpu, &read);
	*capacity = read;
	return 0;
}

int plane_cgroups_capacity(const struct plane_cgroups *cgroups,
	struct plane_runtime_capacity *capacity, struct plane_error *err)
{
	const struct plane_cgroup_driver *driver = cgroups->driver;
	struct plane_machine_places places = {
		.memory_group = cgroups->directories[driver->memory_hierarchy],
		.cpu_group = cgroups->directories[driver->cpu_hierarchy],
		.version = driver->version,
	};
	return plane_machine_read(&places, capacity, err);
}
