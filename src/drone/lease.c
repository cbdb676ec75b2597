/* Lease arithmetic. */
#include "drone/lease.h"

void plane_lease_grant(struct plane_lease *lease, const struct plane_deadlines *deadlines)
{
	lease->deadlines = *deadlines;
	lease->asked_at_ms = 0;
}

bool plane_lease_renew(struct plane_lease *lease, const struct plane_deadlines *deadlines)
{
	if (deadlines->hard_terminate_at_ms < lease->deadlines.hard_terminate_at_ms)
		return false;
	plane_lease_grant(lease, deadlines);
	return true;
}

/* Not while an answer may still come. */
static bool ask(struct plane_lease *lease, int64_t retry_ms)
{
	if (lease->asked_at_ms && lease->latest_ms - lease->asked_at_ms < retry_ms)
		return false;
	lease->asked_at_ms = lease->latest_ms;
	return true;
}

enum plane_lease_step plane_lease_step(struct plane_lease *lease, int64_t now_ms, int64_t retry_ms)
{
	if (now_ms < lease->latest_ms)
		now_ms = lease->latest_ms;
	lease->latest_ms = now_ms;
	if (now_ms >= lease->deadlines.hard_terminate_at_ms)
		return PLANE_LEASE_HARD_STOP;
	if (now_ms >= lease->deadlines.soft_terminate_at_ms)
		return PLANE_LEASE_SOFT_STOP;
	if (now_ms < lease->deadlines.renew_at_ms)
		return PLANE_LEASE_HOLD;
	return ask(lease, retry_ms) ? PLANE_LEASE_RENEW : PLANE_LEASE_HOLD;
}

bool plane_lease_renew_early(struct plane_lease *lease, int64_t early_ms, int64_t retry_ms)
{
	return lease->latest_ms < lease->deadlines.soft_terminate_at_ms &&
	       lease->latest_ms >= lease->deadlines.renew_at_ms - early_ms && ask(lease, retry_ms);
}

void plane_lease_ask_again(struct plane_lease *lease)
{
	lease->asked_at_ms = 0;
}
