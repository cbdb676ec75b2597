/* Opening the store: schema, and what the functions of the other files are. */
#include "store/postgres.h"

#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "postgres_schema.h"

#define SCHEMA_VERSION 1
#define MIGRATE_TIMEOUT_MS 600000
static int begin_watching(
	struct plane_postgres_store *store, int64_t *since_ms, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	long long outages = atomic_load(&store->pool.outages);
	int result = plane_pg_pool_run(&store->pool, &rows, NULL, err, "SELECT now_ms()", "");
	if (result < 0)
		return result;
	*since_ms = plane_pg_int(rows, 0, 0);
	atomic_store(&store->watching_since_ms, *since_ms);
	atomic_store(&store->outages_seen, outages);
	return 0;
}

int plane_postgres_watching_since(
	struct plane_postgres_store *store, int64_t *since_ms, struct plane_error *err)
{
	if (atomic_load(&store->outages_seen) != atomic_load(&store->pool.outages))
		return begin_watching(store, since_ms, err);
	*since_ms = atomic_load(&store->watching_since_ms);
	return 0;
}

/* ---- the schema ---- */

/* 0: there is none. */
static int read_version(struct plane_pg *pg, int64_t *version, struct plane_error *err)
{
	_cleanup_rows_ PGresult *present = NULL, *rows = NULL;
	*version = 0;
	int result =
		plane_pg_run(pg, &present, NULL, err, "SELECT to_regclass('meta') IS NOT NULL", "");
	if (result < 0 || !plane_pg_bool(present, 0, 0))
		return result;
	result = plane_pg_run(
		pg, &rows, NULL, err, "SELECT value FROM meta WHERE name = 'schema_version'", "");
	if (result == 0 && PQntuples(rows) == 0)
		result = plane_error_set(err, -ENOTSUP,
			"the database has a table meta that is not plane's: use another database");
	if (result == 0)
		*version = plane_pg_int(rows, 0, 0);
	return result;
}

static int check_known(int64_t version, struct plane_error *err)
{
	if (version > SCHEMA_VERSION)
		return plane_error_set(err, -ENOTSUP,
			"the database has schema version %lld, this plane knows %d: use a newer "
			"plane",
			(long long)version, SCHEMA_VERSION);
	return 0;
}

int plane_postgres_check_version(struct plane_pg *pg, struct plane_error *err)
{
	int64_t version = 0;
	if (read_version(pg, &version, err) < 0 || check_known(version, err) < 0)
		return err->code;
	if (version == 0)
		return plane_error_set(err, -ENOTSUP, "there is no store in the database");
	if (version < SCHEMA_VERSION)
		return plane_error_set(err, -ENOTSUP,
			"the database has schema version %lld, this plane's is %d: bring it up to "
			"date with `plane migrate` first",
			(long long)version, SCHEMA_VERSION);
	return 0;
}

/* The lock is the session's, as the time limit of a statement would end the wait for it. */
static int upgrade(struct plane_pg *pg, struct plane_error *err)
{
	int64_t version = 0;
	int result = plane_pg_script(pg,
		"SET statement_timeout = 0; SET lock_timeout = 0; SELECT "
		"pg_advisory_lock(" PLANE_POSTGRES_LOCK ")",
		MIGRATE_TIMEOUT_MS, err);
	if (result == 0)
		result = read_version(pg, &version, err);
	if (result == 0)
		result = check_known(version, err);
	if (result == 0 && version == 0)
		result = plane_pg_script(
			pg, "BEGIN;" PLANE_POSTGRES_SCHEMA "COMMIT", MIGRATE_TIMEOUT_MS, err);
	return result;
}

static int check_server(void *data, struct plane_pg *pg, struct plane_error *err)
{
	const struct plane_postgres_store *store = data;
	return plane_postgres_check_server(pg, store->are_standbys_synchronous, err);
}

/* The connection that changes the schema is its own: whatever became of lock and settings ends with
 * it. A user who may change nothing can run a controller on a schema that is up to date. */
int plane_postgres_migrate(struct plane_store *base, struct plane_error *err)
{
	struct plane_postgres_store *store = PLANE_POSTGRES_STORE(base);
	struct plane_pg own = { 0 };
	int64_t version = 0, since_ms;
	int result = plane_pg_connect(
		&own, store->pool.url, store->pool.origin, store->pool.statistics, err);
	if (result == 0)
		result = read_version(&own, &version, err);
	if (result == 0)
		result = check_known(version, err);
	if (result == 0 && version < SCHEMA_VERSION)
		result = upgrade(&own, err);
	if (result == 0)
		result = check_server(store, &own, err);
	plane_pg_close(&own);
	store->pool.on_connected = store->lease_pool.on_connected = check_server;
	store->pool.on_connected_data = store->lease_pool.on_connected_data = store;
	if (result == 0)
		result = begin_watching(store, &since_ms, err);
	return result < 0 ? plane_error_prefix(err, "migrate") : 0;
}

/* ---- the store ---- */

static void trust_standbys(struct plane_store *base)
{
	PLANE_POSTGRES_STORE(base)->are_standbys_synchronous = true;
}

static int ping(struct plane_store *base, struct plane_error *err)
{
	return plane_pg_pool_run(&PLANE_POSTGRES_STORE(base)->pool, NULL, NULL, err,
		"SELECT 1 FROM meta LIMIT 1", "");
}

/* Everything is durable when it returns, as far as the server's settings go. */
static int sync_store(struct plane_store *base, struct plane_error *err)
{
	(void)base;
	(void)err;
	return 0;
}

static void statistics(struct plane_store *base, struct plane_store_statistics *statistics)
{
	struct plane_pg_statistics *from = PLANE_POSTGRES_STORE(base)->pool.statistics;
	*statistics = (struct plane_store_statistics){ .statements = atomic_load(&from->statements),
		.round_trips = atomic_load(&from->round_trips),
		.connections = atomic_load(&from->connections),
		.failures = atomic_load(&from->failures) };
}

static void close_store(struct plane_store *base)
{
	struct plane_postgres_store *store = PLANE_POSTGRES_STORE(base);
	plane_postgres_lists_finish(&store->lists);
	plane_pg_group_finish(&store->group);
	plane_pg_pool_close(&store->lease_pool);
	plane_pg_pool_close(&store->pool);
	free(store);
}

static const struct plane_store_impl postgres_impl = {
	.close = close_store,
	.trust_standbys = trust_standbys,
	.migrate = plane_postgres_migrate,
	.ping = ping,
	.sync = sync_store,
	.statistics = statistics,
	.controller_heartbeat = plane_postgres_controller_heartbeat,
	.controller_offline = plane_postgres_controller_offline,
	.node_connected = plane_postgres_node_connected,
	.node_disconnected = plane_postgres_node_disconnected,
	.registrations_check = plane_postgres_registrations_check,
	.node_controller = plane_postgres_node_controller,
	.address_owner = plane_postgres_address_owner,
	.drone_heartbeat = plane_postgres_drone_heartbeat,
	.drone_drain = plane_postgres_drone_drain,
	.member_list = plane_postgres_member_list,
	.leases_find = plane_postgres_leases_find,
	.recovery_end = plane_postgres_recovery_end,
	.drone_reconciled = plane_postgres_drone_reconciled,
	.leases_renew = plane_postgres_leases_renew,
	.lease_break = plane_postgres_lease_break,
	.running_check = plane_postgres_running_check,
	.connect = plane_postgres_connect,
	.keys_renew = plane_postgres_keys_renew,
	.token_create = plane_postgres_token_create,
	.token_revoke = plane_postgres_token_revoke,
	.revocations = plane_postgres_revocations,
	.spawn = plane_postgres_spawn,
	.refused_find = plane_postgres_refused_find,
	.move = plane_postgres_move,
	.backend_find = plane_postgres_backend_find,
	.backend_update = plane_postgres_backend_update,
	.backends_keep_alive = plane_postgres_backends_keep_alive,
	.backend_history = plane_postgres_backend_history,
	.route_find = plane_postgres_route_find,
	.backend_list = plane_postgres_backend_list,
	.key_list = plane_postgres_key_list,
	.actions_pending = plane_postgres_actions_pending,
	.actions_ack = plane_postgres_actions_ack,
	.terminate = plane_postgres_terminate,
	.sweep_candidates = plane_postgres_sweep_candidates,
	.mark_lost = plane_postgres_mark_lost,
	.mark_broken = plane_postgres_mark_broken,
	.feed_open = plane_postgres_feed_open,
	.cleanup_nodes = plane_postgres_cleanup_nodes,
	.cleanup_tokens = plane_postgres_cleanup_tokens,
	.cleanup_revocations = plane_postgres_cleanup_revocations,
	.cleanup_backends = plane_postgres_cleanup_backends,
	.cert_lease = plane_postgres_cert_lease,
	.cert_set_txt = plane_postgres_cert_set_txt,
	.cert_release = plane_postgres_cert_release,
	.cert_get_txt = plane_postgres_cert_get_txt,
};

struct plane_store *plane_postgres_store_open(const char *url, struct plane_error *err)
{
	struct plane_postgres_store *store = PLANE_NEW(struct plane_postgres_store);
	store->base.impl = &postgres_impl;
	if (plane_pg_pool_open(&store->pool, url, err) < 0) {
		(void)plane_error_prefix(err, "open the store");
		free(store);
		return NULL;
	}
	plane_pg_pool_open_beside(&store->lease_pool, &store->pool);
	plane_pg_group_init(&store->group, &store->pool);
	plane_postgres_lists_init(&store->lists);
	return &store->base;
}
