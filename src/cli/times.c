/* Flags about times, applied. */
#include "cli/times.h"

static void apply(const int64_t given[4], int64_t unit_ms, struct plane_lease_constants *constants)
{
	int64_t *targets[] = { &constants->renew_ms, &constants->soft_terminate_ms,
		&constants->hard_terminate_ms, &constants->expire_ms };
	for (int i = 0; i < 4; i++)
		if (given[i] >= 0)
			*targets[i] = given[i] * unit_ms;
}

static void apply_seconds(int64_t seconds, int *target_ms)
{
	if (seconds >= 0)
		*target_ms = (int)seconds * 1000;
}

void plane_times_apply(const struct plane_time_flags *times, struct plane_controller_config *config)
{
	if (times->lease_seconds >= 0)
		config->drone_lease = plane_lease_constants_scale(times->lease_seconds * 1000);
	apply(times->lease, 1, &config->drone_lease);
	apply(times->key_lease, 1000, &config->lease);
	apply_seconds(times->heartbeat_seconds, &config->heartbeat_ms);
	apply_seconds(times->unhealthy_seconds, &config->unhealthy_ms);
	apply_seconds(times->assume_lost_seconds, &config->assume_lost_ms);
}
