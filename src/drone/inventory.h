/* What the drone runs, told to the controller on each connection: a store that has lost its last
 * writes does not know of all of it, and what it does not know must not run on. Loop thread only.
 */
#ifndef PLANE_DRONE_INVENTORY_H
#define PLANE_DRONE_INVENTORY_H

#include "drone/supervisor.h"
#include "net/channel.h"

struct plane_inventory {
	struct plane_supervisor *supervisor; /* borrowed */
	struct plane_channel *channel;       /* borrowed */
	json_t *disowned;                    /* names that were to be ended; NULL: none */
};

/** Lists all backends that have not ended. What cannot be sent is listed on the next connection. */
void plane_inventory_send(struct plane_inventory *inventory);

/** Ends those that the controller does not know as this drone's; others' names change nothing. */
void plane_inventory_end(struct plane_inventory *inventory, const struct plane_drone_order *order);

/** A backend has changed: when all that the controller did not know have ended, it is told what
 *  runs now. */
void plane_inventory_update(struct plane_inventory *inventory);

void plane_inventory_finish(struct plane_inventory *inventory);

#endif
