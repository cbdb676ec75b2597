/* "Best of n" placement: near the balance of "fewest of all", without a herd on one drone. */
#include "controller/placement.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"

size_t plane_placement_choose(const int64_t *backend_counts, size_t count, int best_of,
	uint64_t (*random_below)(uint64_t bound))
{
	size_t best = PLANE_PLACEMENT_NONE;
	if (count == 0 || best_of < 1)
		return best;
	_cleanup_free_ size_t *indexes = plane_alloc_zero(count, sizeof(*indexes));
	for (size_t i = 0; i < count; i++)
		indexes[i] = i;
	/* the first steps of a Fisher-Yates shuffle */
	for (size_t drawn = 0; drawn < count && drawn < (size_t)best_of; drawn++) {
		size_t other = drawn + (size_t)random_below(count - drawn);
		size_t candidate = indexes[other];
		indexes[other] = indexes[drawn];
		indexes[drawn] = candidate;
		if (best == PLANE_PLACEMENT_NONE ||
			backend_counts[candidate] < backend_counts[best])
			best = candidate;
	}
	return best;
}
