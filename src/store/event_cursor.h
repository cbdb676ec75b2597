/* Following a log of rows whose numbers are drawn before the rows can be seen: a transaction that
 * commits late fills a gap behind the reader. Gaps are remembered and looked at again until their
 * row appears, or cannot any more. Pure: no I/O, no clock. */
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
/** No transaction of the store is open for so long: each of its statements is limited to seconds.
 *  Matters when another's transaction in the same PostgreSQL is open for hours. */
#define PLANE_EVENT_GAP_MAX_MS 60000

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

/** Takes a look into the cursor. False when there were too many gaps: the oldest are forgotten, and
 *  what they stood for may be missed. */
bool plane_event_cursor_take(
	struct plane_event_cursor *cursor, const struct plane_event_look *look);

/** Appends the gaps as PostgreSQL reads an array: "{3,7}". */
void plane_event_cursor_write_gaps(
	const struct plane_event_cursor *cursor, struct plane_buffer *text);

#endif
