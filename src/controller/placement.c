/* "Best of n" placement: near the balance of "best of all", without a herd on one drone. */
#include "controller/placement.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"

#define FREE_PART 20 /* a drone with less than this part of its memory free is strained */
#define LOAD_PER_CPU 2

bool plane_placement_has_room(
	const struct plane_placement_drone *drone, const struct plane_resources *asked)
{
	return !drone->is_sized || plane_resources_fit(asked, &drone->resources.reserved,
					   &drone->resources.allocatable);
}

static bool is_strained(
	const struct plane_placement_drone *drone, const struct plane_resources *asked)
{
	const struct plane_drone_resources *has = &drone->resources;
	return drone->is_sized &&
	       (has->memory_available_bytes <
			       asked->memory_bytes + has->total.memory_bytes / FREE_PART ||
		       has->load_millis > has->total.cpu_millis * LOAD_PER_CPU);
}

static double part(int64_t asked, int64_t reserved, int64_t allocatable)
{
	double sum = (double)asked + (double)reserved;
	return allocatable > 0 ? sum / (double)allocatable : sum > 0;
}

static double reserved_part(
	const struct plane_placement_drone *drone, const struct plane_resources *asked)
{
	const struct plane_drone_resources *has = &drone->resources;
	if (!drone->is_sized)
		return 0;
	double memory = part(
		asked->memory_bytes, has->reserved.memory_bytes, has->allocatable.memory_bytes);
	double cpu = part(asked->cpu_millis, has->reserved.cpu_millis, has->allocatable.cpu_millis);
	return memory > cpu ? memory : cpu;
}

static bool is_better(const struct plane_placement_drone *one,
	const struct plane_placement_drone *other, const struct plane_resources *asked)
{
	if (one->is_silent != other->is_silent)
		return other->is_silent;
	bool one_strained = is_strained(one, asked), other_strained = is_strained(other, asked);
	if (one_strained != other_strained)
		return other_strained;
	double one_part = reserved_part(one, asked), other_part = reserved_part(other, asked);
	if (one_part < other_part || one_part > other_part)
		return one_part < other_part;
	return one->resources.backend_count < other->resources.backend_count;
}

size_t plane_placement_choose(const struct plane_placement_drone *drones, size_t count,
	const struct plane_resources *asked, int best_of, uint64_t (*random_below)(uint64_t bound))
{
	size_t best = PLANE_PLACEMENT_NONE;
	int found = 0; /* that are not silent */
	_cleanup_free_ size_t *indexes = plane_alloc_zero(count + 1, sizeof(*indexes));
	for (size_t i = 0; i < count; i++)
		indexes[i] = i;
	/* the first steps of a Fisher-Yates shuffle */
	for (size_t drawn = 0; drawn < count && found < best_of; drawn++) {
		size_t other = drawn + (size_t)random_below(count - drawn);
		size_t candidate = indexes[other];
		indexes[other] = indexes[drawn];
		indexes[drawn] = candidate;
		if (!plane_placement_has_room(&drones[candidate], asked))
			continue;
		found += !drones[candidate].is_silent;
		if (best == PLANE_PLACEMENT_NONE ||
			is_better(&drones[candidate], &drones[best], asked))
			best = candidate;
	}
	return best;
}
