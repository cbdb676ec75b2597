/* What only the store in PostgreSQL does: fencing tokens after a change of server, transactions
 * that are rolled back for the sake of others or shared with them, plans. */
#include "../cmocka_all.h"
#include "postgres_server.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "base/alloc.h"
#include "base/json.h"
#include "store/postgres.h"
#include "store/store.h"

static struct plane_store *store;
static struct plane_error err;
static int64_t drone;
static int number;

static int set_up(void **state)
{
	(void)state;
	number = 0;
	postgres_server_run("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
	store = plane_store_open(postgres_server_url(), &err);
	struct plane_store_node node = { .kind = PLANE_NODE_DRONE,
		.name = "dr-a",
		.cluster = "c:1",
		.controller = "co-a",
		.pool = "" };
	int64_t connection;
	assert_non_null(store);
	assert_int_equal(plane_store_migrate(store, &err), 0);
	assert_int_equal(plane_store_node_connected(store, &node, &drone, &connection, &err), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	plane_store_close(store);
	return 0;
}

/* Gives the fencing token of a new backend, or the error. */
static int64_t spawn(const char *backend)
{
	_cleanup_json_ json_t *executable = json_pack("{s:s}", "image", "echo");
	_cleanup_free_ char *action = plane_strdupf("ak-%d", number++);
	struct plane_store_spawned spawned = { 0 };
	struct plane_store_spawn order = { .backend = backend,
		.cluster = "c:1",
		.drone_id = drone,
		.key_name = backend,
		.key_namespace = "",
		.key_tag = "",
		.is_key_new = true, /* also of another server */
		.lifetime_limit_seconds = -1,
		.max_idle_seconds = -1,
		.action_id = action,
		.executable = executable,
		.lease_ms = 60000 };
	int result = plane_store_spawn(store, &order, &spawned, &err);
	free(spawned.message);
	return result < 0 ? result : spawned.fencing_token;
}

static void close_all_connections(void)
{
	postgres_server_run("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE "
			    "application_name = 'plane'");
}

/* ---- another server ---- */

/* It has forgotten many tokens, and its clock is late: neither counts. */
static void fencing_tokens_jump_ahead_on_another_timeline(void **state)
{
	(void)state;
	int64_t last = spawn("b1"), first;
	postgres_server_run("SELECT setval('fencing_token', last_value - 100000) FROM "
			    "fencing_token; UPDATE meta SET value = value + 1 WHERE name = "
			    "'timeline'; CREATE OR REPLACE FUNCTION now_ms() RETURNS bigint "
			    "LANGUAGE sql STABLE AS 'SELECT 1700000000000'");
	close_all_connections();
	first = spawn("b2");
	assert_true(first > last + 500000000);
	close_all_connections();
	assert_int_equal(spawn("b3"), first + 1);
}

static void fencing_tokens_jump_ahead_in_a_restored_dump(void **state)
{
	(void)state;
	int64_t last = spawn("b1");
	postgres_server_run("UPDATE meta SET value = 7 WHERE name = 'system_identifier'");
	close_all_connections();
	assert_true(spawn("b2") > last + 500000000);
}

/* A copy of the server's files is the same server by all that it says of itself. */
static void fencing_tokens_are_not_behind_the_time_on_a_new_connection(void **state)
{
	(void)state;
	int64_t last = spawn("b1");
	postgres_server_run("SELECT setval('fencing_token', last_value - 3600000) FROM "
			    "fencing_token");
	close_all_connections();
	assert_true(spawn("b2") > last);
}

/* ---- transactions that are rolled back ---- */

/* Lets the next `count` changes of `table` fail with `code`, as a deadlock does; sequences do not
 * forget. */
static void fail_changes(const char *table, const char *event, const char *code, int count)
{
	_cleanup_free_ char *sql = plane_strdupf(
		"CREATE SEQUENCE IF NOT EXISTS failures; SELECT setval('failures', 1, false); "
		"CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
		"IF nextval('failures') <= %d THEN RAISE EXCEPTION 'rolled back' USING ERRCODE = "
		"'%s'; END IF; RETURN NEW; END $$; CREATE TRIGGER fail BEFORE %s ON %s FOR EACH "
		"ROW EXECUTE FUNCTION fail()",
		count, code, event, table);
	postgres_server_run(sql);
}

static int report_ready(struct plane_store_report reports[2], struct plane_backend_state *ready)
{
	*ready = (struct plane_backend_state){ .status = PLANE_READY, .address = "10.0.0.1:80" };
	reports[0] = (struct plane_store_report){ .backend = "b1", .state = ready };
	reports[1] = (struct plane_store_report){ .backend = "b2", .state = ready };
	return plane_store_backend_update(store, drone, reports, 2, &err);
}

static void a_deadlock_is_tried_again(void **state)
{
	(void)state;
	struct plane_store_report reports[2];
	struct plane_backend_state ready;
	assert_true(spawn("b1") > 0 && spawn("b2") > 0);
	fail_changes("backend", "UPDATE", "40P01", 2);
	assert_int_equal(report_ready(reports, &ready), 0);
	assert_true(reports[0].is_changed && reports[1].is_changed);
}

static void a_serialization_failure_is_tried_again(void **state)
{
	(void)state;
	int64_t drone_id;
	_cleanup_free_ char *message = NULL;
	assert_true(spawn("b1") > 0);
	fail_changes("action", "INSERT", "40001", 1);
	assert_true(spawn("b2") > 0);
	postgres_server_run("DROP TRIGGER fail ON action");
	fail_changes("action", "INSERT", "40001", 2);
	assert_int_equal(plane_store_terminate(store, "b1", "ak-end", PLANE_KIND_SOFT,
				 PLANE_REASON_EXTERNAL, &drone_id, &message, &err),
		0);
	assert_non_null(message);
}

static void a_transaction_that_is_rolled_back_each_time_fails_as_a_whole(void **state)
{
	(void)state;
	struct plane_store_report reports[2];
	struct plane_backend_state ready;
	struct plane_store_backend found;
	assert_true(spawn("b1") > 0 && spawn("b2") > 0);
	fail_changes("backend", "UPDATE", "40P01", 3);
	assert_int_equal(report_ready(reports, &ready), -EAGAIN);
	assert_int_equal(err.code, -EAGAIN);
	assert_int_equal(plane_store_backend_find(store, "b1", &found, &err), 0);
	assert_int_equal(found.state.status, PLANE_SCHEDULED);
}

/* ---- calls that share a transaction ---- */

#define CALLERS 16
#define CALLS_EACH 40

struct caller {
	pthread_t thread;
	int number, wrong;
};

/* Each call's own outcome: a token for its own backend, a failure where the database refuses it. */
static void *connect_often(void *data)
{
	struct caller *caller = data;
	_cleanup_json_ json_t *auth = json_object();
	const char *backend = caller->number % 2 ? "b1" : "b2";
	for (int i = 0; i < CALLS_EACH; i++) {
		bool is_refused = i % 5 == 0;
		char name[32];
		struct plane_error own = { 0 };
		snprintf(name, sizeof(name), "%s-%d-%d", is_refused ? "bad" : "good",
			caller->number, i);
		struct plane_store_token token = {
			.token = name, .secret_token = "secret", .auth = auth, .lifetime_ms = 60000
		};
		struct plane_store_connect look = {
			.key_namespace = "", .key_name = backend, .key_tag = "", .token = &token
		};
		struct plane_store_connection found = { 0 };
		int result = plane_store_connect(store, &look, &found, &own);
		if (is_refused)
			caller->wrong += result != -EIO || !strstr(own.message, name);
		else
			caller->wrong += result != 0 || !found.has_token ||
					 strcmp(found.key.backend, backend) != 0;
		plane_store_drones_finish(&found.drones);
	}
	return NULL;
}

static void check_routes(void)
{
	for (int i = 0; i < CALLERS * CALLS_EACH; i++) {
		int caller_number = i / CALLS_EACH, call = i % CALLS_EACH;
		char name[32];
		struct plane_store_route route;
		bool is_found = false, is_refused = call % 5 == 0;
		snprintf(name, sizeof(name), "%s-%d-%d", is_refused ? "bad" : "good", caller_number,
			call);
		assert_int_equal(plane_store_route_find(store, name, &is_found, &route, &err), 0);
		assert_int_equal(is_found, !is_refused);
		if (is_found) {
			assert_string_equal(route.backend, caller_number % 2 ? "b1" : "b2");
			plane_store_route_finish(&route);
		}
	}
}

static void connects_that_share_a_transaction_have_their_own_outcomes(void **state)
{
	(void)state;
	struct caller callers[CALLERS] = { 0 };
	struct plane_store_statistics before, after;
	assert_true(spawn("b1") > 0 && spawn("b2") > 0);
	postgres_server_run(
		"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE "
		"EXCEPTION '% is refused', NEW.token USING ERRCODE = '23514'; END $$; CREATE "
		"TRIGGER refuse BEFORE INSERT ON token FOR EACH ROW WHEN (NEW.token LIKE 'bad%') "
		"EXECUTE FUNCTION refuse()");
	plane_store_statistics(store, &before);
	for (int i = 0; i < CALLERS; i++) {
		callers[i].number = i;
		assert_int_equal(
			pthread_create(&callers[i].thread, NULL, connect_often, &callers[i]), 0);
	}
	for (int i = 0; i < CALLERS; i++) {
		pthread_join(callers[i].thread, NULL);
		assert_int_equal(callers[i].wrong, 0);
	}
	plane_store_statistics(store, &after);
	assert_true(after.round_trips - before.round_trips < after.statements - before.statements);
	check_routes();
}

/* ---- plans ---- */

/* They are made when the tables are empty and kept while these grow. */
static void statements_find_their_rows_by_indexes(void **state)
{
	(void)state;
	struct plane_store_report reports[2];
	struct plane_backend_state ready, ended = { .status = PLANE_TERMINATED };
	struct plane_store_connection found = { 0 };
	struct plane_store_connect look = { .key_namespace = "", .key_name = "b1", .key_tag = "" };
	struct plane_store_sweep sweep = { 0 };
	const char *const actions[] = { "ak-0", "ak-1" }, *const backends[] = { "b1" };
	bool is_alive[1];
	close_all_connections();
	postgres_server_run("SELECT pg_stat_reset()"); /* what made the indexes is not meant */
	assert_true(spawn("b1") > 0 && spawn("b2") > 0);
	assert_int_equal(report_ready(reports, &ready), 0);
	assert_int_equal(plane_store_actions_ack(store, actions, 2, drone, &err), 0);
	assert_int_equal(plane_store_connect(store, &look, &found, &err), 0);
	plane_store_drones_finish(&found.drones);
	assert_int_equal(plane_store_backends_keep_alive(store, backends, 1, is_alive, &err), 0);
	assert_int_equal(plane_store_sweep_candidates(store, drone, &sweep, &err), 0);
	plane_store_sweep_finish(&sweep);
	reports[0].state = &ended;
	assert_int_equal(plane_store_backend_update(store, drone, reports, 1, &err), 0);
	close_all_connections(); /* then all is counted */
	postgres_server_run(
		"DO $$ DECLARE read text; BEGIN SELECT string_agg(relname, ' ') INTO read FROM "
		"pg_stat_user_tables WHERE seq_scan > 0 AND relname IN ('backend', 'backend_key', "
		"'backend_state', 'action', 'token', 'node', 'drone'); IF read IS NOT NULL THEN "
		"RAISE EXCEPTION 'read as a whole: %', read; END IF; END $$");
}

/* What is kept of a plan is the worst: made when the tables were empty, or when they were full. */
static void plan_and_fill(bool is_planned_first, void (*run)(void), const char *fill)
{
	if (is_planned_first)
		run();
	postgres_server_run(fill);
	postgres_server_run("ANALYZE");
	if (!is_planned_first)
		close_all_connections();
	postgres_server_run("SELECT pg_stat_reset()");
	run();
	close_all_connections(); /* then all is counted */
}

/* Rows and entries of indexes that were read of `table`. */
static void assert_read_at_most(const char *table, int count)
{
	_cleanup_free_ char *sql = plane_strdupf(
		"DO $$ DECLARE found bigint; scans bigint; BEGIN SELECT t.seq_tup_read + "
		"sum(i.idx_tup_read), sum(i.idx_scan) INTO found, scans FROM pg_stat_user_tables t "
		"JOIN pg_stat_user_indexes i USING (relid) "
		"WHERE t.relname = '%s' GROUP BY t.seq_tup_read; IF found > %d THEN RAISE "
		"EXCEPTION 'read of %s: %%', found; END IF; IF scans = 0 THEN RAISE EXCEPTION "
		"'nothing was counted'; END IF; END $$",
		table, count, table);
	postgres_server_run(sql);
}

#define OLD_BATCH 20
static const char old_rows[] =
	"INSERT INTO token SELECT 't' || n, 's', 'b' || n, 'u', '{}', n FROM generate_series(1, "
	"20000) n; "
	"INSERT INTO revocation (backend, username, created_at) SELECT 'b' || n, 'u', n FROM "
	"generate_series(1, 20000) n; "
	"INSERT INTO backend (id, cluster, drone_id, key_namespace, key_name, key_tag, status, "
	"state, state_at, created_at, last_keepalive_at) SELECT 'b' || n, 'c:1', 1, '', 'k', '', "
	"70, '{}', n, n, n FROM generate_series(1, 20000) n; "
	"INSERT INTO backend_state (backend, state, created_at) SELECT id, '{}', 1 FROM backend";

static int64_t removed[3];

static void remove_a_batch(void)
{
	assert_int_equal(plane_store_cleanup_tokens(store, OLD_BATCH, &removed[0], &err), 0);
	assert_int_equal(plane_store_cleanup_revocations(store, OLD_BATCH, &removed[1], &err), 0);
	assert_int_equal(plane_store_cleanup_backends(store, 1, OLD_BATCH, &removed[2], &err), 0);
}

static void cleanup_reads_a_batch_of_what_is_old(void **state)
{
	static const char *const tables[] = { "token", "revocation", "backend", "backend_state" };
	(void)state;
	for (int is_planned_first = 0; is_planned_first <= 1; is_planned_first++) {
		plan_and_fill(is_planned_first, remove_a_batch, old_rows);
		for (int i = 0; i < 3; i++)
			assert_int_equal(removed[i], OLD_BATCH);
		for (int i = 0; i < 4; i++)
			assert_read_at_most(tables[i], 4 * OLD_BATCH);
		postgres_server_run("TRUNCATE token, revocation, backend CASCADE");
	}
}

/* Of two that clean up at the same time, none waits for the other's transaction. */
static void cleanup_leaves_what_another_one_removes(void **state)
{
	PGconn *other = PQconnectdb(postgres_server_url());
	(void)state;
	postgres_server_run(old_rows);
	PQclear(PQexec(other, "BEGIN"));
	PQclear(PQexec(other, "DELETE FROM token WHERE expires_at <= 30"));
	PQclear(PQexec(other, "DELETE FROM revocation WHERE created_at <= 30"));
	PQclear(PQexec(other, "DELETE FROM backend WHERE state_at <= 30"));
	assert_int_equal(PQtransactionStatus(other), PQTRANS_INTRANS);
	remove_a_batch();
	for (int i = 0; i < 3; i++)
		assert_int_equal(removed[i], OLD_BATCH);
	PQclear(PQexec(other, "COMMIT"));
	PQfinish(other);
	postgres_server_run("DO $$ BEGIN IF (SELECT count(*) FROM backend WHERE state_at <= 50) "
			    "> 0 THEN RAISE EXCEPTION 'not the oldest'; END IF; END $$");
}

/* Two clusters, one of them and all that is said of it rare. */
static const char many_rows[] =
	"INSERT INTO node (kind, cluster, name, connection_id, version, git_hash, ip, seen_at) "
	"SELECT "
	"'Drone', 'c:' || 1 + n / 9, 'dr-' || n, 1, '', '', '', 1 FROM generate_series(1, 9) n; "
	"INSERT INTO drone (id, cluster, pool, is_ready, is_draining) SELECT id, cluster, '', "
	"true, "
	"false FROM node WHERE name <> 'dr-a'; "
	"INSERT INTO backend (id, cluster, drone_id, key_namespace, key_name, key_tag, status, "
	"state, state_at, created_at, last_keepalive_at) SELECT 'b' || md5(n::text), 'c:' || 1 + "
	"(n "
	"% 10000 = 0)::int, (SELECT id FROM node WHERE name = 'dr-' || CASE WHEN n % 10000 = 0 "
	"THEN "
	"9 ELSE 1 + n % 8 END), 'n' || n, CASE WHEN n % 10000 = 0 THEN 'rare' ELSE 'k' END, '', "
	"CASE WHEN n % 10000 = 0 THEN 20 WHEN n % 2 = 0 THEN 50 ELSE 70 END, "
	"'{\"status\":\"scheduled\"}', n, n, n FROM generate_series(1, 40000) n; "
	"INSERT INTO backend_key SELECT key_namespace, key_name, '', id, drone_id, 1, 0, 1 FROM "
	"backend WHERE status < 70";

/* 4 of 40000 are rare. */
static const struct plane_store_backend_filter backend_filters[] = {
	{ .limit = 10 },
	{ .is_alive = true, .limit = 10 },
	{ .status = PLANE_LOADING, .limit = 10 },
	{ .status = PLANE_STARTING, .limit = 10 },
	{ .status = PLANE_TERMINATED, .limit = 10 },
	{ .key_name = "rare", .limit = 10 },
	{ .key_name = "k", .limit = 10 },
	{ .key_name = "none", .limit = 10 },
	{ .drone = "dr-9", .limit = 10 },
	{ .drone = "dr-1", .is_alive = true, .limit = 10 },
	{ .drone = "dr-9", .status = PLANE_TERMINATED, .limit = 10 },
	{ .cluster = "c:2", .limit = 10 },
	{ .cluster = "c:2", .is_alive = true, .limit = 10 },
	{ .cluster = "c:1", .status = PLANE_LOADING, .limit = 10 },
	{ .cluster = "c:1", .drone = "dr-1", .key_name = "rare", .limit = 10 },
	{ .is_alive = true, .after = "bf", .limit = 10 },
};
#define BACKEND_FILTERS (int)(sizeof(backend_filters) / sizeof(backend_filters[0]))

static void list_backends(void)
{
	for (int i = 0; i < BACKEND_FILTERS; i++) {
		struct plane_store_backend_list list = { 0 };
		assert_int_equal(
			plane_store_backend_list(store, &backend_filters[i], &list, &err), 0);
		plane_store_backend_list_finish(&list);
	}
}

static const struct plane_store_key_filter key_filters[] = {
	{ .limit = 10 },
	{ .key_name = "rare", .limit = 10 },
	{ .key_name = "k", .limit = 10 },
	{ .key_namespace = "n20000", .limit = 10 },
	{ .key_namespace = "n20000", .key_name = "rare", .limit = 10 },
	{ .after_namespace = "n4", .after_name = "", .limit = 10 },
	{ .key_name = "k", .after_namespace = "n4", .after_name = "k", .limit = 10 },
	{ .key_namespace = "n4", .after_namespace = "n4", .after_name = "a", .limit = 10 },
};
#define KEY_FILTERS (int)(sizeof(key_filters) / sizeof(key_filters[0]))

static void list_keys(void)
{
	for (int i = 0; i < KEY_FILTERS; i++) {
		struct plane_store_key_list list = { 0 };
		assert_int_equal(plane_store_key_list(store, &key_filters[i], &list, &err), 0);
		plane_store_key_list_finish(&list);
	}
}

/* Of each state and cluster that are wanted: all of them together read less than the half of one
 * table. */
static void lists_read_pages(void **state)
{
	(void)state;
	for (int is_planned_first = 0; is_planned_first <= 1; is_planned_first++) {
		plan_and_fill(is_planned_first, list_backends, many_rows);
		assert_read_at_most("backend", BACKEND_FILTERS * 100);
		postgres_server_run("TRUNCATE backend CASCADE; DELETE FROM drone; DELETE FROM node "
				    "WHERE name <> 'dr-a'");
		plan_and_fill(is_planned_first, list_keys, many_rows);
		assert_read_at_most("backend_key", KEY_FILTERS * 30);
		assert_read_at_most("backend", KEY_FILTERS * 30);
		postgres_server_run("TRUNCATE backend CASCADE; DELETE FROM drone; DELETE FROM node "
				    "WHERE name <> 'dr-a'");
	}
}

/* ---- lists and their part of the connections ---- */

static void *list_members(void *data)
{
	struct plane_store_members members = { 0 };
	struct plane_store_member_filter filter = { .are_drones = true, .has_away = true };
	struct plane_error own = { 0 };
	(void)data;
	int result = plane_store_member_list(store, &filter, &members, &own);
	size_t count = members.count;
	plane_store_members_finish(&members);
	return (void *)(intptr_t)(result < 0 ? result : (int)count);
}

static int count_waiting(void)
{
	struct plane_postgres_lists *lists = &PLANE_POSTGRES_STORE(store)->lists;
	pthread_mutex_lock(&lists->mutex);
	int count = lists->waiting;
	pthread_mutex_unlock(&lists->mutex);
	return count;
}

static int count_locked(PGconn *connection)
{
	PGresult *rows = PQexec(connection, "SELECT count(*) FROM pg_stat_activity WHERE "
					    "wait_event_type = 'Lock'");
	int count = (int)plane_pg_int(rows, 0, 0);
	PQclear(rows);
	return count;
}

static void lists_use_a_part_of_the_connections(void **state)
{
	enum { ALL = PLANE_POSTGRES_LISTS_MAX + PLANE_POSTGRES_LISTS_WAITING_MAX };
	pthread_t threads[ALL];
	PGconn *other = PQconnectdb(postgres_server_url());
	PGconn *looking = PQconnectdb(postgres_server_url());
	(void)state;
	PQclear(PQexec(other, "BEGIN"));
	PQclear(PQexec(other, "LOCK TABLE node"));
	assert_int_equal(PQtransactionStatus(other), PQTRANS_INTRANS);
	for (int i = 0; i < ALL; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, list_members, NULL), 0);
	while (count_waiting() < PLANE_POSTGRES_LISTS_WAITING_MAX ||
		count_locked(looking) < PLANE_POSTGRES_LISTS_MAX)
		sched_yield();
	assert_int_equal(count_locked(looking), PLANE_POSTGRES_LISTS_MAX);
	assert_int_equal((int)(intptr_t)list_members(NULL), -EUSERS);
	assert_int_equal(plane_store_controller_heartbeat(store, "co-a", &err), 0);
	PQclear(PQexec(other, "COMMIT"));
	PQfinish(other);
	PQfinish(looking);
	for (int i = 0; i < ALL; i++) {
		void *count;
		pthread_join(threads[i], &count);
		assert_int_equal((int)(intptr_t)count, 1);
	}
}

static void a_query_that_takes_too_long_is_told_from_an_outage(void **state)
{
	(void)state;
	postgres_server_run("CREATE OR REPLACE FUNCTION now_ms() RETURNS bigint LANGUAGE plpgsql "
			    "AS $$ BEGIN PERFORM pg_sleep(60); RETURN 0; END $$");
	assert_int_equal((int)(intptr_t)list_members(NULL), -ETIMEDOUT);
	assert_int_equal(spawn("b1"), -ETIMEDOUT);
	assert_int_equal(plane_store_ping(store, &err), 0); /* it is there */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* A standby with another C library would look for a name in another place. */
static void no_index_depends_on_a_library_s_order_of_texts(void **state)
{
	(void)state;
	postgres_server_run(
		"DO $$ DECLARE found text; BEGIN SELECT string_agg(i.indexrelid::regclass || '.' "
		"|| a.attname, ' ') INTO found FROM pg_index i JOIN pg_class t ON t.oid = "
		"i.indrelid AND t.relnamespace = 'public'::regnamespace JOIN pg_attribute a ON "
		"a.attrelid = i.indexrelid WHERE a.attcollation NOT IN (0, '\"C\"'::regcollation); "
		"IF found IS NOT NULL THEN RAISE EXCEPTION '%', found; END IF; END $$");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(fencing_tokens_jump_ahead_on_another_timeline),
		TEST(fencing_tokens_jump_ahead_in_a_restored_dump),
		TEST(fencing_tokens_are_not_behind_the_time_on_a_new_connection),
		TEST(connects_that_share_a_transaction_have_their_own_outcomes),
		TEST(statements_find_their_rows_by_indexes),
		TEST(no_index_depends_on_a_library_s_order_of_texts),
		TEST(cleanup_reads_a_batch_of_what_is_old),
		TEST(lists_read_pages),
		TEST(lists_use_a_part_of_the_connections),
		TEST(a_query_that_takes_too_long_is_told_from_an_outage),
		TEST(cleanup_leaves_what_another_one_removes),
		TEST(a_deadlock_is_tried_again),
		TEST(a_serialization_failure_is_tried_again),
		TEST(a_transaction_that_is_rolled_back_each_time_fails_as_a_whole),
	};
	postgres_server_start();
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	postgres_server_stop();
	return failed;
}
