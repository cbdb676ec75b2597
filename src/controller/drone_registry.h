/* The drones connected to this controller, for pool threads: what their clock says, what they can
 * do. Thread-safe. */
#ifndef PLANE_CONTROLLER_DRONE_REGISTRY_H
#define PLANE_CONTROLLER_DRONE_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "controller/deadlines.h"

struct plane_drone_entry {
	bool has_logs;  /* the "logs" extension */
	bool has_clock; /* `clock` is set */
	struct plane_clock_report clock;
};

struct plane_drone_registry;

struct plane_drone_registry *plane_drone_registry_create(void);
void plane_drone_registry_destroy(struct plane_drone_registry *registry);

/** Adds or replaces what is known about the drone. */
void plane_drone_registry_put(
	struct plane_drone_registry *registry, int64_t drone_id, bool has_logs);
void plane_drone_registry_report(struct plane_drone_registry *registry, int64_t drone_id,
	const struct plane_clock_report *clock);
void plane_drone_registry_remove(struct plane_drone_registry *registry, int64_t drone_id);
/** False when that drone is not connected here. */
bool plane_drone_registry_find(
	struct plane_drone_registry *registry, int64_t drone_id, struct plane_drone_entry *entry);

#endif
