/* Orders to drones, and which backends are due for one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/text.h"
#include "store/sqlite.h"

#define LOST_BATCH 200

int plane_sqlite_actions_pending(struct plane_store *base, int64_t node_id, size_t limit,
	struct plane_store_actions *actions, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	struct plane_db *db = &store->reader;
	struct plane_store_actions found = { 0 };
	pthread_mutex_lock(&db->mutex);
	sqlite3_stmt *row = plane_db_query(db, err,
		"SELECT id, message FROM action WHERE drone_id = ?1 AND acked_at IS NULL AND (kind "
		"<> 'spawn' OR EXISTS (SELECT 1 FROM backend_key k WHERE k.backend = "
		"action.backend AND " PLANE_SQLITE_KEY_IS_LIVE(
			"?2") ")) ORDER BY sequence LIMIT ?3",
		"iii", node_id, plane_sqlite_now(store), (int64_t)limit);
	int result = row ? 0 : err->code;
	while (row && (result = plane_db_next(db, row, err)) == 1) {
		found.entries =
			plane_realloc(found.entries, (found.count + 1) * sizeof(found.entries[0]));
		struct plane_store_action *action = &found.entries[found.count++];
		(void)plane_text_copy(
			action->action_id, sizeof(action->action_id), plane_db_text(row, 0));
		action->message = plane_db_text_copy(row, 1);
	}
	pthread_mutex_unlock(&db->mutex);
	if (result < 0)
		plane_store_actions_finish(&found);
	else
		*actions = found;
	return result;
}

int plane_sqlite_actions_ack(struct plane_store *base, const char *const *action_ids, size_t count,
	int64_t node_id, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	int result = plane_sqlite_begin_relaxed(store, err);
	if (result < 0)
		return result;
	for (size_t i = 0; i < count && result == 0; i++)
		result = plane_db_run(&store->writer, NULL, err,
			"UPDATE action SET acked_at = ? WHERE id = ? AND drone_id = ? AND acked_at "
			"IS NULL",
			"iti", plane_sqlite_now(store), action_ids[i], node_id);
	return plane_sqlite_end_relaxed(store, result, err);
}

/* 1: an order is needed, from `*drone_id`; 0: not. */
static int needs_order(struct plane_db *db, const char *backend, const char *kind,
	int64_t *drone_id, struct plane_error *err)
{
	sqlite3_stmt *row = plane_db_query(db, err,
		"SELECT drone_id, status = 70 OR EXISTS (SELECT 1 FROM action WHERE backend = ?1 "
		"AND "
		"kind = ?2 AND acked_at IS NULL) FROM backend WHERE id = ?1",
		"tt", backend, kind);
	int result = row ? plane_db_next(db, row, err) : err->code;
	if (result == 0)
		return plane_error_set(err, -ENOENT, "there is no backend %s", backend);
	if (result < 0)
		return result;
	*drone_id = sqlite3_column_int64(row, 0);
	result = !sqlite3_column_int(row, 1);
	plane_db_done(row);
	return result;
}

int plane_sqlite_terminate(struct plane_store *base, const char *backend, const char *action_id,
	enum plane_termination_kind kind, enum plane_termination_reason reason, int64_t *drone_id,
	char **message, struct plane_error *err)
{
	struct plane_db *db = &PLANE_SQLITE_STORE(base)->writer;
	const char *kind_text = plane_termination_kind_text(kind);
	_cleanup_free_ char *text = NULL;
	int64_t drone = 0;
	if (plane_db_begin(db, err) < 0)
		return err->code;
	int result = needs_order(db, backend, kind_text, &drone, err);
	if (result == 1) {
		struct plane_drone_order order = { .kind = PLANE_ORDER_TERMINATE,
			.action_id = action_id,
			.backend = backend,
			.drone_id = drone,
			.termination = kind,
			.reason = reason };
		_cleanup_json_ json_t *json = plane_drone_order_write(&order);
		text = plane_json_dump(json);
		result = plane_db_run(db, NULL, err,
			"INSERT INTO action (id, backend, drone_id, kind, message) VALUES (?, ?, "
			"?, "
			"?, ?)",
			"ttitt", action_id, backend, drone, kind_text, text);
	}
	result = plane_db_end(db, result, err);
	if (result < 0)
		return result;
	*drone_id = drone;
	*message = STEAL(text);
	return 0;
}

static void read_sweep_entry(sqlite3_stmt *row, struct plane_store_sweep_entry *entry, int64_t now)
{
	(void)plane_text_copy(entry->backend, sizeof(entry->backend), plane_db_text(row, 0));
	entry->status = (enum plane_backend_status)sqlite3_column_int(row, 1);
	entry->in_status_ms = now - sqlite3_column_int64(row, 2);
	entry->is_due = sqlite3_column_int(row, 3);
	entry->has_pending_soft = sqlite3_column_int(row, 4);
	entry->has_pending_hard = sqlite3_column_int(row, 5);
}

int plane_sqlite_sweep_candidates(struct plane_store *base, int64_t node_id,
	struct plane_store_sweep *sweep, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	struct plane_db *db = &store->reader;
	struct plane_store_sweep found = { 0 };
	int64_t now = plane_sqlite_now(store);
	pthread_mutex_lock(&db->mutex);
	sqlite3_stmt *row = plane_db_query(db, err,
		"SELECT id, status, state_at, is_due, EXISTS (SELECT 1 FROM action WHERE backend = "
		"due.id AND kind = 'soft' AND acked_at IS NULL), EXISTS (SELECT 1 FROM action "
		"WHERE "
		"backend = due.id AND kind = 'hard' AND acked_at IS NULL) FROM (SELECT id, status, "
		"state_at, coalesce(lifetime_ends_at <= ?2, 0) OR coalesce(status = 50 AND "
		"last_keepalive_at + max(max_idle_ms, ?3) <= ?2, 0) AS is_due FROM backend WHERE "
		"drone_id = "
		"?1 AND status < 70) AS due WHERE is_due OR status = 60",
		"iii", node_id, now, (int64_t)PLANE_STORE_IDLE_MIN_MS);
	int result = row ? 0 : err->code;
	while (row && (result = plane_db_next(db, row, err)) == 1) {
		found.entries =
			plane_realloc(found.entries, (found.count + 1) * sizeof(found.entries[0]));
		read_sweep_entry(row, &found.entries[found.count++], now);
	}
	pthread_mutex_unlock(&db->mutex);
	if (result < 0)
		plane_store_sweep_finish(&found);
	else
		*sweep = found;
	return result;
}

/* Which backends have nobody left: those whose lease has run out and whose drone is silent, or has
 * not renewed it for as long although it speaks, since it does not know it any more; and those
 * whose order to start was never taken. Silence is not counted while this store was closed. */
static sqlite3_stmt *query_lost(struct plane_sqlite_store *store, int64_t silent_since, int64_t now,
	struct plane_error *err)
{
	return plane_db_query(&store->writer, err,
		"SELECT b.id, b.state FROM backend b JOIN drone d ON d.id = b.drone_id WHERE "
		"b.status < 70 AND b.lease_epoch IS NULL AND NOT EXISTS (SELECT 1 FROM backend_key "
		"k WHERE k.backend = b.id "
		"AND "
		"k.expires_at > ?1) AND ((?3 < ?2 AND (coalesce(d.last_heartbeat_at, 0) < ?2 OR "
		"NOT EXISTS (SELECT 1 FROM backend_key k WHERE k.backend = b.id "
		"AND k.expires_at > ?2))) OR "
		"(b.status = 10 AND b.state_at < ?2)) LIMIT ?4",
		"iiii", now, silent_since, store->opened_at_ms, (int64_t)LOST_BATCH);
}

/* Those whose drone's lease is broken: epochs only grow. */
static sqlite3_stmt *query_broken(struct plane_sqlite_store *store, struct plane_error *err)
{
	return plane_db_query(&store->writer, err,
		"SELECT b.id, b.state FROM drone d JOIN backend b ON b.drone_id = d.id AND "
		"b.lease_epoch < d.lease_epoch WHERE b.status < 70 LIMIT ?",
		"i", (int64_t)LOST_BATCH);
}

static int read_lost(struct plane_sqlite_store *store, sqlite3_stmt *row, int64_t now,
	struct plane_store_lost *lost, struct plane_error *err)
{
	int result = row ? 0 : err->code;
	while (row && (result = plane_db_next(&store->writer, row, err)) == 1) {
		struct plane_backend_state last = { 0 };
		result = plane_store_read_state(plane_db_text(row, 1), &last, err);
		if (result < 0) {
			plane_db_done(row);
			return result;
		}
		lost->entries =
			plane_realloc(lost->entries, (lost->count + 1) * sizeof(lost->entries[0]));
		struct plane_store_lost_entry *entry = &lost->entries[lost->count++];
		*entry = (struct plane_store_lost_entry){ .time_ms = now,
			.state = { .status = PLANE_TERMINATED,
				.last_status = last.status,
				.reason = PLANE_REASON_LOST } };
		(void)plane_text_copy(
			entry->backend, sizeof(entry->backend), plane_db_text(row, 0));
	}
	return result;
}

/* `silent_ms` negative: those under broken leases. */
static int mark(struct plane_sqlite_store *store, int64_t silent_ms, struct plane_store_lost *lost,
	struct plane_error *err)
{
	struct plane_store_lost found = { 0 };
	if (plane_db_begin(&store->writer, err) < 0)
		return err->code;
	int64_t now = plane_sqlite_now(store);
	sqlite3_stmt *row = silent_ms < 0 ? query_broken(store, err)
					  : query_lost(store, now - silent_ms, now, err);
	int result = read_lost(store, row, now, &found, err);
	for (size_t i = 0; result == 0 && i < found.count; i++)
		result = plane_sqlite_put_state(
			store, found.entries[i].backend, &found.entries[i].state, now, err);
	result = plane_db_end(&store->writer, result, err);
	if (result < 0)
		plane_store_lost_finish(&found);
	else
		*lost = found;
	return result;
}

int plane_sqlite_mark_lost(struct plane_store *base, int64_t silent_ms,
	struct plane_store_lost *lost, struct plane_error *err)
{
	return mark(PLANE_SQLITE_STORE(base), silent_ms, lost, err);
}

int plane_sqlite_mark_broken(
	struct plane_store *base, struct plane_store_lost *lost, struct plane_error *err)
{
	return mark(PLANE_SQLITE_STORE(base), -1, lost, err);
}
