/* Which of the suitable drones gets a new backend. Pure: the randomness is handed in. */
#ifndef PLANE_CONTROLLER_PLACEMENT_H
#define PLANE_CONTROLLER_PLACEMENT_H

#include <stddef.h>
#include <stdint.h>

#define PLANE_PLACEMENT_NONE SIZE_MAX

/**
 * Draws `best_of` different ones of `count` drones at random and answers the index of the one with
 * fewest backends (the first drawn on ties); PLANE_PLACEMENT_NONE when there is none or `best_of`
 * is less than 1. `random_below(bound)` is uniform in [0, bound).
 */
size_t plane_placement_choose(const int64_t *backend_counts, size_t count, int best_of,
	uint64_t (*random_below)(uint64_t bound));

#endif
