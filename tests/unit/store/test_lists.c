/* The lists of store/store.h on each implementation: filters, order, pages. */
#include "postgres_server.h"
#include "store_cases.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "store/sqlite.h"

static struct plane_error err;

static int set_up(void **state)
{
	(void)state;
	set_up_store();
	return 0;
}

static int64_t connect_node(enum plane_node_kind kind, const char *cluster, const char *name,
	const char *pool, int64_t *connection)
{
	int64_t id = 0;
	struct plane_store_node node = { .kind = kind,
		.name = name,
		.cluster = cluster,
		.controller = "co-a",
		.version = "1",
		.git_hash = "h",
		.ip = "10.1.1.1",
		.pool = pool };
	assert_int_equal(plane_store_node_connected(store, &node, &id, connection, &err), 0);
	return id;
}

static void spawn(int64_t drone, const char *cluster, const char *backend,
	const char *key_namespace, const char *key)
{
	_cleanup_json_ json_t *executable = json_pack("{s:s}", "image", "echo");
	_cleanup_free_ char *action = plane_strdupf("ak-%s", backend);
	struct plane_store_spawned spawned = { 0 };
	struct plane_store_spawn order = { .backend = backend,
		.cluster = cluster,
		.drone_id = drone,
		.key_name = key,
		.key_namespace = key_namespace,
		.key_tag = "t",
		.lifetime_limit_seconds = -1,
		.max_idle_seconds = -1,
		.action_id = action,
		.executable = executable,
		.lease_ms = 60000 };
	if (plane_store_spawn(store, &order, &spawned, &err) < 0)
		fail_msg("%s", err.message);
	free(spawned.message);
}

static void end(int64_t drone, const char *backend)
{
	struct plane_backend_state over = { .status = PLANE_TERMINATED,
		.last_status = PLANE_READY };
	struct plane_store_report report = { .backend = backend, .state = &over };
	assert_int_equal(plane_store_backend_update(store, drone, &report, 1, &err), 0);
	assert_true(report.is_changed);
}

/* The names of what was found, in its order, in one text. */
static const char *members(const struct plane_store_member_filter *filter)
{
	static char names[256];
	struct plane_store_members found = { 0 };
	names[0] = '\0';
	if (plane_store_member_list(store, filter, &found, &err) < 0)
		fail_msg("%s", err.message);
	for (size_t i = 0; i < found.count; i++)
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", i ? " " : "",
			found.entries[i].name);
	plane_store_members_finish(&found);
	return names;
}

static void nodes_are_listed_by_what_is_asked(void **state)
{
	int64_t connection, other;
	int64_t a = connect_node(PLANE_NODE_DRONE, "c:1", "dr-a", "", &connection);
	(void)connect_node(PLANE_NODE_DRONE, "c:1", "dr-b", "big", &other);
	(void)connect_node(PLANE_NODE_PROXY, "c:1", "px-a", NULL, &other);
	int64_t z = connect_node(PLANE_NODE_DRONE, "a:1", "dr-z", "", &other);
	(void)connect_node(PLANE_NODE_DNS, "", "ns-a", NULL, &other);
	struct plane_store_member_filter drones = { .are_drones = true };
	assert_string_equal(members(&drones), "dr-z dr-a dr-b"); /* by cluster, then name */
	drones.pool = "";
	assert_string_equal(members(&drones), "dr-z dr-a");
	drones.cluster = "c:1";
	assert_string_equal(members(&drones), "dr-a");
	struct plane_store_member_filter both = {
		.cluster = "c:1", .are_drones = true, .are_proxies = true
	};
	assert_string_equal(members(&both), "dr-a dr-b px-a");
	both.name = "px-a";
	assert_string_equal(members(&both), "px-a");
	struct plane_store_member_filter proxies = { .are_proxies = true };
	assert_string_equal(members(&proxies), "px-a");

	/* one that is away is seen while it has backends, or when all are asked for */
	spawn(a, "c:1", "b1", "", "k1");
	assert_int_equal(plane_store_node_disconnected(store, a, connection, &err), 0);
	assert_int_equal(plane_store_node_disconnected(store, z, other + 1, &err), 0); /* is not */
	struct plane_store_member_filter away = { .are_drones = true };
	assert_string_equal(members(&away), "dr-z dr-b");
	away.has_busy = true;
	assert_string_equal(members(&away), "dr-z dr-a dr-b");
	end(a, "b1");
	assert_string_equal(members(&away), "dr-z dr-b");
	away.has_away = true;
	assert_string_equal(members(&away), "dr-z dr-a dr-b");
}

static void one_connection_of_a_node_is_the_registered_one(void **state)
{
	int64_t first, second, other;
	int64_t a = connect_node(PLANE_NODE_DRONE, "c:1", "dr-a", "", &first);
	int64_t b = connect_node(PLANE_NODE_PROXY, "c:1", "px-b", NULL, &other);
	(void)state;
	assert_int_equal(connect_node(PLANE_NODE_DRONE, "c:1", "dr-a", "", &second), a);
	struct plane_store_registration asked[] = { { a, first, true }, { a, second, false },
		{ b, other, false }, { b, second, true }, { b + 99, other, true } };
	assert_int_equal(plane_store_registrations_check(store, asked, 0, &err), 0);
	assert_int_equal(plane_store_registrations_check(store, asked, 5, &err), 0);
	assert_false(asked[0].is_current);
	assert_true(asked[1].is_current && asked[2].is_current);
	assert_false(asked[3].is_current || asked[4].is_current);
	assert_int_equal(plane_store_node_disconnected(store, a, second, &err), 0);
	assert_int_equal(plane_store_registrations_check(store, asked, 3, &err), 0);
	assert_false(asked[1].is_current);
	assert_true(asked[2].is_current);
}

static void a_node_s_controller_can_be_found_where_others_can_reach_it(void **state)
{
	int64_t id, connection;
	char *name = NULL, *url = NULL;
	struct plane_store_node node = { .kind = PLANE_NODE_DRONE,
		.name = "dr-a",
		.cluster = "c:1",
		.controller = "co-a",
		.controller_url = "http://10.0.0.1:8080" };
	(void)state;
	assert_int_equal(plane_store_node_connected(store, &node, &id, &connection, &err), 0);
	assert_int_equal(plane_store_node_controller(store, id, &name, &url, &err), 0);
	if (implementation == SQLITE) { /* nobody else shares it */
		assert_null(name);
		assert_null(url);
		return;
	}
	assert_string_equal(name, "co-a");
	assert_string_equal(url, "http://10.0.0.1:8080");
	free(name);
	free(url);
	node.controller_url = NULL;
	assert_int_equal(plane_store_node_connected(store, &node, &id, &connection, &err), 0);
	assert_int_equal(plane_store_node_controller(store, id, &name, &url, &err), 0);
	assert_string_equal(name, "co-a");
	assert_null(url);
	free(name);
	assert_int_equal(plane_store_node_disconnected(store, id, connection, &err), 0);
	assert_int_equal(plane_store_node_controller(store, id, &name, &url, &err), 0);
	assert_null(name);
	assert_null(url);
}

static void a_listed_drone_has_all_that_is_known_of_it(void **state)
{
	int64_t connection;
	bool is_changed;
	struct plane_store_members found = { 0 };
	struct plane_store_member_filter filter = { .are_drones = true, .has_busy = true };
	int64_t a = connect_node(PLANE_NODE_DRONE, "c:1", "dr-a", "big", &connection);
	assert_int_equal(plane_store_member_list(store, &filter, &found, &err), 0);
	assert_int_equal(found.entries[0].heartbeat_age_ms, -1);
	plane_store_members_finish(&found);
	assert_int_equal(plane_store_drone_heartbeat(store, a, 5, &err), 0);
	spawn(a, "c:1", "b1", "", "k1");
	spawn(a, "c:1", "b2", "", "k2");
	assert_int_equal(plane_store_drone_drain(store, "c:1", "dr-a", true, &is_changed, &err), 0);
	end(a, "b1");
	assert_int_equal(plane_store_node_disconnected(store, a, connection, &err), 0);
	assert_int_equal(plane_store_member_list(store, &filter, &found, &err), 0);
	const struct plane_store_member *drone = &found.entries[0];
	assert_int_equal(drone->kind, PLANE_NODE_DRONE);
	assert_string_equal(drone->cluster, "c:1");
	assert_string_equal(drone->pool, "big");
	assert_string_equal(drone->version, "1");
	assert_string_equal(drone->git_hash, "h");
	assert_string_equal(drone->ip, "10.1.1.1");
	assert_null(drone->controller);
	assert_true(drone->is_ready && drone->is_draining);
	assert_true(drone->heartbeat_age_ms >= 0);
	assert_int_equal(drone->backend_count, 1);
	plane_store_members_finish(&found);
}

static void backends_are_listed_by_drone_and_by_life(void **state)
{
	int64_t connection;
	int64_t a = connect_node(PLANE_NODE_DRONE, "c:1", "dr-a", "", &connection);
	int64_t b = connect_node(PLANE_NODE_DRONE, "c:1", "dr-b", "", &connection);
	spawn(a, "c:1", "b1", "", "k1");
	spawn(a, "c:1", "b2", "", "k2");
	spawn(b, "c:1", "b3", "", "k3");
	end(a, "b1");
	const struct {
		struct plane_store_backend_filter filter;
		const char *names;
	} cases[] = {
		{ { .limit = 10 }, "b1 b2 b3" },
		{ { .drone = "dr-a", .limit = 10 }, "b1 b2" },
		{ { .drone = "dr-a", .is_alive = true, .limit = 10 }, "b2" },
		{ { .is_alive = true, .limit = 1 }, "b2" },
		{ { .is_alive = true, .after = "b2", .limit = 10 }, "b3" },
		{ { .is_alive = true, .status = PLANE_TERMINATED, .limit = 10 }, "" },
		{ { .after = "b1", .limit = 1 }, "b2" },
		{ { .cluster = "c:1", .key_name = "k3", .limit = 10 }, "b3" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct plane_store_backend_list list = { 0 };
		char names[64] = "";
		assert_int_equal(plane_store_backend_list(store, &cases[i].filter, &list, &err), 0);
		for (size_t n = 0; n < list.count; n++)
			snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s",
				n ? " " : "", list.entries[n].backend);
		assert_string_equal(names, cases[i].names);
		plane_store_backend_list_finish(&list);
	}
}

/* The names of all that the filter lets pass, `limit` at a time. */
static void read_backends(struct plane_store_backend_filter filter, char *names, size_t size)
{
	char after[PLANE_NAME_SIZE] = "";
	size_t count;
	names[0] = '\0';
	do {
		struct plane_store_backend_list list = { 0 };
		filter.after = after[0] ? after : NULL;
		if (plane_store_backend_list(store, &filter, &list, &err) < 0)
			fail_msg("%s", err.message);
		count = list.count;
		for (size_t i = 0; i < count; i++) {
			snprintf(names + strlen(names), size - strlen(names), "%s ",
				list.entries[i].backend);
			snprintf(after, sizeof(after), "%s", list.entries[i].backend);
		}
		plane_store_backend_list_finish(&list);
	} while (count == (size_t)filter.limit);
}

/* 48 backends: two drones of the same name in two clusters and one more, three keys, four states.
 */
#define MANY 48

struct made {
	const char *cluster, *drone, *key;
	enum plane_backend_status status;
	char name[8];
};

static void make_many(struct made made[MANY])
{
	static const char *const nodes[3][2] = { { "c:1", "dr-a" }, { "c:2", "dr-a" },
		{ "c:1", "dr-b" } };
	static const char *const keys[] = { "k1", "k2", "k3" };
	static const enum plane_backend_status statuses[] = { PLANE_SCHEDULED, PLANE_LOADING,
		PLANE_READY, PLANE_TERMINATED };
	int64_t connection, drones[3];
	for (int i = 0; i < 3; i++)
		drones[i] =
			connect_node(PLANE_NODE_DRONE, nodes[i][0], nodes[i][1], "", &connection);
	for (int i = 0; i < MANY; i++) {
		char key_namespace[8];
		int node = i % 3;
		made[i] = (struct made){ nodes[node][0], nodes[node][1], keys[i / 3 % 3],
			statuses[i / 5 % 4], "" };
		snprintf(made[i].name, sizeof(made[i].name), "b%02d", i * 29 % MANY);
		snprintf(key_namespace, sizeof(key_namespace), "n%d", i);
		spawn(drones[node], made[i].cluster, made[i].name, key_namespace, made[i].key);
		struct plane_backend_state state = { .status = made[i].status,
			.address = "10.0.0.1:80",
			.last_status = PLANE_READY };
		struct plane_store_report report = { .backend = made[i].name, .state = &state };
		assert_int_equal(
			plane_store_backend_update(store, drones[node], &report, 1, &err), 0);
	}
}

static bool is_wanted(const struct plane_store_backend_filter *filter, const struct made *made)
{
	return (!filter->cluster || strcmp(filter->cluster, made->cluster) == 0) &&
	       (!filter->drone || strcmp(filter->drone, made->drone) == 0) &&
	       (!filter->key_name || strcmp(filter->key_name, made->key) == 0) &&
	       (!filter->status || filter->status == (int)made->status) &&
	       (!filter->is_alive || made->status != PLANE_TERMINATED);
}

static void check_pages(const struct made made[MANY], struct plane_store_backend_filter filter)
{
	static const int limits[] = { 1, 3, 4, 100 };
	char names[512], expected[512] = "";
	for (int number = 0; number < MANY; number++) /* in the order of names */
		for (int i = 0; i < MANY; i++)
			if (i * 29 % MANY == number && is_wanted(&filter, &made[i]))
				snprintf(expected + strlen(expected),
					sizeof(expected) - strlen(expected), "%s ", made[i].name);
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		filter.limit = limits[i];
		read_backends(filter, names, sizeof(names));
		assert_string_equal(names, expected);
	}
}

static void each_filter_of_backends_has_all_its_pages(void **state)
{
	static const char *const clusters[] = { NULL, "c:1", "c:2", "c:3" };
	static const char *const drones[] = { NULL, "dr-a", "dr-b", "dr-c" };
	static const char *const keys[] = { NULL, "k1", "k3", "k4" };
	static const int statuses[] = { 0, PLANE_SCHEDULED, PLANE_READY, PLANE_STARTING,
		PLANE_TERMINATED };
	struct made made[MANY];
	(void)state;
	make_many(made);
	for (int i = 0; i < 4 * 4 * 4 * 5 * 2; i++)
		check_pages(made, (struct plane_store_backend_filter){ .cluster = clusters[i % 4],
					  .drone = drones[i / 4 % 4],
					  .key_name = keys[i / 16 % 4],
					  .status = statuses[i / 64 % 5],
					  .is_alive = i / 320 });
}

/* All keys, `limit` at a time, as "namespace/name " one behind the other. */
static void read_keys(struct plane_store_key_filter filter, char *names, size_t size)
{
	_cleanup_free_ char *after_namespace = NULL, *after_name = NULL;
	struct plane_store_key_list list = { 0 };
	names[0] = '\0';
	do {
		plane_store_key_list_finish(&list);
		filter.after_namespace = after_namespace;
		filter.after_name = after_name;
		if (plane_store_key_list(store, &filter, &list, &err) < 0)
			fail_msg("%s", err.message);
		assert_true(list.count <= (size_t)filter.limit);
		for (size_t i = 0; i < list.count; i++) {
			snprintf(names + strlen(names), size - strlen(names), "%s/%s ",
				list.entries[i].key_namespace, list.entries[i].key_name);
			free(after_namespace);
			free(after_name);
			after_namespace = plane_strdup(list.entries[i].key_namespace);
			after_name = plane_strdup(list.entries[i].key_name);
		}
	} while (list.count == (size_t)filter.limit);
	plane_store_key_list_finish(&list);
}

static void pages_of_keys_have_each_key_once(void **state)
{
	static const char *const keys[][2] = { { "", "" }, { "", "a" }, { "", "b" }, { "n", "" },
		{ "n", "a" }, { "n n", "a" } };
	char whole[256], paged[256];
	int64_t connection;
	int64_t a = connect_node(PLANE_NODE_DRONE, "c:1", "dr-a", "", &connection);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		char backend[] = { 'b', (char)('1' + i), '\0' };
		spawn(a, "c:1", backend, keys[i][0], keys[i][1]);
	}
	read_keys((struct plane_store_key_filter){ .limit = 100 }, whole, sizeof(whole));
	assert_string_equal(whole, "/ /a /b n/ n/a n n/a ");
	for (int limit = 1; limit <= 6; limit++) {
		read_keys((struct plane_store_key_filter){ .limit = limit }, paged, sizeof(paged));
		assert_string_equal(paged, whole);
	}
	read_keys((struct plane_store_key_filter){ .key_namespace = "", .limit = 1 }, paged,
		sizeof(paged));
	assert_string_equal(paged, "/ /a /b ");
	read_keys((struct plane_store_key_filter){ .key_name = "a", .limit = 2 }, paged,
		sizeof(paged));
	assert_string_equal(paged, "/a n/a n n/a ");
	read_keys((struct plane_store_key_filter){ .key_namespace = "n", .limit = 1 }, paged,
		sizeof(paged));
	assert_string_equal(paged, "n/ n/a ");
	read_keys(
		(struct plane_store_key_filter){
			.key_namespace = "n", .key_name = "a", .limit = 1 },
		paged, sizeof(paged));
	assert_string_equal(paged, "n/a ");
	read_keys((struct plane_store_key_filter){ .cluster = "c:2", .limit = 2 }, paged,
		sizeof(paged));
	assert_string_equal(paged, "");
	/* a cursor of another list */
	struct plane_store_key_filter other = {
		.key_namespace = "n", .after_namespace = "", .after_name = "b", .limit = 9
	};
	struct plane_store_key_list list = { 0 };
	assert_int_equal(plane_store_key_list(store, &other, &list, &err), 0);
	assert_int_equal(list.count, 2);
	plane_store_key_list_finish(&list);
}

static void a_listed_key_says_who_holds_it_and_how_long(void **state)
{
	struct plane_store_key_filter filter = { .limit = 10 };
	struct plane_store_key_list list = { 0 };
	int64_t connection;
	int64_t a = connect_node(PLANE_NODE_DRONE, "c:1", "dr-a", "", &connection);
	spawn(a, "c:1", "b1", "n", "k");
	assert_int_equal(plane_store_key_list(store, &filter, &list, &err), 0);
	const struct plane_store_listed_key *key = &list.entries[0];
	assert_int_equal(list.count, 1);
	assert_string_equal(key->key_tag, "t");
	assert_string_equal(key->backend, "b1");
	assert_string_equal(key->cluster, "c:1");
	assert_string_equal(key->drone, "dr-a");
	assert_int_equal(key->status, PLANE_SCHEDULED);
	assert_true(key->fencing_token > 0);
	assert_true(key->is_live);
	assert_true(key->expires_in_ms > 0 && key->expires_in_ms <= 60000);
	plane_store_key_list_finish(&list);
	end(a, "b1");
	assert_int_equal(plane_store_key_list(store, &filter, &list, &err), 0);
	assert_int_equal(list.count, 0);
	plane_store_key_list_finish(&list);
}

/* ---- what is read in a file ---- */

/* Steps of SQLite's machine since the last time; each row that is looked at takes several. */
static int64_t count_steps(void)
{
	sqlite3 *reader = PLANE_SQLITE_STORE(store)->reader.sqlite;
	int64_t steps = 0;
	for (sqlite3_stmt *one = NULL; (one = sqlite3_next_stmt(reader, one));)
		steps += sqlite3_stmt_status(one, SQLITE_STMTSTATUS_VM_STEP, 1);
	return steps;
}

#define FEW_STEPS 20000
/* 2 of 20000 are rare. */
static const char many_rows[] =
	"INSERT INTO node (kind, cluster, name, connection_id, version, git_hash, ip) VALUES "
	"('Drone', 'c:1', 'dr-1', 1, '', '', ''), ('Drone', 'c:2', 'dr-2', 1, '', '', ''); "
	"INSERT INTO drone (id, pool, is_ready, is_draining) SELECT id, '', 1, 0 FROM node; "
	"WITH RECURSIVE some (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM some WHERE n < 20000) "
	"INSERT INTO backend (id, cluster, drone_id, key_namespace, key_name, key_tag, status, "
	"state, state_at, created_at, last_keepalive_at) SELECT 'b' || (n * 7919 % 20011), 'c:' || "
	"(1 + (n % 10000 = 0)), 1 + (n % 10000 = 0), 'n' || n, CASE n % 10000 WHEN 0 THEN 'rare' "
	"ELSE 'k' END, '', CASE n % 10000 WHEN 0 THEN 20 ELSE 50 + n % 2 * 20 END, "
	"'{\"status\":\"scheduled\"}', n, n, n FROM some; "
	"INSERT INTO backend_key (namespace, name, tag, backend, drone_id, expires_at, "
	"fencing_token) SELECT key_namespace, key_name, '', id, drone_id, 0, 1 FROM backend WHERE "
	"status < 70";

static void lists_of_a_file_read_pages(void **state)
{
	static const struct plane_store_backend_filter filters[] = { { .limit = 10 },
		{ .is_alive = true, .limit = 10 }, { .status = PLANE_LOADING, .limit = 10 },
		{ .status = PLANE_STARTING, .limit = 10 }, { .key_name = "rare", .limit = 10 },
		{ .key_name = "k", .limit = 10 }, { .key_name = "none", .limit = 10 },
		{ .drone = "dr-1", .limit = 10 }, { .drone = "dr-2", .limit = 10 },
		{ .drone = "dr-1", .status = PLANE_LOADING, .limit = 10 },
		{ .cluster = "c:2", .limit = 10 },
		{ .cluster = "c:1", .is_alive = true, .after = "b5", .limit = 10 } };
	static const struct plane_store_key_filter key_filters[] = { { .limit = 10 },
		{ .key_name = "rare", .limit = 10 }, { .key_name = "k", .limit = 10 },
		{ .key_namespace = "n20000", .limit = 10 },
		{ .key_name = "k", .after_namespace = "n4", .after_name = "k", .limit = 10 } };
	(void)state;
	if (implementation != SQLITE)
		return;
	assert_int_equal(plane_db_script(&PLANE_SQLITE_STORE(store)->writer, many_rows, &err), 0);
	for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
		struct plane_store_backend_list list = { 0 };
		(void)count_steps();
		assert_int_equal(plane_store_backend_list(store, &filters[i], &list, &err), 0);
		plane_store_backend_list_finish(&list);
		assert_in_range(count_steps(), 1, FEW_STEPS);
	}
	for (size_t i = 0; i < sizeof(key_filters) / sizeof(key_filters[0]); i++) {
		struct plane_store_key_list list = { 0 };
		(void)count_steps();
		assert_int_equal(plane_store_key_list(store, &key_filters[i], &list, &err), 0);
		plane_store_key_list_finish(&list);
		assert_in_range(count_steps(), 1, FEW_STEPS);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down_store)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nodes_are_listed_by_what_is_asked),
		TEST(one_connection_of_a_node_is_the_registered_one),
		TEST(a_node_s_controller_can_be_found_where_others_can_reach_it),
		TEST(a_listed_drone_has_all_that_is_known_of_it),
		TEST(backends_are_listed_by_drone_and_by_life),
		TEST(each_filter_of_backends_has_all_its_pages),
		TEST(pages_of_keys_have_each_key_once),
		TEST(a_listed_key_says_who_holds_it_and_how_long),
		TEST(lists_of_a_file_read_pages),
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
