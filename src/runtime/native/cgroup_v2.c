/* cgroup v2: one tree. Kernel: Documentation/admin-guide/cgroup-v2.rst. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "runtime/native/cgroup_driver.h"

/* Where the tree is mounted: the whole root, or "unified" below it on a hybrid machine. */
static bool find_mount(const char *root, char *path, size_t size)
{
	static const char *const places[] = { "", "/unified" };

	for (unsigned i = 0; i < 2; i++) {
		char file[PLANE_CGROUP_PATH_SIZE];
		snprintf(file, sizeof(file), "%s%s/cgroup.controllers", root, places[i]);
		if (access(file, F_OK) == 0)
			return snprintf(path, size, "%s%s", root, places[i]) < (int)size;
	}
	return false;
}

/* Enables for the children of `path` each wanted controller that it has; one by one, so that a
 * missing one does not stop the others. */
static void enable_controllers(const char *path)
{
	static const char *const wanted[] = { "+memory", "+cpu", "+pids" };
	char file[PLANE_CGROUP_PATH_SIZE];

	snprintf(file, sizeof(file), "%s/cgroup.subtree_control", path);
	for (unsigned i = 0; i < 3; i++)
		(void)plane_file_write_text(
			file, wanted[i], NULL); /* its lack shows at the limits */
}

static bool own_group(char *path, size_t size)
{
	_cleanup_fclose_ FILE *file = fopen("/proc/self/cgroup", "re");
	char line[PLANE_CGROUP_PATH_SIZE];

	while (file && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "0::/", 4) == 0)
			return snprintf(path, size, "%s", line[4] ? line + 3 : "") < (int)size;
	}
	return false;
}

static int v2_open(struct plane_cgroups *cgroups, const char *root, const char *instance,
	struct plane_error *err)
{
	char mount[PLANE_CGROUP_PATH_SIZE / 4], own[PLANE_CGROUP_PATH_SIZE / 4];
	char *path = cgroups->directories[0];
	size_t size = sizeof(cgroups->directories[0]);

	if (!find_mount(root, mount, sizeof(mount)))
		return plane_error_set(err, -ENOTSUP, "no cgroup v2 mount at %s", root);
	snprintf(path, size, "%s/%s", mount, instance);
	enable_controllers(mount);
	int code = plane_cgroup_make_directory(path, err);
	if ((code == -EACCES || code == -EPERM || code == -EROFS) && own_group(own, sizeof(own))) {
		char parent[PLANE_CGROUP_PATH_SIZE / 2];
		snprintf(parent, sizeof(parent), "%s%s", mount, own);
		enable_controllers(parent);
		if (snprintf(path, size, "%s/%s", parent, instance) >= (int)size)
			return plane_error_set(
				err, -ENAMETOOLONG, "path of the cgroups is too long");
		code = plane_cgroup_make_directory(path, err);
	}
	if (code < 0)
		return code;
	enable_controllers(path);
	cgroups->count = 1;
	return 0;
}

static int set_text(const struct plane_cgroups *cgroups, const char *name, const char *file,
	const char *text, struct plane_error *err)
{
	char path[PLANE_CGROUP_PATH_SIZE];
	int code = plane_cgroup_path(cgroups, 0, name, file, path, err);

	return code < 0 ? code : plane_file_write_text(path, text, err);
}

static int v2_limit(const struct plane_cgroups *cgroups, const char *name,
	const struct plane_cgroup_limits *limits, struct plane_error *err)
{
	int64_t period = limits->cpu_period_us ? limits->cpu_period_us : 100000;
	char cpu[64], memory[32], pids[32];

	snprintf(memory, sizeof(memory), "%s", "max");
	snprintf(pids, sizeof(pids), "%s", "max");
	snprintf(cpu, sizeof(cpu), "max %lld", (long long)period);
	if (limits->memory_bytes)
		snprintf(memory, sizeof(memory), "%lld", (long long)limits->memory_bytes);
	if (limits->pids_max)
		snprintf(pids, sizeof(pids), "%lld", (long long)limits->pids_max);
	if (limits->cpu_quota_us)
		snprintf(cpu, sizeof(cpu), "%lld %lld", (long long)limits->cpu_quota_us,
			(long long)period);
	int code = set_text(cgroups, name, "memory.max", memory, err);
	if (code == 0) {
		code = set_text(
			cgroups, name, "memory.swap.max", limits->memory_bytes ? "0" : "max", err);
		code = code == -ENOENT ? 0 : code; /* a kernel without swap */
	}
	if (code == 0)
		code = set_text(cgroups, name, "cpu.max", cpu, err);
	if (code == 0)
		code = set_text(cgroups, name, "pids.max", pids, err);
	return code == -ENOENT
		       ? plane_error_set(err, -ENOTSUP,
				 "group %s is gone or lacks the memory, cpu or pids controller",
				 name)
		       : code;
}

/* Without the controller its files are missing: the counters stay 0. */
static int read_memory(const struct plane_cgroups *cgroups, const char *name,
	struct plane_runtime_metrics *now, struct plane_error *err)
{
	struct plane_buffer buffer = { 0 };
	int64_t usage = 0, limit = INT64_MAX;

	int code = plane_cgroup_read_number(cgroups, 0, name, "memory.current", &usage, err);
	if (code == 0)
		code = plane_cgroup_read_number(cgroups, 0, name, "memory.max", &limit, err);
	if (code == 0)
		code = plane_cgroup_read(cgroups, 0, name, "memory.stat", &buffer, err);
	if (code == 0) {
		const char *text = plane_buffer_text(&buffer);
		int64_t cached = plane_cgroup_find(text, "inactive_file");
		now->mem_used = usage > cached ? usage - cached : 0;
		now->mem_total = plane_cgroup_find(text, "file") + plane_cgroup_find(text, "anon") +
				 plane_cgroup_find(text, "kernel_stack") +
				 plane_cgroup_find(text, "sock") + plane_cgroup_find(text, "slab");
		now->mem_active = plane_cgroup_find(text, "active_anon") +
				  plane_cgroup_find(text, "active_file");
		now->mem_inactive = plane_cgroup_find(text, "inactive_anon") + cached;
		now->mem_unevictable = plane_cgroup_find(text, "unevictable");
		now->mem_limit = limit == INT64_MAX ? 0 : limit;
	}
	plane_buffer_finish(&buffer);
	return code == -ENOENT ? 0 : code;
}

static int v2_metrics(const struct plane_cgroups *cgroups, const char *name,
	struct plane_runtime_metrics *metrics, struct plane_error *err)
{
	struct plane_runtime_metrics now = { 0 };
	struct plane_buffer text = { 0 };

	int code = plane_cgroup_read(cgroups, 0, name, "cpu.stat", &text, err);
	if (code == 0) {
		now.cpu_total_ns = plane_cgroup_find(plane_buffer_text(&text), "usage_usec") * 1000;
		code = read_memory(cgroups, name, &now, err);
	}
	plane_buffer_finish(&text);
	if (code == 0)
		*metrics = now;
	return code;
}

static int v2_oom_kills(const struct plane_cgroups *cgroups, const char *name, int64_t *count,
	struct plane_error *err)
{
	struct plane_buffer text = { 0 };

	int code = plane_cgroup_read(cgroups, 0, name, "memory.events", &text, err);
	if (code == 0)
		*count = plane_cgroup_find(plane_buffer_text(&text), "oom_kill");
	plane_buffer_finish(&text);
	return code;
}

static int v2_kill(const struct plane_cgroups *cgroups, const char *path, struct plane_error *err)
{
	char file[PLANE_CGROUP_PATH_SIZE + 16];

	(void)cgroups;
	snprintf(file, sizeof(file), "%s/cgroup.kill", path);
	return plane_file_write_text(file, "1", err);
}

const struct plane_cgroup_driver plane_cgroup_driver_v2 = {
	.version = PLANE_CGROUP_V2,
	.pids_hierarchy = 0,
	.memory_hierarchy = 0,
	.cpu_hierarchy = 0,
	.open = v2_open,
	.limit = v2_limit,
	.metrics = v2_metrics,
	.oom_kills = v2_oom_kills,
	.kill = v2_kill,
};
