/* Arithmetic of lease deadlines. Must never give a drone more time than the store's expiry. */
#include "controller/deadlines.h"

const struct plane_lease_constants plane_lease_defaults = {
	.renew_ms = 30000,
	.soft_terminate_ms = 40000,
	.hard_terminate_ms = 50000,
	.expire_ms = 60000,
};

/* Clocks outside this range (about 292,000 years) are clamped, so that no sum overflows. */
#define LOCAL_MAX_MS (INT64_MAX / 1000)

static int64_t clamp(int64_t value)
{
	if (value > LOCAL_MAX_MS)
		return LOCAL_MAX_MS;
	return value < -LOCAL_MAX_MS ? -LOCAL_MAX_MS : value;
}

bool plane_lease_constants_valid(const struct plane_lease_constants *c)
{
	return c->renew_ms > 0 && c->soft_terminate_ms >= c->renew_ms &&
	       c->hard_terminate_ms >= c->soft_terminate_ms &&
	       c->expire_ms > c->hard_terminate_ms && c->expire_ms < LOCAL_MAX_MS;
}

int64_t plane_clock_report_estimate(const struct plane_clock_report *report, int64_t now_ms)
{
	int64_t elapsed_ms = now_ms > report->arrived_ms ? now_ms - report->arrived_ms : 0;
	return clamp(report->local_ms) + clamp(elapsed_ms);
}

struct plane_deadlines plane_deadlines_after(
	const struct plane_lease_constants *constants, int64_t local_ms)
{
	int64_t from_ms = clamp(local_ms);
	return (struct plane_deadlines){
		.renew_at_ms = from_ms + constants->renew_ms,
		.soft_terminate_at_ms = from_ms + constants->soft_terminate_ms,
		.hard_terminate_at_ms = from_ms + constants->hard_terminate_ms,
	};
}
