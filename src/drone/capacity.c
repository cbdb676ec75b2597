/* Sums of what was asked for, and the limit of these. */
#include "drone/capacity.h"

#include <assert.h>
#include <stdio.h>

/* What is overcommitted beyond what can be said is as much as can be said. */
static int64_t times(int64_t value, int64_t millis, int64_t max)
{
	double product = (double)value * (double)millis / 1000;
	return product < (double)max ? (int64_t)product : max;
}

void plane_capacity_measured(
	struct plane_capacity *capacity, const struct plane_runtime_capacity *found)
{
	const struct plane_capacity_config *config = &capacity->config;
	struct plane_drone_resources *resources = &capacity->resources;
	int64_t memory_bytes =
		config->memory_bytes ? config->memory_bytes : found->memory_total_bytes;
	resources->total = (struct plane_resources){ memory_bytes,
		config->cpu_millis ? config->cpu_millis : found->cpu_millis };
	resources->allocatable = (struct plane_resources){ times(resources->total.memory_bytes,
								   config->overcommit_memory_millis,
								   PLANE_MEMORY_BYTES_MAX),
		times(resources->total.cpu_millis, config->overcommit_cpu_millis,
			PLANE_CPU_MILLIS_MAX) };
	resources->memory_available_bytes = found->memory_available_bytes < memory_bytes
						    ? found->memory_available_bytes
						    : memory_bytes;
	resources->load_millis = found->load_millis;
	capacity->is_measured = true;
}

bool plane_capacity_has_room(const struct plane_capacity *capacity,
	const struct plane_resources *asked, char *reason, size_t reason_size)
{
	const struct plane_drone_resources *has = &capacity->resources;
	char wanted[PLANE_RESOURCES_TEXT_SIZE], reserved[PLANE_RESOURCES_TEXT_SIZE];
	char allocatable[PLANE_RESOURCES_TEXT_SIZE];
	if (!capacity->is_measured || plane_resources_fit(asked, &has->reserved, &has->allocatable))
		return true;
	plane_resources_describe(asked, wanted);
	plane_resources_describe(&has->reserved, reserved);
	plane_resources_describe(&has->allocatable, allocatable);
	(void)snprintf(reason, reason_size, "no room for %s: %s of %s is reserved", wanted,
		reserved, allocatable);
	return false;
}

void plane_capacity_take(
	struct plane_capacity *capacity, const struct plane_resources *asked, int64_t fencing_token)
{
	struct plane_drone_resources *resources = &capacity->resources;
	resources->reserved = plane_resources_sum(&resources->reserved, asked);
	resources->backend_count++;
	if (fencing_token > resources->last_fencing_token)
		resources->last_fencing_token = fencing_token;
}

void plane_capacity_give(struct plane_capacity *capacity, const struct plane_resources *asked)
{
	struct plane_drone_resources *resources = &capacity->resources;
	assert(resources->backend_count > 0);
	resources->reserved.memory_bytes -= asked->memory_bytes;
	resources->reserved.cpu_millis -= asked->cpu_millis;
	resources->backend_count--;
}
