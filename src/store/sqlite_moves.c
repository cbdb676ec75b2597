/* Backends that a drone has refused, and that another one gets. */
#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "store/sqlite.h"

/* ?1: the refused order, ?2: its drone, ?3: now. One that is ordered to end stays: its drone ends
 * it, and the order would be left behind with that one. */
#define REFUSED                                                                                    \
	"FROM action a JOIN backend b ON b.id = a.backend AND b.drone_id = a.drone_id JOIN "       \
	"backend_key k ON k.backend = b.id WHERE a.id = ?1 AND a.drone_id = ?2 AND a.kind = "      \
	"'spawn' AND a.acked_at IS NULL AND b.status = 10 AND NOT EXISTS (SELECT 1 FROM action "   \
	"ending WHERE ending.backend = b.id AND ending.kind <> 'spawn') "                          \
	"AND " PLANE_SQLITE_KEY_IS_LIVE("?3")

static int not_pending(const char *action_id, struct plane_error *err)
{
	return plane_error_set(err, -ENOENT, "the order %s is not to be moved", action_id);
}

static int read_tried(struct plane_db *db, const char *action_id,
	struct plane_store_refused *refused, struct plane_error *err)
{
	sqlite3_stmt *row = plane_db_query(db, err,
		"SELECT DISTINCT other.drone_id FROM action JOIN action AS other USING (backend) "
		"WHERE action.id = ? AND other.kind = 'spawn'",
		"t", action_id);
	int result = row ? 0 : err->code;
	while (row && (result = plane_db_next(db, row, err)) == 1) {
		refused->tried = plane_realloc(
			refused->tried, (refused->tried_count + 1) * sizeof(refused->tried[0]));
		refused->tried[refused->tried_count++] = sqlite3_column_int64(row, 0);
	}
	return result;
}

int plane_sqlite_refused_find(struct plane_store *base, int64_t drone_id, const char *action_id,
	struct plane_store_refused *refused, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	struct plane_db *db = &store->reader;
	struct plane_store_refused found = { 0 };
	pthread_mutex_lock(&db->mutex);
	sqlite3_stmt *row = plane_db_query(db, err,
		"SELECT a.message, b.cluster, (SELECT pool FROM drone WHERE id = ?2) " REFUSED,
		"tii", action_id, drone_id, plane_sqlite_now(store));
	int result = row ? plane_db_next(db, row, err) : err->code;
	if (result == 0)
		result = not_pending(action_id, err);
	if (result == 1) {
		found.message = plane_db_text_copy(row, 0);
		found.cluster = plane_db_text_copy(row, 1);
		found.pool = plane_db_text_copy(row, 2);
		plane_db_done(row);
		result = read_tried(db, action_id, &found, err);
	}
	pthread_mutex_unlock(&db->mutex);
	if (result < 0)
		plane_store_refused_finish(&found);
	else
		*refused = found;
	return result;
}

static int check_refused(struct plane_sqlite_store *store, const struct plane_store_move *move,
	int64_t now, struct plane_error *err)
{
	sqlite3_stmt *row = plane_db_query(&store->writer, err, "SELECT 1 " REFUSED, "tii",
		move->refused_action_id, move->refused_by, now);
	int result = row ? plane_db_next(&store->writer, row, err) : err->code;
	if (result == 0)
		return not_pending(move->refused_action_id, err);
	if (result > 0)
		plane_db_done(row);
	return result < 0 ? result : 0;
}

static int move_all(struct plane_sqlite_store *store, const struct plane_store_move *move,
	int64_t now, int64_t fencing_token, const char *message, struct plane_error *err)
{
	struct plane_db *db = &store->writer;
	const struct plane_drone_order *order = move->order;
	int64_t epoch = order->epoch ? order->epoch : -1;
	if (check_refused(store, move, now, err) < 0 ||
		plane_sqlite_check_drone(store, order->drone_id, order->epoch, err) < 0 ||
		plane_db_run(db, NULL, err, "UPDATE action SET acked_at = ? WHERE id = ?", "it",
			now, move->refused_action_id) < 0 ||
		plane_db_run(db, NULL, err,
			"UPDATE backend SET drone_id = ?, lease_epoch = ? WHERE id = ?", "iot",
			order->drone_id, epoch, order->backend) < 0 ||
		plane_db_run(db, NULL, err,
			"UPDATE backend_key SET drone_id = ?, lease_epoch = ?, expires_at = ?, "
			"fencing_token = ? WHERE backend = ?",
			"ioiit", order->drone_id, epoch, now + move->lease_ms, fencing_token,
			order->backend) < 0 ||
		plane_db_run(db, NULL, err,
			"INSERT INTO action (id, backend, drone_id, kind, message) VALUES (?, ?, "
			"?, 'spawn', ?)",
			"ttit", order->action_id, order->backend, order->drone_id, message) < 0)
		return err->code;
	return plane_sqlite_put_fencing_token(store, fencing_token, err);
}

int plane_sqlite_move(struct plane_store *base, const struct plane_store_move *move,
	struct plane_store_spawned *spawned, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	struct plane_db *db = &store->writer;
	struct plane_drone_order order = *move->order;
	pthread_mutex_lock(&db->mutex);
	int result = plane_sqlite_next_fencing_token(store, &order.fencing_token, err);
	pthread_mutex_unlock(&db->mutex);
	if (result < 0 || plane_db_begin(db, err) < 0)
		return err->code;
	int64_t now = plane_sqlite_now(store);
	_cleanup_free_ char *text = plane_store_order_text(&order);
	result = plane_db_end(db, move_all(store, move, now, order.fencing_token, text, err), err);
	if (result == 0)
		*spawned = (struct plane_store_spawned){ STEAL(text), order.fencing_token, now };
	return result;
}
