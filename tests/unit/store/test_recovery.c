/* What the store holds back after its database has become another one, which may have forgotten
 * what runs: the same cases on a PostgreSQL that the program starts, and on the store in memory. */
#include "postgres_server.h"
#include "store_cases.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"

static struct plane_error err;
static int64_t drone, other, connection;

static int64_t connect_again(const char *name, int64_t id)
{
	int64_t its_connection;
	assert_int_equal(connect_drone_as(name, true, &its_connection), id);
	return its_connection;
}

static int set_up(void **state)
{
	(void)state;
	set_up_store();
	drone = connect_drone("dr-a");
	other = connect_drone("dr-b");
	connection = connect_again("dr-a", drone);
	return 0;
}

static void close_all_connections(void)
{
	postgres_server_run("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE "
			    "application_name = 'plane'");
}

/* The server finds that it was another one, as a standby does that was made the primary. */
static void fail_over(void)
{
	if (implementation == MEMORY) {
		memory_database_fail_over(database, 0, NULL);
		return;
	}
	postgres_server_run("UPDATE meta SET value = value + 1 WHERE name = 'timeline'");
	close_all_connections();
}

static int spawn(const char *backend, bool is_key_new, int64_t id, int64_t epoch)
{
	struct plane_store_spawned spawned = { 0 };
	int result = spawn_as((struct plane_store_spawn){ .backend = backend,
				      .key_name = backend,
				      .is_key_new = is_key_new,
				      .drone_id = id,
				      .lease_epoch = epoch,
				      .lease_ms = LONG_MS },
		&spawned);
	free(spawned.message);
	return result;
}

static int64_t recovering_since(bool *has_key_leases)
{
	struct plane_store_leases leases = { 0 };
	if (plane_store_leases_find(store, &leases, &err) < 0)
		fail_msg("%s", err.message);
	if (has_key_leases)
		*has_key_leases = leases.has_key_leases;
	int64_t since_ms = leases.recovering_since_ms;
	plane_store_leases_finish(&leases);
	return since_ms;
}

static bool is_recovering(const char *key)
{
	struct plane_store_connection found = look(key, LONG_MS);
	plane_store_drones_finish(&found.drones);
	return found.is_recovering;
}

static bool ends(int64_t since_ms)
{
	bool is_over = false;
	assert_int_equal(plane_store_recovery_end(store, since_ms, &is_over, &err), 0);
	return is_over;
}

static void reconcile(int64_t id, int64_t its_connection)
{
	assert_int_equal(plane_store_drone_reconciled(store, id, its_connection, &err), 0);
}

static void keys_that_are_not_held_wait_and_others_do_not(void **state)
{
	struct plane_store_backend found;
	(void)state;
	int64_t epoch = granted(drone, 0, "jo-1");
	assert_int_equal(spawn("held", false, drone, epoch), 0);
	assert_int_equal(recovering_since(NULL), 0);
	fail_over();
	assert_int_equal(spawn("b1", false, drone, epoch), -EINPROGRESS);
	assert_int_equal(plane_store_backend_find(store, "b1", &found, &err), -ENOENT);
	assert_false(is_live("b1"));
	assert_true(is_recovering("b1"));
	assert_false(is_recovering("held"));
	assert_true(is_live("held"));
	assert_int_equal(spawn("new", true, drone, epoch), 0);
	assert_int_equal(granted(drone, epoch, "jo-1"), epoch);
	int64_t since_ms = recovering_since(NULL);
	assert_true(since_ms > 0);
	reconcile(drone, connect_again("dr-a", drone));
	assert_true(ends(since_ms));
	assert_int_equal(recovering_since(NULL), 0);
	assert_false(is_recovering("b1"));
	assert_int_equal(spawn("b1", false, drone, epoch), 0);
}

static void drones_that_hold_a_lease_must_have_told_what_they_run(void **state)
{
	(void)state;
	(void)granted(drone, 0, "jo-1");
	(void)granted(other, 0, "jo-2");
	reconcile(drone, connection); /* before: it has told that to another server */
	fail_over();
	int64_t since_ms = recovering_since(NULL);
	assert_false(ends(since_ms));
	reconcile(drone, connection);
	reconcile(other, connect_again("dr-b", other));
	assert_false(ends(since_ms));
	connection = connect_again("dr-a", drone);
	reconcile(drone, connection - 1);
	assert_false(ends(since_ms));
	assert_int_equal(recovering_since(NULL), since_ms);
	reconcile(drone, connection);
	assert_true(ends(since_ms));
	assert_int_equal(recovering_since(NULL), 0);
	assert_true(ends(since_ms)); /* another controller was faster */
}

static void a_drone_whose_lease_is_broken_is_not_waited_for(void **state)
{
	(void)state;
	(void)granted(drone, 0, "jo-1");
	fail_over();
	struct plane_store_lease lease = lease_of(drone);
	assert_false(ends(recovering_since(NULL)));
	assert_true(break_lease(&lease));
	assert_true(ends(recovering_since(NULL)));
	assert_int_equal(recovering_since(NULL), 0);
}

static void only_that_recovery_is_ended(void **state)
{
	(void)state;
	fail_over();
	int64_t since_ms = recovering_since(NULL);
	(void)ends(since_ms - 1);
	assert_int_equal(recovering_since(NULL), since_ms);
	fail_over();
	assert_true(recovering_since(NULL) >= since_ms);
	assert_true(ends(recovering_since(NULL)));
	assert_int_equal(recovering_since(NULL), 0);
}

static int refused(const char *action)
{
	struct plane_store_refused found = { 0 };
	int result = plane_store_refused_find(store, drone, action, &found, &err);
	plane_store_refused_finish(&found);
	return result;
}

static void orders_to_start_backends_that_are_older_wait(void **state)
{
	_cleanup_free_ char *message = NULL;
	int64_t ordered_from;
	(void)state;
	int64_t epoch = granted(drone, 0, "jo-1");
	assert_int_equal(spawn("b1", false, drone, epoch), 0);
	assert_int_equal(pending(drone), 1);
	fail_over();
	assert_int_equal(pending(drone), 0);
	assert_int_equal(refused("ak-b1"), -ENOENT);
	assert_int_equal(spawn("b2", true, drone, epoch), 0);
	assert_int_equal(pending(drone), 1);
	assert_int_equal(refused("ak-b2"), 0);
	assert_int_equal(plane_store_terminate(store, "b1", "ak-end", PLANE_KIND_SOFT,
				 PLANE_REASON_EXTERNAL, &ordered_from, &message, &err),
		0);
	assert_int_equal(pending(drone), 2);
	reconcile(drone, connect_again("dr-a", drone));
	assert_true(ends(recovering_since(NULL)));
	assert_int_equal(pending(drone), 3);
}

static void drones_that_lease_their_keys_one_by_one_are_known(void **state)
{
	bool has_key_leases = false;
	(void)state;
	(void)connect_drone_as("dr-a", true, NULL);
	(void)connect_drone_as("dr-b", true, NULL);
	int64_t epoch = granted(drone, 0, "jo-1");
	(void)granted(other, 0, "jo-2");
	fail_over();
	(void)recovering_since(&has_key_leases);
	assert_false(has_key_leases);
	struct plane_store_lease lease = lease_of(drone);
	assert_true(break_lease(&lease));
	(void)recovering_since(&has_key_leases);
	assert_false(has_key_leases);
	/* one of the original in its place, which has not spoken yet */
	(void)connect_drone_as("dr-a", false, NULL);
	(void)recovering_since(&has_key_leases);
	assert_true(has_key_leases);
	(void)connect_drone_as("dr-a", true, NULL);
	(void)recovering_since(&has_key_leases);
	assert_false(has_key_leases);
	assert_true(granted(drone, 0, "jo-1") > epoch);
	(void)connect_drone("dr-new");
	(void)recovering_since(&has_key_leases);
	assert_true(has_key_leases);
}

/* Its links may be in use, also at proxies of other controllers. */
static void a_revocation_is_told_of_a_backend_that_was_forgotten(void **state)
{
	struct plane_store_revocations revocations = { 0 };
	(void)state;
	fail_over();
	assert_int_equal(plane_store_token_revoke(store, "forgotten", "alice", &err), 0);
	assert_int_equal(plane_store_revocations(store, 60000, &revocations, &err), 0);
	assert_int_equal(revocations.count, 1);
	assert_string_equal(revocations.entries[0].backend, "forgotten");
	plane_store_revocations_finish(&revocations);
}

static void the_connection_that_an_earlier_server_knew_can_be_closed(void **state)
{
	char *name = NULL, *url = NULL;
	(void)state;
	fail_over();
	struct plane_store_registration registration = { drone, connection, true };
	assert_int_equal(plane_store_registrations_check(store, &registration, 1, &err), 0);
	assert_false(registration.is_current);
	assert_int_equal(plane_store_node_disconnected(store, drone, connection, &err), 0);
	assert_int_equal(plane_store_node_controller(store, drone, &name, &url, &err), 0);
	assert_null(name);
}

/* ---- PostgreSQL only ---- */

static void the_first_that_sees_it_says_since_when(void **state)
{
	(void)state;
	fail_over();
	struct plane_store *second = plane_store_open(postgres_server_url(), &err);
	assert_int_equal(plane_store_migrate(second, &err), 0);
	int64_t since_ms = recovering_since(NULL);
	postgres_server_run("SELECT pg_sleep(0.01)");
	close_all_connections();
	assert_int_equal(recovering_since(NULL), since_ms);
	plane_store_close(second);
}

static void a_restored_dump_is_another_database(void **state)
{
	(void)state;
	int64_t epoch = granted(drone, 0, "jo-1");
	postgres_server_run("UPDATE meta SET value = 7 WHERE name = 'system_identifier'");
	close_all_connections();
	assert_int_equal(spawn("b1", false, drone, epoch), -EINPROGRESS);
	reconcile(drone, connect_again("dr-a", drone));
	assert_true(ends(recovering_since(NULL)));
	/* into the same server: its tables are others */
	postgres_server_run("CREATE TABLE again (LIKE meta INCLUDING ALL); INSERT INTO again "
			    "SELECT * FROM meta; DROP TABLE meta; ALTER TABLE again RENAME TO "
			    "meta");
	close_all_connections();
	assert_int_equal(spawn("b1", false, drone, epoch), -EINPROGRESS);
}

static void a_server_that_was_only_started_anew_is_the_same(void **state)
{
	(void)state;
	int64_t epoch = granted(drone, 0, "jo-1");
	plane_store_close(store);
	postgres_server_restart();
	open_store();
	assert_int_equal(spawn("b1", false, drone, epoch), 0);
	assert_int_equal(recovering_since(NULL), 0);
}

static void a_synchronous_standby_has_forgotten_nothing(void **state)
{
	(void)state;
	int64_t epoch = granted(drone, 0, "jo-1");
	plane_store_close(store);
	store = plane_store_open(postgres_server_url(), &err);
	plane_store_trust_standbys(store);
	assert_int_equal(plane_store_migrate(store, &err), 0);
	fail_over();
	assert_int_equal(spawn("b1", false, drone, epoch), 0);
	assert_int_equal(recovering_since(NULL), 0);
	/* but a dump is none */
	postgres_server_run("UPDATE meta SET value = 7 WHERE name = 'system_identifier'");
	close_all_connections();
	assert_int_equal(spawn("b2", false, drone, epoch), -EINPROGRESS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down_store)

#define COMMON                                                                                     \
	TEST(keys_that_are_not_held_wait_and_others_do_not),                                       \
		TEST(drones_that_hold_a_lease_must_have_told_what_they_run),                       \
		TEST(a_drone_whose_lease_is_broken_is_not_waited_for),                             \
		TEST(only_that_recovery_is_ended),                                                 \
		TEST(orders_to_start_backends_that_are_older_wait),                                \
		TEST(drones_that_lease_their_keys_one_by_one_are_known),                           \
		TEST(a_revocation_is_told_of_a_backend_that_was_forgotten),                        \
		TEST(the_connection_that_an_earlier_server_knew_can_be_closed)

int main(void)
{
	const struct CMUnitTest memory[] = { COMMON };
	const struct CMUnitTest postgres[] = { COMMON, TEST(the_first_that_sees_it_says_since_when),
		TEST(a_restored_dump_is_another_database),
		TEST(a_server_that_was_only_started_anew_is_the_same),
		TEST(a_synchronous_standby_has_forgotten_nothing) };
	implementation = MEMORY;
	int failed = cmocka_run_group_tests(memory, NULL, NULL);
	implementation = POSTGRES;
	postgres_server_start();
	failed += cmocka_run_group_tests(postgres, NULL, NULL);
	postgres_server_stop();
	return failed;
}
