/* store/store.h, of nodes: where drones have registered, and which nodes are forgotten. The same
 * cases on each implementation, with a clock of their own. */
#include "../cmocka_all.h"
#include "postgres_server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/json.h"
#include "sim/memory_store.h"
#include "store/sqlite.h"
#include "store/store.h"

#define DAY_MS 86400000

enum implementation { SQLITE, POSTGRES, MEMORY };

static enum implementation implementation;
static struct memory_database *database;
static int64_t clock_ms;
static char directory[64];
static struct plane_store *store;
static struct plane_error err;

static int64_t fake_clock(void *data)
{
	return clock_ms;
}

static void pass_ms(int64_t ms)
{
	char sql[160];
	clock_ms += ms;
	snprintf(sql, sizeof(sql),
		"CREATE OR REPLACE FUNCTION now_ms() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT "
		"%lld'",
		(long long)clock_ms);
	if (implementation == POSTGRES)
		postgres_server_run(sql);
}

static struct plane_store *open_store(void)
{
	static char path[80];
	struct plane_store_clock clock = { fake_clock, fake_clock, "boot", NULL };
	snprintf(path, sizeof(path), "%s/db", directory);
	if (implementation == MEMORY)
		return memory_store_open(database);
	return implementation == POSTGRES ? plane_store_open(postgres_server_url(), &err)
					  : plane_sqlite_store_open(path, &clock, &err);
}

static int set_up(void **state)
{
	clock_ms = 1700000000000;
	strcpy(directory, "/tmp/plane-nodes-XXXXXX");
	assert_non_null(mkdtemp(directory));
	if (implementation == MEMORY)
		database = memory_database_create(&(struct memory_clock){ fake_clock, NULL });
	if (implementation == POSTGRES)
		postgres_server_run("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
	store = open_store();
	if (!store || plane_store_migrate(store, &err) < 0)
		fail_msg("%s", err.message);
	pass_ms(0);
	assert_int_equal(plane_store_controller_heartbeat(store, "co-a", &err), 0);
	return 0;
}

static int tear_down(void **state)
{
	plane_store_close(store);
	if (implementation == MEMORY)
		memory_database_destroy(database);
	return plane_file_remove_tree(directory, NULL);
}

static int64_t connect_at(enum plane_node_kind kind, const char *name, const char *ip,
	int first_port, int last_port, int64_t *connection)
{
	int64_t id = 0, unused;
	struct plane_store_node node = { .kind = kind,
		.name = name,
		.cluster = "c:1",
		.controller = "co-a",
		.pool = "",
		.backend_ip = ip,
		.first_port = first_port,
		.last_port = last_port };
	assert_int_equal(plane_store_node_connected(
				 store, &node, &id, connection ? connection : &unused, &err),
		0);
	return id;
}

static void assert_owner(
	int64_t asker, const char *ip, int first_port, int last_port, const char *owner)
{
	char *name = NULL;
	assert_int_equal(plane_store_address_owner(
				 store, asker, ip, first_port, last_port, 45000, &name, &err),
		0);
	if (owner) {
		assert_non_null(name);
		assert_string_equal(name, owner);
	} else {
		assert_null(name);
	}
	free(name);
}

static void an_address_is_that_of_the_connected_drone_that_registered_it(void **state)
{
	int64_t connection;
	int64_t a = connect_at(PLANE_NODE_DRONE, "dr-a", "10.0.0.1", 20000, 20999, &connection);
	int64_t b = connect_at(PLANE_NODE_DRONE, "dr-b", NULL, 0, 0, NULL);
	assert_owner(b, "10.0.0.1", 20000, 20000, "dr-a");
	assert_owner(b, "10.0.0.1", 20999, 30000, "dr-a");
	assert_owner(b, "10.0.0.1", 1, 65535, "dr-a");
	assert_owner(b, "10.0.0.1", 1, 19999, NULL);
	assert_owner(b, "10.0.0.1", 21000, 65535, NULL);
	assert_owner(b, "10.0.0.2", 20000, 20000, NULL);
	assert_owner(a, "10.0.0.1", 20000, 20999, NULL); /* its own */
	/* it has gone */
	assert_int_equal(plane_store_node_disconnected(store, a, connection, &err), 0);
	assert_owner(b, "10.0.0.1", 20000, 20000, NULL);
	/* with another address: the former one is free */
	(void)connect_at(PLANE_NODE_DRONE, "dr-a", "10.0.0.3", 20000, 20999, NULL);
	assert_owner(b, "10.0.0.1", 20000, 20000, NULL);
	assert_owner(b, "10.0.0.3", 20000, 20000, "dr-a");
	/* its controller is dead */
	pass_ms(45001);
	assert_owner(b, "10.0.0.3", 20000, 20000, NULL);
	assert_int_equal(plane_store_controller_heartbeat(store, "co-a", &err), 0);
	assert_owner(b, "10.0.0.3", 20000, 20000, "dr-a");
	assert_int_equal(plane_store_controller_offline(store, "co-a", &err), 0);
	assert_owner(b, "10.0.0.3", 20000, 20000, NULL);
}

static int64_t forget(int batch)
{
	int64_t removed = -1;
	if (plane_store_cleanup_nodes(store, DAY_MS, batch, &removed, &err) < 0)
		fail_msg("%s", err.message);
	return removed;
}

static int64_t count_nodes(void)
{
	struct plane_store_members members = { 0 };
	struct plane_store_member_filter filter = {
		.are_drones = true, .are_proxies = true, .has_away = true
	};
	assert_int_equal(plane_store_member_list(store, &filter, &members, &err), 0);
	int64_t count = (int64_t)members.count;
	plane_store_members_finish(&members);
	return count;
}

static void leave(enum plane_node_kind kind, const char *name)
{
	int64_t connection;
	int64_t id = connect_at(kind, name, NULL, 0, 0, &connection);
	assert_int_equal(plane_store_node_disconnected(store, id, connection, &err), 0);
}

static void nodes_that_are_long_gone_are_forgotten(void **state)
{
	for (int i = 0; i < 5; i++) {
		_cleanup_free_ char *proxy = plane_strdupf("px-%d", i);
		_cleanup_free_ char *drone = plane_strdupf("dr-%d", i);
		leave(PLANE_NODE_PROXY, proxy);
		leave(PLANE_NODE_DRONE, drone);
	}
	(void)connect_at(PLANE_NODE_PROXY, "px-here", NULL, 0, 0, NULL);
	assert_int_equal(forget(100), 0); /* they may come again */
	pass_ms(DAY_MS + 1);
	assert_int_equal(plane_store_controller_heartbeat(store, "co-a", &err), 0);
	leave(PLANE_NODE_PROXY, "px-0"); /* it was here again */
	assert_int_equal(forget(3), 3);
	assert_int_equal(forget(100), 6);
	assert_int_equal(forget(100), 0);
	assert_int_equal(count_nodes(), 2);
	/* what comes again is a new one, and works */
	int64_t connection;
	int64_t id = connect_at(PLANE_NODE_DRONE, "dr-1", NULL, 0, 0, &connection);
	struct plane_store_registration registration = { id, connection, false };
	assert_int_equal(plane_store_registrations_check(store, &registration, 1, &err), 0);
	assert_true(registration.is_current);
	/* those of a controller that has died long ago, too */
	pass_ms(DAY_MS + 1);
	assert_int_equal(forget(100), 3);
	assert_int_equal(count_nodes(), 0);
}

static void start_on(int64_t drone, const char *backend)
{
	_cleanup_json_ json_t *executable = json_pack("{s:s}", "image", "echo");
	_cleanup_free_ char *action = plane_strdupf("ak-%s", backend);
	struct plane_store_spawned spawned = { 0 };
	struct plane_store_spawn spawn = { .backend = backend,
		.cluster = "c:1",
		.drone_id = drone,
		.key_name = backend,
		.key_namespace = "",
		.key_tag = "",
		.lifetime_limit_seconds = -1,
		.max_idle_seconds = -1,
		.lease_ms = 60000,
		.action_id = action,
		.executable = executable };
	if (plane_store_spawn(store, &spawn, &spawned, &err) < 0)
		fail_msg("%s", err.message);
	free(spawned.message);
}

static void nodes_that_hold_something_are_kept(void **state)
{
	bool is_changed;
	int64_t removed, connection;
	int64_t drone = connect_at(PLANE_NODE_DRONE, "dr-a", NULL, 0, 0, &connection);
	assert_int_equal(plane_store_drone_heartbeat(store, drone, 1, &err), 0);
	start_on(drone, "b-1");
	assert_int_equal(plane_store_node_disconnected(store, drone, connection, &err), 0);
	int64_t proxy = connect_at(PLANE_NODE_PROXY, "px-a", NULL, 0, 0, &connection);
	assert_int_equal(plane_store_cert_lease(store, "c:1", proxy, 1000, &is_changed, &err), 0);
	assert_int_equal(plane_store_node_disconnected(store, proxy, connection, &err), 0);
	leave(PLANE_NODE_DRONE, "dr-b");
	assert_int_equal(plane_store_drone_drain(store, "c:1", "dr-b", true, &is_changed, &err), 0);
	pass_ms(DAY_MS + 1);
	assert_int_equal(forget(100), 0); /* a backend, a certificate, an order of the operator */

	struct plane_backend_state ended = { .status = PLANE_TERMINATED };
	struct plane_store_report report = { .backend = "b-1", .state = &ended };
	assert_int_equal(plane_store_backend_update(store, drone, &report, 1, &err), 0);
	assert_int_equal(forget(100), 0); /* lists still show where it was */
	assert_int_equal(plane_store_cleanup_backends(store, 0, 100, &removed, &err), 0);
	assert_int_equal(removed, 1);
	assert_int_equal(plane_store_cert_release(store, "c:1", proxy, &err), 0);
	assert_int_equal(
		plane_store_drone_drain(store, "c:1", "dr-b", false, &is_changed, &err), 0);
	assert_int_equal(forget(100), 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_address_is_that_of_the_connected_drone_that_registered_it),
		TEST(nodes_that_are_long_gone_are_forgotten),
		TEST(nodes_that_hold_something_are_kept),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	implementation = MEMORY;
	failed += cmocka_run_group_tests(tests, NULL, NULL);
	implementation = POSTGRES;
	postgres_server_start();
	failed += cmocka_run_group_tests(tests, NULL, NULL);
	postgres_server_stop();
	return failed;
}
