/* The sweeping rounds; what to do is decided in plane_sweep_decide. */
#include "controller/sweep.h"

#include <errno.h>

#include "base/log.h"
#include "controller/terminate.h"

/* Time for the order and the report of the end to travel, beyond the grace. */
#define ESCALATION_MARGIN_MS 10000
/* Each is a transaction, and others wait for the thread: all of a drone's may be due at once. */
#define ORDERS_MAX 25

enum plane_sweep_step plane_sweep_decide(const struct plane_sweep_facts *facts, int64_t grace_ms)
{
	switch (facts->status) {
	case PLANE_SCHEDULED: /* its spawn may still be on the way */
	case PLANE_HARD_TERMINATING:
	case PLANE_TERMINATED:
		return PLANE_SWEEP_NOTHING;
	case PLANE_TERMINATING:
		return facts->in_status_ms > grace_ms + ESCALATION_MARGIN_MS &&
				       !facts->has_pending_hard
			       ? PLANE_SWEEP_HARD
			       : PLANE_SWEEP_NOTHING;
	default:
		return facts->is_due && !facts->has_pending_soft && !facts->has_pending_hard
			       ? PLANE_SWEEP_SOFT
			       : PLANE_SWEEP_NOTHING;
	}
}

static int order(
	struct plane_controller *controller, const char *backend, enum plane_sweep_step step)
{
	struct plane_error err = { 0 };
	bool is_soft = step == PLANE_SWEEP_SOFT;
	int result = plane_terminate(controller, backend,
		is_soft ? PLANE_KIND_SOFT : PLANE_KIND_HARD, PLANE_REASON_SWEPT, &err);
	if (result < 0)
		plane_warn("sweep %s: %s", backend, err.message);
	else if (is_soft)
		plane_metrics_add(&controller->metrics, PLANE_METRIC_SWEPT, 1);
	return result;
}

static bool is_store_slow(int result)
{
	return result == -EAGAIN || result == -ETIMEDOUT;
}

bool plane_sweep_drone(struct plane_controller *controller, int64_t drone_id)
{
	struct plane_store_sweep candidates = { 0 };
	struct plane_error err = { 0 };
	if (plane_store_sweep_candidates(controller->store, drone_id, &candidates, &err) < 0) {
		plane_warn("find backends to sweep: %s", err.message);
		return false;
	}
	int orders = 0, result = 0;
	for (size_t i = 0; i < candidates.count && !is_store_slow(result) && orders < ORDERS_MAX;
		i++) {
		const struct plane_store_sweep_entry *entry = &candidates.entries[i];
		struct plane_sweep_facts facts = { .status = entry->status,
			.in_status_ms = entry->in_status_ms,
			.is_due = entry->is_due,
			.has_pending_soft = entry->has_pending_soft,
			.has_pending_hard = entry->has_pending_hard };
		enum plane_sweep_step step =
			plane_sweep_decide(&facts, controller->config->termination_grace_ms);
		if (step == PLANE_SWEEP_NOTHING)
			continue;
		result = order(controller, entry->backend, step);
		orders += result == 0; /* one that fails is for the next tick */
	}
	plane_store_sweep_finish(&candidates);
	return !is_store_slow(result) && orders == ORDERS_MAX;
}

void plane_sweep_lost(struct plane_controller *controller)
{
	struct plane_store_lost lost = { 0 };
	struct plane_error err = { 0 };
	if (plane_store_mark_lost(
		    controller->store, controller->config->assume_lost_ms, &lost, &err) < 0) {
		plane_warn("find lost backends: %s", err.message);
		return;
	}
	for (size_t i = 0; i < lost.count; i++) {
		plane_warn_backend(lost.entries[i].backend, "given up: its drone is lost");
		plane_metrics_add(&controller->metrics, PLANE_METRIC_LOST, 1);
		plane_hub_publish_state(controller->hub, lost.entries[i].backend,
			&lost.entries[i].state, lost.entries[i].time_ms);
	}
	plane_store_lost_finish(&lost);
}
