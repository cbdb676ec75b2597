/* Removing what is old from the store: expired tokens, nodes that are long gone, and long
 * terminated backends if wanted. */
#ifndef PLANE_CONTROLLER_CLEANUP_H
#define PLANE_CONTROLLER_CLEANUP_H

#include "controller/internal.h"

#define PLANE_CLEANUP_PERIOD_MS (180 * 1000)

/** One round. Pool thread. Failures are logged; the next round tries again. */
void plane_cleanup_run(struct plane_controller *controller);

#endif
