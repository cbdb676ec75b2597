/* The rounds in which leases are broken; which ones is decided in lease_watch.c. */
#include "controller/lease_round.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "controller/lease_watch.h"

void plane_lease_mark_broken(struct plane_controller *controller)
{
	struct plane_store_lost lost = { 0 };
	struct plane_error err = { 0 };
	if (plane_store_mark_broken(controller->store, &lost, &err) < 0) {
		plane_warn("give up backends of broken leases: %s", err.message);
		return; /* a later round does */
	}
	if (lost.count > 0) /* there may be more */
		atomic_store(&controller->has_broken_leases, true);
	for (size_t i = 0; i < lost.count; i++) {
		plane_warn_backend(
			lost.entries[i].backend, "given up: its drone's lease is broken");
		plane_metrics_add(&controller->metrics, PLANE_METRIC_LOST, 1);
		plane_hub_publish_state(controller->hub, lost.entries[i].backend,
			&lost.entries[i].state, lost.entries[i].time_ms);
	}
	plane_store_lost_finish(&lost);
}

static void break_lease(struct plane_controller *controller, const struct plane_store_lease *lease)
{
	bool is_broken = false;
	int64_t expire_ms = controller->config->drone_lease.expire_ms;
	struct plane_error err = { 0 };
	if (plane_store_lease_break(controller->store, lease, &is_broken, &err) < 0) {
		plane_warn("break the lease of %s: %s", lease->drone, err.message);
		return; /* the next round tries again */
	}
	if (is_broken) {
		plane_warn("%s has not renewed its lease for %lld ms: its keys are free",
			lease->drone,
			(long long)(lease->expire_ms > expire_ms ? lease->expire_ms : expire_ms));
		plane_metrics_add(&controller->metrics, PLANE_METRIC_LEASES_BROKEN, 1);
		atomic_store(&controller->has_broken_leases, true);
	}
}

/* What runs that the store does not know is told to end by the controllers that its drones connect
 * to, or ends by itself: only then are keys given away that seem to be free. */
static void recover(struct plane_controller *controller, const struct plane_store_leases *leases,
	int64_t now_ms)
{
	struct plane_recovery *recovery = &controller->recovery;
	struct plane_error err = { 0 };
	bool is_over = false;
	int64_t ends_at_ms = plane_recovery_observe(recovery, leases, now_ms,
		&controller->config->drone_lease, &controller->config->lease);
	atomic_store(&controller->recovery_ends_at_ms, ends_at_ms);
	if (ends_at_ms == 0 || now_ms < ends_at_ms)
		return;
	if (plane_store_recovery_end(controller->store, recovery->since_ms, &is_over, &err) < 0) {
		plane_warn("give out keys again: %s", err.message);
		return; /* the next round tries again */
	}
	if (is_over) {
		plane_info("what the database may have forgotten has ended: keys that are not held "
			   "are given out again");
		atomic_store(&controller->recovery_ends_at_ms, 0);
	} else if (!recovery->is_waiting_logged) {
		plane_warn("keys that are not held wait for drones that hold a lease and have not "
			   "said what they run");
		recovery->is_waiting_logged = true;
	}
}

void plane_lease_round(struct plane_controller *controller)
{
	struct plane_store_leases leases = { 0 };
	struct plane_error err = { 0 };
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
	recover(controller, &leases, now_ms);
	for (size_t i = 0; i < count; i++)
		break_lease(controller, &expired[i]);
	plane_store_leases_finish(&leases);
}
