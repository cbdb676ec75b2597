/* Following a log of rows whose numbers are drawn before the rows can be seen: a transaction that
 * commits late fills a gap behind the reader. Gaps are remembered and looked at again until their
 * row appears, or cannot any more. And when the reader's own rows are not known to it, because
 * nobody told what became of a transaction. Pure: no I/O, no clock. */
#ifndef PLANE_STORE_EVENT_CURSOR_H
#define PLANE_STORE_EVENT_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

/** Gaps that are remembered; beyond, `has_lost` is said. A rollback leaves a gap, and a crash of
 *  PostgreSQL one of 32. */
#define PLANE_EVENT_GAPS_MAX 4096
/** A transaction draws its row's number an instant before it has a number of its own: a gap is not
 *  given up sooner. */
#define PLANE_EVENT_GAP_MIN_MS 1000
/** No gap is looked at for longer. A transaction of the store is open for some seconds, and one
 * that waits for a standby for longer; another's in the same PostgreSQL may be open for hours, and
 *  nobody knows then which gaps will be filled. */
#define PLANE_EVENT_GAP_MAX_MS 600000
/** For so long after an unknown outcome the server may begin what it was sent: until it finds that
 *  the connection is gone, and no statement has time left. */
#define PLANE_EVENT_DOUBT_MS 30000

struct plane_event_gap {
	int64_t id;
	int64_t open_until; /* transactions from this number on began after the gap was seen */
	int64_t seen_at_ms;
};

/** Zeroed reads from the beginning. */
struct plane_event_cursor {
	int64_t last_id;              /* all up to it are seen, except for the gaps */
	struct plane_event_gap *gaps; /* ascending */
	size_t gap_count;
	int64_t given_up_until; /* transactions before it were open when a gap was given up; 0: none
				 */
};

void plane_event_cursor_finish(struct plane_event_cursor *cursor);

/** One look at the log: what was there, and which transactions were not decided then. */
struct plane_event_look {
	const int64_t *ids; /* ascending: those of the gaps, then the first ones after `last_id` */
	size_t count;
	int64_t oldest_open; /* pg_snapshot_xmin: all before it are decided */
	int64_t next;        /* pg_snapshot_xmax: none from it on had begun */
	int64_t now_ms;      /* the reader's monotonic clock */
};

/** Takes a look into the cursor. False when something may be missed: there were too many gaps, of
 *  which the oldest are forgotten; or what could fill one that was given up is decided by now. */
bool plane_event_cursor_take(
	struct plane_event_cursor *cursor, const struct plane_event_look *look);

/** Does the reader know of all its own rows? Zeroed: it does. */
struct plane_event_doubt {
	int64_t unknown_seen; /* transactions whose outcome nobody told */
	bool is_open;
	int64_t until_ms;   /* of the reader's clock: later none of them begins */
	int64_t until_next; /* transactions before it may be among them; 0: not known yet */
};

/** Before a look. `unknown_count` grows with each transaction of which the reader was not told
 *  whether it is done. True when it has grown: what was visible before may have been skipped. */
bool plane_event_doubt_begin(
	struct plane_event_doubt *doubt, int64_t unknown_count, int64_t now_ms);
/** After a look that had the reader's own rows if `is_open`: closes once all that the doubt is
 *  about is decided, and was looked at after that. */
void plane_event_doubt_take(struct plane_event_doubt *doubt, const struct plane_event_look *look);

/** Appends the gaps as PostgreSQL reads an array: "{3,7}". */
void plane_event_cursor_write_gaps(
	const struct plane_event_cursor *cursor, struct plane_buffer *text);

#endif
