/* One sandbox: making it ahead of need, on a worker thread, and removing what is left of it. */
#ifndef PLANE_RUNTIME_NATIVE_SANDBOX_H
#define PLANE_RUNTIME_NATIVE_SANDBOX_H

#include <sys/types.h>

#include "base/error.h"
#include "runtime/native/cgroup.h"
#include "runtime/native/network.h"
#include "runtime/native/scratch.h"

/** What all sandboxes of an instance share; immutable, any thread. */
struct plane_sandbox_host {
	char *directory; /* <data>/drone */
	char *memory;    /* the instance's directory in memory: see plane_sandbox_memory */
	struct plane_scratch *scratch;
	struct plane_network *network;
	struct plane_cgroups *cgroups;
	int shim_fd, seccomp_fd;
	uint32_t first_id;
};

#define PLANE_SANDBOX_PIDS 1024 /* processes and threads in one sandbox */

struct plane_sandbox_parts {
	unsigned index;
	pid_t shim, init;
	int64_t shim_start; /* field 22 of its /proc/<pid>/stat: with the boot, names it for ever */
	int pidfd, control;
	char address[PLANE_NETWORK_ADDRESS_SIZE];
};

/** The sealed memory file with the shim's program, or a negative code. Owned by the caller. */
int plane_sandbox_shim_file(struct plane_error *err);

/**
 * Where an instance keeps what its sandboxes need while the machine runs, and no longer: a
 * directory below /run, or where that is not in memory below /dev/shm (creating and removing files
 * there costs a fraction of what it costs on a disk). Made 0700; refused with -EPERM when somebody
 * else owns it. The caller frees it; NULL on failure.
 */
char *plane_sandbox_memory(const char *instance_id, struct plane_error *err);

/** What every root has, whatever its image: where proc, sys, dev and our files of /etc are mounted.
 * Made once for an instance. */
int plane_sandbox_skeleton(const char *directory, struct plane_error *err);

/** Start time of a process in clock ticks since boot, 0 when it is gone. */
int64_t plane_sandbox_start_time(pid_t pid);

/** Sandbox `index`: a file of its in memory (record, lease, exit, control); its directory on disk;
 * its control group. The caller frees the paths. */
char *plane_sandbox_path(const struct plane_sandbox_host *host, unsigned index, const char *file);
char *plane_sandbox_disk(const struct plane_sandbox_host *host, unsigned index);
void plane_sandbox_group(unsigned index, char name[16]);

/** Makes and parks sandbox `index`, blocking (20 ms). On failure what was made is left for
 * plane_sandbox_remove. Worker thread. */
int plane_sandbox_make(const struct plane_sandbox_host *host, unsigned index,
	struct plane_sandbox_parts *parts, struct plane_error *err);

/** Kills what runs in it and removes groups and directories; its link goes in the background (see
 * plane_network_release). Blocks; worker thread. */
int plane_sandbox_remove(
	const struct plane_sandbox_host *host, unsigned index, struct plane_error *err);

/** Kills what still runs in it and waits until nothing does. -EBUSY after the time. Worker thread.
 */
int plane_sandbox_await_end(const struct plane_sandbox_host *host, unsigned index, int timeout_ms,
	struct plane_error *err);

/** Connects to the shim's control socket; an owned descriptor or a negative code. */
int plane_sandbox_connect(
	const struct plane_sandbox_host *host, unsigned index, struct plane_error *err);

#endif
