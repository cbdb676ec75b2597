/* Backends: their states, history and lists. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "store/postgres.h"

int plane_postgres_backend_find(struct plane_store *base, const char *backend,
	struct plane_store_backend *found, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	struct plane_store_backend one = { 0 };
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		"SELECT state, state_at, drone_id FROM backend WHERE id = $1", "t", backend);
	if (result < 0)
		return result;
	if (PQntuples(rows) == 0)
		return plane_error_set(err, -ENOENT, "there is no backend %s", backend);
	result = plane_store_read_state(plane_pg_text(rows, 0, 0), &one.state, err);
	if (result < 0)
		return result;
	one.state_time_ms = plane_pg_int(rows, 0, 1);
	one.drone_id = plane_pg_int(rows, 0, 2);
	*found = one;
	return 0;
}

/* Idleness is counted from the moment on which it can be used: 50 is ready. */
#define CHANGE                                                                                     \
	"WITH changed AS (UPDATE backend SET status = $3, state = $4, state_at = now_ms(), "       \
	"last_keepalive_at = CASE WHEN $3 <= 50 THEN now_ms() ELSE last_keepalive_at END WHERE "   \
	"id = $1 AND drone_id = $2 AND status < $3 RETURNING id, state_at), logged AS (INSERT "    \
	"INTO backend_state (backend, state, created_at) SELECT id, $4, state_at FROM changed)"
static const char change_state[] = CHANGE " SELECT state_at FROM changed";
/* What is ended holds no key, has no users, and no order to its drone counts any more. */
static const char end_backend[] =
	CHANGE ", freed AS (DELETE FROM backend_key k USING changed WHERE k.backend = changed.id), "
	       "closed AS (DELETE FROM token t USING changed WHERE t.backend = changed.id), "
	       "voided AS (UPDATE action a SET acked_at = now_ms() FROM changed WHERE a.backend = "
	       "changed.id AND acked_at IS NULL) SELECT state_at FROM changed";

static int queue_report(struct plane_pg *pg, int64_t node_id,
	const struct plane_store_report *report, struct plane_error *err)
{
	_cleanup_json_ json_t *json = plane_backend_state_write(report->state);
	_cleanup_free_ char *text = plane_json_dump(json);
	return plane_pg_queue(pg, err,
		report->state->status == PLANE_TERMINATED ? end_backend : change_state, "tiit",
		report->backend, node_id, (int64_t)report->state->status, text);
}

struct update {
	int64_t node_id;
	struct plane_store_report *reports;
	size_t count;
};

static int update_all(struct plane_pg *pg, void *data, struct plane_error *err)
{
	const struct update *update = data;
	struct plane_store_report *reports = update->reports;
	_cleanup_free_ PGresult **rows = plane_alloc_zero(update->count + 1, sizeof(PGresult *));
	int result = 0;
	for (size_t i = 0; i < update->count && result == 0; i++)
		result = queue_report(pg, update->node_id, &reports[i], err);
	if (result == 0)
		result = plane_pg_flush(pg, rows, update->count, err);
	for (size_t i = 0; i < update->count && result == 0; i++) {
		reports[i].is_changed = PQntuples(rows[i]) > 0;
		reports[i].time_ms = reports[i].is_changed ? plane_pg_int(rows[i], 0, 0) : 0;
		PQclear(rows[i]);
	}
	return result;
}

int plane_postgres_backend_update(struct plane_store *base, int64_t node_id,
	struct plane_store_report *reports, size_t count, struct plane_error *err)
{
	struct update update = { .node_id = node_id, .reports = reports, .count = count };
	return plane_pg_pool_call(&PLANE_POSTGRES_STORE(base)->pool, update_all, &update, err);
}

/* Need not survive the server's death: the next one comes soon. */
int plane_postgres_backend_keep_alive(
	struct plane_store *base, const char *backend, bool *is_alive, struct plane_error *err)
{
	int64_t changed = 0;
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, NULL, &changed, err,
		"UPDATE backend SET last_keepalive_at = now_ms() WHERE id = $1 AND status < 70 AND "
		"set_config('synchronous_commit', 'off', true) = 'off'",
		"t", backend);
	if (result == 0)
		*is_alive = changed > 0;
	return result;
}

int plane_postgres_backend_history(struct plane_store *base, const char *backend,
	struct plane_store_history *history, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		"SELECT state, created_at FROM backend_state WHERE backend = $1 ORDER BY id", "t",
		backend);
	if (result < 0)
		return result;
	int count = PQntuples(rows);
	struct plane_store_history found = { .count = (size_t)count,
		.entries = plane_pg_entries(rows, sizeof(found.entries[0])) };
	for (int i = 0; i < count && result == 0; i++) {
		found.entries[i].time_ms = plane_pg_int(rows, i, 1);
		result = plane_store_read_state(
			plane_pg_text(rows, i, 0), &found.entries[i].state, err);
	}
	if (result < 0)
		plane_store_history_finish(&found);
	else
		*history = found;
	return result;
}

/* Controllers that clean up at the same time share the work. Tokens have no foreign key. */
int plane_postgres_cleanup_backends(struct plane_store *base, int min_age_days, int batch,
	int64_t *removed, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		"WITH old AS MATERIALIZED (SELECT id FROM backend WHERE status = 70 AND state_at "
		"<= now_ms() - $1::bigint * 86400000 ORDER BY state_at LIMIT $2 FOR UPDATE SKIP "
		"LOCKED), closed AS (DELETE FROM token USING old WHERE backend = old.id), gone AS "
		"(DELETE FROM backend b USING old WHERE b.id = old.id RETURNING 1) SELECT count(*) "
		"FROM gone",
		"ii", (int64_t)min_age_days, (int64_t)batch);
	if (result == 0)
		*removed = plane_pg_int(rows, 0, 0);
	return result;
}
