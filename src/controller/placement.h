/* Which of the suitable drones gets a new backend. Pure: the randomness is handed in. */
#ifndef PLANE_CONTROLLER_PLACEMENT_H
#define PLANE_CONTROLLER_PLACEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/resources.h"

#define PLANE_PLACEMENT_NONE SIZE_MAX

/** A drone that is healthy, of the right pool and not draining: what it said last, together with
 *  what it was given since. */
struct plane_placement_drone {
	bool is_sized;  /* it says what it has; else there is room for everything */
	bool is_silent; /* its lease should have been renewed by now: it may be dead */
	struct plane_drone_resources resources; /* without a size only `backend_count` counts */
};

/** Would `asked` keep it within what it lets be reserved? */
bool plane_placement_has_room(
	const struct plane_placement_drone *drone, const struct plane_resources *asked);

/**
 * Draws at random, without putting back, until `best_of` drones that have room and are not silent
 * are drawn, and answers the index of the best that has room; PLANE_PLACEMENT_NONE when there is
 * none or `best_of` is less than 1. The best one is not silent, if there is any such; then it is
 * not strained (it has free the memory that is asked for and a twentieth of all, and no more than
 * two running threads a CPU); then the one of which the least part will be reserved, memory or CPU,
 * whichever is more; then that with fewest backends; then the first drawn. `random_below(bound)` is
 * uniform in [0, bound).
 */
size_t plane_placement_choose(const struct plane_placement_drone *drones, size_t count,
	const struct plane_resources *asked, int best_of, uint64_t (*random_below)(uint64_t bound));

#endif
