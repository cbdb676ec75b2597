/* What this controller has placed on drones lately, and their reports do not tell yet: so that many
 * spawns at once do not all go to the drone that was emptiest a second ago. Any thread. Other
 * controllers place too; a drone that is given too much refuses. */
#ifndef PLANE_CONTROLLER_PLACEMENTS_H
#define PLANE_CONTROLLER_PLACEMENTS_H

#include <stddef.h>
#include <stdint.h>

#include "controller/placement.h"
#include "store/store.h"

struct plane_placements;

/** A placement on a drone that reports counts until it does, but `counts_ms` at most, which is to
 * be longer than drones take to report. One with a lease that has not been heard of for longer than
 * `renewed_ms` is silent. */
struct plane_placements *plane_placements_create(int64_t counts_ms, int64_t renewed_ms);
void plane_placements_destroy(struct plane_placements *placements);

/** On a drone that does not report: its backends are counted at each heartbeat. */
#define PLANE_PLACEMENT_COUNTS_MS 10000

/** A place that was chosen. */
struct plane_placement {
	int64_t drone_id, number;
};

/**
 * Chooses one of the drones as plane_placement_choose does, by what they have reported and what was
 * placed on them since, and counts the new backend there from now on: until a report of the drone
 * tells of it. `now_ms` is any clock that only grows. Returns the index or PLANE_PLACEMENT_NONE.
 */
size_t plane_placements_choose(struct plane_placements *placements,
	const struct plane_store_drones *drones, const struct plane_resources *asked, int best_of,
	int64_t now_ms, struct plane_placement *placement);
/** The backend is stored with this fencing token: reports that know it cover the placement. */
void plane_placements_confirm(struct plane_placements *placements,
	const struct plane_placement *placement, int64_t fencing_token);
/** It was not stored. */
void plane_placements_cancel(
	struct plane_placements *placements, const struct plane_placement *placement);
/** The drone has refused what was placed there with this token. */
void plane_placements_refused(
	struct plane_placements *placements, int64_t drone_id, int64_t fencing_token);

#endif
