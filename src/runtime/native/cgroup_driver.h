/* What differs between cgroup v1 and v2. Used by cgroup*.c only. */
#ifndef PLANE_RUNTIME_NATIVE_CGROUP_DRIVER_H
#define PLANE_RUNTIME_NATIVE_CGROUP_DRIVER_H

#include "base/buffer.h"
#include "runtime/native/cgroup.h"

#define PLANE_CGROUP_DIRECTORIES_MAX 5
#define PLANE_CGROUP_PATH_SIZE 512

/** The place of one group in a hierarchy, formatted by plane_cgroup_path. */
struct plane_cgroups {
	const struct plane_cgroup_driver *driver;
	/** The instance's directory in each hierarchy; v2 has one. */
	char directories[PLANE_CGROUP_DIRECTORIES_MAX][PLANE_CGROUP_PATH_SIZE / 2];
	unsigned count;
};

struct plane_cgroup_driver {
	enum plane_cgroup_version version;
	/* indexes of the directories with the files of a controller */
	unsigned pids_hierarchy, memory_hierarchy, cpu_hierarchy;
	/** Fills in the directories and makes them. */
	int (*open)(struct plane_cgroups *, const char *root, const char *instance,
		struct plane_error *);
	int (*limit)(const struct plane_cgroups *, const char *name,
		const struct plane_cgroup_limits *, struct plane_error *);
	int (*metrics)(const struct plane_cgroups *, const char *name,
		struct plane_runtime_metrics *, struct plane_error *);
	int (*oom_kills)(
		const struct plane_cgroups *, const char *name, int64_t *, struct plane_error *);
	/** The group at `path` (v1: in the freezer hierarchy), one group without those below. */
	int (*kill)(const struct plane_cgroups *, const char *path, struct plane_error *);
};

extern const struct plane_cgroup_driver plane_cgroup_driver_v1;
extern const struct plane_cgroup_driver plane_cgroup_driver_v2;

/** "<directory of hierarchy>/<name>/<file>"; `file` may be NULL. -ENAMETOOLONG. */
int plane_cgroup_path(const struct plane_cgroups *cgroups, unsigned hierarchy, const char *name,
	const char *file, char path[PLANE_CGROUP_PATH_SIZE], struct plane_error *err);
/** mkdir; existing is fine. */
int plane_cgroup_make_directory(const char *path, struct plane_error *err);
int plane_cgroup_write(const struct plane_cgroups *cgroups, unsigned hierarchy, const char *name,
	const char *file, int64_t value, struct plane_error *err);
/** Reads a whole file of a group as text. The caller finishes `text`. */
int plane_cgroup_read(const struct plane_cgroups *cgroups, unsigned hierarchy, const char *name,
	const char *file, struct plane_buffer *text, struct plane_error *err);
/** A file of one number; "max" is INT64_MAX. */
int plane_cgroup_read_number(const struct plane_cgroups *cgroups, unsigned hierarchy,
	const char *name, const char *file, int64_t *value, struct plane_error *err);
/** The number behind `key` in lines "key number"; 0 when it is missing. */
int64_t plane_cgroup_find(const char *text, const char *key);

#endif
