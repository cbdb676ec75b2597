/* The drones connected to this controller, for pool threads: what their clock says, what they can
 * do. Thread-safe. */
#ifndef PLANE_CONTROLLER_DRONE_REGISTRY_H
#define PLANE_CONTROLLER_DRONE_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "controller/deadlines.h"
#include "model/names.h"
#include "model/resources.h"

struct plane_drone_entry {
	bool has_logs;  /* the "logs" extension */
	bool has_clock; /* `clock` is set */
	struct plane_clock_report clock;
	bool has_resources; /* `resources` is set */
	struct plane_drone_resources resources;
	char name[PLANE_NAME_SIZE], cluster[PLANE_TEXT_MAX + 1], pool[PLANE_TEXT_MAX + 1];
};

struct plane_drone_registry;

struct plane_drone_registry *plane_drone_registry_create(void);
void plane_drone_registry_destroy(struct plane_drone_registry *registry);

/** Adds or replaces what is known about the drone. */
void plane_drone_registry_put(struct plane_drone_registry *registry, int64_t drone_id,
	const struct plane_drone_entry *entry);
void plane_drone_registry_report(struct plane_drone_registry *registry, int64_t drone_id,
	const struct plane_clock_report *clock);
void plane_drone_registry_report_resources(struct plane_drone_registry *registry, int64_t drone_id,
	const struct plane_drone_resources *resources);
void plane_drone_registry_remove(struct plane_drone_registry *registry, int64_t drone_id);
/** False when that drone is not connected here. */
bool plane_drone_registry_find(
	struct plane_drone_registry *registry, int64_t drone_id, struct plane_drone_entry *entry);

/** Appends what the drones have, in Prometheus' text format. */
void plane_drone_registry_write(struct plane_drone_registry *registry, struct plane_buffer *text);

#endif
