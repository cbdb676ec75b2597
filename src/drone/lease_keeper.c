/* Keeps the drone's lease in journal and runtime. */
#include "drone/lease_keeper.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "base/text.h"

#define JOURNAL_ID "journal_id"
#define DRONE_LEASE "drone_lease" /* epoch, greatest epoch ever, soft margin */

static int read_journal_id(struct plane_lease_keeper *keeper, struct plane_error *err)
{
	int result = plane_journal_get(
		keeper->journal, JOURNAL_ID, keeper->journal_id, sizeof(keeper->journal_id), err);
	if (result < 0 || keeper->journal_id[0])
		return result;
	plane_name_random("jo", keeper->journal_id);
	return plane_journal_set(keeper->journal, JOURNAL_ID, keeper->journal_id, err);
}

static int record(struct plane_lease_keeper *keeper, struct plane_error *err)
{
	char text[96];
	const struct plane_deadlines *deadlines = &keeper->lease.deadlines;
	keeper->soft_margin_ms = deadlines->hard_terminate_at_ms - deadlines->soft_terminate_at_ms;
	snprintf(text, sizeof(text), "%" PRId64 " %" PRId64 " %" PRId64, keeper->lease.epoch,
		keeper->lease.known_epoch, keeper->soft_margin_ms);
	return plane_journal_set(keeper->journal, DRONE_LEASE, text, err);
}

int plane_lease_keeper_open(struct plane_lease_keeper *keeper, struct plane_journal *journal,
	const struct plane_local_clock *clock, struct plane_runtime *runtime,
	struct plane_error *err)
{
	char text[96];
	int64_t epoch = 0, known_epoch = 0, margin_ms = 0, hard_ms = 0;
	*keeper = (struct plane_lease_keeper){ journal, clock, runtime, .soft_margin_ms = 0 };
	int result = plane_journal_get(journal, DRONE_LEASE, text, sizeof(text), err);
	if (result == 0)
		result = read_journal_id(keeper, err);
	if (result < 0)
		return plane_error_prefix(err, "the drone's lease");
	if (sscanf(text, "%" SCNd64 " %" SCNd64 " %" SCNd64, &epoch, &known_epoch, &margin_ms) != 3)
		return 0;
	if (epoch)
		hard_ms = runtime->impl->get_lease(runtime, epoch);
	if (hard_ms) /* else the machine was started anew, and with it the clock */
		hard_ms += clock->offset_ms;
	keeper->soft_margin_ms = margin_ms;
	plane_drone_lease_resume(&keeper->lease, epoch, known_epoch,
		&(struct plane_deadlines){ .soft_terminate_at_ms = hard_ms - margin_ms,
			.hard_terminate_at_ms = hard_ms });
	return 0;
}

bool plane_lease_keeper_ask(struct plane_lease_keeper *keeper, struct plane_drone_message *message)
{
	int64_t now_ms = plane_local_clock_now_ms(keeper->clock);
	if (!plane_drone_lease_ask(&keeper->lease, now_ms))
		return false;
	*message = (struct plane_drone_message){ .kind = PLANE_DRONE_RENEW_LEASE,
		.epoch = keeper->lease.epoch,
		.last_epoch = keeper->lease.known_epoch,
		.journal = keeper->journal_id,
		.local_time_ms = now_ms,
		.hard_in_ms = plane_drone_lease_hard_in_ms(&keeper->lease, now_ms) };
	return true;
}

/* The shims' file, and what a restarted drone must know, before anything is started under it. */
static int begin(struct plane_lease_keeper *keeper, struct plane_error *err)
{
	const struct plane_drone_lease *lease = &keeper->lease;
	int result = record(keeper, err);
	if (result < 0)
		return result;
	return keeper->runtime->impl->set_lease(
		keeper->runtime, lease->epoch, lease->last_hard_ms - keeper->clock->offset_ms, err);
}

static void extend(struct plane_lease_keeper *keeper)
{
	const struct plane_deadlines *deadlines = &keeper->lease.deadlines;
	struct plane_error err = { 0 };
	if (keeper->runtime->impl->set_lease(keeper->runtime, keeper->lease.epoch,
		    keeper->lease.last_hard_ms - keeper->clock->offset_ms, &err) < 0)
		plane_error("write the lease: %s", err.message); /* the shims kill at its end */
	if (deadlines->hard_terminate_at_ms - deadlines->soft_terminate_at_ms !=
			keeper->soft_margin_ms &&
		record(keeper, &err) < 0)
		plane_warn("record the lease: %s", err.message); /* only how soft its end is */
}

static void end(struct plane_lease_keeper *keeper, int64_t epoch)
{
	struct plane_error err = { 0 };
	if (keeper->runtime->impl->end_lease(keeper->runtime, epoch, &err) < 0)
		plane_error("end the lease: %s", err.message);
	if (record(keeper, &err) < 0)
		plane_warn("record the lease's end: %s", err.message); /* it is told again */
}

enum plane_drone_lease_change plane_lease_keeper_answer(struct plane_lease_keeper *keeper,
	const struct plane_drone_order *order, int64_t *broken_epoch)
{
	struct plane_drone_lease before = keeper->lease;
	struct plane_error err = { 0 };
	enum plane_drone_lease_change change =
		plane_drone_lease_answer(&keeper->lease, order->epoch, order->local_time_ms,
			order->has_deadlines ? &order->deadlines : NULL, broken_epoch);
	switch (change) {
	case PLANE_DRONE_LEASE_SAME:
		break;
	case PLANE_DRONE_LEASE_EXTENDED:
		extend(keeper);
		break;
	case PLANE_DRONE_LEASE_BEGUN:
		if (begin(keeper, &err) < 0) {
			plane_error("begin a lease: %s", err.message);
			keeper->lease = before; /* it is asked for again */
			return PLANE_DRONE_LEASE_SAME;
		}
		plane_info("lease %" PRId64 " begins", keeper->lease.epoch);
		break;
	case PLANE_DRONE_LEASE_BROKEN:
		plane_warn(
			"lease %" PRId64 " is broken: what runs under it is ended", *broken_epoch);
		end(keeper, *broken_epoch);
		break;
	}
	return change;
}
