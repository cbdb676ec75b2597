/* Lease deadlines in a drone's own clock. Pure: reads no clock, does no I/O. */
#ifndef PLANE_CONTROLLER_DEADLINES_H
#define PLANE_CONTROLLER_DEADLINES_H

#include <stdbool.h>
#include <stdint.h>

#include "model/messages.h"

/** Times of a lease, counted from its acquisition or renewal (reference section 3). */
struct plane_lease_constants {
	int64_t renew_ms;
	int64_t soft_terminate_ms;
	int64_t hard_terminate_ms;
	int64_t expire_ms; /* in the store's clock; later than all others */
};

/** 30, 40, 50 and 60 seconds. */
extern const struct plane_lease_constants plane_lease_defaults;

/** Those between our own nodes when a lease lasts `expire_ms`: a fifth, three fifths and four
 * fifths of that. */
struct plane_lease_constants plane_lease_constants_scale(int64_t expire_ms);

/** 0 < renew <= soft <= hard < expire? Else -EINVAL with a message that begins with `what` and
 * names the first two that are in the wrong order. */
int plane_lease_constants_check(
	const struct plane_lease_constants *constants, const char *what, struct plane_error *err);

/** What a drone said about its clock, and when it arrived by ours. */
struct plane_clock_report {
	int64_t local_ms;   /* the drone's clock, read by the drone before it sent */
	int64_t arrived_ms; /* our boot clock when it was received */
};

/**
 * The drone's clock at `now_ms` of ours, never later than it really is: the report was on its way
 * for a while, and that while is not added. A `now_ms` before the arrival counts as the arrival.
 */
int64_t plane_clock_report_estimate(const struct plane_clock_report *report, int64_t now_ms);

/** Deadlines of a lease that was acquired or renewed at `local_ms` of the drone's clock. */
struct plane_deadlines plane_deadlines_after(
	const struct plane_lease_constants *constants, int64_t local_ms);

/**
 * For how long after a renewal nobody may break a drone's lease: until it has ended by the drone's
 * clock for as long as these constants leave between the two. `hard_in_ms`: how long the drone goes
 * on without this renewal, which is longer when another controller gave it more.
 */
int64_t plane_lease_expiry_after(const struct plane_lease_constants *constants, int64_t hard_in_ms);

#endif
