/* Control groups of one Plane instance and its sandboxes, on cgroup v1, v2 or both mounted. Each
 * instance has a directory `plane-<id>` in every hierarchy it needs, each sandbox one below it.
 *
 * Where: v1: at the root of each hierarchy (memory, cpu, cpuacct, pids, freezer). v2: at the root
 * of the mount when that is writable and enables controllers there, otherwise below the
 * process's own group (a container or a delegated unit), whose processes must then sit in a leaf:
 * v2 refuses controllers for children of a group that has processes itself. */
#ifndef PLANE_RUNTIME_NATIVE_CGROUP_H
#define PLANE_RUNTIME_NATIVE_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "runtime/runtime.h"

enum plane_cgroup_version {
	PLANE_CGROUP_AUTO, /* v2 when it has the memory, cpu and pids controllers, else v1 */
	PLANE_CGROUP_V1,
	PLANE_CGROUP_V2
};

/** Limits of a sandbox; 0 in a field means no limit. */
struct plane_cgroup_limits {
	int64_t memory_bytes;  /* swap included: a group cannot escape into swap */
	int64_t cpu_period_us; /* 1000..1000000; 0 with a quota: 100000 */
	int64_t cpu_quota_us;  /* CPU time a period, at least 1000 */
	int64_t pids_max;
};

/** The instance's groups. Immutable after open: any thread, many at a time. */
struct plane_cgroups;

/**
 * Makes or finds the instance's directories. `instance_id` is 8 lower-case hex digits. `root` is
 * where cgroups are mounted, NULL for /sys/fs/cgroup. A forced version fails with -ENOTSUP where
 * it is not mounted; forced v2 works without controllers too (then limits fail with -ENOTSUP,
 * and metrics are zero), so that it can be tested on a hybrid machine. NULL on failure.
 */
struct plane_cgroups *plane_cgroups_open(const char *instance_id, enum plane_cgroup_version version,
	const char *root, struct plane_error *err);

/** Lets go of the object; the directories stay. NULL is fine. */
void plane_cgroups_destroy(struct plane_cgroups *cgroups);
PLANE_DEFINE_CLEANUP(struct plane_cgroups *, plane_cgroups_destroy)

/** V1 or V2: what was chosen. */
enum plane_cgroup_version plane_cgroups_version(const struct plane_cgroups *cgroups);

/**
 * Makes the group `name` (1..64 of a-z 0-9 - _) in each hierarchy; an existing one is fine. Ahead
 * of need: takes 0.1 .. 0.5 ms. -EINVAL for a bad name.
 */
int plane_cgroup_make(
	const struct plane_cgroups *cgroups, const char *name, struct plane_error *err);

/** Sets the limits; can be called again (a parked sandbox gets them at its start). */
int plane_cgroup_limit(const struct plane_cgroups *cgroups, const char *name,
	const struct plane_cgroup_limits *limits, struct plane_error *err);

/** Limits only the processes and threads of a group that was made a moment ago: all that a parked
 * sandbox needs, since the other limits cost more to set and are none. */
int plane_cgroup_limit_pids(const struct plane_cgroups *cgroups, const char *name, int64_t max,
	struct plane_error *err);

/** Moves a process with all its threads into the group; children follow by inheritance. */
int plane_cgroup_attach(
	const struct plane_cgroups *cgroups, const char *name, pid_t pid, struct plane_error *err);

/**
 * v2: an owned O_PATH descriptor of the group for clone3's CLONE_INTO_CGROUP, which avoids the
 * slow move. v1: -ENOTSUP (use plane_cgroup_attach).
 */
int plane_cgroup_open_directory(
	const struct plane_cgroups *cgroups, const char *name, struct plane_error *err);

/** Counters now. -ENOENT when the group is gone. mem_limit is 0 without a limit. */
int plane_cgroup_metrics(const struct plane_cgroups *cgroups, const char *name,
	struct plane_runtime_metrics *metrics, struct plane_error *err);

/** How many processes of the group the kernel's OOM killer ended so far. */
int plane_cgroup_oom_kills(const struct plane_cgroups *cgroups, const char *name, int64_t *count,
	struct plane_error *err);

/**
 * SIGKILLs every process in the group, also ones that fork meanwhile. v2: cgroup.kill. v1: the
 * group is frozen, all are signalled, and it is thawed. Returns 0 when all have been signalled;
 * they may need a moment to go. Without any process, or without the group: 0. Blocks up to some
 * milliseconds with hostile forkers (bounded; -EBUSY then).
 */
int plane_cgroup_kill(
	const struct plane_cgroups *cgroups, const char *name, struct plane_error *err);

/** Whether any process is in the group or in groups below it; false when it is gone. */
bool plane_cgroup_is_populated(const struct plane_cgroups *cgroups, const char *name);

/**
 * Removes the group (and groups made below it). Waits up to `timeout_ms` for processes that are
 * still going away, polling; -EBUSY then. A missing group is fine. For a background thread.
 */
int plane_cgroup_remove(const struct plane_cgroups *cgroups, const char *name, int timeout_ms,
	struct plane_error *err);

/** Calls back for each sandbox group of the instance; groups seen in any hierarchy count once. */
typedef void (*plane_cgroup_found_fn)(void *data, const char *name);
int plane_cgroup_list(const struct plane_cgroups *cgroups, plane_cgroup_found_fn found, void *data,
	struct plane_error *err);

/** Kills and removes all sandbox groups, then the instance's directories. Blocks. */
int plane_cgroups_remove(
	const struct plane_cgroups *cgroups, int timeout_ms, struct plane_error *err);

#endif
