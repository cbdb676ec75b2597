/* Orders to drones, and which backends are due for one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/json.h"
#include "base/text.h"
#include "store/postgres.h"

#define LOST_BATCH INT64_C(200)

int plane_postgres_actions_pending(struct plane_store *base, int64_t node_id, size_t limit,
	struct plane_store_actions *actions, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		"SELECT a.id, a.message FROM action a WHERE a.drone_id = $1 AND a.acked_at IS NULL "
		"AND (a.kind <> 'spawn' OR (" PLANE_POSTGRES_MAY_START
		" AND EXISTS (SELECT 1 FROM backend_key k LEFT JOIN drone d ON d.id = k.drone_id "
		"WHERE k.backend = a.backend AND " PLANE_POSTGRES_KEY_IS_LIVE
		"))) ORDER BY a.sequence LIMIT $2",
		"ii", node_id, (int64_t)limit);
	if (result < 0)
		return result;
	int count = PQntuples(rows);
	*actions = (struct plane_store_actions){ .count = (size_t)count,
		.entries = plane_pg_entries(rows, sizeof(actions->entries[0])) };
	for (int i = 0; i < count; i++) {
		struct plane_store_action *action = &actions->entries[i];
		(void)plane_text_copy(
			action->action_id, sizeof(action->action_id), plane_pg_text(rows, i, 0));
		action->message = plane_pg_text_copy(rows, i, 1);
	}
	return 0;
}

/* Need not survive the server's death: the orders are repeated then. The rows are locked in the
 * order of their numbers, so that no two of these wait for each other. */
int plane_postgres_actions_ack(struct plane_store *base, const char *const *action_ids,
	size_t count, int64_t node_id, struct plane_error *err)
{
	struct plane_buffer ids = { 0 };
	plane_pg_add_array(&ids, action_ids, count);
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, NULL, NULL, err,
		"WITH told AS MATERIALIZED (SELECT sequence FROM action WHERE id = ANY "
		"($1::text[]) AND drone_id = $2 AND acked_at IS NULL AND "
		"set_config('synchronous_commit', 'off', true) = 'off' ORDER BY sequence FOR "
		"UPDATE) UPDATE action a SET acked_at = now_ms() FROM told WHERE a.sequence = "
		"told.sequence",
		"ti", plane_buffer_text(&ids), node_id);
	plane_buffer_finish(&ids);
	return result;
}

/* The backend's row is locked: two that come at once do not both order, and none orders what has
 * ended meanwhile. `is_new` looks with a snapshot of its own, which is why it is a statement of its
 * own. */
static const char lock_backend[] = "SELECT drone_id FROM backend WHERE id = $1 FOR NO KEY UPDATE";
static const char order_end[] = "INSERT INTO action (id, backend, drone_id, kind, message) SELECT "
				"$2, b.id, b.drone_id, $3, $4::text || b.drone_id || $5::text "
				"FROM backend b WHERE "
				"b.id = $1 AND status < 70 AND NOT EXISTS (SELECT 1 FROM action a "
				"WHERE a.backend = b.id AND "
				"a.kind = $3 AND acked_at IS NULL) RETURNING message";

struct termination {
	const char *backend, *action_id;
	enum plane_termination_kind kind;
	enum plane_termination_reason reason;
	PGresult *rows[2];
};

static int order_termination(struct plane_pg *pg, void *data, struct plane_error *err)
{
	struct termination *termination = data;
	struct plane_drone_order order = { .kind = PLANE_ORDER_TERMINATE,
		.action_id = termination->action_id,
		.backend = termination->backend,
		.termination = termination->kind,
		.reason = termination->reason };
	_cleanup_order_parts_ struct plane_store_order_parts text;
	plane_store_order_split(&order, &order.drone_id, &text);
	int result = plane_pg_queue(pg, err, lock_backend, "t", termination->backend);
	if (result == 0)
		result = plane_pg_queue(pg, err, order_end, "ttttt", termination->backend,
			termination->action_id, plane_termination_kind_text(termination->kind),
			text.before, text.after);
	return result < 0 ? result : plane_pg_flush(pg, termination->rows, 2, err);
}

int plane_postgres_terminate(struct plane_store *base, const char *backend, const char *action_id,
	enum plane_termination_kind kind, enum plane_termination_reason reason, int64_t *drone_id,
	char **message, struct plane_error *err)
{
	struct termination termination = {
		.backend = backend, .action_id = action_id, .kind = kind, .reason = reason
	};
	PGresult **rows = termination.rows;
	int result = plane_pg_pool_call(
		&PLANE_POSTGRES_STORE(base)->pool, order_termination, &termination, err);
	if (result == 0 && PQntuples(rows[0]) == 0)
		result = plane_error_set(err, -ENOENT, "there is no backend %s", backend);
	if (result == 0) {
		*drone_id = plane_pg_int(rows[0], 0, 0);
		*message = PQntuples(rows[1]) ? plane_pg_text_copy(rows[1], 0, 0) : NULL;
	}
	PQclear(rows[0]);
	PQclear(rows[1]);
	return result;
}

int plane_postgres_sweep_candidates(struct plane_store *base, int64_t node_id,
	struct plane_store_sweep *sweep, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		"SELECT id, status, now_ms() - state_at, is_due, EXISTS (SELECT 1 FROM action "
		"WHERE "
		"backend = due.id AND kind = 'soft' AND acked_at IS NULL), EXISTS (SELECT 1 FROM "
		"action WHERE backend = due.id AND kind = 'hard' AND acked_at IS NULL) FROM "
		"(SELECT "
		"id, status, state_at, coalesce(lifetime_ends_at <= now_ms(), false) OR "
		"coalesce(status = 50 AND last_keepalive_at + CASE WHEN max_idle_ms < $2 THEN $2 "
		"ELSE max_idle_ms END <= now_ms(), false) AS is_due FROM backend WHERE drone_id = "
		"$1 AND status < 70) AS due WHERE is_due OR status = 60",
		"ii", node_id, (int64_t)PLANE_STORE_IDLE_MIN_MS);
	if (result < 0)
		return result;
	int count = PQntuples(rows);
	*sweep = (struct plane_store_sweep){ .count = (size_t)count,
		.entries = plane_pg_entries(rows, sizeof(sweep->entries[0])) };
	for (int i = 0; i < count; i++) {
		struct plane_store_sweep_entry *entry = &sweep->entries[i];
		(void)plane_text_copy(
			entry->backend, sizeof(entry->backend), plane_pg_text(rows, i, 0));
		entry->status = (enum plane_backend_status)plane_pg_int(rows, i, 1);
		entry->in_status_ms = plane_pg_int(rows, i, 2);
		entry->is_due = plane_pg_bool(rows, i, 3);
		entry->has_pending_soft = plane_pg_bool(rows, i, 4);
		entry->has_pending_hard = plane_pg_bool(rows, i, 5);
	}
	return 0;
}

/* Which backends have nobody left: those whose drone is silent and whose lease has run out, and
 * those whose order to start was never taken. Silence is not counted while nobody could hear. The
 * state of each is the last one with another status, which plane_backend_state_write would write;
 * a row that another controller works on is left to it. */
#define FIND_LOST                                                                                  \
	"WITH lost AS MATERIALIZED (SELECT b.id, b.state FROM backend b JOIN drone d ON d.id = "   \
	"b.drone_id WHERE b.status < 70 AND "
#define END_LOST                                                                                   \
	" FOR NO KEY UPDATE OF b SKIP LOCKED), ended AS (UPDATE backend b SET status = 70, state " \
	"= jsonb_build_object('status', 'terminated', 'last_status', lost.state::jsonb ->> "       \
	"'status', 'termination', NULL, 'reason', 'lost', 'exit_code', NULL)::text, state_at = "   \
	"now_ms() FROM lost WHERE b.id = lost.id RETURNING b.id, b.state, b.state_at), logged AS " \
	"(INSERT INTO backend_state (backend, state, created_at) SELECT id, state, state_at FROM " \
	"ended), freed AS (DELETE FROM backend_key k USING ended WHERE k.backend = ended.id), "    \
	"closed AS (DELETE FROM token t USING ended WHERE t.backend = ended.id), voided AS "       \
	"(UPDATE action a SET acked_at = now_ms() FROM ended WHERE a.backend = ended.id AND "      \
	"acked_at IS NULL) SELECT id, state, state_at FROM ended"

static const char end_lost[] = FIND_LOST
	"b.lease_epoch IS NULL AND NOT EXISTS (SELECT 1 FROM backend_key k WHERE k.backend = b.id "
	"AND " PLANE_POSTGRES_KEY_IS_LIVE
	") AND (($2 < now_ms() - $1 AND (coalesce(d.last_heartbeat_at, 0) < now_ms() - $1 OR NOT "
	"EXISTS (SELECT 1 FROM backend_key k WHERE k.backend = b.id AND k.expires_at > now_ms() - "
	"$1))) OR (b.status = 10 AND b.state_at < now_ms() - $1)) LIMIT $3" END_LOST;
/* Epochs only grow. */
static const char end_broken[] = FIND_LOST "b.lease_epoch < d.lease_epoch LIMIT $1" END_LOST;

static int read_lost(const PGresult *rows, struct plane_store_lost *lost, struct plane_error *err)
{
	int count = PQntuples(rows), result = 0;
	struct plane_store_lost found = { .count = (size_t)count,
		.entries = plane_pg_entries(rows, sizeof(found.entries[0])) };
	for (int i = 0; i < count && result == 0; i++) {
		struct plane_store_lost_entry *entry = &found.entries[i];
		(void)plane_text_copy(
			entry->backend, sizeof(entry->backend), plane_pg_text(rows, i, 0));
		entry->time_ms = plane_pg_int(rows, i, 2);
		result = plane_store_read_state(plane_pg_text(rows, i, 1), &entry->state, err);
	}
	if (result < 0)
		plane_store_lost_finish(&found);
	else
		*lost = found;
	return result;
}

int plane_postgres_mark_broken(
	struct plane_store *base, struct plane_store_lost *lost, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	int result = plane_pg_pool_run(
		&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err, end_broken, "i", LOST_BATCH);
	return result < 0 ? result : read_lost(rows, lost, err);
}

int plane_postgres_mark_lost(struct plane_store *base, int64_t silent_ms,
	struct plane_store_lost *lost, struct plane_error *err)
{
	struct plane_postgres_store *store = PLANE_POSTGRES_STORE(base);
	_cleanup_rows_ PGresult *rows = NULL;
	int64_t since_ms;
	int result = plane_postgres_watching_since(store, &since_ms, err);
	if (result == 0)
		result = plane_pg_pool_run(&store->pool, &rows, NULL, err, end_lost, "iii",
			silent_ms, since_ms, LOST_BATCH);
	return result < 0 ? result : read_lost(rows, lost, err);
}
