/* controller/follower.c on a PostgreSQL: what another store does reaches the hub of a controller
 * that has news of its own all the time. */
#include "../cmocka_all.h"
#include "../store/postgres_server.h"

#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "controller/follower.h"

#define POLL_MS 20

static uv_loop_t loop;
static uv_timer_t load;
static struct plane_hub *hub;
static struct plane_metrics metrics;
static struct plane_store *own, *other;
static struct plane_follower *follower;
static struct plane_error err;
static const char *awaited; /* the user of a revocation */
static int missed_count;

static void on_event(void *data, const struct plane_hub_event *event)
{
	missed_count += event->kind == PLANE_HUB_MISSED;
	if (event->kind == PLANE_HUB_REVOCATION && awaited && strcmp(event->user, awaited) == 0)
		awaited = NULL;
}

static void publish(uv_timer_t *timer)
{
	plane_hub_publish_revocation(hub, "b1", "own");
}

static struct plane_store *open_store(void)
{
	struct plane_store *store = plane_store_open(postgres_server_url(), &err);
	assert_non_null(store);
	assert_int_equal(plane_store_migrate(store, &err), 0);
	return store;
}

static void spawn(const char *backend)
{
	struct plane_store_node node = { .kind = PLANE_NODE_DRONE,
		.name = "dr-1",
		.cluster = "c:1",
		.controller = "co-own",
		.pool = "" };
	_cleanup_json_ json_t *executable = json_pack("{s:s}", "image", "echo");
	struct plane_store_spawned spawned = { 0 };
	int64_t drone, connection;
	assert_int_equal(plane_store_node_connected(own, &node, &drone, &connection, &err), 0);
	struct plane_store_spawn order = { .backend = backend,
		.cluster = "c:1",
		.drone_id = drone,
		.key_name = backend,
		.key_namespace = "",
		.key_tag = "",
		.lifetime_limit_seconds = -1,
		.max_idle_seconds = -1,
		.action_id = "ak-1",
		.executable = executable,
		.lease_ms = 3600000 };
	assert_int_equal(plane_store_spawn(own, &order, &spawned, &err), 0);
	free(spawned.message);
}

static int set_up(void **state)
{
	postgres_server_run("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
	own = open_store();
	other = open_store();
	spawn("b1");
	assert_int_equal(uv_loop_init(&loop), 0);
	hub = plane_hub_create(&loop, &err);
	assert_non_null(hub);
	plane_hub_set_receiver(hub, on_event, NULL);
	follower = plane_follower_create(own, "co-own", POLL_MS, hub, &metrics, &err);
	assert_non_null(follower);
	assert_int_equal(uv_timer_init(&loop, &load), 0);
	assert_int_equal(uv_timer_start(&load, publish, 0, 1), 0);
	missed_count = 0;
	return 0;
}

static int tear_down(void **state)
{
	plane_follower_destroy(follower);
	uv_close((uv_handle_t *)&load, NULL);
	plane_hub_close(hub, NULL, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	plane_store_close(own);
	plane_store_close(other);
	return 0;
}

/* What was tried while the connection broke may have been done: it is done again. */
static void assert_followed(const char *user)
{
	while (plane_store_token_revoke(other, "b1", user, &err) < 0)
		assert_int_equal(err.code, -EAGAIN);
	awaited = user;
	while (awaited)
		uv_run(&loop, UV_RUN_ONCE);
}

static void a_busy_controller_follows_others(void **state)
{
	assert_followed("first");
	assert_followed("second");
	assert_int_equal(missed_count, 0);
}

static void a_busy_controller_follows_others_after_its_connection_was_lost(void **state)
{
	for (int i = 0; i < 5; i++) {
		assert_followed("before");
		postgres_server_run(
			"SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE pid "
			"<> pg_backend_pid() AND datname = current_database()");
		assert_followed("after");
	}
}

static void a_busy_controller_follows_others_after_the_server_was_restarted(void **state)
{
	assert_followed("before");
	postgres_server_restart();
	while (!missed_count)
		uv_run(&loop, UV_RUN_ONCE);
	assert_followed("after");
}

int main(void)
{
#define WITH_STORES(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		WITH_STORES(a_busy_controller_follows_others),
		WITH_STORES(a_busy_controller_follows_others_after_its_connection_was_lost),
		WITH_STORES(a_busy_controller_follows_others_after_the_server_was_restarted),
	};
	postgres_server_start();
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	postgres_server_stop();
	return failed;
}
