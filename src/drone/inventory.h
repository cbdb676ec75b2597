/* What the drone runs, told to the controller on each connection: a store that has lost its last
 * writes does not know of all of it, and what it does not know must not run on. Loop thread only.
 */
#ifndef PLANE_DRONE_INVENTORY_H
#define PLANE_DRONE_INVENTORY_H

#include "drone/supervisor.h"
#include "net/channel.h"

/** Lists all backends that have not ended. What cannot be sent is listed on the next connection. */
void plane_inventory_send(struct plane_supervisor *supervisor, struct plane_channel *channel);

/** Ends those that the controller does not know as this drone's; others' names change nothing. */
void plane_inventory_end(
	struct plane_supervisor *supervisor, const struct plane_drone_order *order);

#endif
