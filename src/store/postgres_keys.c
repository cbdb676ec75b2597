/* Keys and leases, and the transaction that makes a backend. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/json.h"
#include "base/text.h"
#include "store/postgres.h"

#define NO_RESOURCES ", NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL"

/* One statement for both outcomes: who holds the key, with the token stored if it may be used; or
 * the drones that a new backend can be placed on, and drone 0 while the store recovers. */
static const char connect_key[] =
	"WITH held AS MATERIALIZED (SELECT k.tag, k.backend, " PLANE_POSTGRES_KEY_IS_LIVE
	" AS is_live, b.cluster, b.subdomain, b.static_token, b.status FROM backend_key k JOIN "
	"backend b ON b.id = k.backend LEFT JOIN drone d ON d.id = k.drone_id WHERE k.namespace = "
	"$1 AND k.name = $2), made AS (INSERT INTO token (token, secret_token, backend, username, "
	"auth, expires_at) SELECT $4::text, $5, backend, $6, $7, now_ms() + $8 FROM held WHERE "
	"is_live "
	"AND tag = $3 AND status < 60 AND static_token IS NULL AND $4::text IS NOT NULL RETURNING "
	"1) "
	"SELECT backend, tag, is_live, cluster, subdomain, static_token, status, EXISTS (SELECT 1 "
	"FROM made), NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, "
	"NULL::bigint" NO_RESOURCES " FROM held "
	"UNION ALL SELECT n.name, NULL, NULL, NULL, NULL, NULL, NULL, NULL, d.id, "
	"d.last_local_time, coalesce(d.backend_count, 0), CASE WHEN d.is_lease_granted THEN "
	"d.lease_epoch ELSE 0 END, now_ms() - d.last_heartbeat_at, " PLANE_STORE_RESOURCE_COLUMNS
	" FROM "
	"drone d JOIN node n USING (id) JOIN controller c ON c.name "
	"= n.controller WHERE d.cluster = $9 AND d.pool = $10 AND d.is_ready AND NOT "
	"d.is_draining AND d.last_heartbeat_at > now_ms() - CASE WHEN d.is_lease_granted THEN "
	"$12::bigint ELSE $11 END AND c.is_online AND "
	"c.last_heartbeat_at > now_ms() - $11 AND NOT EXISTS (SELECT 1 FROM held WHERE is_live) "
	"UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, "
	"NULL, NULL" NO_RESOURCES
	" FROM meta WHERE name = 'recovering_since' AND NOT EXISTS (SELECT 1 "
	"FROM held WHERE is_live)";

static void read_held(const PGresult *rows, int row, struct plane_store_connection *connection)
{
	struct plane_store_held_key *key = &connection->key;
	key->is_found = true;
	/* all were checked when they were stored */
	(void)plane_text_copy(key->backend, sizeof(key->backend), plane_pg_text(rows, row, 0));
	(void)plane_text_copy(key->tag, sizeof(key->tag), plane_pg_text(rows, row, 1));
	key->is_live = plane_pg_bool(rows, row, 2);
	(void)plane_text_copy(key->cluster, sizeof(key->cluster), plane_pg_text(rows, row, 3));
	(void)plane_text_copy(key->subdomain, sizeof(key->subdomain), plane_pg_text(rows, row, 4));
	(void)plane_text_copy(
		key->static_token, sizeof(key->static_token), plane_pg_text(rows, row, 5));
	key->status = (enum plane_backend_status)plane_pg_int(rows, row, 6);
	connection->has_token = plane_pg_bool(rows, row, 7);
}

int plane_postgres_connect(struct plane_store *base, const struct plane_store_connect *request,
	struct plane_store_connection *connection, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	const struct plane_store_token none = { 0 };
	const struct plane_store_token *token = request->token ? request->token : &none;
	_cleanup_free_ char *auth = token->auth ? plane_json_dump(token->auth) : NULL;
	int result = plane_pg_group_run(&PLANE_POSTGRES_STORE(base)->group, &rows, err, connect_key,
		"tttttttittii", request->key_namespace, request->key_name, request->key_tag,
		token->token, token->secret_token, token->user, auth, token->lifetime_ms,
		request->cluster, request->pool, request->healthy_ms, request->lease_healthy_ms);
	if (result < 0)
		return result;
	int count = PQntuples(rows);
	*connection = (struct plane_store_connection){ 0 };
	connection->drones.entries = plane_pg_entries(rows, sizeof(connection->drones.entries[0]));
	for (int i = 0; i < count; i++) {
		if (PQgetisnull(rows, i, 8)) {
			read_held(rows, i, connection);
			continue;
		}
		if (plane_pg_int(rows, i, 8) == 0) {
			connection->is_recovering = true;
			continue;
		}
		struct plane_store_drone *drone =
			&connection->drones.entries[connection->drones.count++];
		*drone = (struct plane_store_drone){ .id = plane_pg_int(rows, i, 8),
			.last_local_time_ms = plane_pg_int(rows, i, 9),
			.backend_count = plane_pg_int(rows, i, 10),
			.lease_epoch = plane_pg_int(rows, i, 11),
			.silent_ms = plane_pg_int(rows, i, 12) };
		drone->has_resources =
			plane_postgres_read_resources(rows, i, 13, &drone->resources);
		(void)plane_text_copy(drone->name, sizeof(drone->name), plane_pg_text(rows, i, 0));
	}
	return 0;
}

/* The rows are locked in the order of their names, so that two of these never wait for each
 * other. */
int plane_postgres_keys_renew(struct plane_store *base, const char *const *backends, size_t count,
	int64_t node_id, int64_t lease_ms, bool *is_renewed, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	struct plane_buffer names = { 0 };
	plane_pg_add_array(&names, backends, count);
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		"WITH mine AS MATERIALIZED (SELECT namespace, name FROM backend_key WHERE backend "
		"= ANY ($1::text[]) AND drone_id = $2 AND lease_epoch IS NULL ORDER BY backend FOR "
		"UPDATE) UPDATE "
		"backend_key k SET expires_at = now_ms() + $3 FROM mine WHERE k.namespace = "
		"mine.namespace AND k.name = mine.name AND k.drone_id = $2 RETURNING k.backend",
		"tii", plane_buffer_text(&names), node_id, lease_ms);
	plane_buffer_finish(&names);
	if (result < 0)
		return result;
	for (size_t i = 0; i < count; i++) {
		is_renewed[i] = false;
		for (int row = 0; row < PQntuples(rows) && !is_renewed[i]; row++)
			is_renewed[i] = strcmp(plane_pg_text(rows, row, 0), backends[i]) == 0;
	}
	return 0;
}

/* The key first: nothing else happens when it is held. That of a broken lease is taken over. The
 * lock of the drone's row is one that renewals do not wait for, but a drain does: when that is
 * done, so are all spawns that did not see it. It has no fencing token yet: 0, which nobody else
 * ever sees. */
static const char spawn_backend[] =
	"WITH facts AS MATERIALIZED (SELECT now_ms() AS now, CASE WHEN is_lease_granted THEN "
	"lease_epoch END AS epoch, NOT $21::boolean AND EXISTS (SELECT 1 FROM meta WHERE name = "
	"'recovering_since') AS must_wait FROM drone WHERE id = $3 AND "
	"NOT is_draining AND CASE WHEN is_lease_granted THEN lease_epoch ELSE 0 END = $18 FOR KEY "
	"SHARE), "
	"held AS (INSERT INTO backend_key AS k (namespace, name, tag, backend, drone_id, "
	"lease_epoch, expires_at, fencing_token) SELECT $4, $5, $6, $1, $3, epoch, now + $7, 0 "
	"FROM facts WHERE NOT must_wait ON CONFLICT (namespace, name) DO UPDATE SET tag = "
	"excluded.tag, backend = "
	"excluded.backend, drone_id = excluded.drone_id, lease_epoch = excluded.lease_epoch, "
	"expires_at = excluded.expires_at, fencing_token = 0 WHERE CASE WHEN "
	"k.lease_epoch IS NULL THEN k.expires_at <= now_ms() ELSE EXISTS (SELECT 1 FROM drone d "
	"WHERE d.id = k.drone_id AND d.lease_epoch > k.lease_epoch) END RETURNING k.backend, "
	"k.lease_epoch), "
	"made AS (INSERT INTO backend (id, cluster, drone_id, lease_epoch, key_namespace, "
	"key_name, "
	"key_tag, status, state, state_at, created_at, last_keepalive_at, lifetime_ends_at, "
	"max_idle_ms, subdomain, static_token, memory_bytes, cpu_millis) SELECT held.backend, $2, "
	"$3, "
	"held.lease_epoch, $4, $5, $6, 10, $8, now, now, now, now + $9, $10, $11, $12, $19, $20 "
	"FROM held, facts), "
	"first AS (INSERT INTO backend_state (backend, state, created_at) SELECT held.backend, $8, "
	"now FROM held, facts), "
	"tokens AS (INSERT INTO token (token, secret_token, backend, username, auth, expires_at) "
	"SELECT $13::text, $14, held.backend, $15, $16, now + $17 FROM held, facts WHERE "
	"$13::text IS NOT NULL) SELECT now, must_wait FROM facts";
/* In a statement after that one, when the key is this transaction's: a number that was drawn before
 * might be smaller than that of a backend which had the key meanwhile, and has ended. */
static const char order_spawn[] =
	"WITH held AS (UPDATE backend_key SET fencing_token = nextval('fencing_token') WHERE "
	"backend = $1 AND fencing_token = 0 RETURNING backend, drone_id, fencing_token) "
	"INSERT INTO action (id, backend, drone_id, kind, message) SELECT $2, backend, drone_id, "
	"'spawn', $3::text || fencing_token || $4::text FROM held RETURNING message, (SELECT "
	"fencing_token FROM held)";

static int64_t times_1000(int64_t seconds)
{
	return seconds < 0 ? -1 : seconds * 1000;
}

struct spawning {
	const struct plane_store_spawn *spawn;
	PGresult *rows[2];
};

static int spawn_it(struct plane_pg *pg, void *data, struct plane_error *err)
{
	struct spawning *spawning = data;
	const struct plane_store_spawn *spawn = spawning->spawn;
	const struct plane_store_token none = { 0 };
	const struct plane_store_token *token = spawn->token ? spawn->token : &none;
	struct plane_backend_state scheduled = { .status = PLANE_SCHEDULED };
	_cleanup_json_ json_t *state_json = plane_backend_state_write(&scheduled);
	_cleanup_free_ char *state = plane_json_dump(state_json);
	_cleanup_free_ char *auth = token->auth ? plane_json_dump(token->auth) : NULL;
	struct plane_drone_order order = plane_store_spawn_order(spawn);
	_cleanup_order_parts_ struct plane_store_order_parts text;
	plane_store_order_split(&order, &order.fencing_token, &text);
	int result = plane_pg_queue(pg, err, spawn_backend, "ttitttitoottttttiiiib", spawn->backend,
		spawn->cluster, spawn->drone_id, spawn->key_namespace, spawn->key_name,
		spawn->key_tag, spawn->lease_ms, state, times_1000(spawn->lifetime_limit_seconds),
		times_1000(spawn->max_idle_seconds), spawn->subdomain, spawn->static_token,
		token->token, token->secret_token, token->user, auth, token->lifetime_ms,
		spawn->lease_epoch, spawn->resources.memory_bytes, spawn->resources.cpu_millis,
		(int)spawn->is_key_new);
	if (result == 0)
		result = plane_pg_queue(pg, err, order_spawn, "tttt", spawn->backend,
			spawn->action_id, text.before, text.after);
	return result < 0 ? result : plane_pg_flush(pg, spawning->rows, 2, err);
}

int plane_postgres_spawn(struct plane_store *base, const struct plane_store_spawn *spawn,
	struct plane_store_spawned *spawned, struct plane_error *err)
{
	struct spawning spawning = { .spawn = spawn };
	int result =
		plane_pg_pool_call(&PLANE_POSTGRES_STORE(base)->pool, spawn_it, &spawning, err);
	_cleanup_rows_ PGresult *placed = spawning.rows[0], *ordered = spawning.rows[1];
	if (result < 0)
		return result;
	if (PQntuples(placed) == 0)
		return plane_error_set(err, -ESTALE,
			"drone %lld drains, or its lease is another one",
			(long long)spawn->drone_id);
	if (plane_pg_bool(placed, 0, 1))
		return plane_postgres_recovering(err);
	if (PQntuples(ordered) == 0)
		return plane_error_set(err, -EEXIST, "the key is held");
	*spawned = (struct plane_store_spawned){ .message = plane_pg_text_copy(ordered, 0, 0),
		.fencing_token = plane_pg_int(ordered, 0, 1),
		.time_ms = plane_pg_int(placed, 0, 0) };
	return 0;
}
