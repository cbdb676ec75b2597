/* Readiness of a backend: asks `HEAD /` until something that speaks HTTP answers. Never blocks;
 * holds one connection at a time. */
#ifndef PLANE_RUNTIME_NATIVE_PROBE_H
#define PLANE_RUNTIME_NATIVE_PROBE_H

#include <stdint.h>
#include <uv.h>

#include "base/error.h"

struct plane_probe;

/**
 * Called once, on the loop's thread, never from inside start or cancel. `err` is NULL when the
 * backend is ready; code -ETIMEDOUT, -ECANCELED, or what kept the probe from working at all. The
 * probe is no longer valid when it is called.
 */
typedef void (*plane_probe_done_fn)(void *data, const struct plane_error *err);

/**
 * Starts to probe `address` ("ip:port", IPv4). Ready when the first bytes of an answer are
 * "HTTP/", whatever the status. A refused, reset or otherwise failed connection, an answer that
 * is no HTTP, is tried again after 0.2 ms, growing by 1.5 up to 100 ms (a closed port refuses at
 * once, so short steps are cheap and find a listener almost when it appears). A connection that
 * is accepted and silent is waited for. All within `timeout_ms` (1 .. 86400000). Loop thread.
 * The object frees itself; NULL on failure (bad address or timeout: -EINVAL), then `done` is
 * never called.
 */
struct plane_probe *plane_probe_start(uv_loop_t *loop, const char *address, int64_t timeout_ms,
	plane_probe_done_fn done, void *data, struct plane_error *err);

/** Ends it: `done` follows later with -ECANCELED. Loop thread; only before `done` was called. */
void plane_probe_cancel(struct plane_probe *probe);

#endif
