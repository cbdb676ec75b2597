/* What drones report, draining, and backends that are refused and moved, through the interface of
 * the store: the same cases on a file of SQLite, on a PostgreSQL that the program starts, and on
 * the store in memory. */
#include "postgres_server.h"
#include "store_cases.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libpq-fe.h>

#include "base/json.h"

#define MIB (INT64_C(1) << 20)

static struct plane_error err;
static int64_t drone, other, third;

static int set_up(void **state)
{
	(void)state;
	set_up_store();
	drone = connect_drone("dr-a");
	other = connect_drone("dr-b");
	third = connect_drone("dr-c");
	return 0;
}

static const struct plane_drone_resources report = {
	.total = { 1000 * MIB, 4000 },
	.allocatable = { 2000 * MIB, 8000 },
	.reserved = { 300 * MIB, 250 },
	.memory_available_bytes = 500 * MIB,
	.load_millis = 1250,
	.backend_count = 3,
	.last_fencing_token = 42,
};

/* The epoch that is granted. */
static int64_t renew(int64_t id, int64_t epoch, const struct plane_drone_resources *resources)
{
	struct plane_store_renewal renewal = { .drone_id = id,
		.epoch = epoch,
		.last_epoch = epoch,
		.journal = "jo-1",
		.local_time_ms = 77,
		.has_resources = resources != NULL };
	if (resources)
		renewal.resources = *resources;
	if (plane_store_leases_renew(store, &renewal, 1, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(renewal.result, PLANE_RENEWAL_GRANTED);
	return renewal.epoch;
}

static int spawn(
	const char *backend, int64_t id, int64_t epoch, struct plane_store_spawned *spawned)
{
	_cleanup_json_ json_t *auth = json_object();
	struct plane_store_token token = { .token = backend,
		.secret_token = "s",
		.backend = backend,
		.auth = auth,
		.lifetime_ms = LONG_MS };
	return spawn_as((struct plane_store_spawn){ .backend = backend,
				.key_name = backend,
				.drone_id = id,
				.token = &token,
				.resources = { 64 * MIB, 500 },
				.lease_epoch = epoch,
				.lease_ms = LONG_MS },
		spawned);
}

static int64_t spawned_token(const char *backend, int64_t id, int64_t epoch)
{
	struct plane_store_spawned spawned = { 0 };
	assert_int_equal(spawn(backend, id, epoch, &spawned), 0);
	free(spawned.message);
	return spawned.fencing_token;
}

static void drain(int64_t id, bool is_draining)
{
	const char *names[] = { "dr-a", "dr-b", "dr-c" };
	bool is_changed;
	int index = id == drone ? 0 : id == other ? 1 : 2;
	assert_int_equal(
		plane_store_drone_drain(store, "c:1", names[index], is_draining, &is_changed, &err),
		0);
	assert_true(is_changed);
}

static struct plane_store_drone candidate(int64_t id)
{
	struct plane_store_connection found = look(NULL, LONG_MS);
	struct plane_store_drone one = { 0 };
	for (size_t i = 0; i < found.drones.count; i++)
		if (found.drones.entries[i].id == id)
			one = found.drones.entries[i];
	plane_store_drones_finish(&found.drones);
	return one;
}

static int refused_find(int64_t id, const char *action)
{
	struct plane_store_refused refused = { 0 };
	struct plane_error local;
	int result = plane_store_refused_find(store, id, action, &refused, &local);
	plane_store_refused_finish(&refused);
	return result;
}

/* Reads the refused order, as a controller does, and gives it to drone `to`. */
static int move(int64_t from, const char *refused_action, int64_t to, int64_t epoch,
	const char *action, struct plane_store_spawned *spawned)
{
	struct plane_store_refused refused = { 0 };
	struct plane_error local;
	struct plane_drone_order order;
	int result = plane_store_refused_find(store, from, refused_action, &refused, &local);
	if (result < 0)
		return result;
	_cleanup_json_ json_t *json =
		plane_json_parse(refused.message, strlen(refused.message), &local);
	assert_int_equal(plane_drone_order_read(json, &order, &local), 0);
	order.action_id = action;
	order.drone_id = to;
	order.epoch = epoch;
	struct plane_store_move asked = { from, refused_action, &order, LONG_MS };
	result = plane_store_move(store, &asked, spawned, &local);
	plane_store_refused_finish(&refused);
	return result;
}

static void what_a_drone_reports_is_what_placement_and_lists_read(void **state)
{
	struct plane_store_members members = { 0 };
	struct plane_store_member_filter filter = { .name = "dr-a", .are_drones = true };
	(void)state;
	int64_t epoch = renew(drone, 0, &report);
	struct plane_store_drone found = candidate(drone);
	assert_true(found.has_resources);
	assert_memory_equal(&found.resources.total, &report.total, sizeof(report.total));
	assert_memory_equal(
		&found.resources.allocatable, &report.allocatable, sizeof(report.allocatable));
	assert_memory_equal(&found.resources.reserved, &report.reserved, sizeof(report.reserved));
	assert_int_equal(found.resources.memory_available_bytes, 500 * MIB);
	assert_int_equal(found.resources.load_millis, 1250);
	assert_int_equal(found.resources.last_fencing_token, 42);
	assert_int_equal(found.backend_count, 3);
	assert_int_equal(plane_store_member_list(store, &filter, &members, &err), 0);
	assert_int_equal(members.count, 1);
	assert_true(members.entries[0].has_resources);
	assert_int_equal(members.entries[0].resources.reserved.cpu_millis, 250);
	assert_int_equal(members.entries[0].backend_count, 0); /* as there are, not as told */
	plane_store_members_finish(&members);
	renew(drone, epoch, NULL);
	assert_false(candidate(drone).has_resources);
	struct plane_drone_resources loadless = report;
	loadless.load_millis = -1;
	renew(drone, epoch, &loadless);
	assert_int_equal(candidate(drone).resources.load_millis, -1);
	connect_drone("dr-a"); /* perhaps with another program */
	renew(drone, epoch, NULL);
	assert_false(candidate(drone).has_resources);
}

static void backends_of_a_drone_that_reports_nothing_are_counted_at_its_heartbeat(void **state)
{
	(void)state;
	assert_int_equal(plane_store_drone_heartbeat(store, drone, 1, &err), 0);
	assert_int_equal(candidate(drone).backend_count, 0);
	spawned_token("b1", drone, 0);
	spawned_token("b2", drone, 0);
	spawned_token("b3", other, 0);
	assert_int_equal(candidate(drone).backend_count, 0);
	assert_int_equal(plane_store_drone_heartbeat(store, drone, 1, &err), 0);
	assert_int_equal(candidate(drone).backend_count, 2);
	assert_true(reports(drone, "b1", PLANE_TERMINATED));
	assert_int_equal(plane_store_drone_heartbeat(store, drone, 1, &err), 0);
	assert_int_equal(candidate(drone).backend_count, 1);
}

static void an_order_says_what_the_backend_asks_for(void **state)
{
	struct plane_store_spawned first = { 0 }, second = { 0 };
	struct plane_drone_order order;
	(void)state;
	assert_int_equal(spawn("b1", drone, 0, &first), 0);
	assert_int_equal(spawn("b2", drone, 0, &second), 0);
	_cleanup_json_ json_t *json = plane_json_parse(first.message, strlen(first.message), &err);
	assert_int_equal(plane_drone_order_read(json, &order, &err), 0);
	assert_int_equal(order.resources.memory_bytes, 64 * MIB);
	assert_int_equal(order.resources.cpu_millis, 500);
	assert_int_equal(order.fencing_token, first.fencing_token);
	assert_true(second.fencing_token > first.fencing_token);
	free(first.message);
	free(second.message);
}

static void assert_executable(const char *message, const json_t *expected)
{
	struct plane_drone_order order;
	_cleanup_json_ json_t *json = plane_json_parse(message, strlen(message), &err);
	if (!json || plane_drone_order_read(json, &order, &err) < 0)
		fail_msg("%s", err.message);
	assert_true(json_equal(order.executable, expected));
}

/* A database that knows JSON may write numbers that a drone cannot read. */
static void an_order_has_what_this_version_does_not_know_as_it_was_given(void **state)
{
	_cleanup_json_ json_t *executable = json_pack("{s:s,s:f,s:f,s:f,s:I,s:s}", "image", "echo",
		"great", 1e20, "greatest", 1.7976931348623157e308, "small", 5e-324, "whole",
		(json_int_t)INT64_MAX, "text", "\"token\":2,\"token\":1");
	struct plane_store_spawned spawned = { 0 }, moved = { 0 };
	struct plane_store_spawn order = { .backend = "b1",
		.cluster = "c:1",
		.drone_id = drone,
		.key_name = "k",
		.key_namespace = "",
		.key_tag = "",
		.lifetime_limit_seconds = -1,
		.max_idle_seconds = -1,
		.action_id = "ak-b1",
		.executable = executable,
		.lease_ms = LONG_MS };
	(void)state;
	assert_int_equal(plane_store_spawn(store, &order, &spawned, &err), 0);
	assert_executable(spawned.message, executable);
	assert_int_equal(move(drone, "ak-b1", other, 0, "ak-2", &moved), 0);
	assert_executable(moved.message, executable);
	free(spawned.message);
	free(moved.message);
}

static void a_draining_drone_gets_nothing_more(void **state)
{
	struct plane_store_spawned spawned = { 0 };
	(void)state;
	int64_t epoch = renew(drone, 0, &report);
	drain(drone, true);
	assert_int_equal(candidate(drone).id, 0);
	/* by a controller that found it before */
	assert_int_equal(spawn("b1", drone, epoch, &spawned), -ESTALE);
	assert_int_equal(pending(drone), 0);
	assert_int_equal(
		plane_store_backend_find(store, "b1", &(struct plane_store_backend){ 0 }, &err),
		-ENOENT);
	drain(drone, false);
	spawned_token("b1", drone, epoch);
}

static void a_refused_backend_goes_to_another_drone_with_its_key(void **state)
{
	struct plane_store_spawned spawned = { 0 };
	struct plane_store_backend backend;
	struct plane_store_route route = { 0 };
	struct plane_drone_order order;
	bool is_found = false;
	(void)state;
	int64_t epoch = renew(drone, 0, &report);
	int64_t next_epoch = renew(other, 0, &report);
	int64_t token = spawned_token("b1", drone, epoch);
	assert_int_equal(move(drone, "ak-b1", other, next_epoch, "ak-2", &spawned), 0);
	assert_true(spawned.fencing_token > token);
	_cleanup_json_ json_t *json =
		plane_json_parse(spawned.message, strlen(spawned.message), &err);
	assert_int_equal(plane_drone_order_read(json, &order, &err), 0);
	assert_string_equal(order.action_id, "ak-2");
	assert_int_equal(order.drone_id, other);
	assert_int_equal(order.epoch, next_epoch);
	assert_int_equal(order.fencing_token, spawned.fencing_token);
	assert_int_equal(order.resources.memory_bytes, 64 * MIB);
	free(spawned.message);
	assert_int_equal(pending(drone), 0);
	assert_int_equal(pending(other), 1);
	assert_int_equal(plane_store_backend_find(store, "b1", &backend, &err), 0);
	assert_int_equal(backend.drone_id, other);
	assert_int_equal(backend.state.status, PLANE_SCHEDULED);
	/* its link leads to it still, and what the first drone says of it counts no more */
	assert_int_equal(plane_store_route_find(store, "b1", &is_found, &route, &err), 0);
	assert_true(is_found);
	plane_store_route_finish(&route);
	assert_false(reports(drone, "b1", PLANE_READY));
	assert_true(reports(other, "b1", PLANE_LOADING));
}

static void the_key_is_under_the_lease_of_the_drone_that_has_the_backend(void **state)
{
	struct plane_store_spawned spawned = { 0 };
	struct plane_store_lost lost = { 0 };
	bool is_broken = false;
	(void)state;
	int64_t epoch = renew(drone, 0, &report);
	int64_t next_epoch = renew(other, 0, &report);
	spawned_token("b1", drone, epoch);
	assert_int_equal(move(drone, "ak-b1", other, next_epoch, "ak-2", &spawned), 0);
	free(spawned.message);
	struct plane_store_lease first = { .drone_id = drone, .epoch = epoch, .renewals = 1 };
	assert_int_equal(plane_store_lease_break(store, &first, &is_broken, &err), 0);
	assert_true(is_broken);
	assert_int_equal(plane_store_mark_broken(store, &lost, &err), 0);
	assert_int_equal(lost.count, 0);
	plane_store_lost_finish(&lost);
	struct plane_store_lease second = { .drone_id = other, .epoch = next_epoch, .renewals = 1 };
	assert_int_equal(plane_store_lease_break(store, &second, &is_broken, &err), 0);
	assert_int_equal(plane_store_mark_broken(store, &lost, &err), 0);
	assert_int_equal(lost.count, 1);
	plane_store_lost_finish(&lost);
}

static void all_drones_that_were_asked_are_known(void **state)
{
	struct plane_store_spawned spawned = { 0 };
	struct plane_store_refused refused = { 0 };
	(void)state;
	spawned_token("b1", drone, 0);
	assert_int_equal(move(drone, "ak-b1", other, 0, "ak-2", &spawned), 0);
	free(spawned.message);
	assert_int_equal(plane_store_refused_find(store, other, "ak-2", &refused, &err), 0);
	assert_int_equal(refused.tried_count, 2);
	assert_int_equal(refused.tried[0] + refused.tried[1], drone + other);
	assert_string_equal(refused.cluster, "c:1");
	assert_string_equal(refused.pool, "");
	plane_store_refused_finish(&refused);
	assert_int_equal(move(other, "ak-2", third, 0, "ak-3", &spawned), 0);
	free(spawned.message);
	assert_int_equal(pending(third), 1);
}

static void only_a_pending_order_is_moved(void **state)
{
	struct plane_store_spawned spawned = { 0 };
	bool is_broken = false;
	(void)state;
	spawned_token("moved", drone, 0);
	assert_int_equal(move(drone, "ak-moved", other, 0, "ak-2", &spawned), 0);
	free(spawned.message);
	assert_int_equal(move(drone, "ak-moved", third, 0, "ak-3", &spawned), -ENOENT);
	assert_int_equal(refused_find(other, "ak-moved"), -ENOENT);
	assert_int_equal(refused_find(drone, "ak-never"), -ENOENT);
	spawned_token("taken", drone, 0);
	assert_int_equal(
		plane_store_actions_ack(store, (const char *[]){ "ak-taken" }, 1, drone, &err), 0);
	assert_int_equal(refused_find(drone, "ak-taken"), -ENOENT);
	spawned_token("loading", drone, 0);
	assert_true(reports(drone, "loading", PLANE_LOADING));
	assert_int_equal(refused_find(drone, "ak-loading"), -ENOENT);
	spawned_token("ended", drone, 0);
	assert_true(reports(drone, "ended", PLANE_TERMINATED));
	assert_int_equal(refused_find(drone, "ak-ended"), -ENOENT);
	int64_t epoch = renew(other, 0, &report);
	spawned_token("broken", other, epoch);
	assert_int_equal(refused_find(other, "ak-broken"), 0);
	struct plane_store_lease lease = { .drone_id = other, .epoch = epoch, .renewals = 1 };
	assert_int_equal(plane_store_lease_break(store, &lease, &is_broken, &err), 0);
	assert_true(is_broken);
	assert_int_equal(refused_find(other, "ak-broken"), -ENOENT);
}

/* The order to end it is its first drone's: it would be left behind. */
static void one_that_is_ordered_to_end_is_not_moved(void **state)
{
	struct plane_store_spawned spawned = { 0 };
	_cleanup_free_ char *message = NULL;
	int64_t ordered_from = 0;
	(void)state;
	spawned_token("b1", drone, 0);
	assert_int_equal(refused_find(drone, "ak-b1"), 0);
	assert_int_equal(plane_store_terminate(store, "b1", "ak-end", PLANE_KIND_SOFT,
				 PLANE_REASON_EXTERNAL, &ordered_from, &message, &err),
		0);
	assert_int_equal(ordered_from, drone);
	assert_int_equal(refused_find(drone, "ak-b1"), -ENOENT);
	_cleanup_json_ json_t *executable = json_pack("{s:s}", "image", "echo");
	struct plane_drone_order order = { .kind = PLANE_ORDER_SPAWN,
		.backend = "b1",
		.action_id = "ak-2",
		.drone_id = other,
		.executable = executable,
		.key_name = "b1",
		.key_namespace = "",
		.key_tag = "t",
		.has_deadlines = true };
	struct plane_store_move late = { drone, "ak-b1", &order, LONG_MS };
	assert_int_equal(plane_store_move(store, &late, &spawned, &err), -ENOENT);
	/* also when the drone has answered that it knows of none, and its report is on the way */
	assert_int_equal(
		plane_store_actions_ack(store, (const char *[]){ "ak-end" }, 1, drone, &err), 0);
	assert_int_equal(refused_find(drone, "ak-b1"), -ENOENT);
	assert_true(reports(drone, "b1", PLANE_TERMINATED));
}

static void a_drone_that_drains_or_has_another_lease_gets_nothing(void **state)
{
	struct plane_store_spawned spawned = { 0 };
	(void)state;
	int64_t epoch = renew(other, 0, &report);
	spawned_token("b1", drone, 0);
	drain(other, true);
	assert_int_equal(move(drone, "ak-b1", other, epoch, "ak-2", &spawned), -ESTALE);
	drain(other, false);
	assert_int_equal(move(drone, "ak-b1", other, epoch + 1, "ak-2", &spawned), -ESTALE);
	assert_int_equal(pending(drone), 1);
	assert_int_equal(pending(other), 0);
	assert_int_equal(move(drone, "ak-b1", other, epoch, "ak-2", &spawned), 0);
	free(spawned.message);
}

/* ---- PostgreSQL only ---- */

static void run(PGconn *connection, const char *sql)
{
	PGresult *result = PQexec(connection, sql);
	if (PQresultStatus(result) > PGRES_TUPLES_OK)
		fail_msg("%s: %s", sql, PQerrorMessage(connection));
	PQclear(result);
}

static bool is_one_waiting(PGconn *connection)
{
	PGresult *result = PQexec(connection, "SELECT 1 FROM pg_locks WHERE NOT granted");
	bool is_waiting = PQntuples(result) > 0;
	PQclear(result);
	return is_waiting;
}

static void *spawn_beside(void *data)
{
	(void)spawn("b1", drone, 0, data);
	return NULL;
}

/* The first spawn stands still before it has the key; meanwhile the key has another backend, which
 * ends. */
static void the_later_of_two_holders_of_a_key_has_the_greater_fencing_token(void **state)
{
	PGconn *connection = PQconnectdb(postgres_server_url());
	PGconn *looking = PQconnectdb(postgres_server_url());
	_cleanup_json_ json_t *executable = json_pack("{s:s}", "image", "echo");
	struct plane_store_spawned first = { 0 }, later = { 0 };
	struct plane_store_spawn order = { .backend = "b2",
		.cluster = "c:1",
		.drone_id = other,
		.key_name = "b1",
		.key_namespace = "",
		.key_tag = "t",
		.lifetime_limit_seconds = -1,
		.max_idle_seconds = -1,
		.action_id = "ak-b2",
		.executable = executable,
		.lease_ms = LONG_MS };
	pthread_t thread;
	char sql[128];
	(void)state;
	(void)snprintf(sql, sizeof(sql), "SELECT 1 FROM drone WHERE id = %lld FOR UPDATE",
		(long long)drone);
	run(connection, "BEGIN");
	run(connection, sql);
	assert_int_equal(pthread_create(&thread, NULL, spawn_beside, &later), 0);
	while (!is_one_waiting(looking))
		usleep(1000);
	assert_int_equal(plane_store_spawn(store, &order, &first, &err), 0);
	assert_true(reports(other, "b2", PLANE_TERMINATED));
	run(connection, "COMMIT");
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_non_null(later.message);
	assert_true(later.fencing_token > first.fencing_token);
	free(first.message);
	free(later.message);
	PQfinish(connection);
	PQfinish(looking);
}

static void *drain_beside(void *data)
{
	struct plane_error local;
	bool is_changed = false;
	(void)data;
	return plane_store_drone_drain(store, "c:1", "dr-a", true, &is_changed, &local) == 0
		       ? &drone
		       : NULL;
}

/* A spawn that found the drone not draining holds its row as the first connection does here. */
static void a_drain_waits_for_spawns_that_did_not_see_it_and_renewals_do_not(void **state)
{
	PGconn *spawning = PQconnectdb(postgres_server_url());
	PGconn *looking = PQconnectdb(postgres_server_url());
	char sql[128];
	pthread_t thread;
	void *is_done = NULL;
	(void)state;
	int64_t epoch = renew(drone, 0, &report);
	(void)snprintf(sql, sizeof(sql), "SELECT 1 FROM drone WHERE id = %lld FOR KEY SHARE",
		(long long)drone);
	run(spawning, "BEGIN");
	run(spawning, sql);
	renew(drone, epoch, &report);
	assert_int_equal(pthread_create(&thread, NULL, drain_beside, NULL), 0);
	while (!is_one_waiting(looking))
		usleep(1000);
	run(spawning, "COMMIT");
	assert_int_equal(pthread_join(thread, &is_done), 0);
	assert_non_null(is_done);
	PQfinish(spawning);
	PQfinish(looking);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down_store)

#define COMMON                                                                                     \
	TEST(what_a_drone_reports_is_what_placement_and_lists_read),                               \
		TEST(backends_of_a_drone_that_reports_nothing_are_counted_at_its_heartbeat),       \
		TEST(an_order_says_what_the_backend_asks_for),                                     \
		TEST(an_order_has_what_this_version_does_not_know_as_it_was_given),                \
		TEST(a_draining_drone_gets_nothing_more),                                          \
		TEST(a_refused_backend_goes_to_another_drone_with_its_key),                        \
		TEST(the_key_is_under_the_lease_of_the_drone_that_has_the_backend),                \
		TEST(all_drones_that_were_asked_are_known), TEST(only_a_pending_order_is_moved),   \
		TEST(one_that_is_ordered_to_end_is_not_moved),                                     \
		TEST(a_drone_that_drains_or_has_another_lease_gets_nothing)

int main(void)
{
	const struct CMUnitTest common[] = { COMMON };
	const struct CMUnitTest postgres[] = { COMMON,
		TEST(a_drain_waits_for_spawns_that_did_not_see_it_and_renewals_do_not),
		TEST(the_later_of_two_holders_of_a_key_has_the_greater_fencing_token) };
	int failed = cmocka_run_group_tests(common, NULL, NULL);
	implementation = MEMORY;
	failed += cmocka_run_group_tests(common, NULL, NULL);
	implementation = POSTGRES;
	postgres_server_start();
	failed += cmocka_run_group_tests(postgres, NULL, NULL);
	postgres_server_stop();
	return failed;
}
