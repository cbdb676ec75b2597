/* Backends as sandboxes of Linux: namespaces, control groups, an overlay on the image's tree, and
 * one small shim each that outlives the drone. Needs root. */
#ifndef PLANE_RUNTIME_NATIVE_NATIVE_H
#define PLANE_RUNTIME_NATIVE_NATIVE_H

#include <uv.h>

#include "runtime/native/network.h"
#include "runtime/runtime.h"

/** Copied by create. */
struct plane_native_config {
	const char *data_dir;   /* the runtime's own directory, made 0700: <data>/drone */
	const char *images_dir; /* of the image store */
	const char *mount_base; /* plane-data directories live below it; NULL: mounts are refused */
	enum plane_network_egress egress;
	const struct plane_network_publish *publish; /* NULL: reached from this machine only */
	unsigned pool_size;                          /* parked sandboxes; 0: 16 */
	int64_t log_max_bytes; /* of one log file, of which there are two; 0: 10 MiB */
};

/**
 * Makes network and control groups of the instance, which is named after the real path of
 * data_dir, and starts to fill the pool after adopt. Blocks some milliseconds. -EPERM when not
 * root. NULL on failure. Freed by plane_native_destroy once close or remove_all called back.
 */
struct plane_runtime *plane_native_create(uv_loop_t *loop, const struct plane_native_config *config,
	const struct plane_runtime_listener *listener, struct plane_error *err);
void plane_native_destroy(struct plane_runtime *runtime);

#endif
