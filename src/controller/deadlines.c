/* Arithmetic of lease deadlines. Must never give a drone more time than the store's expiry. */
#include "controller/deadlines.h"

#include <errno.h>

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

struct plane_lease_constants plane_lease_constants_scale(int64_t expire_ms)
{
	return (struct plane_lease_constants){ .renew_ms = expire_ms / 5,
		.soft_terminate_ms = expire_ms * 3 / 5,
		.hard_terminate_ms = expire_ms * 4 / 5,
		.expire_ms = expire_ms };
}

int plane_lease_constants_check(
	const struct plane_lease_constants *c, const char *what, struct plane_error *err)
{
	const struct {
		const char *name;
		int64_t ms;
		bool may_be_equal; /* to the one before */
	} order[] = { { "the beginning", 0, true }, { "renewal", c->renew_ms, false },
		{ "soft stop", c->soft_terminate_ms, true },
		{ "hard stop", c->hard_terminate_ms, true }, { "expiry", c->expire_ms, false },
		{ "the longest time", LOCAL_MAX_MS, false } };
	for (size_t i = 1; i < sizeof(order) / sizeof(order[0]); i++)
		if (order[i].ms < order[i - 1].ms ||
			(order[i].ms == order[i - 1].ms && !order[i].may_be_equal))
			return plane_error_set(err, EINVAL,
				"%s: %s (%lld ms) must come %s %s (%lld ms)", what, order[i].name,
				(long long)order[i].ms,
				order[i].may_be_equal ? "not before" : "after", order[i - 1].name,
				(long long)order[i - 1].ms);
	return 0;
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

int64_t plane_lease_expiry_after(const struct plane_lease_constants *constants, int64_t hard_in_ms)
{
	int64_t other_ms = clamp(hard_in_ms) + constants->expire_ms - constants->hard_terminate_ms;
	return other_ms > constants->expire_ms ? other_ms : constants->expire_ms;
}
