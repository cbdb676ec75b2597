/* Backends: their states, history and lists. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
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

/* All reports in one statement, judged one after another: each must be a step forward from the
 * state of its backend and from the reports on it before. The rows are locked in the order of their
 * names, so that no two of these wait for each other. Idleness is counted from the moment on which
 * a backend can be used: 50 is ready. What is ended holds no key, has no users, and no order to its
 * drone counts any more. */
static const char update_backends[] =
	"WITH told AS MATERIALIZED (SELECT * FROM unnest($2::text[], $3::smallint[], $4::text[]) "
	"WITH ORDINALITY AS t (backend, status, state, number)), "
	"found AS MATERIALIZED (SELECT id, status FROM backend WHERE id = ANY ($2::text[]) AND "
	"drone_id = $1 ORDER BY id FOR NO KEY UPDATE), "
	"judged AS (SELECT told.*, found.status AS stored, max(told.status) OVER (PARTITION BY "
	"told.backend ORDER BY number ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before "
	"FROM told JOIN found ON found.id = told.backend), "
	"changes AS MATERIALIZED (SELECT backend, status, state, number FROM judged WHERE status > "
	"greatest(stored, before)), "
	"last AS MATERIALIZED (SELECT DISTINCT ON (backend) backend, status, state FROM changes "
	"ORDER BY backend, number DESC), "
	"changed AS (UPDATE backend b SET status = last.status, state = last.state, state_at = "
	"now_ms(), last_keepalive_at = CASE WHEN last.status <= 50 THEN now_ms() ELSE "
	"last_keepalive_at END FROM last WHERE b.id = last.backend), "
	"logged AS (INSERT INTO backend_state (backend, state, created_at) SELECT backend, state, "
	"now_ms() FROM changes ORDER BY number), "
	"ended AS MATERIALIZED (SELECT backend FROM last WHERE status = 70), "
	"freed AS (DELETE FROM backend_key k USING ended WHERE k.backend = ended.backend), "
	"closed AS (DELETE FROM token t USING ended WHERE t.backend = ended.backend), "
	"voided AS (UPDATE action a SET acked_at = now_ms() FROM ended WHERE a.backend = "
	"ended.backend AND acked_at IS NULL) "
	"SELECT number, now_ms() FROM changes";

/* The parameters: arrays of names, of statuses and of states as JSON. */
static void write_reports(const struct plane_store_report *reports, size_t count,
	struct plane_buffer *names, struct plane_buffer *statuses, struct plane_buffer *states)
{
	_cleanup_free_ const char **backends = plane_alloc_zero(count + 1, sizeof(*backends));
	_cleanup_free_ char **texts = plane_alloc_zero(count + 1, sizeof(*texts));
	for (size_t i = 0; i < count; i++) {
		_cleanup_json_ json_t *json = plane_backend_state_write(reports[i].state);
		backends[i] = reports[i].backend;
		texts[i] = plane_json_dump(json);
		plane_buffer_addf(statuses, "%c%d", i ? ',' : '{', (int)reports[i].state->status);
	}
	plane_buffer_add_text(statuses, count ? "}" : "{}");
	plane_pg_add_array(names, backends, count);
	plane_pg_add_array(states, (const char *const *)texts, count);
	for (size_t i = 0; i < count; i++)
		free(texts[i]);
}

int plane_postgres_backend_update(struct plane_store *base, int64_t node_id,
	struct plane_store_report *reports, size_t count, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	struct plane_buffer names = { 0 }, statuses = { 0 }, states = { 0 };
	write_reports(reports, count, &names, &statuses, &states);
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		update_backends, "ittt", node_id, plane_buffer_text(&names),
		plane_buffer_text(&statuses), plane_buffer_text(&states));
	plane_buffer_finish(&names);
	plane_buffer_finish(&statuses);
	plane_buffer_finish(&states);
	if (result < 0)
		return result;
	for (size_t i = 0; i < count; i++) {
		reports[i].is_changed = false;
		reports[i].time_ms = 0;
	}
	for (int row = 0; row < PQntuples(rows); row++) {
		struct plane_store_report *report = &reports[plane_pg_int(rows, row, 0) - 1];
		report->is_changed = true;
		report->time_ms = plane_pg_int(rows, row, 1);
	}
	return 0;
}

/* Nothing is written for those that no idleness ends. Need not survive the server's death: the next
 * ones come soon. */
static const char keep_alive[] =
	"WITH alive AS MATERIALIZED (SELECT number FROM unnest($1::text[]) WITH ORDINALITY AS t "
	"(name, number) JOIN backend ON id = name WHERE status < 70), "
	"used AS MATERIALIZED (SELECT id FROM backend WHERE id = ANY ($1::text[]) AND status < 70 "
	"AND max_idle_ms IS NOT NULL AND set_config('synchronous_commit', 'off', true) = 'off' "
	"ORDER BY id FOR NO KEY UPDATE), "
	"changed AS (UPDATE backend b SET last_keepalive_at = now_ms() FROM used WHERE b.id = "
	"used.id) SELECT number FROM alive";

int plane_postgres_backends_keep_alive(struct plane_store *base, const char *const *backends,
	size_t count, bool *is_alive, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	struct plane_buffer names = { 0 };
	plane_pg_add_array(&names, backends, count);
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		keep_alive, "t", plane_buffer_text(&names));
	plane_buffer_finish(&names);
	if (result < 0)
		return result;
	for (size_t i = 0; i < count; i++)
		is_alive[i] = false;
	for (int row = 0; row < PQntuples(rows); row++)
		is_alive[plane_pg_int(rows, row, 0) - 1] = true;
	return 0;
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

/* Controllers that clean up at the same time share the work. Tokens have no foreign key. Lists of
 * what to delete are found by the indexes, whatever the tables were like when that was planned. */
static const char cleanup_backends[] =
	"WITH old AS MATERIALIZED (SELECT ARRAY(SELECT id FROM backend WHERE status = 70 AND "
	"state_at <= now_ms() - $1::bigint * 86400000 ORDER BY state_at LIMIT $2 FOR UPDATE SKIP "
	"LOCKED) AS ids), "
	"closed AS (DELETE FROM token WHERE backend = ANY ((SELECT ids FROM old)::text[])) "
	"DELETE FROM backend WHERE id = ANY ((SELECT ids FROM old)::text[])";

int plane_postgres_cleanup_backends(struct plane_store *base, int min_age_days, int batch,
	int64_t *removed, struct plane_error *err)
{
	return plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, NULL, removed, err,
		cleanup_backends, "ii", (int64_t)min_age_days, (int64_t)batch);
}
