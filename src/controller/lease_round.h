/* The controller's side of drones' leases: renewals gathered over all of its drones, and rounds
 * that break the leases that nobody renews. */
#ifndef PLANE_CONTROLLER_LEASE_ROUND_H
#define PLANE_CONTROLLER_LEASE_ROUND_H

#include "controller/internal.h"

struct plane_drone_session;

/* ---- renewals; loop thread only ---- */

struct plane_lease_renewals;

struct plane_lease_renewals *plane_lease_renewals_create(struct plane_controller *controller);
/** Nothing may run any more: after the workers. NULL is fine. */
void plane_lease_renewals_destroy(struct plane_lease_renewals *renewals);
/** Takes a request of a drone; the session answers it once it is stored, with others that came
 *  within some milliseconds. What the store does not take is not answered: the drone asks again.
 *  One request of a session waits: the next one takes its place, and only that one is answered. */
void plane_lease_renewals_add(struct plane_lease_renewals *renewals,
	struct plane_drone_session *drone, const struct plane_drone_message *message);
/** The session is over: what it has asked is not stored any more. */
void plane_lease_renewals_forget(
	struct plane_lease_renewals *renewals, struct plane_drone_session *drone);

/* ---- rounds; pool thread, one at a time ---- */

/** Looks at all leases and breaks those that have expired; sets `has_broken_leases` when it did:
 *  what ran under them is lost, and to be given up. */
void plane_lease_round(struct plane_controller *controller);
/** Gives up a batch of the backends whose drone's lease is broken; sets `has_broken_leases` when
 *  there may be more. */
void plane_lease_mark_broken(struct plane_controller *controller);

#endif
