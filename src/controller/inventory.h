/* Compares what a drone says it runs with the store, and has it end what the store does not know as
 * the drone's: a database that was failed over or restored has lost it (docs/consistency.md). */
#ifndef PLANE_CONTROLLER_INVENTORY_H
#define PLANE_CONTROLLER_INVENTORY_H

#include "controller/drone_internal.h"

/** Takes an inventory. The store is asked after all that the drone has said before it. Loop thread.
 */
void plane_inventory_take(struct plane_drone_session *drone, const json_t *json,
	const struct plane_drone_message *message);

#endif
