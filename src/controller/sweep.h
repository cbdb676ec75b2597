/* Sweeping: backends that are idle or past their lifetime are terminated, softly first; ones whose
 * drone is lost are given up. Pool threads. */
#ifndef PLANE_CONTROLLER_SWEEP_H
#define PLANE_CONTROLLER_SWEEP_H

#include "controller/internal.h"

/** What a drone's backend needs, if anything. */
enum plane_sweep_step { PLANE_SWEEP_NOTHING, PLANE_SWEEP_SOFT, PLANE_SWEEP_HARD };

/** The facts of one backend, times by the store's clock. */
struct plane_sweep_facts {
	enum plane_backend_status status;
	int64_t in_status_ms;  /* since its status changed */
	bool is_due;           /* idle for too long or past its lifetime */
	bool has_pending_soft; /* a soft termination is ordered and not acked */
	bool has_pending_hard;
};

/** Pure. Soft at most once; hard when a soft one has not ended after `grace_ms` and a margin. */
enum plane_sweep_step plane_sweep_decide(const struct plane_sweep_facts *facts, int64_t grace_ms);

/** One round for a connected drone, of a bounded number of orders: true when there may be more to
 *  do at once. Failures are logged; the next round tries again. */
bool plane_sweep_drone(struct plane_controller *controller, int64_t drone_id);

/** Gives up the backends of drones that were silent for the time of the configuration. */
void plane_sweep_lost(struct plane_controller *controller);

#endif
