/* Reading, writing and comparing resources. */
#include "model/resources.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#include "base/json.h"

int plane_resources_read(const json_t *json, bool are_required, struct plane_resources *resources,
	struct plane_error *err)
{
	enum plane_json_need need = are_required ? PLANE_JSON_REQUIRED : PLANE_JSON_OPTIONAL;
	struct plane_resources read = *resources;
	int result = plane_json_get_int(
		json, "memory_bytes", need, 0, PLANE_MEMORY_BYTES_MAX, &read.memory_bytes, err);
	if (result == 0)
		result = plane_json_get_int(
			json, "cpu_millis", need, 0, PLANE_CPU_MILLIS_MAX, &read.cpu_millis, err);
	if (result < 0)
		return plane_error_prefix(err, "resources");
	*resources = read;
	return 0;
}

json_t *plane_resources_write(const struct plane_resources *resources)
{
	return json_pack("{s:I,s:I}", "memory_bytes", (json_int_t)resources->memory_bytes,
		"cpu_millis", (json_int_t)resources->cpu_millis);
}

static int64_t at_most(int64_t value, int64_t max)
{
	return value < max ? value : max;
}

/* A quota of 50 percent of the period is half a CPU. */
struct plane_resources plane_resources_of_limits(const struct plane_resource_limits *limits)
{
	return (struct plane_resources){
		.memory_bytes = at_most(limits->memory_limit_bytes, PLANE_MEMORY_BYTES_MAX),
		.cpu_millis = limits->cpu_period_percent * 10,
	};
}

bool plane_resources_any(const struct plane_resources *resources)
{
	return resources->memory_bytes > 0 || resources->cpu_millis > 0;
}

struct plane_resources plane_resources_sum(
	const struct plane_resources *one, const struct plane_resources *two)
{
	return (struct plane_resources){ one->memory_bytes + two->memory_bytes,
		one->cpu_millis + two->cpu_millis };
}

static bool fits(int64_t asked, int64_t reserved, int64_t allocatable)
{
	return asked == 0 || asked <= allocatable - reserved;
}

bool plane_resources_fit(const struct plane_resources *asked,
	const struct plane_resources *reserved, const struct plane_resources *allocatable)
{
	return fits(asked->memory_bytes, reserved->memory_bytes, allocatable->memory_bytes) &&
	       fits(asked->cpu_millis, reserved->cpu_millis, allocatable->cpu_millis);
}

void plane_resources_describe(
	const struct plane_resources *resources, char text[PLANE_RESOURCES_TEXT_SIZE])
{
	char memory[40] = "", cpu[40] = "";
	int64_t bytes = resources->memory_bytes, millis = resources->cpu_millis;
	if (bytes % (1 << 20) == 0 && bytes)
		(void)snprintf(
			memory, sizeof(memory), "%" PRId64 " MiB of memory", bytes / (1 << 20));
	else if (bytes)
		(void)snprintf(memory, sizeof(memory), "%" PRId64 " bytes of memory", bytes);
	if (millis)
		(void)snprintf(cpu, sizeof(cpu), "%" PRId64 ".%03" PRId64 " CPUs", millis / 1000,
			millis % 1000);
	(void)snprintf(text, PLANE_RESOURCES_TEXT_SIZE, "%s%s%s", memory,
		bytes && millis ? " and " : "", millis || bytes ? cpu : "nothing");
}

static const struct {
	const char *name;
	size_t offset;
	int64_t max;
} report_fields[] = {
#define FIELD(name, member, max)                                                                   \
	{                                                                                          \
		name, offsetof(struct plane_drone_resources, member), max                          \
	}
	FIELD("memory_total_bytes", total.memory_bytes, PLANE_MEMORY_BYTES_MAX),
	FIELD("cpu_total_millis", total.cpu_millis, PLANE_CPU_MILLIS_MAX),
	FIELD("memory_allocatable_bytes", allocatable.memory_bytes, PLANE_MEMORY_BYTES_MAX),
	FIELD("cpu_allocatable_millis", allocatable.cpu_millis, PLANE_CPU_MILLIS_MAX),
	/* of any number of backends */
	FIELD("memory_reserved_bytes", reserved.memory_bytes, INT64_MAX / 4),
	FIELD("cpu_reserved_millis", reserved.cpu_millis, INT64_MAX / 4),
	FIELD("memory_available_bytes", memory_available_bytes, PLANE_MEMORY_BYTES_MAX),
	FIELD("backend_count", backend_count, INT32_MAX),
	FIELD("last_fencing_token", last_fencing_token, INT64_MAX),
#undef FIELD
};

#define FIELD_COUNT (sizeof(report_fields) / sizeof(report_fields[0]))

static int64_t *field_at(struct plane_drone_resources *resources, size_t i)
{
	return (int64_t *)(void *)((char *)resources + report_fields[i].offset);
}

int plane_drone_resources_read(
	const json_t *json, struct plane_drone_resources *resources, struct plane_error *err)
{
	struct plane_drone_resources read = { .load_millis = -1 };
	int result = plane_json_get_int(
		json, "load_millis", PLANE_JSON_OPTIONAL, 0, INT32_MAX, &read.load_millis, err);
	for (size_t i = 0; i < FIELD_COUNT && result == 0; i++)
		result = plane_json_get_int(json, report_fields[i].name, PLANE_JSON_REQUIRED, 0,
			report_fields[i].max, field_at(&read, i), err);
	if (result < 0)
		return plane_error_prefix(err, "resources");
	*resources = read;
	return 0;
}

json_t *plane_drone_resources_write(const struct plane_drone_resources *resources)
{
	struct plane_drone_resources copy = *resources;
	json_t *json = json_object();
	for (size_t i = 0; i < FIELD_COUNT; i++)
		(void)json_object_set_new(json, report_fields[i].name,
			json_integer(*field_at(&copy, i))); /* fails for want of memory only */
	if (copy.load_millis >= 0)
		(void)json_object_set_new(json, "load_millis", json_integer(copy.load_millis));
	return json;
}
