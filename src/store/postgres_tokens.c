/* Connection tokens and where they lead. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "store/postgres.h"

int plane_postgres_token_create(
	struct plane_store *base, const struct plane_store_token *token, struct plane_error *err)
{
	_cleanup_free_ char *auth = plane_json_dump(token->auth);
	int64_t made = 0;
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, NULL, &made, err,
		"INSERT INTO token (token, secret_token, backend, username, auth, expires_at) "
		"SELECT $1, $2, id, $4, $5, now_ms() + $6 FROM backend WHERE id = $3",
		"ttttti", token->token, token->secret_token, token->backend, token->user, auth,
		token->lifetime_ms);
	if (result == 0 && made == 0)
		return plane_error_set(err, -ENOENT, "there is no backend %s", token->backend);
	return result;
}

/* What was revoked is told to the other controllers' proxies whatever is known of the backend: the
 * token may have expired meanwhile, a failover may have forgotten it, its end may not have reached
 * the proxy; and a tunnel that was opened with it may still be open. */
int plane_postgres_token_revoke(
	struct plane_store *base, const char *backend, const char *user, struct plane_error *err)
{
	return plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, NULL, NULL, err,
		"WITH gone AS (DELETE FROM token WHERE backend = $1 AND username = $2) "
		"INSERT INTO revocation (backend, username, created_at) VALUES ($1, $2, now_ms())",
		"tt", backend, user);
}

int plane_postgres_revocations(struct plane_store *base, int64_t since_ms,
	struct plane_store_revocations *revocations, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		"SELECT backend, username FROM revocation WHERE created_at >= now_ms() - $1 ORDER "
		"BY id",
		"i", since_ms);
	if (result < 0)
		return result;
	int count = PQntuples(rows);
	*revocations = (struct plane_store_revocations){ .count = (size_t)count,
		.entries = plane_alloc_zero((size_t)count + 1, sizeof(revocations->entries[0])) };
	for (int i = 0; i < count; i++)
		revocations->entries[i] =
			(struct plane_store_revocation){ .backend = plane_pg_text_copy(rows, i, 0),
				.user = plane_pg_text_copy(rows, i, 1) };
	return 0;
}

/* Controllers that clean up at the same time share the work. A list of what to delete is found by
 * the index of the key, whatever the tables were like when that was planned. */
static int delete_batch(struct plane_store *base, const char *sql, int64_t before_ms, int batch,
	int64_t *removed, struct plane_error *err)
{
	return plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, NULL, removed, err, sql, "ii",
		before_ms, (int64_t)batch);
}

int plane_postgres_cleanup_tokens(
	struct plane_store *base, int batch, int64_t *removed, struct plane_error *err)
{
	return delete_batch(base,
		"DELETE FROM token WHERE token = ANY (ARRAY(SELECT token FROM token WHERE "
		"expires_at <= now_ms() - $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
		0, batch, removed, err);
}

int plane_postgres_cleanup_revocations(
	struct plane_store *base, int batch, int64_t *removed, struct plane_error *err)
{
	return delete_batch(base,
		"DELETE FROM revocation WHERE id = ANY (ARRAY(SELECT id FROM revocation WHERE "
		"created_at < now_ms() - $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
		PLANE_STORE_REVOCATIONS_KEPT_MS, batch, removed, err);
}

static int read_route(
	const PGresult *rows, struct plane_store_route *route, struct plane_error *err)
{
	if (plane_store_read_state(plane_pg_text(rows, 0, 0), &route->state, err) < 0)
		return err->code;
	if (!PQgetisnull(rows, 0, 6)) {
		const char *auth = plane_pg_text(rows, 0, 6);
		route->auth = plane_json_parse(auth, strlen(auth), err);
		if (!route->auth)
			return err->code;
	}
	route->backend = plane_pg_text_copy(rows, 0, 1);
	route->cluster = plane_pg_text_copy(rows, 0, 2);
	route->subdomain = plane_pg_text_copy(rows, 0, 3);
	route->secret_token = plane_pg_text_copy(rows, 0, 4);
	route->user = plane_pg_text_copy(rows, 0, 5);
	return 0;
}

static const char find_static[] =
	"SELECT state, id, cluster, subdomain, NULL, NULL, NULL FROM backend WHERE static_token = "
	"$1";
static const char find_dynamic[] =
	"SELECT state, id, cluster, subdomain, secret_token, username, auth FROM token JOIN "
	"backend "
	"ON backend.id = backend WHERE token = $1 AND expires_at > now_ms()";

int plane_postgres_route_find(struct plane_store *base, const char *token, bool *is_found,
	struct plane_store_route *route, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	struct plane_store_route found = { 0 };
	bool is_static = plane_token_is_static(token, strlen(token));
	int result = plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, &rows, NULL, err,
		is_static ? find_static : find_dynamic, "t", token);
	bool has_row = result == 0 && PQntuples(rows) > 0;
	if (has_row)
		result = read_route(rows, &found, err);
	if (result < 0)
		return result;
	*is_found = has_row;
	if (has_row)
		*route = found;
	return 0;
}
