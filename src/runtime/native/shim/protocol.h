/* What the drone and the shim of a sandbox say to each other. Both are built together, but a shim
 * may be older than the drone that adopts it: only append, never change a meaning. */
#ifndef PLANE_RUNTIME_NATIVE_SHIM_PROTOCOL_H
#define PLANE_RUNTIME_NATIVE_SHIM_PROTOCOL_H

#include <stdint.h>

/* Descriptors that the shim is started with. */
enum {
	PLANE_SHIM_FD_CONTROL = 3, /* SOCK_SEQPACKET to the drone */
	PLANE_SHIM_FD_NETNS,
	PLANE_SHIM_FD_SECCOMP,   /* struct sock_filter[] */
	PLANE_SHIM_FD_DIRECTORY, /* of the sandbox, in memory: lease, exit, control */
	PLANE_SHIM_FD_DISK,      /* of the sandbox, on disk: upper, work, stage */
	PLANE_SHIM_FD_COUNT
};

/* First byte of a packet, drone to shim. */
#define PLANE_SHIM_DRESS 'I'  /* descriptors: rootfs, lock[, mount]; once, before the start */
#define PLANE_SHIM_START 'S'  /* descriptor: struct plane_shim_start */
#define PLANE_SHIM_SIGNAL 'T' /* SIGTERM to the first process */
#define PLANE_SHIM_KILL 'K'
#define PLANE_SHIM_DEADLINE 'D' /* the lease file says an earlier time than before */
/* Shim to drone. */
#define PLANE_SHIM_PARKED 'P' /* followed by int32_t: pid of the sandbox's init */
#define PLANE_SHIM_RUNNING 'R'
#define PLANE_SHIM_FAILED 'F' /* followed by text */

/* Init to shim only: the signal that ended the first process, one byte. */
#define PLANE_SHIM_SIGNALED 'X'

/* The lease file: int64_t, milliseconds of CLOCK_BOOTTIME from which on nothing may run. */
#define PLANE_SHIM_LEASE_OVER 1

#define PLANE_SHIM_TEXT_MAX 512
#define PLANE_SHIM_MAGIC 0x504c4e31u
#define PLANE_SHIM_START_MAX (4u << 20)
#define PLANE_SHIM_IDS 65536u
#define PLANE_SHIM_GROUPS_MAX 64

/* Start of the start file; behind it NUL-terminated texts: backend, image, work directory, path
 * of the log, address, resolv.conf, then argv and env. */
struct plane_shim_start {
	uint32_t magic;
	uint32_t size; /* of the whole file */
	uint32_t uid, gid;
	uint32_t group_count;
	uint32_t groups[PLANE_SHIM_GROUPS_MAX];
	uint32_t argc, envc;
	int64_t log_max_bytes;
	int64_t cpu_seconds; /* 0: no limit */
};

#endif
