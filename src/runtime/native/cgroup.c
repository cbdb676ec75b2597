/* What cgroup v1 and v2 have in common: directories, cgroup.procs, removal. */
#include "runtime/native/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "runtime/native/cgroup_driver.h"

#define DEPTH_MAX 16 /* of groups that a backend could make below its own */
#define FREEZER_V1 4 /* last of v1's directories, see cgroup_v1.c */

static bool name_is_valid(const char *name)
{
	size_t len = name ? strlen(name) : 0;

	return len >= 1 && len <= 64 &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") == len;
}

int plane_cgroup_path(const struct plane_cgroups *cgroups, unsigned hierarchy, const char *name,
	const char *file, char path[PLANE_CGROUP_PATH_SIZE], struct plane_error *err)
{
	if (!name_is_valid(name))
		return plane_error_set(err, -EINVAL, "bad name of a cgroup");
	int len = snprintf(path, PLANE_CGROUP_PATH_SIZE, "%s/%s%s%s",
		cgroups->directories[hierarchy], name, file ? "/" : "", file ? file : "");
	if (len >= PLANE_CGROUP_PATH_SIZE)
		return plane_error_set(err, -ENAMETOOLONG, "path of cgroup %s is too long", name);
	return 0;
}

int plane_cgroup_make_directory(const char *path, struct plane_error *err)
{
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return plane_error_errno(err, "make cgroup %s", path);
	return 0;
}

int plane_cgroup_write(const struct plane_cgroups *cgroups, unsigned hierarchy, const char *name,
	const char *file, int64_t value, struct plane_error *err)
{
	char path[PLANE_CGROUP_PATH_SIZE], text[32];
	int code = plane_cgroup_path(cgroups, hierarchy, name, file, path, err);

	if (code < 0)
		return code;
	if (value == INT64_MAX)
		snprintf(text, sizeof(text), "max");
	else
		snprintf(text, sizeof(text), "%lld", (long long)value);
	return plane_file_write_text(path, text, err);
}

int plane_cgroup_read(const struct plane_cgroups *cgroups, unsigned hierarchy, const char *name,
	const char *file, struct plane_buffer *text, struct plane_error *err)
{
	char path[PLANE_CGROUP_PATH_SIZE];
	int code = plane_cgroup_path(cgroups, hierarchy, name, file, path, err);

	return code < 0 ? code : plane_file_read(path, 65536, text, err);
}

int plane_cgroup_read_number(const struct plane_cgroups *cgroups, unsigned hierarchy,
	const char *name, const char *file, int64_t *value, struct plane_error *err)
{
	struct plane_buffer buffer = { 0 };

	int code = plane_cgroup_read(cgroups, hierarchy, name, file, &buffer, err);
	if (code == 0) {
		const char *text = plane_buffer_text(&buffer);
		*value = strncmp(text, "max", 3) == 0 ? INT64_MAX : strtoll(text, NULL, 10);
	}
	plane_buffer_finish(&buffer);
	return code;
}

int64_t plane_cgroup_find(const char *text, const char *key)
{
	size_t len = strlen(key);

	while (text && *text) {
		if (strncmp(text, key, len) == 0 && text[len] == ' ')
			return strtoll(text + len, NULL, 10);
		text = strchr(text, '\n');
		if (text)
			text++;
	}
	return 0;
}

/* v2 is of use when the controllers are not taken by v1. */
static bool v2_has_controllers(const char *root)
{
	static const char *const places[] = { "", "/unified" };

	for (unsigned i = 0; i < 2; i++) {
		char path[PLANE_CGROUP_PATH_SIZE];
		struct plane_buffer text = { 0 };
		snprintf(path, sizeof(path), "%s%s/cgroup.controllers", root, places[i]);
		bool is_there = plane_file_read(path, 4096, &text, NULL) == 0;
		const char *list = plane_buffer_text(&text);
		is_there = is_there && strstr(list, "memory") && strstr(list, "pids") &&
			   strstr(list, "cpu");
		plane_buffer_finish(&text);
		if (is_there)
			return true;
	}
	return false;
}

struct plane_cgroups *plane_cgroups_open(const char *instance_id, enum plane_cgroup_version version,
	const char *root, struct plane_error *err)
{
	char instance[16];

	if (!instance_id || strlen(instance_id) != 8 ||
		strspn(instance_id, "0123456789abcdef") != 8) {
		plane_error_set(err, -EINVAL, "an instance id has 8 hex digits");
		return NULL;
	}
	snprintf(instance, sizeof(instance), "plane-%s", instance_id);
	root = root ? root : "/sys/fs/cgroup";
	if (version == PLANE_CGROUP_AUTO)
		version = v2_has_controllers(root) ? PLANE_CGROUP_V2 : PLANE_CGROUP_V1;
	struct plane_cgroups *cgroups = plane_alloc_zero(1, sizeof(*cgroups));
	cgroups->driver =
		version == PLANE_CGROUP_V2 ? &plane_cgroup_driver_v2 : &plane_cgroup_driver_v1;
	if (cgroups->driver->open(cgroups, root, instance, err) < 0) {
		plane_cgroups_destroy(cgroups);
		return NULL;
	}
	return cgroups;
}

void plane_cgroups_destroy(struct plane_cgroups *cgroups)
{
	free(cgroups);
}

enum plane_cgroup_version plane_cgroups_version(const struct plane_cgroups *cgroups)
{
	return cgroups->driver->version;
}

int plane_cgroup_make(
	const struct plane_cgroups *cgroups, const char *name, struct plane_error *err)
{
	char path[PLANE_CGROUP_PATH_SIZE];

	for (unsigned i = 0; i < cgroups->count; i++) {
		int code = plane_cgroup_path(cgroups, i, name, NULL, path, err);
		if (code == 0)
			code = plane_cgroup_make_directory(path, err);
		if (code < 0)
			return code;
	}
	return 0;
}

int plane_cgroup_limit(const struct plane_cgroups *cgroups, const char *name,
	const struct plane_cgroup_limits *limits, struct plane_error *err)
{
	if (limits->memory_bytes < 0 || limits->cpu_period_us < 0 || limits->cpu_quota_us < 0 ||
		limits->pids_max < 0)
		return plane_error_set(err, -EINVAL, "a limit of cgroup %s is negative", name);
	return cgroups->driver->limit(cgroups, name, limits, err);
}

int plane_cgroup_limit_pids(
	const struct plane_cgroups *cgroups, const char *name, int64_t max, struct plane_error *err)
{
	return plane_cgroup_write(
		cgroups, cgroups->driver->pids_hierarchy, name, "pids.max", max, err);
}

int plane_cgroup_attach(
	const struct plane_cgroups *cgroups, const char *name, pid_t pid, struct plane_error *err)
{
	for (unsigned i = 0; i < cgroups->count; i++) {
		int code = plane_cgroup_write(cgroups, i, name, "cgroup.procs", pid, err);
		if (code < 0)
			return code;
	}
	return 0;
}

int plane_cgroup_open_directory(
	const struct plane_cgroups *cgroups, const char *name, struct plane_error *err)
{
	char path[PLANE_CGROUP_PATH_SIZE];

	if (cgroups->driver->version != PLANE_CGROUP_V2)
		return plane_error_set(
			err, -ENOTSUP, "cgroup v1 cannot start a process in a group");
	int code = plane_cgroup_path(cgroups, 0, name, NULL, path, err);
	if (code < 0)
		return code;
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? plane_error_errno(err, "open cgroup %s", path) : fd;
}

int plane_cgroup_metrics(const struct plane_cgroups *cgroups, const char *name,
	struct plane_runtime_metrics *metrics, struct plane_error *err)
{
	return cgroups->driver->metrics(cgroups, name, metrics, err);
}

int plane_cgroup_oom_kills(const struct plane_cgroups *cgroups, const char *name, int64_t *count,
	struct plane_error *err)
{
	return cgroups->driver->oom_kills(cgroups, name, count, err);
}

int plane_cgroup_kill(
	const struct plane_cgroups *cgroups, const char *name, struct plane_error *err)
{
	char path[PLANE_CGROUP_PATH_SIZE];

	unsigned hierarchy = cgroups->driver->version == PLANE_CGROUP_V1 ? FREEZER_V1 : 0;
	int code = plane_cgroup_path(cgroups, hierarchy, name, NULL, path, err);
	if (code < 0 || access(path, F_OK) < 0)
		return code;
	return cgroups->driver->kill(cgroups, path, err);
}

static bool has_process(const char *path)
{
	char file[PLANE_CGROUP_PATH_SIZE + 16];

	snprintf(file, sizeof(file), "%s/cgroup.procs", path);
	_cleanup_fclose_ FILE *processes = fopen(file, "re");
	return processes && fgetc(processes) != EOF;
}

bool plane_cgroup_is_populated(const struct plane_cgroups *cgroups, const char *name)
{
	char path[PLANE_CGROUP_PATH_SIZE];

	for (unsigned i = 0; i < cgroups->count; i++)
		if (plane_cgroup_path(cgroups, i, name, NULL, path, NULL) == 0 && has_process(path))
			return true;
	return false;
}

/* Groups below first; the files of a group vanish with it. */
static int remove_directory(int parent, const char *name, int depth)
{
	if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	int code = -errno;
	if (code != -EBUSY || depth == 0)
		return code;
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	_cleanup_closedir_ DIR *directory = fdopendir(fd);
	if (!directory) {
		(void)close(fd);
		return -ENOMEM;
	}
	for (struct dirent *entry; (entry = readdir(directory));)
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
			(void)remove_directory(
				fd, entry->d_name, depth - 1); /* tried again below */
	return unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

static int remove_before(const char *path, int64_t deadline_ms, struct plane_error *err)
{
	for (long pause_ns = 100000;; pause_ns = pause_ns < 10000000 ? pause_ns * 2 : pause_ns) {
		int code = remove_directory(AT_FDCWD, path, DEPTH_MAX);
		if (code == 0)
			return 0;
		if (code != -EBUSY || plane_clock_boot_ms() >= deadline_ms)
			return plane_error_set(
				err, code, "remove cgroup %s: %s", path, strerror(-code));
		/* v1 has no event for the last process; v2's would need a watch for a rare case. */
		nanosleep(&(struct timespec){ .tv_nsec = pause_ns }, NULL);
	}
}

int plane_cgroup_remove(const struct plane_cgroups *cgroups, const char *name, int timeout_ms,
	struct plane_error *err)
{
	char path[PLANE_CGROUP_PATH_SIZE];
	int64_t deadline_ms = plane_clock_boot_ms() + timeout_ms;
	int result = 0;

	for (unsigned i = 0; i < cgroups->count; i++) {
		int code = plane_cgroup_path(cgroups, i, name, NULL, path, err);
		if (code == 0)
			code = remove_before(path, deadline_ms, err);
		if (code < 0)
			result = code;
	}
	return result;
}

static bool was_seen(const struct plane_cgroups *cgroups, unsigned before, const char *name)
{
	char path[PLANE_CGROUP_PATH_SIZE];

	for (unsigned i = 0; i < before; i++)
		if (plane_cgroup_path(cgroups, i, name, NULL, path, NULL) == 0 &&
			access(path, F_OK) == 0)
			return true;
	return false;
}

int plane_cgroup_list(const struct plane_cgroups *cgroups, plane_cgroup_found_fn found, void *data,
	struct plane_error *err)
{
	for (unsigned i = 0; i < cgroups->count; i++) {
		_cleanup_closedir_ DIR *directory = opendir(cgroups->directories[i]);
		if (!directory)
			return plane_error_errno(
				err, "list cgroups in %s", cgroups->directories[i]);
		for (struct dirent *entry; (entry = readdir(directory));)
			if (entry->d_type == DT_DIR && name_is_valid(entry->d_name) &&
				!was_seen(cgroups, i, entry->d_name))
				found(data, entry->d_name);
	}
	return 0;
}

struct removal {
	const struct plane_cgroups *cgroups;
	int timeout_ms;
	int code;
	struct plane_error *err;
};

static void remove_found(void *data, const char *name)
{
	struct removal *removal = data;

	int code = plane_cgroup_kill(removal->cgroups, name, removal->err);
	if (code == 0)
		code = plane_cgroup_remove(
			removal->cgroups, name, removal->timeout_ms, removal->err);
	if (code < 0)
		removal->code = code;
}

int plane_cgroups_remove(
	const struct plane_cgroups *cgroups, int timeout_ms, struct plane_error *err)
{
	struct removal removal = { .cgroups = cgroups, .timeout_ms = timeout_ms, .err = err };

	int code = plane_cgroup_list(cgroups, remove_found, &removal, err);
	if (code < 0 || removal.code < 0)
		return code < 0 ? code : removal.code;
	for (unsigned i = 0; i < cgroups->count; i++) {
		code = remove_before(
			cgroups->directories[i], plane_clock_boot_ms() + timeout_ms, err);
		if (code < 0)
			return code;
	}
	return 0;
}
