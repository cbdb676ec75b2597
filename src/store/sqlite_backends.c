/* Backends: their states, history and lists. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "store/sqlite.h"

int plane_sqlite_put_state(struct plane_sqlite_store *store, const char *backend,
	const struct plane_backend_state *state, int64_t now_ms, struct plane_error *err)
{
	struct plane_db *db = &store->writer;
	_cleanup_json_ json_t *json = plane_backend_state_write(state);
	_cleanup_free_ char *text = plane_json_dump(json);
	/* Idleness is counted from the moment on which it can be used. */
	int64_t in_use_at = state->status <= PLANE_READY ? now_ms : -1;
	if (plane_db_run(db, NULL, err,
		    "UPDATE backend SET status = ?, state = ?, state_at = ?, last_keepalive_at = "
		    "coalesce(?, last_keepalive_at) WHERE id = ?",
		    "itiot", (int64_t)state->status, text, now_ms, in_use_at, backend) < 0 ||
		plane_db_run(db, NULL, err,
			"INSERT INTO backend_state (backend, state, created_at) VALUES (?, ?, ?)",
			"tti", backend, text, now_ms) < 0)
		return err->code;
	if (state->status != PLANE_TERMINATED)
		return 0;
	if (plane_db_run(db, NULL, err, "DELETE FROM backend_key WHERE backend = ?", "t", backend) <
			0 ||
		plane_db_run(db, NULL, err, "DELETE FROM token WHERE backend = ?", "t", backend) <
			0)
		return err->code;
	return plane_db_run(db, NULL, err,
		"UPDATE action SET acked_at = ? WHERE backend = ? AND acked_at IS NULL", "it",
		now_ms, backend);
}

int plane_sqlite_backend_find(struct plane_store *base, const char *backend,
	struct plane_store_backend *found, struct plane_error *err)
{
	struct plane_db *db = &PLANE_SQLITE_STORE(base)->reader;
	struct plane_store_backend result_backend = { 0 };
	pthread_mutex_lock(&db->mutex);
	sqlite3_stmt *row = plane_db_query(db, err,
		"SELECT state, state_at, drone_id FROM backend WHERE id = ?", "t", backend);
	int result = row ? plane_db_next(db, row, err) : err->code;
	if (result == 1) {
		result = plane_store_read_state(plane_db_text(row, 0), &result_backend.state, err);
		result_backend.state_time_ms = sqlite3_column_int64(row, 1);
		result_backend.drone_id = sqlite3_column_int64(row, 2);
		plane_db_done(row);
	} else if (result == 0) {
		result = plane_error_set(err, -ENOENT, "there is no backend %s", backend);
	}
	pthread_mutex_unlock(&db->mutex);
	if (result == 0)
		*found = result_backend;
	return result;
}

/* Is the reported state later than the stored one, and the drone the right one? */
static int may_change(struct plane_db *db, const char *backend, int64_t node_id,
	enum plane_backend_status status, struct plane_error *err)
{
	sqlite3_stmt *row = plane_db_query(db, err,
		"SELECT 1 FROM backend WHERE id = ? AND drone_id = ? AND status < ?", "tii",
		backend, node_id, (int64_t)status);
	int result = row ? plane_db_next(db, row, err) : err->code;
	if (result == 1)
		plane_db_done(row);
	return result;
}

static int update_one(struct plane_sqlite_store *store, int64_t node_id, int64_t now_ms,
	struct plane_store_report *report, struct plane_error *err)
{
	int may = may_change(&store->writer, report->backend, node_id, report->state->status, err);
	int result = may;
	if (may == 1)
		result = plane_sqlite_put_state(store, report->backend, report->state, now_ms, err);
	report->is_changed = may == 1;
	report->time_ms = now_ms;
	return result;
}

int plane_sqlite_backend_update(struct plane_store *base, int64_t node_id,
	struct plane_store_report *reports, size_t count, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	bool has_end = false;
	for (size_t i = 0; i < count; i++)
		has_end = has_end || reports[i].state->status == PLANE_TERMINATED;
	if ((has_end ? plane_db_begin(&store->writer, err)
		     : plane_sqlite_begin_relaxed(store, err)) < 0)
		return err->code;
	int64_t now_ms = plane_sqlite_now(store);
	int result = 0;
	for (size_t i = 0; i < count && result >= 0; i++)
		result = update_one(store, node_id, now_ms, &reports[i], err);
	if (result > 0)
		result = 0;
	return has_end ? plane_db_end(&store->writer, result, err)
		       : plane_sqlite_end_relaxed(store, result, err);
}

int plane_sqlite_backends_keep_alive(struct plane_store *base, const char *const *backends,
	size_t count, bool *is_alive, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	_cleanup_free_ int64_t *changed = plane_alloc_zero(count + 1, sizeof(*changed));
	int result = plane_sqlite_begin_relaxed(store, err);
	if (result < 0)
		return result;
	int64_t now_ms = plane_sqlite_now(store);
	for (size_t i = 0; i < count && result == 0; i++)
		result = plane_db_run(&store->writer, &changed[i], err,
			"UPDATE backend SET last_keepalive_at = ? WHERE id = ? AND status < 70",
			"it", now_ms, backends[i]);
	result = plane_sqlite_end_relaxed(store, result, err);
	for (size_t i = 0; i < count && result == 0; i++)
		is_alive[i] = changed[i] > 0;
	return result;
}

int plane_sqlite_backend_history(struct plane_store *base, const char *backend,
	struct plane_store_history *history, struct plane_error *err)
{
	struct plane_db *db = &PLANE_SQLITE_STORE(base)->reader;
	struct plane_store_history found = { 0 };
	pthread_mutex_lock(&db->mutex);
	sqlite3_stmt *row = plane_db_query(db, err,
		"SELECT state, created_at FROM backend_state WHERE backend = ? ORDER BY id", "t",
		backend);
	int result = row ? 0 : err->code;
	while (row && (result = plane_db_next(db, row, err)) == 1) {
		found.entries =
			plane_realloc(found.entries, (found.count + 1) * sizeof(found.entries[0]));
		struct plane_store_past_state *past = &found.entries[found.count];
		past->time_ms = sqlite3_column_int64(row, 1);
		result = plane_store_read_state(plane_db_text(row, 0), &past->state, err);
		if (result < 0) {
			plane_db_done(row);
			break;
		}
		found.count++;
	}
	pthread_mutex_unlock(&db->mutex);
	if (result < 0)
		plane_store_history_finish(&found);
	else
		*history = found;
	return result;
}

int plane_sqlite_cleanup_backends(struct plane_store *base, int min_age_days, int batch,
	int64_t *removed, struct plane_error *err)
{
	return plane_sqlite_delete_batch(base,
		"DELETE FROM backend WHERE id IN (SELECT id FROM backend WHERE status = 70 AND "
		"state_at <= ? ORDER BY state_at LIMIT ?)",
		(int64_t)min_age_days * 86400000, batch, removed, err);
}
