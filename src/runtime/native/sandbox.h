/* One sandbox: making it ahead of need, on a worker thread, and removing what is left of it. */
#ifndef PLANE_RUNTIME_NATIVE_SANDBOX_H
#define PLANE_RUNTIME_NATIVE_SANDBOX_H

#include <sys/types.h>

#include "base/error.h"
#include "runtime/native/cgroup.h"
#include "runtime/native/network.h"

/** What all sandboxes of an instance share; immutable, any thread. */
struct plane_sandbox_host {
	char *directory; /* <data>/drone */
	struct plane_network *network;
	struct plane_cgroups *cgroups;
	int shim_fd, seccomp_fd;
	uint32_t first_id;
};

#define PLANE_SANDBOX_PIDS 1024 /* processes and threads in one sandbox */

struct plane_sandbox_parts {
	unsigned index;
	pid_t shim, init;
	int pidfd, control;
	char address[PLANE_NETWORK_ADDRESS_SIZE];
};

/** The sealed memory file with the shim's program, or a negative code. Owned by the caller. */
int plane_sandbox_shim_file(struct plane_error *err);

/** Directory and control group of sandbox `index`. */
char *plane_sandbox_path(const struct plane_sandbox_host *host, unsigned index, const char *file);
void plane_sandbox_group(unsigned index, char name[16]);

/** Makes and parks sandbox `index`, blocking (20 ms). On failure what was made is left for
 * plane_sandbox_remove. Worker thread. */
int plane_sandbox_make(const struct plane_sandbox_host *host, unsigned index,
	struct plane_sandbox_parts *parts, struct plane_error *err);

/** Kills what runs in it and removes groups, link and directory. Blocks; worker thread. */
int plane_sandbox_remove(
	const struct plane_sandbox_host *host, unsigned index, struct plane_error *err);

/** Connects to the shim's control socket; an owned descriptor or a negative code. */
int plane_sandbox_connect(
	const struct plane_sandbox_host *host, unsigned index, struct plane_error *err);

#endif
