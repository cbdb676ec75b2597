/* A controller for fuzz targets: with a store of its own, in which are two drones and backends
 * "ready", "ending" and "ended", with the keys "k", "e" and "g" of the tag "t". Its clock stands
 * still. */
#ifndef PLANE_TESTS_FUZZ_CONTROLLER_WORLD_H
#define PLANE_TESTS_FUZZ_CONTROLLER_WORLD_H

#include "controller/internal.h"

#define WORLD_CLUSTER "c.test:1"
#define WORLD_DRONE "dr-a"

extern struct plane_controller controller;

/** Once. `on_event` receives the hub's events, when the loop turns. */
void controller_world_create(
	void (*on_event)(void *data, const struct plane_hub_event *event), void *data);
/** The store as it was at first. */
void controller_world_reset(void);
/** The id of WORLD_DRONE, which runs the backends. */
int64_t controller_world_drone(void);

#endif
