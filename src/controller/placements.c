/* A list of placements for each drone, behind one mutex. */
#include "controller/placements.h"

#include <stdbool.h>
#include <stdlib.h>

#include <uthash.h>
#include <utlist.h>
#include <uv.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/random.h"

struct placed {
	int64_t number;
	int64_t fencing_token; /* 0: not stored yet */
	int64_t placed_at_ms;
	struct plane_resources resources;
	struct placed *prev, *next;
};

struct placed_on {
	int64_t drone_id;
	struct placed *list; /* oldest first */
	UT_hash_handle hh;
};

struct plane_placements {
	uv_mutex_t mutex;
	struct placed_on *drones;
	int64_t last_number, counts_ms, renewed_ms;
};

struct plane_placements *plane_placements_create(int64_t counts_ms, int64_t renewed_ms)
{
	struct plane_placements *placements = PLANE_NEW(struct plane_placements);
	placements->counts_ms = counts_ms;
	placements->renewed_ms = renewed_ms;
	if (uv_mutex_init(&placements->mutex) < 0)
		abort(); /* only without memory */
	return placements;
}

static void forget(struct placed_on *drone, struct placed *placed)
{
	DL_DELETE(drone->list, placed);
	free(placed);
}

void plane_placements_destroy(struct plane_placements *placements)
{
	struct placed_on *drone, *next;
	if (!placements)
		return;
	HASH_ITER (hh, placements->drones, drone, next) {
		while (drone->list)
			forget(drone, drone->list);
		HASH_DEL(placements->drones, drone);
		free(drone);
	}
	uv_mutex_destroy(&placements->mutex);
	free(placements);
}

static struct placed_on *find(struct plane_placements *placements, int64_t drone_id)
{
	struct placed_on *drone = NULL;
	HASH_FIND(hh, placements->drones, &drone_id, sizeof(drone_id), drone);
	return drone;
}

/* Forgets what the drone has told of, and what is too old to count. */
static void settle(struct placed_on *drone, int64_t told_token, int64_t counts_ms, int64_t now_ms)
{
	struct placed *placed, *next;
	DL_FOREACH_SAFE (drone->list, placed, next) {
		bool is_told = placed->fencing_token && placed->fencing_token <= told_token;
		if (is_told || now_ms - placed->placed_at_ms >= counts_ms)
			forget(drone, placed);
	}
}

static struct plane_placement_drone look_at(
	struct plane_placements *placements, const struct plane_store_drone *known, int64_t now_ms)
{
	struct plane_placement_drone view = { .is_sized = known->has_resources,
		.is_silent = known->lease_epoch && known->silent_ms > placements->renewed_ms };
	struct placed_on *drone = find(placements, known->id);
	struct placed *placed;
	if (known->has_resources)
		view.resources = known->resources;
	view.resources.backend_count = known->backend_count;
	if (!drone)
		return view;
	settle(drone, view.resources.last_fencing_token,
		view.is_sized ? placements->counts_ms : PLANE_PLACEMENT_COUNTS_MS, now_ms);
	DL_FOREACH (drone->list, placed) {
		view.resources.reserved =
			plane_resources_sum(&view.resources.reserved, &placed->resources);
		view.resources.backend_count++;
	}
	return view;
}

static int64_t add(struct plane_placements *placements, int64_t drone_id,
	const struct plane_resources *resources, int64_t now_ms)
{
	struct placed_on *drone = find(placements, drone_id);
	if (!drone) {
		drone = PLANE_NEW(struct placed_on);
		drone->drone_id = drone_id;
		HASH_ADD(hh, placements->drones, drone_id, sizeof(drone_id), drone);
	}
	struct placed *placed = PLANE_NEW(struct placed);
	*placed = (struct placed){
		.number = ++placements->last_number, .placed_at_ms = now_ms, .resources = *resources
	};
	DL_APPEND(drone->list, placed);
	return placed->number;
}

size_t plane_placements_choose(struct plane_placements *placements,
	const struct plane_store_drones *drones, const struct plane_resources *asked, int best_of,
	int64_t now_ms, struct plane_placement *placement)
{
	_cleanup_free_ struct plane_placement_drone *views =
		plane_alloc_zero(drones->count + 1, sizeof(*views));
	uv_mutex_lock(&placements->mutex);
	for (size_t i = 0; i < drones->count; i++)
		views[i] = look_at(placements, &drones->entries[i], now_ms);
	size_t index =
		plane_placement_choose(views, drones->count, asked, best_of, plane_random_below);
	if (index != PLANE_PLACEMENT_NONE) {
		int64_t drone_id = drones->entries[index].id;
		*placement = (struct plane_placement){ .drone_id = drone_id,
			.number = add(placements, drone_id, asked, now_ms) };
	}
	uv_mutex_unlock(&placements->mutex);
	return index;
}

static struct placed *find_number(struct placed_on *drone, int64_t number)
{
	struct placed *placed = NULL;
	if (drone)
		DL_SEARCH_SCALAR(drone->list, placed, number, number);
	return placed;
}

void plane_placements_confirm(struct plane_placements *placements,
	const struct plane_placement *placement, int64_t fencing_token)
{
	uv_mutex_lock(&placements->mutex);
	struct placed *placed =
		find_number(find(placements, placement->drone_id), placement->number);
	if (placed)
		placed->fencing_token = fencing_token;
	uv_mutex_unlock(&placements->mutex);
}

void plane_placements_cancel(
	struct plane_placements *placements, const struct plane_placement *placement)
{
	uv_mutex_lock(&placements->mutex);
	struct placed_on *drone = find(placements, placement->drone_id);
	struct placed *placed = find_number(drone, placement->number);
	if (placed)
		forget(drone, placed);
	uv_mutex_unlock(&placements->mutex);
}

void plane_placements_refused(
	struct plane_placements *placements, int64_t drone_id, int64_t fencing_token)
{
	uv_mutex_lock(&placements->mutex);
	struct placed_on *drone = find(placements, drone_id);
	struct placed *placed, *next;
	if (drone)
		DL_FOREACH_SAFE (drone->list, placed, next) {
			if (placed->fencing_token == fencing_token)
				forget(drone, placed);
		}
	uv_mutex_unlock(&placements->mutex);
}
