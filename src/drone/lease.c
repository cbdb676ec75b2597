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

/* The time goes on from the latest one that was looked at. */
static int64_t advance(int64_t *latest_ms, int64_t now_ms)
{
	if (now_ms > *latest_ms)
		*latest_ms = now_ms;
	return *latest_ms;
}

static enum plane_lease_step stop_of(const struct plane_deadlines *deadlines, int64_t now_ms)
{
	if (now_ms >= deadlines->hard_terminate_at_ms)
		return PLANE_LEASE_HARD_STOP;
	return now_ms >= deadlines->soft_terminate_at_ms ? PLANE_LEASE_SOFT_STOP : PLANE_LEASE_HOLD;
}

enum plane_lease_step plane_lease_step(struct plane_lease *lease, int64_t now_ms, int64_t retry_ms)
{
	now_ms = advance(&lease->latest_ms, now_ms);
	enum plane_lease_step stop = stop_of(&lease->deadlines, now_ms);
	if (stop != PLANE_LEASE_HOLD || now_ms < lease->deadlines.renew_at_ms)
		return stop;
	return ask(lease, retry_ms) ? PLANE_LEASE_RENEW : PLANE_LEASE_HOLD;
}

void plane_lease_ask_again(struct plane_lease *lease)
{
	lease->asked_at_ms = 0;
}

/* ---- the drone's own lease ---- */

#define INTERVAL_MIN_MS 10

void plane_drone_lease_resume(struct plane_drone_lease *lease, int64_t epoch, int64_t known_epoch,
	const struct plane_deadlines *deadlines)
{
	*lease = (struct plane_drone_lease){ .epoch = epoch,
		.known_epoch = known_epoch > epoch ? known_epoch : epoch,
		.deadlines = *deadlines,
		.last_hard_ms = deadlines->hard_terminate_at_ms };
}

int64_t plane_drone_lease_interval_ms(const struct plane_drone_lease *lease)
{
	return lease->interval_ms ? lease->interval_ms : PLANE_DRONE_LEASE_FIRST_INTERVAL_MS;
}

bool plane_drone_lease_ask(struct plane_drone_lease *lease, int64_t now_ms)
{
	int64_t interval_ms = plane_drone_lease_interval_ms(lease);
	now_ms = advance(&lease->latest_ms, now_ms);
	if (lease->sent_at_ms && now_ms - lease->sent_at_ms < interval_ms)
		return false;
	lease->sent_at_ms = now_ms;
	if (lease->asked_at_ms == 0)
		lease->asked_at_ms = now_ms;
	return true;
}

void plane_drone_lease_ask_early(struct plane_drone_lease *lease, int64_t now_ms, int64_t pause_ms)
{
	now_ms = advance(&lease->latest_ms, now_ms);
	if (lease->asked_at_ms == 0 && now_ms - lease->sent_at_ms >= pause_ms)
		lease->sent_at_ms = 0;
}

void plane_drone_lease_ask_again(struct plane_drone_lease *lease)
{
	lease->sent_at_ms = lease->asked_at_ms = 0;
}

int64_t plane_drone_lease_waiting_ms(const struct plane_drone_lease *lease, int64_t now_ms)
{
	return lease->asked_at_ms && now_ms > lease->asked_at_ms ? now_ms - lease->asked_at_ms : 0;
}

int64_t plane_drone_lease_hard_in_ms(const struct plane_drone_lease *lease, int64_t now_ms)
{
	return lease->epoch && lease->last_hard_ms > now_ms ? lease->last_hard_ms - now_ms : 0;
}

static enum plane_drone_lease_change refused(
	struct plane_drone_lease *lease, int64_t epoch, int64_t *broken_epoch)
{
	if (epoch == 0 || epoch != lease->epoch)
		return PLANE_DRONE_LEASE_SAME;
	*broken_epoch = epoch;
	lease->epoch = 0;
	lease->deadlines = (struct plane_deadlines){ 0 };
	lease->sent_at_ms = 0; /* a new one is asked for at once */
	return PLANE_DRONE_LEASE_BROKEN;
}

enum plane_drone_lease_change plane_drone_lease_answer(struct plane_drone_lease *lease,
	int64_t epoch, int64_t asked_at_ms, const struct plane_deadlines *deadlines,
	int64_t *broken_epoch)
{
	lease->asked_at_ms = 0;
	if (!deadlines)
		return refused(lease, epoch, broken_epoch);
	bool is_begun = lease->epoch == 0 && epoch > lease->known_epoch;
	if (!is_begun &&
		(epoch == 0 || epoch != lease->epoch || asked_at_ms < lease->granted_at_ms))
		return PLANE_DRONE_LEASE_SAME;
	lease->epoch = epoch;
	if (is_begun)
		lease->known_epoch = epoch;
	lease->deadlines = *deadlines;
	lease->granted_at_ms = asked_at_ms;
	if (is_begun || deadlines->hard_terminate_at_ms > lease->last_hard_ms)
		lease->last_hard_ms = deadlines->hard_terminate_at_ms;
	int64_t interval_ms;
	if (!__builtin_sub_overflow(deadlines->renew_at_ms, asked_at_ms, &interval_ms) &&
		interval_ms >= INTERVAL_MIN_MS)
		lease->interval_ms = interval_ms;
	return is_begun ? PLANE_DRONE_LEASE_BEGUN : PLANE_DRONE_LEASE_EXTENDED;
}

enum plane_lease_step plane_drone_lease_step(struct plane_drone_lease *lease, int64_t now_ms)
{
	now_ms = advance(&lease->latest_ms, now_ms);
	return lease->epoch ? stop_of(&lease->deadlines, now_ms) : PLANE_LEASE_HARD_STOP;
}

bool plane_drone_lease_may_start(struct plane_drone_lease *lease, int64_t epoch, int64_t now_ms)
{
	return epoch == lease->epoch && plane_drone_lease_step(lease, now_ms) == PLANE_LEASE_HOLD;
}
