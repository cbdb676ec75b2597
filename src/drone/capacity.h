/* How much the drone's backends have asked for, and how much they may: what the machine has, times
 * a factor. Pure. */
#ifndef PLANE_DRONE_CAPACITY_H
#define PLANE_DRONE_CAPACITY_H

#include <stdbool.h>
#include <stddef.h>

#include "model/resources.h"
#include "runtime/runtime.h"

struct plane_capacity_config {
	/* instead of what is found; 0: as found */
	int64_t memory_bytes, cpu_millis;
	/* thousandths: 1000 lets backends ask for what there is, 2000 for twice as much */
	int64_t overcommit_memory_millis, overcommit_cpu_millis;
};

/** Zeroed, with a config, is a drone without backends whose size is not known: all fits. */
struct plane_capacity {
	struct plane_capacity_config config;
	bool is_measured;
	struct plane_drone_resources resources;
};

/** What was found now. */
void plane_capacity_measured(
	struct plane_capacity *capacity, const struct plane_runtime_capacity *found);

/** Is there room for it? Else `reason` says what is missing. */
bool plane_capacity_has_room(const struct plane_capacity *capacity,
	const struct plane_resources *asked, char *reason, size_t reason_size);

/** A backend is here, whether there is room for it or not. */
void plane_capacity_take(struct plane_capacity *capacity, const struct plane_resources *asked,
	int64_t fencing_token);
/** It has ended. */
void plane_capacity_give(struct plane_capacity *capacity, const struct plane_resources *asked);

#endif
