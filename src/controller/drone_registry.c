/* A map from a drone's number to what this controller knows of it, behind one mutex. */
#include "controller/drone_registry.h"

#include <stddef.h>
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

void plane_drone_registry_put(struct plane_drone_registry *registry, int64_t drone_id,
	const struct plane_drone_entry *entry)
{
	uv_mutex_lock(&registry->mutex);
	struct known_drone *drone = find(registry, drone_id);
	if (!drone) {
		drone = PLANE_NEW(struct known_drone);
		drone->drone_id = drone_id;
		HASH_ADD(hh, registry->drones, drone_id, sizeof(drone->drone_id), drone);
	}
	drone->entry = *entry;
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

void plane_drone_registry_report_resources(struct plane_drone_registry *registry, int64_t drone_id,
	const struct plane_drone_resources *resources)
{
	uv_mutex_lock(&registry->mutex);
	struct known_drone *drone = find(registry, drone_id);
	if (drone) {
		drone->entry.has_resources = true;
		drone->entry.resources = *resources;
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

/* ---- the text ---- */

struct sample {
	const char *kind; /* NULL: the family has one a drone */
	size_t offset;
};

static const struct family {
	const char *name, *help;
	int64_t unit; /* what the number is divided by */
	struct sample samples[5];
} families[] = {
#define AT(member) offsetof(struct plane_drone_resources, member)
	{ "plane_drone_memory_bytes", "Memory of a drone.", 1,
		{ { "total", AT(total.memory_bytes) },
			{ "allocatable", AT(allocatable.memory_bytes) },
			{ "reserved", AT(reserved.memory_bytes) },
			{ "available", AT(memory_available_bytes) } } },
	{ "plane_drone_cpus", "CPUs of a drone.", 1000,
		{ { "total", AT(total.cpu_millis) }, { "allocatable", AT(allocatable.cpu_millis) },
			{ "reserved", AT(reserved.cpu_millis) } } },
	{ "plane_drone_load1", "Load average of a drone's machine over a minute.", 1000,
		{ { NULL, AT(load_millis) } } },
	{ "plane_drone_backends", "Backends of a drone that have not ended.", 1,
		{ { NULL, AT(backend_count) } } },
#undef AT
};

/* Pools and clusters may be any text. */
static void add_label(struct plane_buffer *text, const char *name, const char *value)
{
	plane_buffer_addf(text, "%s=\"", name);
	for (; *value; value++) {
		if (*value == '\n')
			plane_buffer_add_text(text, "\\n");
		else
			plane_buffer_addf(
				text, *value == '"' || *value == '\\' ? "\\%c" : "%c", *value);
	}
	plane_buffer_add_text(text, "\"");
}

static void write_sample(struct plane_buffer *text, const struct family *family,
	const struct sample *sample, const struct plane_drone_entry *entry)
{
	int64_t value =
		*(const int64_t *)(const void *)((const char *)&entry->resources + sample->offset);
	if (value < 0)
		return; /* unknown */
	plane_buffer_addf(text, "%s{", family->name);
	add_label(text, "drone", entry->name);
	plane_buffer_add_text(text, ",");
	add_label(text, "cluster", entry->cluster);
	plane_buffer_add_text(text, ",");
	add_label(text, "pool", entry->pool);
	if (sample->kind)
		plane_buffer_addf(text, ",kind=\"%s\"", sample->kind);
	plane_buffer_addf(text, "} %.15g\n", (double)value / (double)family->unit);
}

static void write_family(struct plane_buffer *text, const struct family *family,
	const struct plane_drone_entry *entry)
{
	for (size_t i = 0; i < 5 && (i == 0 || family->samples[i].kind); i++)
		write_sample(text, family, &family->samples[i], entry);
}

void plane_drone_registry_write(struct plane_drone_registry *registry, struct plane_buffer *text)
{
	struct known_drone *drone, *next;
	uv_mutex_lock(&registry->mutex);
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
		plane_buffer_addf(text, "# HELP %s %s\n# TYPE %s gauge\n", families[i].name,
			families[i].help, families[i].name);
		HASH_ITER (hh, registry->drones, drone, next)
			if (drone->entry.has_resources)
				write_family(text, &families[i], &drone->entry);
	}
	uv_mutex_unlock(&registry->mutex);
}
