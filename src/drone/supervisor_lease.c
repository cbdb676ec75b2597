/* The drone's own lease, and what is told with each request for it; which backends must be looked
 * at while it holds. */
#include <utlist.h>

#include "base/log.h"
#include "drone/supervisor_internal.h"

#define EARLY_PAUSE_MS 1000 /* more room is told once in so long */

void plane_supervisor_measure(struct plane_supervisor *supervisor)
{
	struct plane_runtime *runtime = supervisor->runtime;
	struct plane_runtime_capacity found;
	struct plane_error err = { 0 };
	if (runtime->impl->capacity(runtime, &found, &err) == 0)
		plane_capacity_measured(&supervisor->capacity, &found);
	else if (!supervisor->capacity.is_measured)
		plane_warn("%s: backends are placed here whatever they ask for", err.message);
}

bool plane_supervisor_ask_lease(
	struct plane_supervisor *supervisor, struct plane_drone_message *message)
{
	if (supervisor->has_more_room)
		plane_drone_lease_ask_early(&supervisor->keeper.lease,
			plane_local_clock_now_ms(supervisor->config.clock), EARLY_PAUSE_MS);
	if (!plane_lease_keeper_ask(&supervisor->keeper, message))
		return false;
	plane_supervisor_measure(supervisor);
	supervisor->has_more_room = false;
	message->has_resources = supervisor->capacity.is_measured;
	message->resources = supervisor->capacity.resources;
	return true;
}

int64_t plane_supervisor_lease_waiting_ms(const struct plane_supervisor *supervisor)
{
	return plane_drone_lease_waiting_ms(
		&supervisor->keeper.lease, plane_local_clock_now_ms(supervisor->config.clock));
}

int64_t plane_supervisor_lease_interval_ms(const struct plane_supervisor *supervisor)
{
	return plane_drone_lease_interval_ms(&supervisor->keeper.lease);
}

void plane_supervisor_lease_answered(
	struct plane_supervisor *supervisor, const struct plane_drone_order *order)
{
	int64_t broken = 0;
	if (plane_lease_keeper_answer(&supervisor->keeper, order, &broken) ==
		PLANE_DRONE_LEASE_BROKEN)
		plane_supervisor_tick(supervisor); /* all under it is ended */
}

void plane_supervisor_mark_restless(struct backend *backend)
{
	if (backend->is_restless)
		return;
	backend->is_restless = true;
	DL_APPEND2(backend->supervisor->restless, backend, restless_prev, restless_next);
}

void plane_supervisor_mark_calm(struct backend *backend)
{
	if (!backend->is_restless)
		return;
	backend->is_restless = false;
	DL_DELETE2(backend->supervisor->restless, backend, restless_prev, restless_next);
}
