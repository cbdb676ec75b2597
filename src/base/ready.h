/* How a role tells whoever started it that it serves: one line "ready <text>" on a descriptor. */
#ifndef PLANE_BASE_READY_H
#define PLANE_BASE_READY_H

/** Writes the line and closes `owned_fd`; -1 does nothing. A failure is logged: it only announces.
 */
void plane_ready_tell(int owned_fd, const char *text);

#endif
