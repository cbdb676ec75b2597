/* Keys, leases, tokens, and the transaction that makes a backend. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/text.h"
#include "store/sqlite.h"

static int key_find(struct plane_sqlite_store *store, const char *key_namespace, const char *name,
	struct plane_store_held_key *key, struct plane_error *err)
{
	struct plane_db *db = &store->reader;
	struct plane_store_held_key found = { 0 };
	pthread_mutex_lock(&db->mutex);
	sqlite3_stmt *row = plane_db_query(db, err,
		"SELECT tag, backend, " PLANE_SQLITE_KEY_IS_LIVE(
			"?3") ", cluster, subdomain, "
			      "static_token, status FROM backend_key k JOIN backend b ON b.id = "
			      "backend WHERE "
			      "namespace = ?1 AND name = ?2",
		"tti", key_namespace, name, plane_sqlite_now(store));
	int result = row ? plane_db_next(db, row, err) : err->code;
	if (result == 1) {
		found.is_found = true;
		found.is_live = sqlite3_column_int(row, 2);
		found.status = (enum plane_backend_status)sqlite3_column_int(row, 6);
		/* all were checked when they were stored */
		(void)plane_text_copy(found.tag, sizeof(found.tag), plane_db_text(row, 0));
		(void)plane_text_copy(found.backend, sizeof(found.backend), plane_db_text(row, 1));
		(void)plane_text_copy(found.cluster, sizeof(found.cluster), plane_db_text(row, 3));
		(void)plane_text_copy(
			found.subdomain, sizeof(found.subdomain), plane_db_text(row, 4));
		(void)plane_text_copy(
			found.static_token, sizeof(found.static_token), plane_db_text(row, 5));
		plane_db_done(row);
	}
	pthread_mutex_unlock(&db->mutex);
	if (result < 0)
		return result;
	*key = found;
	return 0;
}

int plane_sqlite_keys_renew(struct plane_store *base, const char *const *backends, size_t count,
	int64_t node_id, int64_t lease_ms, bool *is_renewed, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	_cleanup_free_ int64_t *changed = plane_alloc_zero(count + 1, sizeof(*changed));
	if (plane_db_begin(&store->writer, err) < 0)
		return err->code;
	int64_t expires_at = plane_sqlite_now(store) + lease_ms;
	int result = 0;
	for (size_t i = 0; i < count && result == 0; i++)
		result = plane_db_run(&store->writer, &changed[i], err,
			"UPDATE backend_key SET expires_at = ? WHERE backend = ? AND "
			"lease_epoch IS NULL AND EXISTS "
			"(SELECT 1 FROM backend b WHERE b.id = backend_key.backend AND b.drone_id "
			"= ?)",
			"iti", expires_at, backends[i], node_id);
	result = plane_db_end(&store->writer, result, err);
	for (size_t i = 0; i < count && result == 0; i++)
		is_renewed[i] = changed[i] > 0;
	return result;
}

static int insert_token(struct plane_sqlite_store *store, const struct plane_store_token *token,
	struct plane_error *err)
{
	_cleanup_free_ char *auth = plane_json_dump(token->auth);
	int result = plane_db_run(&store->writer, NULL, err,
		"INSERT INTO token VALUES (?, ?, ?, ?, ?, ?)", "ttttti", token->token,
		token->secret_token, token->backend, token->user, auth,
		plane_sqlite_now(store) + token->lifetime_ms);
	return result;
}

struct token_write {
	struct plane_sqlite_store *store;
	const struct plane_store_token *token;
};

static int write_token(void *data, struct plane_error *err)
{
	const struct token_write *write = data;
	return insert_token(write->store, write->token, err);
}

int plane_sqlite_token_create(
	struct plane_store *base, const struct plane_store_token *token, struct plane_error *err)
{
	struct token_write write = { PLANE_SQLITE_STORE(base), token };
	return plane_db_group_run(&write.store->group, write_token, &write, err);
}

/* The look and the token are two transactions: a backend that ends in between has no token. */
static int give_token(struct plane_store *base, const struct plane_store_connect *request,
	struct plane_store_connection *connection, struct plane_error *err)
{
	const struct plane_store_held_key *key = &connection->key;
	if (!request->token || strcmp(key->tag, request->key_tag) != 0 ||
		key->status >= PLANE_TERMINATING || key->static_token[0])
		return 0;
	struct plane_store_token token = *request->token;
	token.backend = key->backend;
	int result = plane_sqlite_token_create(base, &token, err);
	connection->has_token = result == 0;
	return result == -ENOENT ? 0 : result;
}

int plane_sqlite_connect(struct plane_store *base, const struct plane_store_connect *request,
	struct plane_store_connection *connection, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	struct plane_store_connection found = { 0 };
	int result = request->key_name ? key_find(store, request->key_namespace, request->key_name,
						 &found.key, err)
				       : 0;
	if (result == 0 && found.key.is_found && found.key.is_live)
		result = give_token(base, request, &found, err);
	else if (result == 0 && request->cluster)
		result = plane_sqlite_drones_eligible(store, request, &found.drones, err);
	if (result == 0)
		*connection = found;
	return result;
}

int plane_sqlite_token_revoke(
	struct plane_store *base, const char *backend, const char *user, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	struct plane_db *db = &store->writer;
	if (plane_db_begin(db, err) < 0)
		return err->code;
	int result = plane_db_run(db, NULL, err, "DELETE FROM token WHERE backend = ? AND user = ?",
		"tt", backend, user);
	if (result == 0)
		result = plane_db_run(db, NULL, err,
			"INSERT INTO revocation (backend, user, created_at) VALUES (?, ?, ?)",
			"tti", backend, user, plane_sqlite_now(store));
	return plane_db_end(db, result, err);
}

int plane_sqlite_revocations(struct plane_store *base, int64_t since_ms,
	struct plane_store_revocations *revocations, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	struct plane_db *db = &store->reader;
	struct plane_store_revocations found = { 0 };
	pthread_mutex_lock(&db->mutex);
	sqlite3_stmt *row = plane_db_query(db, err,
		"SELECT backend, user FROM revocation WHERE created_at >= ? ORDER BY id", "i",
		plane_sqlite_now(store) - since_ms);
	int result = row ? 0 : err->code;
	while (row && (result = plane_db_next(db, row, err)) == 1) {
		found.entries =
			plane_realloc(found.entries, (found.count + 1) * sizeof(found.entries[0]));
		found.entries[found.count++] =
			(struct plane_store_revocation){ .backend = plane_db_text_copy(row, 0),
				.user = plane_db_text_copy(row, 1) };
	}
	pthread_mutex_unlock(&db->mutex);
	if (result < 0)
		plane_store_revocations_finish(&found);
	else
		*revocations = found;
	return result;
}

int plane_sqlite_delete_batch(struct plane_store *base, const char *sql, int64_t age_ms, int batch,
	int64_t *removed, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	int64_t changed = 0;
	if (plane_db_begin(&store->writer, err) < 0)
		return err->code;
	int result = plane_db_run(&store->writer, &changed, err, sql, "ii",
		plane_sqlite_now(store) - age_ms, (int64_t)batch);
	result = plane_db_end(&store->writer, result, err);
	if (result == 0)
		*removed = changed;
	return result;
}

int plane_sqlite_cleanup_tokens(
	struct plane_store *base, int batch, int64_t *removed, struct plane_error *err)
{
	return plane_sqlite_delete_batch(base,
		"DELETE FROM token WHERE token IN (SELECT token FROM token WHERE expires_at <= ? "
		"ORDER BY expires_at LIMIT ?)",
		0, batch, removed, err);
}

int plane_sqlite_cleanup_revocations(
	struct plane_store *base, int batch, int64_t *removed, struct plane_error *err)
{
	return plane_sqlite_delete_batch(base,
		"DELETE FROM revocation WHERE id IN (SELECT id FROM revocation WHERE created_at < "
		"? ORDER BY created_at LIMIT ?)",
		PLANE_STORE_REVOCATIONS_KEPT_MS, batch, removed, err);
}

/* No lease of a drone is NULL. */
static int64_t or_null(int64_t epoch)
{
	return epoch ? epoch : -1;
}

static int insert_backend(struct plane_sqlite_store *store, const struct plane_store_spawn *spawn,
	int64_t now, struct plane_error *err)
{
	struct plane_backend_state state = { .status = PLANE_SCHEDULED };
	int64_t lifetime_ends_at =
		spawn->lifetime_limit_seconds < 0 ? -1 : now + spawn->lifetime_limit_seconds * 1000;
	int64_t max_idle_ms = spawn->max_idle_seconds < 0 ? -1 : spawn->max_idle_seconds * 1000;
	int result = plane_db_run(&store->writer, NULL, err,
		"INSERT INTO backend (id, cluster, drone_id, key_namespace, key_name, key_tag, "
		"status, state, state_at, created_at, last_keepalive_at, lifetime_ends_at, "
		"max_idle_ms, subdomain, static_token, lease_epoch, memory_bytes, cpu_millis) "
		"VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, '', ?7, ?7, ?7, ?8, ?9, ?10, ?11, ?12, ?13, "
		"?14)",
		"ttitttioottoii", spawn->backend, spawn->cluster, spawn->drone_id,
		spawn->key_namespace, spawn->key_name, spawn->key_tag, now, lifetime_ends_at,
		max_idle_ms, spawn->subdomain, spawn->static_token, or_null(spawn->lease_epoch),
		spawn->resources.memory_bytes, spawn->resources.cpu_millis);
	return result < 0 ? result
			  : plane_sqlite_put_state(store, spawn->backend, &state, now, err);
}

int plane_sqlite_check_drone(
	struct plane_sqlite_store *store, int64_t drone_id, int64_t epoch, struct plane_error *err)
{
	sqlite3_stmt *row = plane_db_query(&store->writer, err,
		"SELECT 1 FROM drone WHERE id = ?1 AND NOT is_draining AND CASE WHEN "
		"is_lease_granted THEN lease_epoch ELSE 0 END = ?2",
		"ii", drone_id, epoch);
	int result = row ? plane_db_next(&store->writer, row, err) : err->code;
	if (result == 0)
		return plane_error_set(
			err, -ESTALE, "the drone drains, or its lease is another one");
	if (result > 0)
		plane_db_done(row);
	return result < 0 ? result : 0;
}

int plane_sqlite_put_fencing_token(
	struct plane_sqlite_store *store, int64_t token, struct plane_error *err)
{
	return plane_db_run(&store->writer, NULL, err,
		"INSERT INTO meta VALUES ('fencing_last', ?) ON CONFLICT DO UPDATE SET value = "
		"excluded.value",
		"i", token);
}

static int remove_expired(struct plane_sqlite_store *store, const struct plane_store_spawn *spawn,
	int64_t now, struct plane_error *err)
{
	return plane_db_run(&store->writer, NULL, err,
		"DELETE FROM backend_key AS k WHERE namespace = ?1 AND name = ?2 AND NOT "
		"(" PLANE_SQLITE_KEY_IS_LIVE("?3") ")",
		"tti", spawn->key_namespace, spawn->key_name, now);
}

static int insert_all(struct plane_sqlite_store *store, const struct plane_store_spawn *spawn,
	int64_t now, int64_t fencing_token, const char *message, struct plane_error *err)
{
	struct plane_db *db = &store->writer;
	if (plane_sqlite_check_drone(store, spawn->drone_id, spawn->lease_epoch, err) < 0 ||
		remove_expired(store, spawn, now, err) < 0 ||
		insert_backend(store, spawn, now, err) < 0 ||
		plane_db_run(db, NULL, err,
			"INSERT INTO backend_key (namespace, name, tag, backend, expires_at, "
			"fencing_token, drone_id, lease_epoch) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			"ttttiiio", spawn->key_namespace, spawn->key_name, spawn->key_tag,
			spawn->backend, now + spawn->lease_ms, fencing_token, spawn->drone_id,
			or_null(spawn->lease_epoch)) < 0 ||
		plane_db_run(db, NULL, err,
			"INSERT INTO action (id, backend, drone_id, kind, message) VALUES (?, ?, "
			"?, "
			"'spawn', ?)",
			"ttit", spawn->action_id, spawn->backend, spawn->drone_id, message) < 0 ||
		plane_sqlite_put_fencing_token(store, fencing_token, err) < 0)
		return err->code;
	return spawn->token ? insert_token(store, spawn->token, err) : 0;
}

int plane_sqlite_spawn(struct plane_store *base, const struct plane_store_spawn *spawn,
	struct plane_store_spawned *spawned, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	struct plane_db *db = &store->writer;
	int64_t fencing_token = 0;
	pthread_mutex_lock(&db->mutex);
	int result = plane_sqlite_next_fencing_token(store, &fencing_token, err);
	pthread_mutex_unlock(&db->mutex);
	if (result < 0 || plane_db_begin(db, err) < 0)
		return err->code;
	int64_t now = plane_sqlite_now(store);
	struct plane_drone_order order = plane_store_spawn_order(spawn);
	order.fencing_token = fencing_token;
	_cleanup_free_ char *text = plane_store_order_text(&order);
	result = plane_db_end(db, insert_all(store, spawn, now, fencing_token, text, err), err);
	if (result == 0)
		*spawned = (struct plane_store_spawned){ STEAL(text), fencing_token, now };
	return result;
}

static int read_route(sqlite3_stmt *row, struct plane_store_route *route, struct plane_error *err)
{
	if (plane_store_read_state(plane_db_text(row, 0), &route->state, err) < 0)
		return err->code;
	if (sqlite3_column_type(row, 6) != SQLITE_NULL) {
		const char *auth = plane_db_text(row, 6);
		route->auth = plane_json_parse(auth, strlen(auth), err);
		if (!route->auth)
			return err->code;
	}
	route->backend = plane_db_text_copy(row, 1);
	route->cluster = plane_db_text_copy(row, 2);
	route->subdomain = plane_db_text_copy(row, 3);
	route->secret_token = plane_db_text_copy(row, 4);
	route->user = plane_db_text_copy(row, 5);
	return 0;
}

int plane_sqlite_route_find(struct plane_store *base, const char *token, bool *is_found,
	struct plane_store_route *route, struct plane_error *err)
{
	struct plane_sqlite_store *store = PLANE_SQLITE_STORE(base);
	struct plane_db *db = &store->reader;
	struct plane_store_route found = { 0 };
	pthread_mutex_lock(&db->mutex);
	sqlite3_stmt *row =
		plane_token_is_static(token, strlen(token))
			? plane_db_query(db, err,
				  "SELECT state, id, cluster, subdomain, NULL, NULL, NULL FROM "
				  "backend "
				  "WHERE static_token = ?",
				  "t", token)
			: plane_db_query(db, err,
				  "SELECT state, id, cluster, subdomain, secret_token, user, auth "
				  "FROM "
				  "token JOIN backend ON backend.id = backend WHERE token = ? AND "
				  "expires_at > ?",
				  "ti", token, plane_sqlite_now(store));
	int result = row ? plane_db_next(db, row, err) : err->code;
	bool has_row = result == 1;
	if (has_row) {
		result = read_route(row, &found, err);
		plane_db_done(row);
	}
	pthread_mutex_unlock(&db->mutex);
	if (result < 0)
		return result;
	*is_found = has_row;
	if (has_row)
		*route = found;
	return 0;
}
