/* A role as a child process of `plane serve`: what it is executed with, and how its privileges are
 * cut first. */
#ifndef PLANE_CLI_SERVE_CHILD_H
#define PLANE_CLI_SERVE_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

/** The descriptor on which a child tells that it is ready. */
#define PLANE_CHILD_READY_FD 3
/** A lock that a child holds as long as it lives; it does nothing with it. */
#define PLANE_CHILD_ROLES_FD 4

/** A file that a child reads at its start, if there is one: as "fd:5". */
#define PLANE_CHILD_SECRET_FD 5
#define PLANE_CHILD_SECRET_PATH "fd:5"

/** Where a child that may not walk the data directory's parents finds its state. */
#define PLANE_CHILD_STATE_DIR "/run/plane/state"

struct plane_child_plan {
	char *const *argv; /* argv[0] is "plane" */
	int exe_fd;        /* this program */
	int roles_fd;      /* becomes PLANE_CHILD_ROLES_FD */
	int secret_fd;     /* becomes PLANE_CHILD_SECRET_FD; -1: none */
	bool is_privileged;
	uid_t uid; /* unless privileged */
	gid_t gid;
	bool binds_low_ports;  /* keeps CAP_NET_BIND_SERVICE */
	const char *state_dir; /* mounted on PLANE_CHILD_STATE_DIR for the child alone; or NULL */
};

/**
 * Starts the child: in a process group of its own (Ctrl-C is the parent's to handle), with stdin
 * from /dev/null and the standard streams of the parent, SIGTERM when the parent dies. `*ready_fd`
 * is the end of a pipe on which it says that it is ready. -1 with `err`.
 */
pid_t plane_child_start(
	const struct plane_child_plan *plan, int *ready_fd, struct plane_error *err);

/** The unprivileged user: "plane" if there is one, else "nobody". */
int plane_child_user(uid_t *uid, gid_t *gid, struct plane_error *err);

#endif
