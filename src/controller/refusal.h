/* A drone that has no room for a backend refuses the order to start it: another one gets it. */
#ifndef PLANE_CONTROLLER_REFUSAL_H
#define PLANE_CONTROLLER_REFUSAL_H

#include "controller/internal.h"

/**
 * Moves the backend of a refused order to a drone of the same pool that was not asked yet and has
 * room. Without one it is terminated; its state says why. Nothing happens when the order is not
 * pending any more: a refusal may be told twice. Negative when the store does not answer: try
 * again. Pool thread.
 */
int plane_refusal_take(struct plane_controller *controller, int64_t drone_id, const char *drone,
	const char *action_id, const char *reason, struct plane_error *err);

#endif
