/* Controllers, nodes, drones. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/random.h"
#include "base/text.h"
#include "store/sqlite.h"

/* The time is kept with the heartbeat, so that a restarted store goes on from there. */
static int heartbeat(struct plane_sqlite_store *store, const char *name, struct plane_error *err)
{
	int64_t now = plane_sqlite_now(store);
	int64_t boot = store->clock.boot_ms(store->clock.data);
	if (plane_db_run(&store->writer, NULL, err,
		    "INSERT INTO controller VALUES (?, 1, ?) ON CONFLICT DO UPDATE SET is_online = "
		    "1, last_heartbeat_at = excluded.last_heartbeat_at",
		    "ti", name, now) < 0 ||
		plane_db_run(&store->writer, NULL, err,
			"UPDATE meta SET value = ? WHERE name = 'clock_ms'", "i", now) < 0)
		return err->code;
	return plane_db_run(&store->writer, NULL, err,
		"UPDATE meta SET value = ? WHERE name = 'clock_boot_ms'", "i", boot);
}

int plane_sqlite_controller_heartbeat(
	struct plane_store *base, const char *name, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	if (plane_db_begin(&store->writer, err) < 0)
		return err->code;
	return plane_db_end(&store->writer, heartbeat(store, name, err), err);
}

int plane_sqlite_controller_offline(
	struct plane_store *base, const char *name, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	struct plane_db *db = &store->writer;
	if (plane_db_begin(db, err) < 0)
		return err->code;
	int result = plane_db_run(
		db, NULL, err, "UPDATE controller SET is_online = 0 WHERE name = ?", "t", name);
	if (result == 0)
		result = plane_db_run(db, NULL, err,
			"UPDATE node SET controller = NULL, seen_at = ? WHERE controller = ?", "it",
			plane_sqlite_now(store), name);
	return plane_db_end(db, result, err);
}

static const char *or_empty(const char *text)
{
	return text ? text : "";
}

static int put_node(struct plane_sqlite_store *store, const struct plane_store_node *node,
	int64_t connection_id, int64_t *node_id, struct plane_error *err)
{
	struct plane_db *db = &store->writer;
	sqlite3_stmt *row = plane_db_query(db, err,
		"INSERT INTO node (kind, cluster, name, controller, connection_id, version, "
		"git_hash, ip, seen_at, backend_ip, first_port, last_port) VALUES (?, ?, ?, ?, ?, "
		"?, ?, ?, ?, ?, ?, ?) ON CONFLICT (cluster, name) DO "
		"UPDATE "
		"SET kind = excluded.kind, controller = excluded.controller, connection_id = "
		"excluded.connection_id, version = excluded.version, git_hash = excluded.git_hash, "
		"ip = excluded.ip, seen_at = excluded.seen_at, backend_ip = excluded.backend_ip, "
		"first_port = excluded.first_port, last_port = excluded.last_port RETURNING id",
		"ttttitttitii", plane_node_kind_text(node->kind), or_empty(node->cluster),
		node->name, node->controller, connection_id, or_empty(node->version),
		or_empty(node->git_hash), or_empty(node->ip), plane_sqlite_now(store),
		node->backend_ip, (int64_t)node->first_port, (int64_t)node->last_port);
	if (!row)
		return err->code;
	int result = plane_db_next(db, row, err);
	if (result < 0)
		return result;
	*node_id = sqlite3_column_int64(row, 0);
	return plane_db_next(db, row, err);
}

int plane_sqlite_node_connected(struct plane_store *base, const struct plane_store_node *node,
	int64_t *node_id, int64_t *connection_id, struct plane_error *err)
{
	struct plane_db *db = &PLANE_SQLITE_STORE(base)->writer;
	int64_t id = 0, connection = (int64_t)plane_random_below(INT64_MAX - 1) + 1;
	if (plane_db_begin(db, err) < 0)
		return err->code;
	int result = put_node(PLANE_SQLITE_STORE(base), node, connection, &id, err);
	if (result == 0 && node->kind == PLANE_NODE_DRONE)
		result = plane_db_run(db, NULL, err,
			"INSERT INTO drone (id, pool, is_ready, is_draining) VALUES (?1, ?2, 1, 0) "
			"ON CONFLICT DO UPDATE SET pool = excluded.pool, is_ready = 1, "
			"last_heartbeat_at = CASE WHEN ?3 AND is_lease_granted THEN "
			"last_heartbeat_at END, last_local_time = CASE WHEN ?3 AND "
			"is_lease_granted THEN last_local_time END, memory_total_bytes = CASE WHEN "
			"?3 AND is_lease_granted THEN memory_total_bytes END",
			"iti", id, or_empty(node->pool), (int64_t)node->has_lease);
	result = plane_db_end(db, result, err);
	if (result == 0) {
		*node_id = id;
		*connection_id = connection;
	}
	return result;
}

/* For single statements: a transaction of their own. */
static int run_alone(struct plane_sqlite_store *store, int64_t *changed, struct plane_error *err,
	const char *sql, int64_t a, int64_t b, int64_t c)
{
	if (plane_db_begin(&store->writer, err) < 0)
		return err->code;
	int result = plane_db_run(&store->writer, changed, err, sql, "iii", a, b, c);
	return plane_db_end(&store->writer, result, err);
}

int plane_sqlite_node_disconnected(
	struct plane_store *base, int64_t node_id, int64_t connection_id, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	return run_alone(store, NULL, err,
		"UPDATE node SET controller = NULL, seen_at = ? WHERE id = ? AND connection_id = ?",
		plane_sqlite_now(store), node_id, connection_id);
}

int plane_sqlite_registrations_check(struct plane_store *base,
	struct plane_store_registration *registrations, size_t count, struct plane_error *err)
{
	struct plane_db *db = &PLANE_SQLITE_STORE(base)->reader;
	int result = 0;
	pthread_mutex_lock(&db->mutex);
	for (size_t i = 0; i < count && result >= 0; i++) {
		sqlite3_stmt *row = plane_db_query(db, err,
			"SELECT 1 FROM node WHERE id = ? AND connection_id = ? AND controller IS "
			"NOT NULL",
			"ii", registrations[i].node_id, registrations[i].connection_id);
		result = row ? plane_db_next(db, row, err) : err->code;
		if (result == 1)
			plane_db_done(row);
		if (result >= 0)
			registrations[i].is_current = result == 1;
	}
	pthread_mutex_unlock(&db->mutex);
	return result < 0 ? result : 0;
}

int plane_sqlite_address_owner(struct plane_store *base, int64_t node_id, const char *ip,
	int first_port, int last_port, int64_t healthy_ms, char **name, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	struct plane_db *db = &store->reader;
	char *found = NULL;
	pthread_mutex_lock(&db->mutex);
	sqlite3_stmt *row = plane_db_query(db, err,
		"SELECT n.name FROM node n JOIN controller c ON c.name = n.controller WHERE "
		"n.backend_ip = ?1 AND n.id <> ?2 AND n.first_port <= ?4 AND n.last_port >= ?3 AND "
		"c.is_online AND c.last_heartbeat_at > ?5 LIMIT 1",
		"tiiii", ip, node_id, (int64_t)first_port, (int64_t)last_port,
		plane_sqlite_now(store) - healthy_ms);
	int result = row ? plane_db_next(db, row, err) : err->code;
	if (result == 1) {
		found = plane_db_text_copy(row, 0);
		plane_db_done(row);
	}
	pthread_mutex_unlock(&db->mutex);
	if (result < 0)
		return result;
	*name = found;
	return 0;
}

#define GONE_NODES                                                                                 \
	"(SELECT n.id FROM node n LEFT JOIN drone d ON d.id = n.id WHERE n.seen_at < ?1 AND NOT "  \
	"EXISTS (SELECT 1 FROM controller c WHERE c.name = n.controller AND c.last_heartbeat_at "  \
	"> ?1) AND NOT EXISTS (SELECT 1 FROM certificate WHERE node_id = n.id) AND (d.id IS NULL " \
	"OR (NOT d.is_draining AND NOT d.is_lease_granted AND NOT EXISTS (SELECT 1 FROM backend "  \
	"WHERE drone_id = n.id))) ORDER BY n.seen_at, n.id LIMIT ?2)"

int plane_sqlite_cleanup_nodes(struct plane_store *base, int64_t min_age_ms, int batch,
	int64_t *removed, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	int64_t before = plane_sqlite_now(store) - min_age_ms, changed = 0;
	if (plane_db_begin(&store->writer, err) < 0)
		return err->code;
	/* the same nodes twice: whether they have a row of a drone does not matter to what is gone
	 */
	int result = plane_db_run(&store->writer, NULL, err,
		"DELETE FROM drone WHERE id IN " GONE_NODES, "ii", before, (int64_t)batch);
	if (result == 0)
		result = plane_db_run(&store->writer, &changed, err,
			"DELETE FROM node WHERE id IN " GONE_NODES, "ii", before, (int64_t)batch);
	result = plane_db_end(&store->writer, result, err);
	if (result == 0)
		*removed = changed;
	return result;
}

int plane_sqlite_drone_heartbeat(
	struct plane_store *base, int64_t node_id, int64_t local_time_ms, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	/* It does not report how many backends it has: they are counted now, not with each spawn.
	 * One that held a lease of its own, and is an original one now, gets backends when that is
	 * over: it would not know that the lease ends. */
	return run_alone(store, NULL, err,
		"UPDATE drone SET last_heartbeat_at = CASE WHEN NOT is_lease_granted THEN ? END, "
		"last_local_time = ?, backend_count = (SELECT count(*) FROM backend WHERE drone_id "
		"= drone.id AND status < 70) WHERE id = ?",
		plane_sqlite_now(store), local_time_ms, node_id);
}

int plane_sqlite_drone_drain(struct plane_store *base, const char *cluster, const char *name,
	bool is_draining, bool *is_changed, struct plane_error *err)
{
	struct plane_db *db = &PLANE_SQLITE_STORE(base)->writer;
	int64_t id = 0, changed = 0;
	if (plane_db_begin(db, err) < 0)
		return err->code;
	sqlite3_stmt *row = plane_db_query(db, err,
		"SELECT drone.id FROM drone JOIN node USING (id) WHERE cluster = ? AND name = ?",
		"tt", cluster, name);
	int result = row ? plane_db_next(db, row, err) : err->code;
	if (result == 1) {
		id = sqlite3_column_int64(row, 0);
		plane_db_done(row);
		result = plane_db_run(db, &changed, err,
			"UPDATE drone SET is_draining = ?1 WHERE id = ?2 AND is_draining <> ?1",
			"ii", (int64_t)is_draining, id);
	} else if (result == 0) {
		result = plane_error_set(err, -ENOENT, "no drone %s in cluster %s", name, cluster);
	}
	result = plane_db_end(db, result, err);
	if (result == 0)
		*is_changed = changed > 0;
	return result;
}

bool plane_sqlite_read_resources(
	sqlite3_stmt *row, int first, struct plane_drone_resources *resources)
{
	if (sqlite3_column_type(row, first) == SQLITE_NULL)
		return false;
	*resources = (struct plane_drone_resources){ 0 };
	for (int i = 0; i < PLANE_STORE_RESOURCE_COUNT; i++)
		*plane_store_resource(resources, i) =
			sqlite3_column_type(row, first + i) == SQLITE_NULL
				? -1
				: sqlite3_column_int64(row, first + i);
	return true;
}

int plane_sqlite_drones_eligible(struct plane_sqlite_store *store,
	const struct plane_store_connect *request, struct plane_store_drones *drones,
	struct plane_error *err)
{
	struct plane_db *db = &store->reader;
	struct plane_store_drones found = { 0 };
	int64_t now = plane_sqlite_now(store);
	pthread_mutex_lock(&db->mutex);
	sqlite3_stmt *row = plane_db_query(db, err,
		"SELECT drone.id, node.name, last_local_time, coalesce(backend_count, 0), "
		"CASE WHEN is_lease_granted THEN lease_epoch ELSE 0 "
		"END, ?5 - drone.last_heartbeat_at, " PLANE_STORE_RESOURCE_COLUMNS
		" FROM drone JOIN node USING (id) JOIN "
		"controller ON controller.name = node.controller WHERE cluster = ?1 AND pool = ?2 "
		"AND "
		"is_ready AND NOT is_draining AND drone.last_heartbeat_at > CASE WHEN "
		"is_lease_granted THEN ?4 ELSE ?3 END AND is_online AND "
		"controller.last_heartbeat_at > ?3",
		"ttiii", request->cluster, request->pool, now - request->healthy_ms,
		now - request->lease_healthy_ms, now);
	int result = row ? 0 : err->code;
	while (row && (result = plane_db_next(db, row, err)) == 1) {
		found.entries =
			plane_realloc(found.entries, (found.count + 1) * sizeof(found.entries[0]));
		struct plane_store_drone *drone = &found.entries[found.count++];
		*drone = (struct plane_store_drone){ .id = sqlite3_column_int64(row, 0),
			.last_local_time_ms = sqlite3_column_int64(row, 2),
			.backend_count = sqlite3_column_int64(row, 3),
			.lease_epoch = sqlite3_column_int64(row, 4),
			.silent_ms = sqlite3_column_int64(row, 5) };
		drone->has_resources = plane_sqlite_read_resources(row, 6, &drone->resources);
		(void)plane_text_copy(drone->name, sizeof(drone->name), plane_db_text(row, 1));
	}
	pthread_mutex_unlock(&db->mutex);
	if (result < 0)
		plane_store_drones_finish(&found);
	else
		*drones = found;
	return result;
}
