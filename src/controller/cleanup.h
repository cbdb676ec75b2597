/* Removing what is old from the store: expired tokens, nodes that are long gone, and long
 * terminated backends if wanted. */
#ifndef PLANE_CONTROLLER_CLEANUP_H
#define PLANE_CONTROLLER_CLEANUP_H

#include "controller/internal.h"

#define PLANE_CLEANUP_PERIOD_MS (180 * 1000)
/** How long a round goes on at most while there is more to remove. */
#define PLANE_CLEANUP_ROUND_MS (60 * 1000)

/**
 * Begins a round: batches on the controller's strand until there is no more, behind what else waits
 * there after every few of them. Loop thread. Failures are logged; the next round tries again.
 */
void plane_cleanup_start(struct plane_controller *controller);

#endif
