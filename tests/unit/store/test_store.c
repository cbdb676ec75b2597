/* store/store.h, against each implementation through the interface only (but for the clock): the
 * same cases on a file of SQLite, on a PostgreSQL that the program starts, and on the store in
 * memory that the simulator has. */
#include "../cmocka_all.h"
#include "postgres_server.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/json.h"
#include "sim/memory_store.h"
#include "store/sqlite.h"
#include "store/store.h"

enum implementation { SQLITE, POSTGRES, MEMORY };

static enum implementation implementation;
static struct memory_database *database;
static int64_t realtime_ms, boot_ms;
static char path[64];
static struct plane_store *store;
static struct plane_error err;
static int64_t drone;

static int64_t fake_realtime(void *data)
{
	return realtime_ms;
}

static int64_t fake_boot(void *data)
{
	return boot_ms;
}

/* PostgreSQL's store asks the function now_ms() for the time; here it looks into a table. */
static const char fake_database_clock[] =
	"CREATE TABLE IF NOT EXISTS test_clock AS SELECT 1700000000000 AS ms; CREATE OR REPLACE "
	"FUNCTION now_ms() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT ms FROM test_clock'";

static void set_database_clock(void)
{
	char sql[96];
	snprintf(sql, sizeof(sql), "UPDATE test_clock SET ms = %lld", (long long)realtime_ms);
	postgres_server_run(sql);
}

static void pass_ms(int64_t ms)
{
	realtime_ms += ms;
	boot_ms += ms;
	if (implementation == POSTGRES)
		set_database_clock();
}

static struct plane_store *open_only(const char *boot_id)
{
	struct plane_store_clock clock = { fake_realtime, fake_boot, boot_id, NULL };
	if (implementation == MEMORY)
		return memory_store_open(database);
	return implementation == POSTGRES ? plane_store_open(postgres_server_url(), &err)
					  : plane_sqlite_store_open(path, &clock, &err);
}

static void open_store(const char *boot_id)
{
	store = open_only(boot_id);
	if (!store || plane_store_migrate(store, &err) < 0)
		fail_msg("%s", err.message);
}

static void open_fresh_store(void)
{
	realtime_ms = 1700000000000;
	boot_ms = 5000;
	if (implementation == MEMORY) {
		struct memory_clock clock = { fake_realtime, NULL };
		database = memory_database_create(&clock);
		open_store("boot-1");
		return;
	}
	if (implementation == SQLITE) {
		char directory[] = "/tmp/plane-store-XXXXXX";
		assert_non_null(mkdtemp(directory));
		snprintf(path, sizeof(path), "%s/db", directory);
		open_store("boot-1");
		return;
	}
	postgres_server_run("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
	open_store("boot-1");
	plane_store_close(store);
	postgres_server_run(fake_database_clock);
	open_store("boot-1");
}

static int set_up(void **state)
{
	open_fresh_store();
	struct plane_store_node node = { .kind = PLANE_NODE_DRONE,
		.name = "dr-a",
		.cluster = "c:1",
		.controller = "co-a",
		.pool = "" };
	int64_t connection;
	assert_int_equal(plane_store_controller_heartbeat(store, "co-a", &err), 0);
	assert_int_equal(plane_store_node_connected(store, &node, &drone, &connection, &err), 0);
	assert_int_equal(plane_store_drone_heartbeat(store, drone, 77, &err), 0);
	return 0;
}

static int tear_down(void **state)
{
	const char *suffixes[] = { "", "-wal", "-shm" };
	plane_store_close(store);
	if (implementation == MEMORY)
		memory_database_destroy(database);
	if (implementation != SQLITE)
		return 0;
	for (int i = 0; i < 3; i++) {
		_cleanup_free_ char *file = plane_strdupf("%s%s", path, suffixes[i]);
		(void)unlink(file);
	}
	*strrchr(path, '/') = '\0';
	(void)rmdir(path);
	return 0;
}

static int spawn(const char *backend, const char *key, int64_t *fencing_token)
{
	_cleanup_json_ json_t *executable = json_pack("{s:s}", "image", "echo");
	_cleanup_free_ char *action = plane_strdupf("ak-%s", backend);
	struct plane_store_spawned spawned = { 0 };
	struct plane_error local;
	struct plane_store_spawn order = { .backend = backend,
		.cluster = "c:1",
		.drone_id = drone,
		.key_name = key,
		.key_namespace = "",
		.key_tag = "t",
		.lifetime_limit_seconds = -1,
		.max_idle_seconds = 10,
		.action_id = action,
		.executable = executable,
		.lease_ms = 60000 };
	int result = plane_store_spawn(store, &order, &spawned, &local);
	_cleanup_free_ char *message = spawned.message;
	if (result < 0 && result != -EEXIST)
		print_error("%s\n", local.message);
	if (result == 0 && fencing_token) {
		_cleanup_json_ json_t *json = plane_json_parse(message, strlen(message), &local);
		struct plane_drone_order read;
		assert_int_equal(plane_drone_order_read(json, &read, &local), 0);
		*fencing_token = read.fencing_token;
	}
	return result;
}

static struct plane_store_held_key find_key(const char *name)
{
	struct plane_store_connect look = { .key_namespace = "", .key_name = name, .key_tag = "t" };
	struct plane_store_connection found = { 0 };
	assert_int_equal(plane_store_connect(store, &look, &found, &err), 0);
	assert_false(found.has_token);
	assert_int_equal(found.drones.count, 0);
	plane_store_drones_finish(&found.drones);
	return found.key;
}

static bool report(const char *backend, enum plane_backend_status status)
{
	struct plane_backend_state new_state = { .status = status, .last_status = PLANE_READY };
	if (status >= PLANE_TERMINATING)
		new_state.reason = PLANE_REASON_SWEPT;
	if (status == PLANE_READY || status == PLANE_WAITING)
		strcpy(new_state.address, "10.0.0.1:8080");
	struct plane_store_report one = { .backend = backend, .state = &new_state };
	assert_int_equal(plane_store_backend_update(store, drone, &one, 1, &err), 0);
	return one.is_changed;
}

static void states_reported_together_are_judged_one_after_the_other(void **state)
{
	static const enum plane_backend_status statuses[] = { PLANE_LOADING, PLANE_STARTING,
		PLANE_LOADING };
	struct plane_backend_state states[3] = { 0 };
	struct plane_store_report reports[4];
	struct plane_store_history history;
	(void)state;
	assert_int_equal(spawn("batch", "batch-key", NULL), 0);
	for (int i = 0; i < 3; i++) {
		states[i].status = statuses[i];
		reports[i] = (struct plane_store_report){ "batch", &states[i], false, 0 };
	}
	reports[3] = (struct plane_store_report){ "unknown", &states[0], false, 0 };
	assert_int_equal(plane_store_backend_update(store, drone, reports, 4, &err), 0);
	assert_true(reports[0].is_changed);
	assert_true(reports[1].is_changed);
	assert_false(reports[2].is_changed);
	assert_false(reports[3].is_changed);
	assert_int_equal(plane_store_backend_history(store, "batch", &history, &err), 0);
	assert_int_equal(history.entries[history.count - 1].state.status, PLANE_STARTING);
	plane_store_history_finish(&history);
	report("batch", PLANE_TERMINATED);
}

static void a_backend_lives_and_frees_its_key(void **state)
{
	assert_int_equal(spawn("b1", "k", NULL), 0);
	assert_int_equal(spawn("b2", "k", NULL), -EEXIST);
	assert_int_equal(spawn("b1", "other", NULL), -EEXIST);
	struct plane_store_held_key key;
	key = find_key("k");
	assert_true(key.is_found && key.is_live);
	assert_string_equal(key.backend, "b1");
	assert_true(report("b1", PLANE_READY));
	assert_false(report("b1", PLANE_WAITING));
	assert_true(report("b1", PLANE_TERMINATED));
	key = find_key("k");
	assert_false(key.is_found);
	struct plane_store_history history;
	assert_int_equal(plane_store_backend_history(store, "b1", &history, &err), 0);
	assert_int_equal(history.count, 3);
	plane_store_history_finish(&history);
	struct plane_store_backend found;
	assert_int_equal(plane_store_backend_find(store, "'; drop table x", &found, &err), -ENOENT);
}

static void a_lease_expires_by_the_boot_clock_and_renews(void **state)
{
	struct plane_store_held_key key;
	assert_int_equal(spawn("b1", "k", NULL), 0);
	if (implementation == SQLITE)
		realtime_ms += 86400000; /* a jump of the wall clock gives nothing away */
	key = find_key("k");
	assert_true(key.is_live);
	pass_ms(50000);
	const char *const backends[] = { "b1", "nobody", "b2" };
	bool is_renewed[3] = { true, true, true };
	assert_int_equal(spawn("b2", "k2", NULL), 0);
	assert_int_equal(
		plane_store_keys_renew(store, backends, 3, drone + 1, 60000, is_renewed, &err), 0);
	assert_false(is_renewed[0] || is_renewed[1] || is_renewed[2]);
	assert_int_equal(
		plane_store_keys_renew(store, backends, 3, drone, 60000, is_renewed, &err), 0);
	assert_true(is_renewed[0] && is_renewed[2]);
	assert_false(is_renewed[1]);
	pass_ms(59999);
	assert_true(find_key("k").is_live);
	assert_int_equal(spawn("early", "k", NULL), -EEXIST);
	pass_ms(1);
	assert_true(find_key("k").is_found);
	assert_false(find_key("k").is_live);
	int64_t token;
	assert_int_equal(spawn("next", "k", &token), 0);
	assert_string_equal(find_key("k").backend, "next");
	assert_true(find_key("k").is_live);
}

static void fencing_tokens_grow_over_restarts_and_clock_jumps(void **state)
{
	int64_t first, second, third;
	assert_int_equal(spawn("b1", "k1", &first), 0);
	assert_true(first > 0);
	plane_store_close(store);
	realtime_ms -= 86400000;
	if (implementation == POSTGRES)
		set_database_clock();
	open_store("boot-1");
	assert_int_equal(spawn("b2", "k2", &second), 0);
	assert_true(second > first);
	plane_store_close(store);
	boot_ms = 1;
	pass_ms(172800000);
	open_store("boot-2");
	assert_int_equal(spawn("b3", "k3", &third), 0);
	assert_true(third > second);
	if (implementation != SQLITE) {
		assert_true(third >= realtime_ms);
		return;
	}
	struct plane_store_held_key key;
	key = find_key("k1");
	assert_true(key.is_live);
}

/* What a controller asks for one connect call. */
static struct plane_store_connection connect_key(
	const char *key, const char *tag, const char *token_name)
{
	json_t *auth = json_pack("{s:i}", "a", 1);
	struct plane_store_token token = { token_name, "secret", NULL, "alice", auth, 60000 };
	struct plane_store_connect look = { .key_namespace = "",
		.key_name = key,
		.key_tag = tag,
		.token = &token,
		.cluster = "c:1",
		.pool = "",
		.healthy_ms = 45000 };
	struct plane_store_connection found = { 0 };
	int result = plane_store_connect(store, &look, &found, &err);
	json_decref(auth);
	assert_int_equal(result, 0);
	return found;
}

static void a_connect_gives_a_token_of_the_holder_or_drones(void **state)
{
	struct plane_store_connection found = connect_key("k", "t", "tok-0");
	assert_false(found.key.is_found || found.has_token);
	assert_int_equal(found.drones.count, 1);
	assert_string_equal(found.drones.entries[0].name, "dr-a");
	assert_int_equal(found.drones.entries[0].id, drone);
	assert_int_equal(found.drones.entries[0].last_local_time_ms, 77);
	plane_store_drones_finish(&found.drones);
	pass_ms(5000);
	found = connect_key("k", "t", "tok-0");
	int64_t silent_ms = found.drones.entries[0].silent_ms;
	assert_true(silent_ms >= 5000 && silent_ms < 45000);
	plane_store_drones_finish(&found.drones);
	assert_int_equal(spawn("b1", "k", NULL), 0);
	found = connect_key("k", "t", "tok-1");
	assert_true(found.key.is_found && found.key.is_live && found.has_token);
	assert_string_equal(found.key.backend, "b1");
	assert_string_equal(found.key.cluster, "c:1");
	assert_int_equal(found.key.status, PLANE_SCHEDULED);
	assert_int_equal(found.drones.count, 0);
	plane_store_drones_finish(&found.drones);
	found = connect_key("k", "other tag", "tok-2");
	assert_true(found.key.is_live && !found.has_token);
	plane_store_drones_finish(&found.drones);
	report("b1", PLANE_TERMINATING);
	found = connect_key("k", "t", "tok-3");
	assert_true(found.key.is_live && !found.has_token);
	assert_int_equal(found.key.status, PLANE_TERMINATING);
	plane_store_drones_finish(&found.drones);
	for (int i = 0; i < 4; i++) {
		char name[8];
		struct plane_store_route route;
		bool is_found;
		snprintf(name, sizeof(name), "tok-%d", i);
		assert_int_equal(plane_store_route_find(store, name, &is_found, &route, &err), 0);
		assert_int_equal(is_found, i == 1);
		if (is_found) {
			assert_string_equal(route.backend, "b1");
			assert_string_equal(route.user, "alice");
			plane_store_route_finish(&route);
		}
	}
	pass_ms(46000); /* nobody has heard of drone and controller for too long */
	found = connect_key(NULL, "t", "tok-4");
	assert_false(found.key.is_found);
	assert_int_equal(found.drones.count, 0);
	plane_store_drones_finish(&found.drones);
}

static void only_idle_backends_are_due(void **state)
{
	struct plane_store_sweep sweep;
	assert_int_equal(spawn("b1", "k", NULL), 0);
	pass_ms(60000);
	report("b1", PLANE_READY);
	assert_int_equal(plane_store_sweep_candidates(store, drone, &sweep, &err), 0);
	assert_int_equal(sweep.count, 0);
	pass_ms(9000);
	const char *const used[] = { "unknown", "b1", "ended", "b1" };
	bool is_alive[4] = { true, false, true, false };
	assert_int_equal(spawn("ended", "k2", NULL), 0);
	report("ended", PLANE_TERMINATED);
	assert_int_equal(plane_store_backends_keep_alive(store, used, 4, is_alive, &err), 0);
	assert_true(is_alive[1] && is_alive[3]);
	assert_false(is_alive[0] || is_alive[2]);
	pass_ms(9999);
	assert_int_equal(plane_store_sweep_candidates(store, drone, &sweep, &err), 0);
	assert_int_equal(sweep.count, 0);
	pass_ms(1);
	assert_int_equal(plane_store_sweep_candidates(store, drone, &sweep, &err), 0);
	assert_int_equal(sweep.count, 1);
	assert_true(sweep.entries[0].is_due);
	plane_store_sweep_finish(&sweep);
}

static int acknowledge(const char *action_id)
{
	const char *const ids[] = { "ak-unknown", action_id };
	return plane_store_actions_ack(store, ids, 2, drone, &err);
}

static void orders_are_kept_until_acknowledged_and_not_doubled(void **state)
{
	struct plane_store_actions actions;
	char *message = NULL;
	int64_t drone_id;
	assert_int_equal(spawn("b1", "k", NULL), 0);
	assert_int_equal(plane_store_terminate(store, "b1", "ak-t", PLANE_KIND_SOFT,
				 PLANE_REASON_EXTERNAL, &drone_id, &message, &err),
		0);
	assert_non_null(message);
	free(message);
	assert_int_equal(plane_store_terminate(store, "b1", "ak-u", PLANE_KIND_SOFT,
				 PLANE_REASON_EXTERNAL, &drone_id, &message, &err),
		0);
	assert_null(message);
	assert_int_equal(plane_store_actions_pending(store, drone, 9, &actions, &err), 0);
	assert_int_equal(actions.count, 2);
	assert_string_equal(actions.entries[0].action_id, "ak-b1");
	plane_store_actions_finish(&actions);
	pass_ms(60001); /* the lease is over: the order to start is not sent any more */
	assert_int_equal(acknowledge("ak-t"), 0);
	assert_int_equal(plane_store_actions_pending(store, drone, 9, &actions, &err), 0);
	assert_int_equal(actions.count, 0);
}

static void tokens_lead_to_their_backend_until_revoked_or_old(void **state)
{
	struct plane_store_route route;
	bool is_found;
	_cleanup_json_ json_t *auth = json_pack("{s:i}", "a", 1);
	struct plane_store_token token = { "tok", "secret", "b1", "alice", auth, 1000 };
	assert_int_equal(plane_store_token_create(store, &token, &err), -ENOENT);
	assert_int_equal(spawn("b1", "k", NULL), 0);
	assert_int_equal(plane_store_token_create(store, &token, &err), 0);
	assert_int_equal(plane_store_route_find(store, "tok", &is_found, &route, &err), 0);
	assert_true(is_found);
	assert_string_equal(route.user, "alice");
	plane_store_route_finish(&route);
	pass_ms(1000);
	assert_int_equal(plane_store_route_find(store, "tok", &is_found, &route, &err), 0);
	assert_false(is_found);
	token.token = "tok2";
	assert_int_equal(plane_store_token_create(store, &token, &err), 0);
	assert_int_equal(plane_store_token_revoke(store, "b1", "alice", &err), 0);
	assert_int_equal(plane_store_route_find(store, "tok2", &is_found, &route, &err), 0);
	assert_false(is_found);
}

/* "backend user" of those of the last `since_ms`, with spaces between. */
static const char *revoked(int64_t since_ms)
{
	static char text[256];
	struct plane_store_revocations found = { 0 };
	assert_int_equal(plane_store_revocations(store, since_ms, &found, &err), 0);
	text[0] = '\0';
	for (size_t i = 0; i < found.count; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s:%s", i ? " " : "",
			found.entries[i].backend, found.entries[i].user);
	plane_store_revocations_finish(&found);
	return text;
}

static void revocations_are_remembered_for_proxies_that_were_away(void **state)
{
	int64_t removed;
	(void)state;
	assert_int_equal(spawn("b1", "k1", NULL), 0);
	assert_int_equal(spawn("b2", "k2", NULL), 0);
	assert_string_equal(revoked(60000), "");
	assert_int_equal(plane_store_token_revoke(store, "b1", "alice", &err), 0);
	pass_ms(5000);
	assert_int_equal(plane_store_token_revoke(store, "b2", "bob", &err), 0);
	assert_int_equal(plane_store_token_revoke(store, "b1", "alice", &err), 0);
	assert_string_equal(revoked(60000), "b1:alice b2:bob b1:alice"); /* oldest first */
	assert_string_equal(revoked(1000), "b2:bob b1:alice");
	pass_ms(PLANE_STORE_REVOCATIONS_KEPT_MS - 1000);
	assert_int_equal(plane_store_cleanup_revocations(store, 10, &removed, &err), 0);
	assert_int_equal(removed, 1);
	assert_string_equal(
		revoked(2 * (int64_t)PLANE_STORE_REVOCATIONS_KEPT_MS), "b2:bob b1:alice");
	pass_ms(2000);
	assert_int_equal(plane_store_cleanup_revocations(store, 1, &removed, &err), 0);
	assert_int_equal(removed, 1); /* a batch at a time, the oldest first */
	assert_string_equal(revoked(2 * (int64_t)PLANE_STORE_REVOCATIONS_KEPT_MS), "b1:alice");
	assert_int_equal(plane_store_cleanup_revocations(store, 2, &removed, &err), 0);
	assert_int_equal(removed, 1);
	assert_string_equal(revoked(2 * (int64_t)PLANE_STORE_REVOCATIONS_KEPT_MS), "");
}

static enum plane_backend_status status_of(const char *backend)
{
	struct plane_store_backend found;
	assert_int_equal(plane_store_backend_find(store, backend, &found, &err), 0);
	return found.state.status;
}

static void backends_of_a_silent_drone_are_lost_once_their_lease_is_over(void **state)
{
	struct plane_store_lost lost;
	assert_int_equal(spawn("running", "k1", NULL), 0);
	assert_true(report("running", PLANE_READY));
	pass_ms(59999); /* silent for longer than asked below, but it may still run */
	assert_int_equal(plane_store_mark_lost(store, 30000, &lost, &err), 0);
	assert_int_equal(lost.count, 0);
	pass_ms(1);
	assert_int_equal(plane_store_mark_lost(store, 30000, &lost, &err), 0);
	assert_int_equal(lost.count, 1);
	assert_string_equal(lost.entries[0].backend, "running");
	assert_int_equal(lost.entries[0].state.reason, PLANE_REASON_LOST);
	assert_int_equal(lost.entries[0].state.last_status, PLANE_READY);
	plane_store_lost_finish(&lost);
	assert_int_equal(status_of("running"), PLANE_TERMINATED);
	assert_int_equal(plane_store_mark_lost(store, 30000, &lost, &err), 0);
	assert_int_equal(lost.count, 0);
	assert_false(report("running", PLANE_READY)); /* its drone came back too late */
	assert_int_equal(spawn("next", "k1", NULL), 0);
}

static void backends_of_a_drone_that_speaks_are_not_lost(void **state)
{
	struct plane_store_lost lost;
	bool is_done;
	assert_int_equal(spawn("untaken", "k1", NULL), 0);
	assert_int_equal(spawn("running", "k2", NULL), 0);
	assert_true(report("running", PLANE_READY));
	pass_ms(100000);
	assert_int_equal(plane_store_keys_renew(store, &(const char *){ "running" }, 1, drone,
				 60000, &is_done, &err),
		0);
	assert_int_equal(plane_store_drone_heartbeat(store, drone, 78, &err), 0);
	assert_int_equal(plane_store_mark_lost(store, 30000, &lost, &err), 0);
	assert_int_equal(lost.count, 1); /* the order that nobody took, and its lease is over */
	assert_string_equal(lost.entries[0].backend, "untaken");
	plane_store_lost_finish(&lost);
	assert_int_equal(status_of("running"), PLANE_READY);
}

static void backends_that_a_drone_renews_no_more_are_lost_though_it_speaks(void **state)
{
	struct plane_store_lost lost;
	assert_int_equal(spawn("taken-over", "k1", NULL), 0);
	assert_int_equal(spawn("forgotten", "k2", NULL), 0);
	assert_true(report("taken-over", PLANE_READY));
	assert_true(report("forgotten", PLANE_READY));
	pass_ms(89999); /* the leases have been over for a little less than asked below */
	assert_int_equal(plane_store_drone_heartbeat(store, drone, 78, &err), 0);
	assert_int_equal(plane_store_mark_lost(store, 30000, &lost, &err), 0);
	assert_int_equal(lost.count, 0);
	assert_int_equal(spawn("next", "k1", NULL), 0); /* another one has the key already */
	assert_int_equal(plane_store_mark_lost(store, 30000, &lost, &err), 0);
	assert_int_equal(lost.count, 1);
	assert_string_equal(lost.entries[0].backend, "taken-over");
	plane_store_lost_finish(&lost);
	pass_ms(1);
	assert_int_equal(plane_store_mark_lost(store, 30000, &lost, &err), 0);
	assert_int_equal(lost.count, 1);
	assert_string_equal(lost.entries[0].backend, "forgotten");
	plane_store_lost_finish(&lost);
	assert_int_equal(status_of("next"), PLANE_SCHEDULED);
}

static void silence_while_the_store_was_closed_does_not_count(void **state)
{
	struct plane_store_lost lost;
	assert_int_equal(spawn("running", "k1", NULL), 0);
	assert_true(report("running", PLANE_READY));
	plane_store_close(store);
	pass_ms(600000);
	open_store("boot-1");
	assert_int_equal(plane_store_mark_lost(store, 30000, &lost, &err), 0);
	assert_int_equal(lost.count, 0);
	pass_ms(30001);
	assert_int_equal(plane_store_mark_lost(store, 30000, &lost, &err), 0);
	assert_int_equal(lost.count, 1);
	plane_store_lost_finish(&lost);
}

static void cleanup_forgets_what_ended_long_ago_and_nothing_else(void **state)
{
	const int64_t day_ms = 86400000;
	_cleanup_json_ json_t *auth = json_object();
	struct plane_store_token token = { "tok", "secret", "old-0", "alice", auth, 100 * day_ms };
	struct plane_store_history history;
	int64_t removed = -1;
	for (int i = 0; i < 3; i++) {
		char name[8], key[8];
		snprintf(name, sizeof(name), "old-%d", i);
		snprintf(key, sizeof(key), "k%d", i);
		assert_int_equal(spawn(name, key, NULL), 0);
	}
	assert_int_equal(plane_store_token_create(store, &token, &err), 0);
	for (int i = 0; i < 3; i++) {
		char name[8];
		snprintf(name, sizeof(name), "old-%d", i);
		assert_true(report(name, PLANE_TERMINATED));
		pass_ms(1);
	}
	assert_int_equal(spawn("running", "k", NULL), 0);
	assert_true(report("running", PLANE_READY));
	pass_ms(2 * day_ms);
	assert_int_equal(spawn("fresh", "k0", NULL), 0);
	assert_true(report("fresh", PLANE_TERMINATED));
	assert_int_equal(plane_store_cleanup_backends(store, 3, 10, &removed, &err), 0);
	assert_int_equal(removed, 0);
	assert_int_equal(plane_store_cleanup_backends(store, 2, 2, &removed, &err), 0);
	assert_int_equal(removed, 2); /* a batch at a time, the oldest first */
	assert_int_equal(status_of("old-2"), PLANE_TERMINATED);
	assert_int_equal(plane_store_cleanup_backends(store, 2, 2, &removed, &err), 0);
	assert_int_equal(removed, 1);
	struct plane_store_backend found;
	assert_int_equal(plane_store_backend_find(store, "old-0", &found, &err), -ENOENT);
	assert_int_equal(plane_store_backend_history(store, "old-0", &history, &err), 0);
	assert_int_equal(history.count, 0);
	plane_store_history_finish(&history);
	assert_int_equal(status_of("running"), PLANE_READY);
	assert_int_equal(status_of("fresh"), PLANE_TERMINATED);
	assert_int_equal(plane_store_token_create(store, &token, &err), -ENOENT);
}

static bool is_token(const char *token)
{
	struct plane_store_route route;
	bool is_found;
	assert_int_equal(plane_store_route_find(store, token, &is_found, &route, &err), 0);
	if (is_found)
		plane_store_route_finish(&route);
	return is_found;
}

static int64_t remove_tokens(int batch)
{
	int64_t removed = -1;
	assert_int_equal(plane_store_cleanup_tokens(store, batch, &removed, &err), 0);
	return removed;
}

static void cleanup_removes_expired_tokens_a_batch_at_a_time(void **state)
{
	_cleanup_json_ json_t *auth = json_object();
	struct plane_store_token tokens[] = {
		{ "lasting", "secret", "b1", "alice", auth, 5000 },
		{ "later", "secret", "b1", "alice", auth, 1001 },
		{ "brief", "secret", "b1", "alice", auth, 1000 },
		{ "brief-2", "secret", "b1", "alice", auth, 1000 },
	};
	(void)state;
	assert_int_equal(spawn("b1", "k", NULL), 0);
	for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++)
		assert_int_equal(plane_store_token_create(store, &tokens[i], &err), 0);
	assert_int_equal(remove_tokens(2), 0);
	pass_ms(1500);
	assert_int_equal(remove_tokens(2), 2);
	assert_int_equal(remove_tokens(2), 1);
	assert_int_equal(remove_tokens(2), 0);
	assert_true(is_token("lasting"));
}

static void *race(void *data)
{
	_cleanup_free_ char *backend = plane_strdupf("racer-%ld", (long)(intptr_t)data);
	return (void *)(intptr_t)(spawn(backend, "contended", NULL) == 0);
}

static void one_of_many_racers_gets_the_key(void **state)
{
	pthread_t threads[16];
	int winners = 0;
	for (intptr_t i = 0; i < 16; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, race, (void *)i), 0);
	for (int i = 0; i < 16; i++) {
		void *won;
		pthread_join(threads[i], &won);
		winners += (int)(intptr_t)won;
	}
	assert_int_equal(winners, 1);
}

static void a_visitor_leaves_the_log_where_it_is(void **state)
{
	_cleanup_free_ char *log = plane_strdupf("%s-wal", path);
	struct stat before, after;
	int status;
	assert_int_equal(stat(log, &before), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) { /* an operator: in this process SQLite would know of the other locks */
		(void)execlp("sqlite3", "sqlite3", path, "SELECT * FROM meta", NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(stat(log, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
}

static void wrong_databases_are_told(void **state)
{
	assert_null(plane_store_open("mysql:x", &err));
	assert_non_null(strstr(err.message, "sqlite:PATH"));
	assert_null(plane_store_open("postgres://nobody@127.0.0.1:1/x", &err));
	assert_non_null(strstr(err.message, "refused"));
	assert_int_equal(err.code, -EAGAIN);
	assert_null(plane_store_open("sqlite:/nowhere/at/all", &err));
	assert_non_null(strstr(err.message, "No such file"));
	assert_null(plane_store_open("sqlite:/tmp/x?journal=off", &err));
	assert_non_null(strstr(err.message, "unknown option"));
}

#define WRITERS 8
#define TOKENS_EACH 50

struct writer {
	pthread_t thread;
	int number, refused, failed;
};

/* Every fifth token is for a backend that does not exist. */
static void *write_tokens(void *data)
{
	struct writer *writer = data;
	_cleanup_json_ json_t *auth = json_object();
	for (int i = 0; i < TOKENS_EACH; i++) {
		char name[32];
		struct plane_error own = { 0 };
		snprintf(name, sizeof(name), "tok-%d-%d", writer->number, i);
		struct plane_store_token token = { name, "secret", i % 5 ? "b1" : "nobody", "alice",
			auth, 60000 };
		int result = plane_store_token_create(store, &token, &own);
		writer->refused += result == -ENOENT;
		writer->failed += result < 0 && result != -ENOENT;
	}
	return NULL;
}

static void tokens_of_many_threads_are_stored_but_those_that_are_refused(void **state)
{
	struct writer writers[WRITERS] = { 0 };
	assert_int_equal(spawn("b1", "k", NULL), 0);
	for (int i = 0; i < WRITERS; i++) {
		writers[i].number = i;
		assert_int_equal(
			pthread_create(&writers[i].thread, NULL, write_tokens, &writers[i]), 0);
	}
	for (int i = 0; i < WRITERS; i++) {
		pthread_join(writers[i].thread, NULL);
		assert_int_equal(writers[i].refused, TOKENS_EACH / 5);
		assert_int_equal(writers[i].failed, 0);
	}
	for (int i = 0; i < WRITERS * TOKENS_EACH; i++) {
		char name[32];
		struct plane_store_route route;
		bool is_found = false;
		snprintf(name, sizeof(name), "tok-%d-%d", i / TOKENS_EACH, i % TOKENS_EACH);
		assert_int_equal(plane_store_route_find(store, name, &is_found, &route, &err), 0);
		assert_int_equal(is_found, i % TOKENS_EACH % 5 != 0);
		if (is_found)
			plane_store_route_finish(&route);
	}
}

/* A transaction that cannot be committed must tell so to each of those in it. */
static void tokens_that_cannot_be_written_are_told_and_later_ones_are_stored(void **state)
{
	struct plane_sqlite_store *sqlite = PLANE_SQLITE_STORE(store);
	_cleanup_json_ json_t *auth = json_object();
	struct plane_store_token token = { "tok", "secret", "b1", "alice", auth, 60000 };
	struct plane_store_route route;
	bool is_found = true;
	assert_int_equal(spawn("b1", "k", NULL), 0);
	assert_int_equal(plane_db_script(&sqlite->writer, "PRAGMA query_only=1", &err), 0);
	assert_true(plane_store_token_create(store, &token, &err) < 0);
	assert_string_not_equal(err.message, "");
	assert_int_equal(plane_db_script(&sqlite->writer, "PRAGMA query_only=0", &err), 0);
	assert_int_equal(plane_store_route_find(store, "tok", &is_found, &route, &err), 0);
	assert_false(is_found);
	assert_int_equal(plane_store_token_create(store, &token, &err), 0);
}

/* A held key takes one round trip, a new one two in all: what a cluster's speed hangs on. */
static void round_trips_are_as_few_as_promised(void **state)
{
	struct plane_store_statistics before, after;
	struct plane_store_connection found = connect_key("k", "t", "tok-0");
	plane_store_drones_finish(&found.drones);
	assert_int_equal(spawn("b0", "k0", NULL), 0);
	plane_store_statistics(store, &before);
	found = connect_key("k", "t", "tok-1");
	plane_store_drones_finish(&found.drones);
	assert_int_equal(spawn("b1", "k", NULL), 0);
	plane_store_statistics(store, &after);
	assert_int_equal(after.round_trips - before.round_trips, 2);
	assert_int_equal(after.statements - before.statements, 3);
	found = connect_key("k", "t", "tok-2");
	plane_store_drones_finish(&found.drones);
	assert_true(found.has_token);
	plane_store_statistics(store, &before);
	assert_int_equal(before.round_trips - after.round_trips, 1);
	assert_int_equal(before.failures, 0);
}

static void a_newer_schema_is_refused(void **state)
{
	postgres_server_run("UPDATE meta SET value = 999 WHERE name = 'schema_version'");
	assert_int_equal(plane_store_migrate(store, &err), -ENOTSUP);
	assert_non_null(strstr(err.message, "use a newer plane"));
}

static void a_user_without_rights_is_told(void **state)
{
	postgres_server_run(
		"DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA "
		"public TO public; DROP ROLE IF EXISTS nobody_much; CREATE ROLE "
		"nobody_much LOGIN");
	struct plane_store *poor = plane_store_open(postgres_server_url_of("nobody_much"), &err);
	assert_non_null(poor);
	int result = plane_store_migrate(poor, &err);
	plane_store_close(poor);
	assert_int_equal(result, -EACCES);
	assert_non_null(strstr(err.message, "permission denied"));
}

static void *migrate_one(void *data)
{
	struct plane_error own = { 0 };
	struct plane_store *one = plane_store_open(data, &own);
	intptr_t result = one ? plane_store_migrate(one, &own) : own.code;
	plane_store_close(one);
	return (void *)result;
}

static void many_migrate_at_once(void **state)
{
	pthread_t threads[8];
	char url[160];
	snprintf(url, sizeof(url), "%s", postgres_server_url());
	postgres_server_run("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
	for (int i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, migrate_one, url), 0);
	for (int i = 0; i < 8; i++) {
		void *result;
		pthread_join(threads[i], &result);
		assert_int_equal((intptr_t)result, 0);
	}
	assert_int_equal(plane_store_ping(store, &err), 0);
}

/* Looks into the catalog: what has no comment. */
static void every_table_and_column_is_commented(void **state)
{
	postgres_server_run(
		"DO $$ DECLARE missing text; BEGIN SELECT string_agg(c.relname || coalesce('.' || "
		"a.attname, ''), ' ') INTO missing FROM pg_class c LEFT JOIN pg_attribute a ON "
		"a.attrelid = c.oid AND a.attnum > 0 WHERE c.relkind = 'r' AND c.relname <> "
		"'test_clock' AND c.relnamespace = 'public'::regnamespace AND (obj_description("
		"c.oid) IS NULL OR col_description(c.oid, a.attnum) IS NULL); IF missing IS NOT "
		"NULL THEN RAISE EXCEPTION 'no comment: %', missing; END IF; END $$");
}

/* A pool's idle connections are dead then; the next call makes a new one. */
static void calls_go_on_after_the_server_closed_all_connections(void **state)
{
	assert_int_equal(spawn("b1", "k", NULL), 0);
	postgres_server_run("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE "
			    "application_name = 'plane'");
	assert_true(find_key("k").is_live);
	assert_int_equal(spawn("b2", "k2", NULL), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#define COMMON                                                                                     \
	TEST(tokens_of_many_threads_are_stored_but_those_that_are_refused),                        \
		TEST(states_reported_together_are_judged_one_after_the_other),                     \
		TEST(a_backend_lives_and_frees_its_key),                                           \
		TEST(a_lease_expires_by_the_boot_clock_and_renews),                                \
		TEST(a_connect_gives_a_token_of_the_holder_or_drones),                             \
		TEST(fencing_tokens_grow_over_restarts_and_clock_jumps),                           \
		TEST(only_idle_backends_are_due),                                                  \
		TEST(orders_are_kept_until_acknowledged_and_not_doubled),                          \
		TEST(tokens_lead_to_their_backend_until_revoked_or_old),                           \
		TEST(revocations_are_remembered_for_proxies_that_were_away),                       \
		TEST(backends_of_a_silent_drone_are_lost_once_their_lease_is_over),                \
		TEST(backends_of_a_drone_that_speaks_are_not_lost),                                \
		TEST(backends_that_a_drone_renews_no_more_are_lost_though_it_speaks),              \
		TEST(silence_while_the_store_was_closed_does_not_count),                           \
		TEST(cleanup_forgets_what_ended_long_ago_and_nothing_else),                        \
		TEST(cleanup_removes_expired_tokens_a_batch_at_a_time),                            \
		TEST(one_of_many_racers_gets_the_key)

int main(void)
{
	const struct CMUnitTest sqlite[] = {
		COMMON,
		TEST(tokens_that_cannot_be_written_are_told_and_later_ones_are_stored),
		TEST(a_visitor_leaves_the_log_where_it_is),
		TEST(wrong_databases_are_told),
	};
	const struct CMUnitTest postgres[] = {
		COMMON,
		TEST(round_trips_are_as_few_as_promised),
		TEST(a_newer_schema_is_refused),
		TEST(a_user_without_rights_is_told),
		TEST(many_migrate_at_once),
		TEST(every_table_and_column_is_commented),
		TEST(calls_go_on_after_the_server_closed_all_connections),
	};
	const struct CMUnitTest memory[] = { COMMON };
	int failed = cmocka_run_group_tests(sqlite, NULL, NULL);
	implementation = MEMORY;
	failed += cmocka_run_group_tests(memory, NULL, NULL);
	implementation = POSTGRES;
	postgres_server_start();
	failed += cmocka_run_group_tests(postgres, NULL, NULL);
	postgres_server_stop();
	return failed;
}
