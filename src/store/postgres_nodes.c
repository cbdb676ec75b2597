/* Controllers, nodes, drones. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/random.h"
#include "store/postgres.h"

int plane_postgres_controller_heartbeat(
	struct plane_store *base, const char *name, struct plane_error *err)
{
	struct plane_postgres_store *store = PLANE_POSTGRES_STORE(base);
	_cleanup_rows_ PGresult *rows = NULL;
	int result = plane_pg_pool_run(&store->lease_pool, &rows, NULL, err,
		"INSERT INTO controller VALUES ($1, true, now_ms()) ON CONFLICT (name) DO UPDATE "
		"SET is_online = true, last_heartbeat_at = excluded.last_heartbeat_at "
		"RETURNING " PLANE_POSTGRES_MAY_FORGET,
		"t", name);
	if (result == 0)
		plane_postgres_note_replication(store, plane_pg_bool(rows, 0, 0));
	return result;
}

int plane_postgres_controller_offline(
	struct plane_store *base, const char *name, struct plane_error *err)
{
	return plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, NULL, NULL, err,
		"WITH stopped AS (UPDATE controller SET is_online = false WHERE name = $1 "
		"RETURNING name) UPDATE node SET controller = NULL, seen_at = now_ms() FROM "
		"stopped WHERE controller = "
		"stopped.name",
		"t", name);
}

static const char *or_empty(const char *text)
{
	return text ? text : "";
}

/* A drone's lease is not touched: the drone that says that it holds it may go on with it. */
static const char connect_node[] =
	"WITH present AS (INSERT INTO node (kind, cluster, name, controller, connection_id, "
	"version, git_hash, ip, controller_url, seen_at, backend_ip, first_port, last_port) VALUES "
	"($1, $2, $3, $4, $5, $6, $7, $8, $11, now_ms(), $13, $14, $15) ON "
	"CONFLICT (cluster, "
	"name) DO UPDATE SET kind = excluded.kind, controller = excluded.controller, "
	"connection_id = excluded.connection_id, version = excluded.version, git_hash = "
	"excluded.git_hash, ip = excluded.ip, controller_url = excluded.controller_url, "
	"seen_at = excluded.seen_at, backend_ip = excluded.backend_ip, first_port = "
	"excluded.first_port, last_port = excluded.last_port RETURNING "
	"id), ready AS (INSERT INTO drone (id, "
	"cluster, pool, is_ready, is_draining, has_key_leases) SELECT id, $2, $9, true, false, NOT "
	"$12::boolean FROM present WHERE "
	"$10::boolean ON CONFLICT (id) DO UPDATE SET pool = excluded.pool, is_ready = true, "
	"has_key_leases = excluded.has_key_leases, "
	"last_heartbeat_at = CASE WHEN $12::boolean AND drone.is_lease_granted THEN "
	"drone.last_heartbeat_at END, last_local_time = CASE WHEN $12::boolean AND "
	"drone.is_lease_granted THEN drone.last_local_time END, memory_total_bytes = CASE WHEN "
	"$12::boolean AND drone.is_lease_granted THEN drone.memory_total_bytes END) SELECT id "
	"FROM present";

int plane_postgres_node_connected(struct plane_store *base, const struct plane_store_node *node,
	int64_t *node_id, int64_t *connection_id, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	int64_t connection = (int64_t)plane_random_below(INT64_MAX - 1) + 1;
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		connect_node, "ttttittttititii", plane_node_kind_text(node->kind),
		or_empty(node->cluster), node->name, node->controller, connection,
		or_empty(node->version), or_empty(node->git_hash), or_empty(node->ip),
		or_empty(node->pool), (int64_t)(node->kind == PLANE_NODE_DRONE),
		node->controller_url, (int64_t)node->has_lease, node->backend_ip,
		(int64_t)node->first_port, (int64_t)node->last_port);
	if (result < 0)
		return result;
	*node_id = plane_pg_int(rows, 0, 0);
	*connection_id = connection;
	return 0;
}

int plane_postgres_node_disconnected(
	struct plane_store *base, int64_t node_id, int64_t connection_id, struct plane_error *err)
{
	return plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, NULL, NULL, err,
		/* 0: with another server than this one */
		"UPDATE node SET controller = NULL, seen_at = now_ms() WHERE id = $1 AND "
		"connection_id IN ($2, 0)",
		"ii", node_id, connection_id);
}

static void write_numbers(struct plane_buffer *text,
	const struct plane_store_registration *registrations, size_t count, bool are_connections)
{
	for (size_t i = 0; i < count; i++)
		plane_buffer_addf(text, "%c%" PRId64, i ? ',' : '{',
			are_connections ? registrations[i].connection_id
					: registrations[i].node_id);
	plane_buffer_add_text(text, "}");
}

int plane_postgres_registrations_check(struct plane_store *base,
	struct plane_store_registration *registrations, size_t count, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	struct plane_buffer nodes = { 0 }, connections = { 0 };
	write_numbers(&nodes, registrations, count, false);
	write_numbers(&connections, registrations, count, true);
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		"SELECT asked.number - 1 FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY "
		"asked (id, connection_id, number) JOIN node ON node.id = asked.id AND "
		"node.connection_id = asked.connection_id WHERE controller IS NOT NULL",
		"tt", plane_buffer_text(&nodes), plane_buffer_text(&connections));
	plane_buffer_finish(&nodes);
	plane_buffer_finish(&connections);
	if (result < 0)
		return result;
	for (size_t i = 0; i < count; i++)
		registrations[i].is_current = false;
	for (int row = 0; row < PQntuples(rows); row++)
		registrations[plane_pg_int(rows, row, 0)].is_current = true;
	return 0;
}

int plane_postgres_node_controller(
	struct plane_store *base, int64_t node_id, char **name, char **url, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		"SELECT controller, controller_url FROM node WHERE id = $1 AND controller IS NOT "
		"NULL",
		"i", node_id);
	if (result < 0)
		return result;
	bool is_found = PQntuples(rows) > 0;
	*name = is_found ? plane_pg_text_copy(rows, 0, 0) : NULL;
	*url = is_found && !PQgetisnull(rows, 0, 1) ? plane_pg_text_copy(rows, 0, 1) : NULL;
	return 0;
}

int plane_postgres_address_owner(struct plane_store *base, int64_t node_id, const char *ip,
	int first_port, int last_port, int64_t healthy_ms, char **name, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		"SELECT n.name FROM node n JOIN controller c ON c.name = n.controller WHERE "
		"n.backend_ip = $1 AND n.id <> $2 AND n.first_port <= $4 AND n.last_port >= $3 AND "
		"c.is_online AND c.last_heartbeat_at > now_ms() - $5 LIMIT 1",
		"tiiii", ip, node_id, (int64_t)first_port, (int64_t)last_port, healthy_ms);
	if (result == 0)
		*name = PQntuples(rows) ? plane_pg_text_copy(rows, 0, 0) : NULL;
	return result;
}

/* One that connects in this moment is locked, or waits and is made anew. Drones that have backends,
 * ended ones too, are found by one look at all of those. */
int plane_postgres_cleanup_nodes(struct plane_store *base, int64_t min_age_ms, int batch,
	int64_t *removed, struct plane_error *err)
{
	return plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, NULL, removed, err,
		"WITH gone AS (SELECT n.id FROM node n LEFT JOIN drone d ON d.id = n.id WHERE "
		"n.seen_at < now_ms() - $1 AND NOT EXISTS (SELECT 1 FROM controller c WHERE c.name "
		"= n.controller AND c.last_heartbeat_at > now_ms() - $1) AND NOT EXISTS (SELECT 1 "
		"FROM certificate WHERE node_id = n.id) AND (d.id IS NULL OR (NOT d.is_draining "
		"AND NOT d.is_lease_granted AND n.id NOT IN (SELECT DISTINCT drone_id FROM "
		"backend))) ORDER BY n.seen_at LIMIT $2 FOR UPDATE OF n SKIP LOCKED), drones AS "
		"(DELETE FROM drone USING gone WHERE drone.id = gone.id) DELETE FROM node USING "
		"gone WHERE node.id = gone.id",
		"ii", min_age_ms, (int64_t)batch);
}

int plane_postgres_drone_heartbeat(
	struct plane_store *base, int64_t node_id, int64_t local_time_ms, struct plane_error *err)
{
	/* It does not report how many backends it has: they are counted now, not with each spawn.
	 * One that held a lease of its own, and is an original one now, gets backends when that is
	 * over: it would not know that the lease ends. */
	return plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, NULL, NULL, err,
		"UPDATE drone SET last_heartbeat_at = CASE WHEN NOT is_lease_granted THEN now_ms() "
		"END, last_local_time = $1, backend_count = (SELECT count(*) FROM backend WHERE "
		"drone_id = $2 AND status < 70) WHERE id = $2",
		"ii", local_time_ms, node_id);
}

/* The lock waits for spawns that have seen it not draining. */
int plane_postgres_drone_drain(struct plane_store *base, const char *cluster, const char *name,
	bool is_draining, bool *is_changed, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		"WITH found AS (SELECT d.id FROM drone d JOIN node USING (id) WHERE node.cluster = "
		"$1 AND name = $2 FOR UPDATE OF d), changed AS (UPDATE drone SET is_draining = $3 "
		"FROM found WHERE "
		"drone.id = found.id AND is_draining <> $3 RETURNING drone.id) SELECT EXISTS "
		"(SELECT 1 FROM changed) FROM found",
		"ttb", cluster, name, (int)is_draining);
	if (result < 0)
		return result;
	if (PQntuples(rows) == 0)
		return plane_error_set(err, -ENOENT, "no drone %s in cluster %s", name, cluster);
	*is_changed = plane_pg_bool(rows, 0, 0);
	return 0;
}

bool plane_postgres_read_resources(
	const PGresult *rows, int row, int first, struct plane_drone_resources *resources)
{
	if (PQgetisnull(rows, row, first))
		return false;
	*resources = (struct plane_drone_resources){ 0 };
	for (int i = 0; i < PLANE_STORE_RESOURCE_COUNT; i++)
		*plane_store_resource(resources, i) = plane_pg_int(rows, row, first + i);
	return true;
}
