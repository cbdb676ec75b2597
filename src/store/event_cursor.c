/* Gaps of a log: found between the numbers of a look, closed by later ones. */
#include "store/event_cursor.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

void plane_event_cursor_finish(struct plane_event_cursor *cursor)
{
	free(cursor->gaps);
	*cursor = (struct plane_event_cursor){ 0 };
}

/* The row of a gap that was missing in this look will never come, if whoever drew the number has
 * been decided before it. */
static bool is_settled(const struct plane_event_gap *gap, const struct plane_event_look *look)
{
	return look->now_ms - gap->seen_at_ms >= PLANE_EVENT_GAP_MIN_MS &&
	       gap->open_until <= look->oldest_open;
}

/* It may be filled after that, and nobody looks. */
static void give_up(struct plane_event_cursor *cursor, const struct plane_event_gap *gap)
{
	if (gap->open_until > cursor->given_up_until)
		cursor->given_up_until = gap->open_until;
}

static bool keeps(struct plane_event_cursor *cursor, const struct plane_event_gap *gap,
	const struct plane_event_look *look)
{
	if (is_settled(gap, look))
		return false;
	if (look->now_ms - gap->seen_at_ms < PLANE_EVENT_GAP_MAX_MS)
		return true;
	give_up(cursor, gap);
	return false;
}

/* Both are ascending. Returns how many ids of the look were gaps. */
static size_t close_gaps(struct plane_event_cursor *cursor, const struct plane_event_look *look)
{
	size_t kept = 0, id = 0;
	for (size_t i = 0; i < cursor->gap_count; i++) {
		while (id < look->count && look->ids[id] < cursor->gaps[i].id)
			id++;
		bool has_come = id < look->count && look->ids[id] == cursor->gaps[i].id;
		struct plane_event_gap gap = cursor->gaps[i];
		if (!has_come && keeps(cursor, &gap, look))
			cursor->gaps[kept++] = gap;
	}
	cursor->gap_count = kept;
	while (id < look->count && look->ids[id] <= cursor->last_id)
		id++;
	return id;
}

/* Makes room for `count` more by forgetting the oldest. */
static void forget_oldest(struct plane_event_cursor *cursor, size_t count)
{
	size_t excess = cursor->gap_count + count - PLANE_EVENT_GAPS_MAX;
	for (size_t i = 0; i < excess; i++)
		give_up(cursor, &cursor->gaps[i]);
	cursor->gap_count -= excess;
	memmove(cursor->gaps, cursor->gaps + excess, cursor->gap_count * sizeof(cursor->gaps[0]));
}

/* The numbers from `first` up to, without, `end`. */
static bool open_gaps(struct plane_event_cursor *cursor, int64_t first, int64_t end,
	const struct plane_event_look *look)
{
	bool is_too_long = end - first > PLANE_EVENT_GAPS_MAX;
	if (is_too_long)
		first = end - PLANE_EVENT_GAPS_MAX;
	size_t count = (size_t)(end - first);
	bool is_too_many = cursor->gap_count + count > PLANE_EVENT_GAPS_MAX;
	if (is_too_many)
		forget_oldest(cursor, count);
	if (count > 0)
		cursor->gaps = plane_realloc(
			cursor->gaps, (cursor->gap_count + count) * sizeof(cursor->gaps[0]));
	for (; first < end; first++)
		cursor->gaps[cursor->gap_count++] = (struct plane_event_gap){
			.id = first, .open_until = look->next, .seen_at_ms = look->now_ms
		};
	return !is_too_long && !is_too_many;
}

bool plane_event_cursor_take(struct plane_event_cursor *cursor, const struct plane_event_look *look)
{
	bool is_whole = !cursor->given_up_until || cursor->given_up_until > look->oldest_open;
	if (!is_whole)
		cursor->given_up_until = 0;
	for (size_t i = close_gaps(cursor, look); i < look->count; i++) {
		is_whole &= open_gaps(cursor, cursor->last_id + 1, look->ids[i], look);
		cursor->last_id = look->ids[i];
	}
	return is_whole;
}

void plane_event_cursor_write_gaps(
	const struct plane_event_cursor *cursor, struct plane_buffer *text)
{
	plane_buffer_add_text(text, "{");
	for (size_t i = 0; i < cursor->gap_count; i++)
		plane_buffer_addf(text, "%s%" PRId64, i ? "," : "", cursor->gaps[i].id);
	plane_buffer_add_text(text, "}");
}

bool plane_event_doubt_begin(struct plane_event_doubt *doubt, int64_t unknown_count, int64_t now_ms)
{
	if (unknown_count == doubt->unknown_seen)
		return false;
	*doubt = (struct plane_event_doubt){ .unknown_seen = unknown_count,
		.is_open = true,
		.until_ms = now_ms + PLANE_EVENT_DOUBT_MS };
	return true;
}

void plane_event_doubt_take(struct plane_event_doubt *doubt, const struct plane_event_look *look)
{
	if (doubt->until_next && look->oldest_open >= doubt->until_next)
		*doubt = (struct plane_event_doubt){ .unknown_seen = doubt->unknown_seen };
	else if (doubt->is_open && !doubt->until_next && look->now_ms >= doubt->until_ms)
		doubt->until_next = look->next;
}
