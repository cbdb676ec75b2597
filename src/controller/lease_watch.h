/* When the lease of a drone is broken: after nobody has renewed it for long enough by this
 * controller's own clock. Pure: reads no clock, does no I/O; docs/consistency.md has the argument.
 */
#ifndef PLANE_CONTROLLER_LEASE_WATCH_H
#define PLANE_CONTROLLER_LEASE_WATCH_H

#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

struct plane_lease_watch;

struct plane_lease_watch *plane_lease_watch_create(void);
void plane_lease_watch_destroy(struct plane_lease_watch *watch);

/**
 * Takes all granted leases as the store has them. `now_ms` is this controller's clock, which goes
 * on through suspension, read after the store's answer came: what is in the answer was so before.
 * Those that have been the same (epoch and renewals) for `expire_ms`, or for what their last
 * renewal said if that is longer, are to be broken: their rows are copied to `expired`, which has
 * room for all; returns how many. They are named again in the next round if they are still the same
 * then.
 *
 * A lease counts as seen first whenever it differs at all, and all of them when the store's
 * `incarnation` does: a database that took over from another one may have lost the last renewals.
 */
size_t plane_lease_watch_observe(struct plane_lease_watch *watch,
	const struct plane_store_leases *leases, int64_t now_ms, int64_t expire_ms,
	struct plane_store_lease *expired);

/** How often to look: the time until a key is free grows by up to this. */
int64_t plane_lease_watch_period_ms(int64_t expire_ms);

#endif
