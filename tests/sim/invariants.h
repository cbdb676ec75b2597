/* What must hold. A new invariant of every step is checked where the step is taken, one of the end
 * in sim_check_rest or sim_check_end; a variant that breaks it belongs to the mutants in main.c. */
#ifndef PLANE_SIM_INVARIANTS_H
#define PLANE_SIM_INVARIANTS_H

#include "sim.h"

/** A request for a key's link goes there now. */
void sim_check_route(const char *key, const char *address);
/** Somebody was told that the backend is going to end: at rest it must have. */
void sim_check_must_end(const char *backend);
/** What the store has, now and then. */
void sim_check_store(void);
/** The faults have been over for long: store and drones agree, and nothing is under way. */
void sim_check_rest(void);
/** All backends were ordered to end long ago. */
void sim_check_end(struct sim_machine *const *machines, int count);

#endif
