/* The rounds in which leases are broken; which ones is decided in lease_watch.c. */
#include "controller/lease_round.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "controller/lease_watch.h"

/* False when nothing more is to be found now. */
static bool mark_batch(struct plane_controller *controller)
{
	struct plane_store_lost lost = { 0 };
	struct plane_error err = { 0 };
	if (plane_store_mark_broken(controller->store, &lost, &err) < 0) {
		plane_warn("give up backends of broken leases: %s", err.message);
		return false; /* a later round does */
	}
	bool has_more = lost.count > 0;
	for (size_t i = 0; i < lost.count; i++) {
		plane_warn_backend(
			lost.entries[i].backend, "given up: its drone's lease is broken");
		plane_metrics_add(&controller->metrics, PLANE_METRIC_LOST, 1);
		plane_hub_publish_state(controller->hub, lost.entries[i].backend,
			&lost.entries[i].state, lost.entries[i].time_ms);
	}
	plane_store_lost_finish(&lost);
	return has_more;
}

void plane_lease_mark_broken(struct plane_controller *controller)
{
	while (mark_batch(controller))
		;
}

static bool break_lease(struct plane_controller *controller, const struct plane_store_lease *lease)
{
	bool is_broken = false;
	struct plane_error err = { 0 };
	if (plane_store_lease_break(controller->store, lease, &is_broken, &err) < 0) {
		plane_warn("break the lease of %s: %s", lease->drone, err.message);
		return false; /* the next round tries again */
	}
	if (is_broken) {
		plane_warn("%s has not renewed its lease for %lld ms: its keys are free",
			lease->drone, (long long)controller->config->drone_lease.expire_ms);
		plane_metrics_add(&controller->metrics, PLANE_METRIC_LEASES_BROKEN, 1);
	}
	return is_broken;
}

void plane_lease_round(struct plane_controller *controller)
{
	struct plane_store_leases leases = { 0 };
	struct plane_error err = { 0 };
	bool is_any_broken = false;
	if (plane_store_leases_find(controller->store, &leases, &err) < 0) {
		plane_warn("look at the leases of drones: %s", err.message);
		return;
	}
	if (controller->store_incarnation && leases.incarnation != controller->store_incarnation)
		atomic_store(&controller->is_store_changed, true);
	controller->store_incarnation = leases.incarnation;
	/* read after the answer: what it says was so before this moment */
	int64_t now_ms = plane_clock_boot_ms();
	_cleanup_free_ struct plane_store_lease *expired =
		plane_alloc_zero(leases.count + 1, sizeof(*expired));
	size_t count = plane_lease_watch_observe(controller->watch, &leases, now_ms,
		controller->config->drone_lease.expire_ms, expired);
	for (size_t i = 0; i < count; i++)
		is_any_broken |= break_lease(controller, &expired[i]);
	plane_store_leases_finish(&leases);
	if (is_any_broken)
		plane_lease_mark_broken(controller);
}
