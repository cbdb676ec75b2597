#include "store_cases.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "postgres_server.h"

enum implementation implementation;
struct plane_store *store;
struct memory_database *database;
char store_directory[64];

static struct plane_error err;

void open_store(void)
{
	_cleanup_free_ char *file = plane_strdupf("sqlite:%s/db", store_directory);
	store = implementation == MEMORY
			? memory_store_open(database)
			: plane_store_open(
				  implementation == POSTGRES ? postgres_server_url() : file, &err);
	if (!store || plane_store_migrate(store, &err) < 0)
		fail_msg("%s", err.message);
}

static int64_t now_ms(void *data)
{
	(void)data;
	return plane_clock_realtime_ms();
}

void set_up_store(void)
{
	strcpy(store_directory, "/tmp/plane-store-XXXXXX");
	assert_non_null(mkdtemp(store_directory));
	if (implementation == MEMORY)
		database = memory_database_create(&(struct memory_clock){ now_ms, NULL });
	if (implementation == POSTGRES)
		postgres_server_run("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
	open_store();
	assert_int_equal(plane_store_controller_heartbeat(store, "co-a", &err), 0);
}

int tear_down_store(void **state)
{
	(void)state;
	plane_store_close(store);
	if (implementation == MEMORY)
		memory_database_destroy(database);
	return plane_file_remove_tree(store_directory, NULL);
}

int64_t connect_drone_as(const char *name, bool has_lease, int64_t *connection)
{
	struct plane_store_node node = { .kind = PLANE_NODE_DRONE,
		.name = name,
		.has_lease = has_lease,
		.cluster = "c:1",
		.controller = "co-a",
		.pool = "" };
	int64_t id, its_connection;
	assert_int_equal(plane_store_node_connected(store, &node, &id, &its_connection, &err), 0);
	if (connection)
		*connection = its_connection;
	return id;
}

int64_t connect_drone(const char *name)
{
	return connect_drone_as(name, false, NULL);
}

/* ---- leases ---- */

struct plane_store_renewal ask(int64_t drone, int64_t epoch, const char *journal)
{
	struct plane_store_renewal renewal = { .drone_id = drone,
		.epoch = epoch,
		.last_epoch = epoch,
		.journal = journal,
		.local_time_ms = 77,
		.expire_ms = 10000 };
	if (plane_store_leases_renew(store, &renewal, 1, &err) < 0)
		fail_msg("%s", err.message);
	return renewal;
}

int64_t granted(int64_t drone, int64_t epoch, const char *journal)
{
	struct plane_store_renewal renewal = ask(drone, epoch, journal);
	assert_int_equal(renewal.result, PLANE_RENEWAL_GRANTED);
	return renewal.epoch;
}

struct plane_store_lease lease_of(int64_t drone)
{
	struct plane_store_leases leases = { 0 };
	struct plane_store_lease found = { 0 };
	assert_int_equal(plane_store_leases_find(store, &leases, &err), 0);
	for (size_t i = 0; i < leases.count; i++)
		if (leases.entries[i].drone_id == drone)
			found = leases.entries[i];
	plane_store_leases_finish(&leases);
	return found;
}

bool break_lease(const struct plane_store_lease *lease)
{
	bool is_broken = false;
	assert_int_equal(plane_store_lease_break(store, lease, &is_broken, &err), 0);
	return is_broken;
}

/* ---- keys and backends ---- */

int spawn_as(struct plane_store_spawn order, struct plane_store_spawned *spawned)
{
	_cleanup_json_ json_t *executable = json_pack("{s:s}", "image", "echo");
	_cleanup_free_ char *action = plane_strdupf("ak-%s", order.backend);
	struct plane_error local;
	order.cluster = "c:1";
	order.key_namespace = "";
	order.key_tag = "t";
	order.lifetime_limit_seconds = order.max_idle_seconds = -1;
	order.action_id = action;
	order.executable = executable;
	return plane_store_spawn(store, &order, spawned, &local);
}

struct plane_store_connection look(const char *key, int64_t lease_healthy_ms)
{
	struct plane_store_connect request = { .key_namespace = "",
		.key_name = key,
		.key_tag = "t",
		.cluster = "c:1",
		.pool = "",
		.healthy_ms = LONG_MS,
		.lease_healthy_ms = lease_healthy_ms };
	struct plane_store_connection found = { 0 };
	if (plane_store_connect(store, &request, &found, &err) < 0)
		fail_msg("%s", err.message);
	return found;
}

bool is_live(const char *key)
{
	struct plane_store_connection found = look(key, LONG_MS);
	plane_store_drones_finish(&found.drones);
	return found.key.is_found && found.key.is_live;
}

size_t pending(int64_t drone)
{
	struct plane_store_actions actions = { 0 };
	assert_int_equal(plane_store_actions_pending(store, drone, 10, &actions, &err), 0);
	size_t count = actions.count;
	plane_store_actions_finish(&actions);
	return count;
}

bool reports(int64_t drone, const char *backend, enum plane_backend_status status)
{
	struct plane_backend_state state = { .status = status };
	struct plane_store_report told = { .backend = backend, .state = &state };
	assert_int_equal(plane_store_backend_update(store, drone, &told, 1, &err), 0);
	return told.is_changed;
}
