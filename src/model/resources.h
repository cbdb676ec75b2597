/* Memory and CPU: what a backend asks for, and what a drone has for its backends. Pure. */
#ifndef PLANE_MODEL_RESOURCES_H
#define PLANE_MODEL_RESOURCES_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/error.h"
#include "model/executable.h"

/** The most that can be asked for or be there: sums of many of them do not overflow. */
#define PLANE_MEMORY_BYTES_MAX (INT64_C(1) << 50)
#define PLANE_CPU_MILLIS_MAX INT64_C(1000000000)

struct plane_resources {
	int64_t memory_bytes;
	int64_t cpu_millis; /* thousandths of a CPU */
};

/** `{"memory_bytes", "cpu_millis"}`; one that may be missing stays as it is in `resources`. */
int plane_resources_read(const json_t *json, bool are_required, struct plane_resources *resources,
	struct plane_error *err);
json_t *plane_resources_write(const struct plane_resources *resources);
/** What a backend with these limits asks for unless it says so itself; 0 where it has no limit. */
struct plane_resources plane_resources_of_limits(const struct plane_resource_limits *limits);

bool plane_resources_any(const struct plane_resources *resources);
struct plane_resources plane_resources_sum(
	const struct plane_resources *one, const struct plane_resources *two);
/** Is there room for `asked` beside `reserved`? What is not asked for always fits. */
bool plane_resources_fit(const struct plane_resources *asked,
	const struct plane_resources *reserved, const struct plane_resources *allocatable);

#define PLANE_RESOURCES_TEXT_SIZE 96
/** "512 MiB of memory and 1.5 CPUs", for people; "nothing" for nothing. */
void plane_resources_describe(
	const struct plane_resources *resources, char text[PLANE_RESOURCES_TEXT_SIZE]);

/** What a drone says of itself with each renewal of its lease. */
struct plane_drone_resources {
	struct plane_resources total;       /* of its machine, or what its limit is */
	struct plane_resources allocatable; /* backends may reserve so much: overcommitted */
	struct plane_resources reserved;    /* by its backends that have not ended */
	int64_t memory_available_bytes;     /* could be used now without swapping */
	int64_t load_millis;                /* load average of a minute; -1: unknown */
	int64_t backend_count;              /* that have not ended */
	int64_t last_fencing_token;         /* the greatest of an order that it has taken */
};

int plane_drone_resources_read(
	const json_t *json, struct plane_drone_resources *resources, struct plane_error *err);
json_t *plane_drone_resources_write(const struct plane_drone_resources *resources);

#endif
