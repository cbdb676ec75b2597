/* The feed of a controller: the tables backend_state, action and revocation are the log of what all
 * controllers do. A notification says that there is something new; what it is, is read. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "store/event_cursor.h"
#include "store/postgres.h"

#define CHANNEL "plane_events"
#define BATCH 500 /* rows of each log in one read; also in the statement below */
/* At the beginning, numbers that are missing among so many last ones may belong to transactions
 * that are not decided yet. */
#define LOOK_BACK 1000

enum log { LOG_SNAPSHOT, LOG_STATES, LOG_ACTIONS, LOG_REVOCATIONS, LOG_COUNT };

struct feed {
	struct plane_store_feed base;
	struct plane_postgres_store *store;
	char controller[PLANE_NAME_SIZE];
	struct plane_pg pg;
	struct plane_pg_statistics statistics; /* not among those of the calls */
	char *server;                          /* which one, since when; NULL: none yet */
	bool has_missed;                       /* to be told with the next events */
	struct plane_event_doubt doubt;        /* about this store's own rows */
	bool is_behind; /* connected anew and not read since: nobody heard notifications between */
	struct plane_event_cursor cursors[LOG_COUNT];
};

/* All in one statement, and so in one snapshot: what it does not show of a gap, and who was
 * undecided, are true of the same moment. Rows of this store's own have no backend, unless it is in
 * doubt about them. */
#define SNAPSHOT                                                                                   \
	"SELECT 0, pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint, NULL, "   \
	"NULL, NULL FROM pg_current_snapshot() s"
#define IS_TOLD(origin) "(" origin " IS DISTINCT FROM $1 OR $9::boolean)"
#define STATES(which)                                                                              \
	" UNION ALL (SELECT 1, id, created_at, "                                                   \
	"CASE WHEN " IS_TOLD("origin") " THEN backend END, CASE WHEN " IS_TOLD(                    \
		"origin") " THEN state END, NULL FROM backend_state WHERE " which ")"
#define ACTIONS(which)                                                                             \
	" UNION ALL (SELECT 2, a.sequence, a.drone_id, "                                           \
	"CASE WHEN is_ours THEN a.backend END, CASE WHEN is_ours THEN a.message END, a.id "        \
	"FROM action a, LATERAL (SELECT " IS_TOLD(                                                 \
		"a.origin") " AND a.acked_at IS NULL AND "                                         \
			    "EXISTS (SELECT 1 FROM node n WHERE n.id = a.drone_id AND "            \
			    "n.controller = $2) AS is_ours) "                                      \
			    "o WHERE " which ")"
#define REVOCATIONS(which)                                                                         \
	" UNION ALL (SELECT 3, id, 0, CASE WHEN " IS_TOLD(                                         \
		"origin") " THEN backend END, username, NULL FROM revocation WHERE " which ")"
static const char read_logs[] = SNAPSHOT STATES("id = ANY ($3::bigint[]) ORDER BY id")
	STATES("id > $4 ORDER BY id LIMIT 500")
		ACTIONS("a.sequence = ANY ($5::bigint[]) ORDER BY a.sequence")
			ACTIONS("a.sequence > $6 ORDER BY a.sequence LIMIT 500")
				REVOCATIONS("id = ANY ($7::bigint[]) ORDER BY id")
					REVOCATIONS("id > $8 ORDER BY id LIMIT 500");

static PGresult *ask(struct feed *feed, struct plane_error *err)
{
	struct plane_buffer gaps[LOG_COUNT] = { 0 };
	PGresult *rows = NULL;
	for (int i = LOG_STATES; i < LOG_COUNT; i++)
		plane_event_cursor_write_gaps(&feed->cursors[i], &gaps[i]);
	int result = plane_pg_run(&feed->pg, &rows, NULL, err, read_logs, "tttititib",
		feed->store->pool.origin, feed->controller, plane_buffer_text(&gaps[LOG_STATES]),
		feed->cursors[LOG_STATES].last_id, plane_buffer_text(&gaps[LOG_ACTIONS]),
		feed->cursors[LOG_ACTIONS].last_id, plane_buffer_text(&gaps[LOG_REVOCATIONS]),
		feed->cursors[LOG_REVOCATIONS].last_id, (int)feed->doubt.is_open);
	for (int i = LOG_STATES; i < LOG_COUNT; i++)
		plane_buffer_finish(&gaps[i]);
	return result < 0 ? NULL : rows;
}

/* False for a row that this version cannot read: it must not stop those behind it. */
static bool read_event(const PGresult *rows, int row, struct plane_store_event *event)
{
	struct plane_error err;
	*event = (struct plane_store_event){ 0 };
	(void)plane_text_copy(
		event->backend, sizeof(event->backend), plane_pg_text(rows, row, 3)); /* checked */
	switch ((enum log)plane_pg_int(rows, row, 0)) {
	case LOG_STATES:
		event->kind = PLANE_STORE_EVENT_STATE;
		event->time_ms = plane_pg_int(rows, row, 2);
		if (plane_store_read_state(plane_pg_text(rows, row, 4), &event->state, &err) == 0)
			return true;
		plane_warn_backend(
			event->backend, "skipping what another controller stored: %s", err.message);
		return false;
	case LOG_ACTIONS:
		event->kind = PLANE_STORE_EVENT_ACTION;
		event->drone_id = plane_pg_int(rows, row, 2);
		event->message = plane_pg_text_copy(rows, row, 4);
		(void)plane_text_copy(event->action_id, sizeof(event->action_id),
			plane_pg_text(rows, row, 5)); /* a name of ours */
		return true;
	default:
		event->kind = PLANE_STORE_EVENT_REVOCATION;
		event->user = plane_pg_text_copy(rows, row, 4);
		return true;
	}
}

static void take_rows(struct feed *feed, const PGresult *rows, struct plane_store_events *events)
{
	int count = PQntuples(rows);
	_cleanup_free_ int64_t *ids = plane_alloc_zero((size_t)count + 1, sizeof(*ids));
	struct plane_event_look look = { .ids = ids,
		.oldest_open = plane_pg_int(rows, 0, 1),
		.next = plane_pg_int(rows, 0, 2),
		.now_ms = plane_clock_boot_ms() };
	int row = 1;
	for (int log = LOG_STATES; log < LOG_COUNT; log++) {
		struct plane_event_cursor *cursor = &feed->cursors[log];
		size_t found = 0, fresh = 0;
		for (; row < count && plane_pg_int(rows, row, 0) == log; row++) {
			ids[found] = plane_pg_int(rows, row, 1);
			fresh += ids[found++] > cursor->last_id;
		}
		look.count = found;
		events->has_missed |= !plane_event_cursor_take(cursor, &look);
		events->has_more |= fresh >= BATCH;
	}
	if (!events->has_more)
		plane_event_doubt_take(&feed->doubt, &look);
}

static int read_once(struct feed *feed, struct plane_store_events *events, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = ask(feed, err);
	if (!rows)
		return err->code;
	int count = PQntuples(rows);
	struct plane_store_events found = { .entries = plane_alloc_zero(
						    (size_t)count, sizeof(found.entries[0])) };
	for (int row = 1; row < count; row++)
		found.count += !PQgetisnull(rows, row, 3) &&
			       read_event(rows, row, &found.entries[found.count]);
	take_rows(feed, rows, &found);
	*events = found;
	return 0;
}

/* ---- the connection ---- */

static const char set_feed_session[] = "SELECT set_config('synchronous_commit', 'off', false), "
				       "set_config('max_parallel_workers_per_gather', '0', false)";
static const char listen[] = "LISTEN " CHANNEL;
/* A server that started later, or another one, may not have all that the one before had. */
static const char find_ends[] =
	"SELECT pg_postmaster_start_time()::text, (SELECT coalesce(max(id), 0) FROM "
	"backend_state), "
	"(SELECT coalesce(max(sequence), 0) FROM action), (SELECT coalesce(max(id), 0) FROM "
	"revocation)";

/* Everything up to now is passed over; only the gaps are kept. */
static int pass_over(struct feed *feed, const PGresult *ends, struct plane_error *err)
{
	bool has_more = true;
	for (int log = LOG_STATES; log < LOG_COUNT; log++) {
		int64_t from = plane_pg_int(ends, 0, log) - LOOK_BACK;
		plane_event_cursor_finish(&feed->cursors[log]);
		feed->cursors[log].last_id = from < 0 ? 0 : from;
	}
	while (has_more) {
		struct plane_store_events events = { 0 };
		int result = read_once(feed, &events, err);
		if (result < 0)
			return result;
		has_more = events.has_more;
		plane_store_events_finish(&events);
	}
	return 0;
}

/* Goes on where it was, unless this is not the server that was read from before. */
static int prepare(struct feed *feed, struct plane_error *err)
{
	_cleanup_rows_ PGresult *ends = NULL;
	int result = plane_pg_run(&feed->pg, NULL, NULL, err, set_feed_session, "");
	if (result == 0)
		result = plane_pg_run(&feed->pg, NULL, NULL, err, listen, "");
	if (result == 0)
		result = plane_pg_run(&feed->pg, &ends, NULL, err, find_ends, "");
	if (result < 0)
		return result;
	if (feed->server && strcmp(feed->server, plane_pg_text(ends, 0, 0)) == 0)
		return 0;
	result = pass_over(feed, ends, err);
	if (result < 0)
		return result;
	feed->has_missed = feed->server != NULL;
	free(feed->server);
	feed->server = plane_pg_text_copy(ends, 0, 0);
	return 0;
}

static int connect_if_lost(struct feed *feed, struct plane_error *err)
{
	struct plane_pg_pool *pool = &feed->store->pool;
	if (!plane_pg_is_broken(&feed->pg))
		return 0;
	plane_pg_close(&feed->pg);
	int result = plane_pg_connect(&feed->pg, pool->url, pool->origin, &feed->statistics, err);
	if (result == 0)
		result = prepare(feed, err);
	if (result < 0)
		plane_pg_close(&feed->pg); /* half prepared it is of no use */
	else
		feed->is_behind = true;
	return result;
}

/* ---- the feed ---- */

static int feed_read(
	struct plane_store_feed *base, struct plane_store_events *events, struct plane_error *err)
{
	struct feed *feed = (struct feed *)base;
	int64_t unknown = atomic_load(&feed->store->pool.statistics->unknown);
	feed->has_missed |= plane_event_doubt_begin(&feed->doubt, unknown, plane_clock_boot_ms());
	int result = connect_if_lost(feed, err);
	if (result == 0)
		result = read_once(feed, events, err);
	if (result == 0) {
		events->has_missed |= feed->has_missed;
		feed->has_missed = feed->is_behind = false;
	}
	return result;
}

static int feed_notify(struct plane_store_feed *base, struct plane_error *err)
{
	struct feed *feed = (struct feed *)base;
	int result = connect_if_lost(feed, err);
	if (result < 0)
		return result;
	return plane_pg_run(&feed->pg, NULL, NULL, err, "SELECT pg_notify('" CHANNEL "', $1)", "t",
		feed->store->pool.origin);
}

/* One that this store sent is none. */
static bool take_notifications(struct feed *feed)
{
	bool is_notified = false;
	PGnotify *notification;
	while (feed->pg.connection && (notification = PQnotifies(feed->pg.connection))) {
		is_notified |= strcmp(notification->extra, feed->store->pool.origin) != 0;
		PQfreemem(notification);
	}
	return is_notified;
}

static int feed_wait(struct plane_store_feed *base, int wake_fd, int timeout_ms, bool *is_notified,
	struct plane_error *err)
{
	struct feed *feed = (struct feed *)base;
	*is_notified = take_notifications(feed) || feed->is_behind; /* that came with an answer */
	if (*is_notified)
		return 0;
	int result = plane_pg_wait(&feed->pg, wake_fd, timeout_ms, err);
	if (result == 0)
		*is_notified = take_notifications(feed);
	return result;
}

static void feed_close(struct plane_store_feed *base)
{
	struct feed *feed = (struct feed *)base;
	plane_pg_close(&feed->pg);
	for (int log = LOG_STATES; log < LOG_COUNT; log++)
		plane_event_cursor_finish(&feed->cursors[log]);
	free(feed->server);
	free(feed);
}

static const struct plane_store_feed_impl feed_impl = {
	.close = feed_close,
	.wait = feed_wait,
	.read = feed_read,
	.notify = feed_notify,
};

struct plane_store_feed *plane_postgres_feed_open(
	struct plane_store *base, const char *controller, struct plane_error *err)
{
	struct feed *feed = PLANE_NEW(struct feed);
	feed->base.impl = &feed_impl;
	feed->store = PLANE_POSTGRES_STORE(base);
	(void)plane_text_copy(feed->controller, sizeof(feed->controller), controller); /* a name */
	if (connect_if_lost(feed, err) == 0) {
		feed->is_behind = false; /* all before is passed over */
		return &feed->base;
	}
	(void)plane_error_prefix(err, "follow other controllers");
	feed_close(&feed->base);
	return NULL;
}
