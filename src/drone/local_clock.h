/* The drone's own clock, in which the controller sends deadlines: milliseconds that go on through
 * suspension and through restarts of the drone, never jump, and begin near the wall clock. */
#ifndef PLANE_DRONE_LOCAL_CLOCK_H
#define PLANE_DRONE_LOCAL_CLOCK_H

#include <stdint.h>

#include "drone/journal.h"

struct plane_local_clock {
	int64_t offset_ms; /* local = CLOCK_BOOTTIME + offset */
};

/** Goes on with the clock of the journal when the machine has not booted since, else begins one. */
int plane_local_clock_open(
	struct plane_local_clock *clock, struct plane_journal *journal, struct plane_error *err);

int64_t plane_local_clock_now_ms(const struct plane_local_clock *clock);

#endif
