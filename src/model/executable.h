/* The `executable` of a spawn configuration: which image, with what environment and limits.
 * Opaque to the controller; read by the drone. */
#ifndef PLANE_MODEL_EXECUTABLE_H
#define PLANE_MODEL_EXECUTABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/error.h"

enum plane_pull_policy { PLANE_PULL_IF_NOT_PRESENT, PLANE_PULL_ALWAYS, PLANE_PULL_NEVER };

enum plane_mount_kind { PLANE_MOUNT_NONE, PLANE_MOUNT_KEY_NAME, PLANE_MOUNT_PATH };

/** Limits; 0 means not given. */
struct plane_resource_limits {
	int64_t cpu_period_us;
	int64_t cpu_period_percent; /* quota = (period or 100000) * percent / 100 */
	int64_t cpu_time_limit_seconds;
	int64_t memory_limit_bytes;
	int64_t disk_limit_bytes;
};

struct plane_executable {
	char *image;
	enum plane_pull_policy pull_policy;
	char **env; /* "NAME=value", NULL-terminated */
	size_t env_count;
	struct plane_resource_limits limits;
	enum plane_mount_kind mount;
	char *mount_path;   /* relative, checked; only for PLANE_MOUNT_PATH */
	char *network_name; /* NULL when not given; a container engine's network */
	char *username;     /* registry credentials; NULL when not given. Never logged. */
	char *password;
};

/** Reads and checks it (reference: serde rules, unknown keys ignored). Fills `executable`, which
 *  the caller finishes. Errors name the field. */
int plane_executable_read(
	const json_t *json, struct plane_executable *executable, struct plane_error *err);
void plane_executable_finish(struct plane_executable *executable);

#endif
