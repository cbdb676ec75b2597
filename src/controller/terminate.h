/* Ordering the end of a backend. */
#ifndef PLANE_CONTROLLER_TERMINATE_H
#define PLANE_CONTROLLER_TERMINATE_H

#include "controller/internal.h"

/** Stores the action and wakes the drone's session. Pool thread. 0, -ENOENT for an unknown
 *  backend, or the store's error. Does nothing for a terminated backend. */
int plane_terminate(struct plane_controller *controller, const char *backend,
	enum plane_termination_kind kind, enum plane_termination_reason reason,
	struct plane_error *err);

#endif
