/* How a role tells whoever started it that it serves: one line "ready <text>" on a descriptor, and
 * a message to the service manager. */
#ifndef PLANE_BASE_READY_H
#define PLANE_BASE_READY_H

/** Where the service manager listens, as in sd_notify(3); not set when there is none. */
#define PLANE_READY_MANAGER "NOTIFY_SOCKET"

/** Tells both. Writes the line and closes `owned_fd`; there is none at -1. Failures are logged:
 * this only announces. */
void plane_ready_tell(int owned_fd, const char *text);

/** "READY=1" to the service manager (sd_notify(3)), if the environment names one. */
void plane_ready_notify_manager(void);

#endif
