/* What connect calls and refused orders have in common when they place a backend on a drone. Pool
 * threads. */
#ifndef PLANE_CONTROLLER_PLACING_H
#define PLANE_CONTROLLER_PLACING_H

#include "controller/internal.h"

/** The lease under which a backend on this drone begins: how long until when, by the drone's clock
 *  as it is now or was a little earlier. Ask before the lease is stored. */
void plane_placing_lease(struct plane_controller *controller, const struct plane_store_drone *drone,
	struct plane_deadlines *deadlines, int64_t *lease_ms);

/** Where drones may be looked for, into `look`; the rest of it is the caller's. */
void plane_placing_where(const struct plane_controller *controller, const char *cluster,
	const char *pool, struct plane_store_connect *look);

#define PLANE_PLACING_REASON_SIZE 256
/**
 * Why no drone of the pool gets a backend that asks for so much: the API's message for that, and
 * behind it how many drones drain, are silent, or have no room. Asks the store.
 */
void plane_placing_explain(struct plane_controller *controller, const char *cluster,
	const char *pool, const struct plane_resources *asked,
	char reason[PLANE_PLACING_REASON_SIZE]);

#endif
