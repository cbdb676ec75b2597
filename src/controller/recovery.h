/* How long keys wait after the database has become another one, which may have forgotten which
 * backends run. Pure: reads no clock, does no I/O; docs/consistency.md has the argument. */
#ifndef PLANE_CONTROLLER_RECOVERY_H
#define PLANE_CONTROLLER_RECOVERY_H

#include <stdbool.h>
#include <stdint.h>

#include "controller/deadlines.h"
#include "store/store.h"

/** Zeroed: none was seen. */
struct plane_recovery {
	int64_t incarnation, since_ms; /* which one, in the store's words; 0: none */
	int64_t seen_at_ms;            /* by this controller's clock */
	bool is_waiting_logged;
};

/**
 * Takes what the store says. `now_ms` as of plane_lease_watch_observe. Returns when all leases are
 * over that were granted before the recovery was seen, by the same clock; 0 when there is none.
 */
int64_t plane_recovery_observe(struct plane_recovery *recovery,
	const struct plane_store_leases *leases, int64_t now_ms,
	const struct plane_lease_constants *drone_lease,
	const struct plane_lease_constants *key_lease);

#endif
