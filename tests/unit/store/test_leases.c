/* Leases of whole drones, through the interface of the store: the same cases on a file of SQLite
 * on a PostgreSQL that the program starts, and on the store in memory. None of them depends on a
 * clock. */
#include "postgres_server.h"
#include "store_cases.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/json.h"
#include "sqlite_schema.h"
#include "store/sqlite.h"

static struct plane_error err;
static int64_t drone, other;

static int set_up(void **state)
{
	(void)state;
	set_up_store();
	drone = connect_drone("dr-a");
	other = connect_drone("dr-b");
	return 0;
}

static int spawn(const char *backend, const char *key, int64_t id, int64_t epoch)
{
	struct plane_store_spawned spawned = { 0 };
	int result = spawn_as((struct plane_store_spawn){ .backend = backend,
				      .key_name = key,
				      .drone_id = id,
				      .lease_epoch = epoch,
				      .lease_ms = 1 },
		&spawned);
	_cleanup_free_ char *message = spawned.message;
	if (result == 0) {
		_cleanup_json_ json_t *json = plane_json_parse(message, strlen(message), &err);
		struct plane_drone_order read;
		assert_int_equal(plane_drone_order_read(json, &read, &err), 0);
		assert_int_equal(read.epoch, epoch);
	}
	return result;
}

static void a_lease_begins_is_renewed_and_numbered(void **state)
{
	(void)state;
	assert_int_equal(lease_of(drone).epoch, 0);
	int64_t epoch = granted(drone, 0, "jo-1");
	assert_true(epoch > 0);
	struct plane_store_lease first = lease_of(drone);
	assert_int_equal(first.epoch, epoch);
	assert_string_equal(first.drone, "dr-a");
	assert_int_equal(granted(drone, epoch, "jo-1"), epoch);
	struct plane_store_lease second = lease_of(drone);
	assert_int_equal(second.epoch, epoch);
	assert_true(second.renewals > first.renewals);
	assert_int_equal(lease_of(other).epoch, 0);
}

static void what_a_renewal_says_of_its_end_is_kept(void **state)
{
	struct plane_store_renewal renewal = { .drone_id = drone, .journal = "jo-1" };
	(void)state;
	renewal.expire_ms = 60000;
	assert_int_equal(plane_store_leases_renew(store, &renewal, 1, &err), 0);
	assert_int_equal(lease_of(drone).expire_ms, 60000);
	renewal.expire_ms = 10000;
	assert_int_equal(plane_store_leases_renew(store, &renewal, 1, &err), 0);
	assert_int_equal(lease_of(drone).expire_ms, 10000);
}

static bool is_known(const char *backend, int64_t epoch, int64_t id)
{
	struct plane_store_running running[] = {
		{ .backend = "ba-before", .epoch = 1 },
		{ .backend = backend, .epoch = epoch },
		{ .backend = "ba-behind", .is_known = true },
	};
	assert_int_equal(plane_store_running_check(store, id, running, 3, &err), 0);
	assert_false(running[0].is_known);
	assert_false(running[2].is_known);
	return running[1].is_known;
}

static void what_a_drone_runs_is_known_by_its_drone_and_epoch_until_it_has_ended(void **state)
{
	(void)state;
	int64_t epoch = granted(drone, 0, "jo-1");
	assert_int_equal(plane_store_running_check(store, drone, NULL, 0, &err), 0);
	assert_false(is_known("b1", epoch, drone));
	assert_int_equal(spawn("b1", "k", drone, epoch), 0);
	assert_true(is_known("b1", epoch, drone));
	assert_false(is_known("b1", epoch, other));
	assert_false(is_known("b1", epoch + 1, drone));
	assert_false(is_known("b1", 0, drone));
	struct plane_backend_state ended = { .status = PLANE_TERMINATED,
		.last_status = PLANE_SCHEDULED };
	struct plane_store_report report = { .backend = "b1", .state = &ended };
	assert_int_equal(plane_store_backend_update(store, drone, &report, 1, &err), 0);
	assert_false(is_known("b1", epoch, drone));
}

static void many_are_renewed_at_once_each_by_its_own_right(void **state)
{
	(void)state;
	int64_t epoch = granted(drone, 0, "jo-1");
	struct plane_store_renewal renewals[] = {
		{ .drone_id = other, .journal = "jo \"2\\", .local_time_ms = 5 },
		{ .drone_id = drone, .epoch = epoch, .journal = "jo-1", .local_time_ms = -9 },
		{ .drone_id = other + 100, .epoch = 3, .journal = "jo-3", .local_time_ms = 1 },
	};
	assert_int_equal(plane_store_leases_renew(store, renewals, 3, &err), 0);
	assert_int_equal(renewals[0].result, PLANE_RENEWAL_GRANTED);
	assert_int_equal(lease_of(other).epoch, renewals[0].epoch);
	assert_int_equal(renewals[1].result, PLANE_RENEWAL_GRANTED);
	assert_int_equal(renewals[2].result, PLANE_RENEWAL_BROKEN);
	assert_int_equal(granted(other, renewals[0].epoch, "jo \"2\\"), renewals[0].epoch);
	assert_int_equal(plane_store_leases_renew(store, renewals, 0, &err), 0);
}

static void another_journal_has_no_part_in_a_lease(void **state)
{
	(void)state;
	int64_t epoch = granted(drone, 0, "jo-1");
	struct plane_store_lease before = lease_of(drone);
	assert_int_equal(ask(drone, epoch, "jo-2").result, PLANE_RENEWAL_BROKEN);
	assert_int_equal(ask(drone, epoch + 1, "jo-1").result, PLANE_RENEWAL_BROKEN);
	assert_int_equal(ask(drone, 0, "jo-2").result, PLANE_RENEWAL_WAITING);
	assert_int_equal(lease_of(drone).renewals, before.renewals);
	/* the same one, which did not hear the answer */
	assert_int_equal(granted(drone, 0, "jo-1"), epoch);
	before = lease_of(drone);
	assert_true(break_lease(&before));
	assert_true(granted(drone, 0, "jo-2") > epoch);
	assert_int_equal(ask(drone, epoch, "jo-1").result, PLANE_RENEWAL_BROKEN);
}

static void a_lease_is_broken_only_as_it_was_seen(void **state)
{
	(void)state;
	int64_t epoch = granted(drone, 0, "jo-1");
	struct plane_store_lease seen = lease_of(drone);
	assert_int_equal(granted(drone, epoch, "jo-1"), epoch);
	assert_false(break_lease(&seen));
	assert_int_equal(granted(drone, epoch, "jo-1"), epoch);
	seen = lease_of(drone);
	assert_true(break_lease(&seen));
	assert_false(break_lease(&seen));
	assert_int_equal(lease_of(drone).epoch, 0);
	assert_int_equal(ask(drone, epoch, "jo-1").result, PLANE_RENEWAL_BROKEN);
	int64_t next = granted(drone, 0, "jo-1");
	assert_true(next > epoch);
	struct plane_store_lease now = lease_of(drone);
	assert_true(now.renewals > seen.renewals);
}

static void keys_are_held_as_long_as_the_lease_is_unbroken(void **state)
{
	struct plane_store_lost lost = { 0 };
	(void)state;
	int64_t epoch = granted(drone, 0, "jo-1");
	assert_int_equal(spawn("b1", "k", drone, epoch), 0);
	(void)usleep(5000); /* expires_at, after a millisecond, means nothing here */
	assert_true(is_live("k"));
	assert_int_equal(spawn("b2", "k", drone, epoch), -EEXIST);
	assert_int_equal(pending(drone), 1);
	assert_int_equal(plane_store_mark_broken(store, &lost, &err), 0);
	assert_int_equal(lost.count, 0);
	assert_int_equal(plane_store_mark_lost(store, 0, &lost, &err), 0);
	assert_int_equal(lost.count, 0);
	struct plane_store_lease seen = lease_of(drone);
	assert_true(break_lease(&seen));
	assert_false(is_live("k"));
	assert_int_equal(pending(drone), 0); /* the order is void */
	int64_t elsewhere = granted(other, 0, "jo-2");
	assert_int_equal(spawn("b2", "k", other, elsewhere), 0);
	assert_true(is_live("k"));
	assert_int_equal(plane_store_mark_broken(store, &lost, &err), 0);
	assert_int_equal(lost.count, 1);
	assert_string_equal(lost.entries[0].backend, "b1");
	assert_int_equal(lost.entries[0].state.status, PLANE_TERMINATED);
	assert_int_equal(lost.entries[0].state.reason, PLANE_REASON_LOST);
	assert_int_equal(lost.entries[0].state.last_status, PLANE_SCHEDULED);
	plane_store_lost_finish(&lost);
	assert_true(is_live("k")); /* it is the other's */
	assert_int_equal(plane_store_mark_broken(store, &lost, &err), 0);
	assert_int_equal(lost.count, 0);
}

static void nothing_is_placed_under_a_lease_that_is_over(void **state)
{
	(void)state;
	int64_t epoch = granted(drone, 0, "jo-1");
	struct plane_store_lease seen = lease_of(drone);
	assert_int_equal(spawn("b0", "k", drone, epoch + 1), -ESTALE);
	assert_int_equal(spawn("b0", "k", drone, 0), -ESTALE);
	assert_true(break_lease(&seen));
	assert_int_equal(spawn("b1", "k", drone, epoch), -ESTALE);
	assert_false(is_live("k"));
	int64_t next = granted(drone, 0, "jo-1");
	assert_int_equal(spawn("b2", "k", drone, epoch), -ESTALE);
	assert_int_equal(spawn("b2", "k", drone, next), 0);
	assert_true(is_live("k"));
}

static void only_drones_that_renew_get_backends(void **state)
{
	(void)state;
	struct plane_store_connection found = look("k", LONG_MS);
	assert_int_equal(found.drones.count, 0); /* connected, and not heard of yet */
	plane_store_drones_finish(&found.drones);
	int64_t epoch = granted(drone, 0, "jo-1");
	found = look("k", LONG_MS);
	assert_int_equal(found.drones.count, 1);
	assert_int_equal(found.drones.entries[0].id, drone);
	assert_int_equal(found.drones.entries[0].lease_epoch, epoch);
	assert_int_equal(found.drones.entries[0].last_local_time_ms, 77);
	plane_store_drones_finish(&found.drones);
	(void)usleep(3000);
	found = look("k", 1); /* silent for longer than a lease may be */
	assert_int_equal(found.drones.count, 0);
	plane_store_drones_finish(&found.drones);
	assert_int_equal(plane_store_drone_heartbeat(store, other, 5, &err), 0);
	found = look("k", 1);
	assert_int_equal(found.drones.count, 1); /* one that leases keys one by one */
	assert_int_equal(found.drones.entries[0].lease_epoch, 0);
	plane_store_drones_finish(&found.drones);
	struct plane_store_lease seen = lease_of(drone);
	assert_true(break_lease(&seen));
	found = look("k", LONG_MS);
	assert_int_equal(found.drones.count, 1);
	assert_int_equal(found.drones.entries[0].id, other);
	plane_store_drones_finish(&found.drones);
}

/* Its controller was killed, and it came to another one. */
static void a_drone_that_comes_again_under_its_lease_gets_backends_at_once(void **state)
{
	(void)state;
	assert_int_equal(connect_drone_as("dr-a", true, NULL), drone);
	struct plane_store_connection found = look("k", LONG_MS);
	assert_int_equal(found.drones.count, 0); /* it has none */
	plane_store_drones_finish(&found.drones);
	int64_t epoch = granted(drone, 0, "jo-1");
	assert_int_equal(connect_drone_as("dr-a", true, NULL), drone);
	found = look("k", LONG_MS);
	assert_int_equal(found.drones.count, 1);
	assert_int_equal(found.drones.entries[0].lease_epoch, epoch);
	assert_int_equal(found.drones.entries[0].last_local_time_ms, 77);
	plane_store_drones_finish(&found.drones);
	assert_int_equal(spawn("b1", "k", drone, epoch), 0);
	struct plane_store_lease seen = lease_of(drone);
	assert_true(break_lease(&seen));
	assert_int_equal(connect_drone_as("dr-a", true, NULL), drone);
	found = look("other", LONG_MS);
	assert_int_equal(found.drones.count, 0);
	plane_store_drones_finish(&found.drones);
}

/* The drone's program was replaced by one that knows nothing of leases of whole drones. */
static void a_drone_without_leases_waits_until_the_old_one_is_over(void **state)
{
	bool is_renewed;
	(void)state;
	int64_t epoch = granted(drone, 0, "jo-1");
	assert_int_equal(spawn("b1", "k", drone, epoch), 0);
	assert_int_equal(connect_drone("dr-a"), drone);
	assert_int_equal(plane_store_drone_heartbeat(store, drone, 5, &err), 0);
	struct plane_store_connection found = look("other", LONG_MS);
	assert_int_equal(found.drones.count, 0);
	plane_store_drones_finish(&found.drones);
	assert_int_equal(plane_store_keys_renew(store, &(const char *){ "b1" }, 1, drone, LONG_MS,
				 &is_renewed, &err),
		0);
	assert_false(is_renewed);
	struct plane_store_lease seen = lease_of(drone);
	assert_true(break_lease(&seen));
	assert_int_equal(plane_store_drone_heartbeat(store, drone, 6, &err), 0);
	found = look("other", LONG_MS);
	assert_int_equal(found.drones.count, 1);
	assert_int_equal(found.drones.entries[0].lease_epoch, 0);
	plane_store_drones_finish(&found.drones);
	assert_int_equal(spawn("b2", "other", drone, 0), 0);
}

/* A copy of the database, older than the drone's journal, must not be greater in its eyes. */
static void a_new_epoch_is_greater_than_all_that_the_drone_knows(void **state)
{
	(void)state;
	int64_t epoch = granted(drone, 0, "jo-1");
	struct plane_store_renewal renewal = {
		.drone_id = drone, .last_epoch = epoch + 40, .journal = "jo-1", .local_time_ms = 1
	};
	assert_int_equal(spawn("b1", "k", drone, epoch), 0);
	assert_int_equal(plane_store_leases_renew(store, &renewal, 1, &err), 0);
	assert_int_equal(renewal.result, PLANE_RENEWAL_GRANTED);
	assert_int_equal(renewal.epoch, epoch + 41);
	assert_false(is_live("k")); /* it was of a lease that the drone is done with */
	renewal = (struct plane_store_renewal){
		.drone_id = other, .last_epoch = 9, .journal = "jo-2", .local_time_ms = 1
	};
	assert_int_equal(plane_store_leases_renew(store, &renewal, 1, &err), 0);
	assert_int_equal(renewal.epoch, 10);
}

static void leases_outlive_the_process(void **state)
{
	struct plane_store_leases before = { 0 }, after = { 0 };
	(void)state;
	int64_t epoch = granted(drone, 0, "jo-1");
	assert_int_equal(spawn("b1", "k", drone, epoch), 0);
	assert_int_equal(plane_store_leases_find(store, &before, &err), 0);
	plane_store_close(store);
	open_store();
	assert_int_equal(plane_store_leases_find(store, &after, &err), 0);
	assert_int_equal(before.incarnation, after.incarnation);
	plane_store_leases_finish(&before);
	plane_store_leases_finish(&after);
	assert_true(is_live("k"));
	assert_int_equal(granted(drone, epoch, "jo-1"), epoch);
}

/* A file that the version before leases of whole drones made, with a backend that runs. */
static void a_file_of_version_1_is_brought_up_to_date(void **state)
{
	struct plane_db old = { 0 };
	_cleanup_free_ char *path = plane_strdupf("%s/old", store_directory);
	_cleanup_free_ char *url = plane_strdupf("sqlite:%s", path);
	bool is_renewed = false;
	(void)state;
	assert_int_equal(plane_db_open(&old, path, &err), 0);
	assert_int_equal(plane_db_script(&old, PLANE_SQLITE_SCHEMA, &err), 0);
	assert_int_equal(
		plane_db_script(&old,
			"PRAGMA user_version = 1;"
			"INSERT INTO controller VALUES ('co-a', 1, 5);"
			"INSERT INTO node VALUES (1, 'Drone', 'c:1', 'dr-a', 'co-a', 9, 'v', 'g', "
			"'127.0.0.1');"
			"INSERT INTO drone VALUES (1, '', 1, 0, 5, 77);"
			"INSERT INTO backend VALUES ('b1', 'c:1', 1, '', 'k', 't', 50, "
			"'{\"status\":\"ready\",\"address\":\"10.0.0.1:8080\"}', 1, 1, 1, NULL, "
			"NULL, NULL, NULL);"
			"INSERT INTO backend_key VALUES ('', 'k', 't', 'b1', 9000000000000, 1);",
			&err),
		0);
	plane_db_close(&old);
	plane_store_close(store);
	store = plane_store_open(url, &err);
	assert_int_equal(plane_store_migrate(store, &err), 0);
	assert_true(is_live("k"));
	assert_int_equal(plane_store_keys_renew(
				 store, &(const char *){ "b1" }, 1, 1, LONG_MS, &is_renewed, &err),
		0);
	assert_true(is_renewed);
	int64_t epoch = granted(1, 0, "jo-1");
	struct plane_store_lease seen = lease_of(1);
	assert_int_equal(spawn("b2", "k2", 1, epoch), 0);
	assert_true(break_lease(&seen));
	assert_true(is_live("k")); /* its lease is its own */
	assert_false(is_live("k2"));
	struct plane_store_revocations revoked = { 0 };
	assert_int_equal(plane_store_token_revoke(store, "b1", "alice", &err), 0);
	assert_int_equal(plane_store_revocations(store, LONG_MS, &revoked, &err), 0);
	assert_int_equal(revoked.count, 1);
	assert_string_equal(revoked.entries[0].user, "alice");
	plane_store_revocations_finish(&revoked);
	assert_int_equal(plane_store_migrate(store, &err), 0); /* nothing more to do */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down_store)

#define COMMON                                                                                     \
	TEST(a_lease_begins_is_renewed_and_numbered),                                              \
		TEST(what_a_renewal_says_of_its_end_is_kept),                                      \
		TEST(many_are_renewed_at_once_each_by_its_own_right),                              \
		TEST(what_a_drone_runs_is_known_by_its_drone_and_epoch_until_it_has_ended),        \
		TEST(another_journal_has_no_part_in_a_lease),                                      \
		TEST(a_lease_is_broken_only_as_it_was_seen),                                       \
		TEST(keys_are_held_as_long_as_the_lease_is_unbroken),                              \
		TEST(nothing_is_placed_under_a_lease_that_is_over),                                \
		TEST(only_drones_that_renew_get_backends),                                         \
		TEST(a_drone_that_comes_again_under_its_lease_gets_backends_at_once),              \
		TEST(a_drone_without_leases_waits_until_the_old_one_is_over),                      \
		TEST(a_new_epoch_is_greater_than_all_that_the_drone_knows),                        \
		TEST(leases_outlive_the_process)

int main(void)
{
	const struct CMUnitTest sqlite[] = { COMMON,
		TEST(a_file_of_version_1_is_brought_up_to_date) };
	const struct CMUnitTest shared[] = { COMMON };
	int failed = cmocka_run_group_tests(sqlite, NULL, NULL);
	implementation = MEMORY;
	failed += cmocka_run_group_tests(shared, NULL, NULL);
	implementation = POSTGRES;
	postgres_server_start();
	failed += cmocka_run_group_tests(shared, NULL, NULL);
	postgres_server_stop();
	return failed;
}
