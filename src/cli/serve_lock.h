/* Who serves a data directory: one `plane serve`, and the roles that it started. */
#ifndef PLANE_CLI_SERVE_LOCK_H
#define PLANE_CLI_SERVE_LOCK_H

#include "base/error.h"

/**
 * Takes `<data>/serve.lock`, which holds this process's id. -EBUSY names the process that has it.
 * An owned descriptor; the lock lasts until it is closed.
 */
int plane_serve_lock(const char *data_dir, struct plane_error *err);

/**
 * Takes `<data>/roles.lock`, which roles inherit and hold as long as they live: those of a `plane
 * serve` that was killed are still stopping, with the ports and the journal. Waits for them up to
 * `timeout_ms`, then fails with -EBUSY. An owned descriptor.
 */
int plane_serve_lock_roles(const char *data_dir, int timeout_ms, struct plane_error *err);

#endif
