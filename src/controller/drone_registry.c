/* A map from a drone's number to what this controller knows of it, behind one mutex. */
#include "controller/drone_registry.h"

#include <stdlib.h>

#include <uthash.h>
#include <uv.h>

#include "base/alloc.h"

struct known_drone {
	int64_t drone_id;
	struct plane_drone_entry entry;
	UT_hash_handle hh;
};

struct plane_drone_registry {
	uv_mutex_t mutex;
	struct known_drone *drones;
};

struct plane_drone_registry *plane_drone_registry_create(void)
{
	struct plane_drone_registry *registry = PLANE_NEW(struct plane_drone_registry);
	if (uv_mutex_init(&registry->mutex) < 0)
		abort(); /* only without memory */
	return registry;
}

void plane_drone_registry_destroy(struct plane_drone_registry *registry)
{
	if (!registry)
		return;
	struct known_drone *drone, *next;
	HASH_ITER (hh, registry->drones, drone, next) {
		HASH_DEL(registry->drones, drone);
		free(drone);
	}
	uv_mutex_destroy(&registry->mutex);
	free(registry);
}

static struct known_drone *find(struct plane_drone_registry *registry, int64_t drone_id)
{
	struct known_drone *drone = NULL;
	HASH_FIND(hh, registry->drones, &drone_id, sizeof(drone_id), drone);
	return drone;
}

void plane_drone_registry_put(
	struct plane_drone_registry *registry, int64_t drone_id, bool has_logs)
{
	uv_mutex_lock(&registry->mutex);
	struct known_drone *drone = find(registry, drone_id);
	if (!drone) {
		drone = PLANE_NEW(struct known_drone);
		drone->drone_id = drone_id;
		HASH_ADD(hh, registry->drones, drone_id, sizeof(drone->drone_id), drone);
	}
	drone->entry = (struct plane_drone_entry){ .has_logs = has_logs };
	uv_mutex_unlock(&registry->mutex);
}

void plane_drone_registry_report(struct plane_drone_registry *registry, int64_t drone_id,
	const struct plane_clock_report *clock)
{
	uv_mutex_lock(&registry->mutex);
	struct known_drone *drone = find(registry, drone_id);
	if (drone) {
		drone->entry.has_clock = true;
		drone->entry.clock = *clock;
	}
	uv_mutex_unlock(&registry->mutex);
}

void plane_drone_registry_remove(struct plane_drone_registry *registry, int64_t drone_id)
{
	uv_mutex_lock(&registry->mutex);
	struct known_drone *drone = find(registry, drone_id);
	if (drone) {
		HASH_DEL(registry->drones, drone);
		free(drone);
	}
	uv_mutex_unlock(&registry->mutex);
}

bool plane_drone_registry_find(
	struct plane_drone_registry *registry, int64_t drone_id, struct plane_drone_entry *entry)
{
	uv_mutex_lock(&registry->mutex);
	struct known_drone *drone = find(registry, drone_id);
	if (drone)
		*entry = drone->entry;
	uv_mutex_unlock(&registry->mutex);
	return drone != NULL;
}
