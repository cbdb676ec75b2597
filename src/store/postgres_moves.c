/* Backends that a drone has refused, and that another one gets. */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "store/postgres.h"

/* $1: the refused order, $2: its drone. One that is ordered to end stays: its drone ends it, and
 * the order would be left behind with that one. One that an earlier server has stored may have been
 * moved there already. */
#define REFUSED                                                                                    \
	"FROM action a JOIN backend b ON b.id = a.backend AND b.drone_id = a.drone_id JOIN "       \
	"backend_key k ON k.backend = b.id LEFT JOIN drone d ON d.id = k.drone_id WHERE a.id = "   \
	"$1 "                                                                                      \
	"AND a.drone_id = $2 AND a.kind = 'spawn' AND a.acked_at IS NULL AND b.status = 10 "       \
	"AND b.drone_id = $2 AND NOT EXISTS (SELECT 1 FROM action ending WHERE ending.backend = "  \
	"b.id AND ending.kind <> 'spawn') AND " PLANE_POSTGRES_MAY_START                           \
	" AND " PLANE_POSTGRES_KEY_IS_LIVE

static int not_pending(const char *action_id, struct plane_error *err)
{
	return plane_error_set(err, -ENOENT, "the order %s is not to be moved", action_id);
}

int plane_postgres_refused_find(struct plane_store *base, int64_t drone_id, const char *action_id,
	struct plane_store_refused *refused, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		"SELECT other.drone_id, r.message, r.cluster, (SELECT pool FROM drone WHERE id = "
		"$2) FROM (SELECT a.message, b.cluster, b.id " REFUSED
		") r JOIN action other ON other.backend = r.id AND other.kind = 'spawn' GROUP BY "
		"other.drone_id, r.message, r.cluster",
		"ti", action_id, drone_id);
	if (result < 0)
		return result;
	int count = PQntuples(rows);
	if (count == 0)
		return not_pending(action_id, err);
	*refused = (struct plane_store_refused){ .message = plane_pg_text_copy(rows, 0, 1),
		.cluster = plane_pg_text_copy(rows, 0, 2),
		.pool = plane_pg_text_copy(rows, 0, 3),
		.tried_count = (size_t)count,
		.tried = plane_pg_entries(rows, sizeof(refused->tried[0])) };
	for (int i = 0; i < count; i++)
		refused->tried[i] = plane_pg_int(rows, i, 0);
	return 0;
}

/* The backend's row is locked first, as everywhere, in a statement of its own: what waits for the
 * lock must see the order to end it that was stored meanwhile. */
static const char lock_backend[] = "SELECT 1 FROM backend WHERE id = $1 FOR NO KEY UPDATE";
/* Then its key, whose row says whether it still holds it: only then is anything changed. The
 * drone's row is locked as a spawn locks it. */
static const char move_backend[] =
	"WITH target AS MATERIALIZED (SELECT id, CASE WHEN is_lease_granted THEN lease_epoch END "
	"AS epoch FROM drone WHERE id = $3 AND NOT is_draining AND CASE WHEN is_lease_granted THEN "
	"lease_epoch ELSE 0 END = $4 FOR KEY SHARE), mine AS MATERIALIZED (SELECT b.id, "
	"k.drone_id, "
	"k.fencing_token " REFUSED " FOR NO KEY UPDATE OF b), held AS (UPDATE backend_key k SET "
	"drone_id = target.id, lease_epoch = target.epoch, expires_at = now_ms() + $5, "
	"fencing_token = nextval('fencing_token') FROM mine, target WHERE k.backend = mine.id AND "
	"k.fencing_token = mine.fencing_token RETURNING k.backend, k.drone_id, k.lease_epoch, "
	"k.fencing_token), moved AS (UPDATE backend b SET drone_id = held.drone_id, lease_epoch = "
	"held.lease_epoch FROM held WHERE b.id = held.backend), voided AS (UPDATE action SET "
	"acked_at "
	"= now_ms() FROM held WHERE id = $1), ordered AS (INSERT INTO action (id, backend, "
	"drone_id, kind, message) SELECT $6, backend, drone_id, 'spawn', $7::text || fencing_token "
	"|| $8::text FROM held RETURNING message) SELECT EXISTS (SELECT 1 FROM mine), now_ms(), "
	"fencing_token, message FROM "
	"(VALUES "
	"(1)) AS one LEFT JOIN held ON true LEFT JOIN ordered ON true";

struct moving {
	const struct plane_store_move *move;
	PGresult *rows[2];
};

static int move_it(struct plane_pg *pg, void *data, struct plane_error *err)
{
	struct moving *moving = data;
	const struct plane_store_move *move = moving->move;
	struct plane_drone_order order = *move->order;
	_cleanup_order_parts_ struct plane_store_order_parts text;
	plane_store_order_split(&order, &order.fencing_token, &text);
	int result = plane_pg_queue(pg, err, lock_backend, "t", order.backend);
	if (result == 0)
		result = plane_pg_queue(pg, err, move_backend, "tiiiittt", move->refused_action_id,
			move->refused_by, order.drone_id, order.epoch, move->lease_ms,
			order.action_id, text.before, text.after);
	return result < 0 ? result : plane_pg_flush(pg, moving->rows, 2, err);
}

int plane_postgres_move(struct plane_store *base, const struct plane_store_move *move,
	struct plane_store_spawned *spawned, struct plane_error *err)
{
	struct moving moving = { .move = move };
	int result = plane_pg_pool_call(&PLANE_POSTGRES_STORE(base)->pool, move_it, &moving, err);
	_cleanup_rows_ PGresult *locked = moving.rows[0], *rows = moving.rows[1];
	if (result < 0)
		return result;
	if (!plane_pg_bool(rows, 0, 0))
		return not_pending(move->refused_action_id, err);
	if (PQgetisnull(rows, 0, 3))
		return plane_error_set(err, -ESTALE,
			"drone %lld drains, or its lease is another one",
			(long long)move->order->drone_id);
	*spawned = (struct plane_store_spawned){ .message = plane_pg_text_copy(rows, 0, 3),
		.fencing_token = plane_pg_int(rows, 0, 2),
		.time_ms = plane_pg_int(rows, 0, 1) };
	return 0;
}
