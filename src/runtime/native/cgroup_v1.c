/* cgroup v1: one hierarchy for each controller. Kernel: Documentation/admin-guide/cgroup-v1. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/file.h"
#include "runtime/native/cgroup_driver.h"

enum hierarchy { MEMORY, CPU, CPUACCT, PIDS, FREEZER };
#define NO_LIMIT_V1 (INT64_C(1) << 62) /* the kernel says "none" as a number near 2^63 */

static int v1_open(struct plane_cgroups *cgroups, const char *root, const char *instance,
	struct plane_error *err)
{
	static const char *const names[] = { "memory", "cpu", "cpuacct", "pids", "freezer" };

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char *path = cgroups->directories[i];
		size_t size = sizeof(cgroups->directories[i]);
		if (snprintf(path, size, "%s/%s/cgroup.procs", root, names[i]) >= (int)size)
			return plane_error_set(
				err, -ENAMETOOLONG, "path of the cgroups is too long");
		if (access(path, F_OK) < 0)
			return plane_error_set(
				err, -ENOTSUP, "no cgroup v1 controller at %s/%s", root, names[i]);
		if (snprintf(path, size, "%s/%s/%s", root, names[i], instance) >= (int)size)
			return plane_error_set(
				err, -ENAMETOOLONG, "path of the cgroups is too long");
		int code = plane_cgroup_make_directory(path, err);
		if (code < 0)
			return code;
	}
	cgroups->count = sizeof(names) / sizeof(names[0]);
	return 0;
}

/* memsw (memory and swap) must never be below memory: which goes first depends on the direction. */
static int limit_memory(const struct plane_cgroups *cgroups, const char *name, int64_t bytes,
	struct plane_error *err)
{
	char path[PLANE_CGROUP_PATH_SIZE];
	int code =
		plane_cgroup_path(cgroups, MEMORY, name, "memory.memsw.limit_in_bytes", path, err);
	if (code < 0)
		return code;
	bool has_swap = access(path, F_OK) == 0;
	if (has_swap) /* no limit first: then every memory limit is allowed */
		code = plane_cgroup_write(
			cgroups, MEMORY, name, "memory.memsw.limit_in_bytes", -1, err);
	if (code == 0)
		code = plane_cgroup_write(
			cgroups, MEMORY, name, "memory.limit_in_bytes", bytes, err);
	if (code == 0 && has_swap)
		code = plane_cgroup_write(
			cgroups, MEMORY, name, "memory.memsw.limit_in_bytes", bytes, err);
	return code;
}

static int v1_limit(const struct plane_cgroups *cgroups, const char *name,
	const struct plane_cgroup_limits *limits, struct plane_error *err)
{
	int64_t period = limits->cpu_period_us ? limits->cpu_period_us : 100000;

	int code =
		limit_memory(cgroups, name, limits->memory_bytes ? limits->memory_bytes : -1, err);
	/* No quota while the period changes: a quota may be out of range for the new period. */
	if (code == 0)
		code = plane_cgroup_write(cgroups, CPU, name, "cpu.cfs_quota_us", -1, err);
	if (code == 0)
		code = plane_cgroup_write(cgroups, CPU, name, "cpu.cfs_period_us", period, err);
	if (code == 0 && limits->cpu_quota_us)
		code = plane_cgroup_write(
			cgroups, CPU, name, "cpu.cfs_quota_us", limits->cpu_quota_us, err);
	if (code == 0)
		code = plane_cgroup_write(cgroups, PIDS, name, "pids.max",
			limits->pids_max ? limits->pids_max : INT64_MAX, err);
	return code;
}

static int v1_metrics(const struct plane_cgroups *cgroups, const char *name,
	struct plane_runtime_metrics *metrics, struct plane_error *err)
{
	struct plane_runtime_metrics now = { 0 };
	struct plane_buffer buffer = { 0 };
	int64_t usage, limit;

	int code = plane_cgroup_read_number(
		cgroups, MEMORY, name, "memory.usage_in_bytes", &usage, err);
	if (code == 0)
		code = plane_cgroup_read_number(
			cgroups, MEMORY, name, "memory.limit_in_bytes", &limit, err);
	if (code == 0)
		code = plane_cgroup_read_number(
			cgroups, CPUACCT, name, "cpuacct.usage", &now.cpu_total_ns, err);
	if (code == 0)
		code = plane_cgroup_read(cgroups, MEMORY, name, "memory.stat", &buffer, err);
	if (code == 0) {
		const char *text = plane_buffer_text(&buffer);
		int64_t cached = plane_cgroup_find(text, "total_inactive_file");
		now.mem_used = usage > cached ? usage - cached : 0;
		now.mem_total = plane_cgroup_find(text, "total_rss") +
				plane_cgroup_find(text, "total_cache");
		now.mem_active = plane_cgroup_find(text, "total_active_anon") +
				 plane_cgroup_find(text, "total_active_file");
		now.mem_inactive = plane_cgroup_find(text, "total_inactive_anon") + cached;
		now.mem_unevictable = plane_cgroup_find(text, "total_unevictable");
		now.mem_limit = limit < NO_LIMIT_V1 ? limit : 0;
		*metrics = now;
	}
	plane_buffer_finish(&buffer);
	return code;
}

static int v1_oom_kills(const struct plane_cgroups *cgroups, const char *name, int64_t *count,
	struct plane_error *err)
{
	struct plane_buffer text = { 0 };

	int code = plane_cgroup_read(cgroups, MEMORY, name, "memory.oom_control", &text, err);
	if (code == 0)
		*count = plane_cgroup_find(plane_buffer_text(&text), "oom_kill");
	plane_buffer_finish(&text);
	return code;
}

static int freezer_write(const char *path, const char *state, struct plane_error *err)
{
	char file[PLANE_CGROUP_PATH_SIZE + 16];

	snprintf(file, sizeof(file), "%s/freezer.state", path);
	return plane_file_write_text(file, state, err);
}

/* Returns how many were signalled, or a negative code. */
static int signal_all(const char *path, struct plane_error *err)
{
	char file[PLANE_CGROUP_PATH_SIZE + 16], line[32];
	int count = 0;

	snprintf(file, sizeof(file), "%s/cgroup.procs", path);
	_cleanup_fclose_ FILE *processes = fopen(file, "re");
	if (!processes)
		return plane_error_errno(err, "open %s", file);
	while (fgets(line, sizeof(line), processes)) {
		long pid = strtol(line, NULL, 10);
		/* 0 is a process of another pid namespace: cannot be named, and 0 and -1 are all.
		 */
		if (pid <= 1)
			continue;
		if (kill((pid_t)pid, SIGKILL) == 0)
			count++;
	}
	return count;
}

/* Frozen, nobody can fork away between the reading and the signal. Freezing is asked for, not
 * awaited: a process in the kernel may take long, but one that is asked to freeze no longer
 * returns to user space, and a fork under way is seen by the next round. */
static int v1_kill(const struct plane_cgroups *cgroups, const char *path, struct plane_error *err)
{
	int previous = -1;

	(void)cgroups;
	int code = freezer_write(path, "FROZEN", err);
	for (int round = 0; round < 100 && code == 0; round++) {
		int count = signal_all(path, err);
		if (count < 0) {
			code = count;
		} else if (count == previous || count == 0) {
			return freezer_write(path, "THAWED", err);
		} else {
			previous = count;
		}
	}
	(void)freezer_write(path, "THAWED", NULL); /* the first failure counts */
	return code < 0 ? code
			: plane_error_set(err, -EBUSY, "processes in %s go on forking", path);
}

const struct plane_cgroup_driver plane_cgroup_driver_v1 = {
	.version = PLANE_CGROUP_V1,
	.pids_hierarchy = PIDS,
	.memory_hierarchy = MEMORY,
	.cpu_hierarchy = CPU,
	.open = v1_open,
	.limit = v1_limit,
	.metrics = v1_metrics,
	.oom_kills = v1_oom_kills,
	.kill = v1_kill,
};
