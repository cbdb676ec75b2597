/* How often a controller notifies the others of what it did, and looks at what they did. Pure. */
#ifndef PLANE_CONTROLLER_PACE_H
#define PLANE_CONTROLLER_PACE_H

#include <stdbool.h>
#include <stdint.h>

/** A notification takes a lock of the whole PostgreSQL: one for all that is done in this time. */
#define PLANE_PACE_NOTIFY_MS 5

/** Zeroed but for `poll_ms`: all is due. Times are of one monotonic clock. */
struct plane_pace {
	int poll_ms;          /* a read is due so long after the last, notified or not */
	bool has_own_news;    /* others are to be notified */
	bool has_others_news; /* they have notified, or there is more to read */
	int64_t may_notify_at_ms, poll_at_ms;
};

struct plane_pace_step {
	bool notifies, reads;
	int wait_ms; /* until there is something to do, if nothing happens meanwhile */
};

/** What to do at `now_ms`; takes what it says as done. */
struct plane_pace_step plane_pace_next(struct plane_pace *pace, int64_t now_ms);

#endif
