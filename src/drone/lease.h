/* When a backend may go on running for its key. Pure: reads no clock, does no I/O. */
#ifndef PLANE_DRONE_LEASE_H
#define PLANE_DRONE_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "model/messages.h"

enum plane_lease_step {
	PLANE_LEASE_HOLD,
	PLANE_LEASE_RENEW,
	PLANE_LEASE_SOFT_STOP,
	PLANE_LEASE_HARD_STOP,
};

/** Times are those of the drone's local clock. */
struct plane_lease {
	struct plane_deadlines deadlines;
	int64_t asked_at_ms; /* for a renewal; 0: not since the last one was granted */
	int64_t latest_ms;   /* the latest time ever looked at */
};

/** A lease as it was granted. */
void plane_lease_grant(struct plane_lease *lease, const struct plane_deadlines *deadlines);

/**
 * Deadlines that a renewal granted. False, and nothing changes, when they end before those there
 * are: an answer that was overtaken.
 */
bool plane_lease_renew(struct plane_lease *lease, const struct plane_deadlines *deadlines);

/**
 * What the holder must do at `now_ms`. RENEW is said again every `retry_ms` until a renewal is
 * granted. Never answers a later step for an earlier clock reading: a clock that jumps back cannot
 * undo a stop.
 */
enum plane_lease_step plane_lease_step(struct plane_lease *lease, int64_t now_ms, int64_t retry_ms);

/**
 * Is a lease that plane_lease_step has just let hold to be renewed now, together with others,
 * because its time to be renewed comes within `early_ms`?
 */
bool plane_lease_renew_early(struct plane_lease *lease, int64_t early_ms, int64_t retry_ms);

/** The connection is new: what was asked on the old one was not. */
void plane_lease_ask_again(struct plane_lease *lease);

#endif
