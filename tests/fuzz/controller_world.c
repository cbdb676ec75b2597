/* The controller of the fuzz targets. */
#include "controller_world.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "fuzz.h"
#include "store/sqlite.h"

#define REALTIME_MS 1700000000000
#define BOOT_MS 5000

static struct plane_controller_config config;
struct plane_controller controller = { .name = "co-fuzz", .config = &config };
static int64_t first_drone;
static int changes;       /* of the store, up to the present input */
static sqlite3 *baseline; /* what the store is put back to after an input that changed it */

/* ---- a controller ---- */

static int64_t realtime(void *data)
{
	(void)data;
	return REALTIME_MS;
}

static int64_t boot(void *data)
{
	(void)data;
	return BOOT_MS;
}

static void no_request(
	const struct plane_http_request *request, struct plane_http_response *response)
{
	(void)request;
	response->status = 500;
}

static int64_t add_drone(const char *name, const char *pool)
{
	struct plane_store_node node = { .kind = PLANE_NODE_DRONE,
		.name = name,
		.cluster = WORLD_CLUSTER,
		.controller = controller.name,
		.pool = pool };
	struct plane_error err = { 0 };
	int64_t id, connection;
	FUZZ_CHECK(
		plane_store_node_connected(controller.store, &node, &id, &connection, &err) == 0);
	FUZZ_CHECK(plane_store_drone_heartbeat(controller.store, id, 77, &err) == 0);
	return id;
}

static void add_backend(
	int64_t drone, const char *backend, const char *key, enum plane_backend_status status)
{
	_cleanup_json_ json_t *executable = json_pack("{s:s}", "image", "echo");
	_cleanup_json_ json_t *auth = json_object();
	_cleanup_free_ char *token_text = plane_strdupf("token-of-%s", backend);
	_cleanup_free_ char *action = plane_strdupf("ak-%s", backend);
	struct plane_store_token token = { .token = token_text,
		.secret_token = "secret",
		.backend = backend,
		.user = "u",
		.auth = auth,
		.lifetime_ms = 1000000 };
	struct plane_store_spawn spawn = { .backend = backend,
		.cluster = WORLD_CLUSTER,
		.drone_id = drone,
		.key_name = key,
		.key_namespace = "",
		.key_tag = "t",
		.lifetime_limit_seconds = -1,
		.max_idle_seconds = -1,
		.token = &token,
		.action_id = action,
		.executable = executable,
		.lease_ms = 60000 };
	struct plane_backend_state state = { .status = status,
		.last_status = PLANE_READY,
		.reason = PLANE_REASON_EXTERNAL,
		.address = "10.0.0.1:80" };
	struct plane_error err = { 0 };
	struct plane_store_report report = { .backend = backend, .state = &state };
	struct plane_store_spawned spawned;
	FUZZ_CHECK(plane_store_spawn(controller.store, &spawn, &spawned, &err) == 0);
	free(spawned.message);
	FUZZ_CHECK(plane_store_backend_update(controller.store, drone, &report, 1, &err) == 0);
}

static void copy_database(sqlite3 *to, sqlite3 *from)
{
	sqlite3_backup *backup = sqlite3_backup_init(to, "main", from, "main");
	FUZZ_CHECK(backup && sqlite3_backup_step(backup, -1) == SQLITE_DONE);
	FUZZ_CHECK(sqlite3_backup_finish(backup) == SQLITE_OK);
}

static sqlite3 *database(void)
{
	return PLANE_SQLITE_STORE(controller.store)->writer.sqlite;
}

static void open_store(void)
{
	static const struct plane_store_clock clock = { realtime, boot, "boot", NULL };
	char directory[] = "/dev/shm/plane-fuzz-XXXXXX";
	struct plane_error err = { 0 };
	FUZZ_CHECK(mkdtemp(directory));
	_cleanup_free_ char *path = plane_strdupf("%s/db", directory);
	controller.store = plane_sqlite_store_open(path, &clock, &err);
	FUZZ_CHECK(controller.store && plane_store_migrate(controller.store, &err) == 0);
	FUZZ_CHECK(plane_store_controller_heartbeat(controller.store, controller.name, &err) == 0);
	int64_t drone = first_drone = add_drone(WORLD_DRONE, "");
	(void)add_drone("dr-b", "p"); /* in a pool */
	add_backend(drone, "ready", "k", PLANE_READY);
	add_backend(drone, "ending", "e", PLANE_TERMINATING);
	add_backend(drone, "ended", "g", PLANE_TERMINATED);
	FUZZ_CHECK(sqlite3_open(":memory:", &baseline) == SQLITE_OK);
	copy_database(baseline, database());
	/* the open files are enough; nothing stays behind, however this process ends */
	FUZZ_CHECK(plane_file_remove_tree(directory, &err) == 0);
}

static void usage_wanted(uv_async_t *wake)
{
	(void)wake;
}

/* What the controller keeps in memory. Drones were asked what their backends use, and none answers:
 * who wants to know does not wait. */
static void make_memory(void)
{
	plane_placements_destroy(controller.placements);
	plane_usage_destroy(controller.usage);
	controller.placements =
		plane_placements_create(config.drone_lease.expire_ms, config.drone_lease.renew_ms);
	controller.usage = plane_usage_create();
	(void)plane_usage_want(controller.usage, plane_clock_boot_ms());
	plane_usage_asked(controller.usage, 0);
}

void controller_world_create(
	void (*on_event)(void *data, const struct plane_hub_event *event), void *data)
{
	struct plane_http_server_config server = { .listen = "127.0.0.1:0",
		.handler = no_request,
		.pool_threads = 1,
		.max_connections = 1 };
	struct plane_error err = { 0 };
	plane_log_init("fuzz", PLANE_LOG_ERROR, PLANE_LOG_PRETTY);
	config = plane_controller_config_defaults;
	config.default_cluster = WORLD_CLUSTER;
	config.termination_grace_ms = 0;
	FUZZ_CHECK(uv_loop_init(&controller.loop) == 0);
	controller.public_url = plane_strdup("http://public.test");
	FUZZ_CHECK(uv_async_init(&controller.loop, &controller.usage_wake, usage_wanted) == 0);
	controller.drones = plane_drone_registry_create();
	make_memory();
	controller.hub = plane_hub_create(&controller.loop, &err);
	controller.server = plane_http_server_create(&controller.loop, &server, &err);
	FUZZ_CHECK(controller.hub && controller.server);
	plane_hub_set_receiver(controller.hub, on_event, data);
	plane_hub_stop_waiting(controller.hub); /* nothing will ever end here */
	open_store();
	changes = sqlite3_total_changes(database());
}

void controller_world_reset(void)
{
	make_memory();
	if (sqlite3_total_changes(database()) == changes)
		return;
	copy_database(database(), baseline);
	changes = sqlite3_total_changes(database());
}

int64_t controller_world_drone(void)
{
	return first_drone;
}
