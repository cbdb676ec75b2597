/* What must hold. A new invariant of every step is checked where the step is taken, one of the end
 * in sim_check_rest or sim_check_end; a variant that breaks it belongs to the mutants in main.c. */
#ifndef PLANE_SIM_INVARIANTS_H
#define PLANE_SIM_INVARIANTS_H

#include "model/backend_state.h"
#include "sim.h"

/** A request for a key's link goes there now. */
void sim_check_route(const char *key, const char *address);
/** The store has forgotten it: at rest it must have ended. */
void sim_check_forgotten(const char *backend);
/** Somebody was told that the backend is going to end: at rest it must have. */
void sim_check_must_end(const char *backend);
/** It was answered that the drone drains; or that is taken back. */
void sim_check_drained(const char *drone, bool is_drained);
/** A status stream that had told `last` (0: nothing) tells `status`. */
void sim_check_told(
	const char *backend, enum plane_backend_status last, enum plane_backend_status status);
/** It has told `last`, and all has come to rest. */
void sim_check_told_all(const char *backend, enum plane_backend_status last);
/** What the store has, now and then. */
void sim_check_store(void);
/** The faults have been over for a while: what was ordered to end has ended. */
void sim_check_ends(void);
/** The faults have been over for long: store and drones agree, and nothing is under way. */
void sim_check_rest(void);
/** All backends were ordered to end long ago. */
void sim_check_end(struct sim_machine *const *machines, int count);

#endif
