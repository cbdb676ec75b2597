/* store/copy.c: what a copy of a store must keep, from each kind of store to each, and when it is
 * refused. */
#include "copy_cases.h"
#include "postgres_server.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "store/postgres.h"
#include "store/sqlite.h"

#define ROWS 7

static struct plane_error err;

/* ---- the schemas ---- */

/* "table.column" of all that a schema has; separated and surrounded by newlines. */
static char *sqlite_columns(void)
{
	struct plane_buffer text = { 0 };
	sqlite3 *db;
	sqlite3_stmt *row;
	plane_store_close(open_sqlite(0));
	assert_int_equal(sqlite3_open(sqlite_path(0), &db), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db,
				 "SELECT t.name || '.' || c.name FROM sqlite_master t, "
				 "pragma_table_info(t.name) c WHERE t.type = 'table'",
				 -1, &row, NULL),
		SQLITE_OK);
	plane_buffer_add_text(&text, "\n");
	while (sqlite3_step(row) == SQLITE_ROW)
		plane_buffer_addf(&text, "%s\n", (const char *)sqlite3_column_text(row, 0));
	sqlite3_finalize(row);
	sqlite3_close(db);
	return plane_buffer_steal(&text);
}

static char *postgres_columns(const char *condition)
{
	struct plane_buffer text = { 0 };
	_cleanup_free_ char *sql =
		plane_strdupf("SELECT table_name || '.' || column_name FROM "
			      "information_schema.columns WHERE table_schema = 'public' AND %s",
			condition);
	plane_store_close(open_postgres(0));
	PGconn *connection = PQconnectdb(postgres_url(0));
	PGresult *rows = PQexec(connection, sql);
	plane_buffer_add_text(&text, "\n");
	for (int i = 0; i < PQntuples(rows); i++)
		plane_buffer_addf(&text, "%s\n", PQgetvalue(rows, i, 0));
	PQclear(rows);
	PQfinish(connection);
	return plane_buffer_steal(&text);
}

/* Takes "\nname\n" out of the text; false if it is not there. */
static bool take_out(char *columns, const char *table, const char *column)
{
	_cleanup_free_ char *line = plane_strdupf("\n%s.%s\n", table, column);
	char *found = strstr(columns, line);
	if (found)
		memmove(found, found + strlen(line) - 1, strlen(found + strlen(line) - 1) + 1);
	return found;
}

/* What is left in `columns` after all that is copied was taken out. */
static void take_copied(char *columns, bool is_sqlite)
{
	for (size_t i = 0; i < plane_copy_table_count; i++) {
		const struct plane_copy_table *table = &plane_copy_tables[i];
		for (size_t j = 0; j < table->count; j++) {
			const struct plane_copy_column *column = &table->columns[j];
			bool is_absent = is_sqlite &&
					 (column->sqlite_value || column->kind == PLANE_COPY_OWN);
			const char *name = is_sqlite && column->sqlite_name ? column->sqlite_name
									    : column->name;
			if (take_out(columns, table->name, name) == is_absent)
				fail_msg("%s.%s is %s the schema", table->name, name,
					is_absent ? "in" : "not in");
		}
	}
}

static void every_column_of_the_sqlite_schema_is_copied(void **state)
{
	_cleanup_free_ char *columns = sqlite_columns();
	take_copied(columns, true);
	assert_string_equal(columns, "\nmeta.name\nmeta.value\n");
}

static void every_column_of_the_postgres_schema_is_copied(void **state)
{
	_cleanup_free_ char *columns = postgres_columns("table_name <> 'meta'");
	take_copied(columns, false);
	assert_string_equal(columns, "\n");
}

static void numbered_tables_are_those_whose_numbers_the_database_gives_out(void **state)
{
	_cleanup_free_ char *columns = postgres_columns("is_identity = 'YES'");
	for (size_t i = 0; i < plane_copy_table_count; i++)
		if (plane_copy_tables[i].is_numbered)
			assert_true(take_out(columns, plane_copy_tables[i].name,
				plane_copy_tables[i].columns[0].name));
	assert_string_equal(columns, "\n");
}

/* ---- contents ---- */

/* Rows by way of the interface that is tested: what both sides mean by a column is compared with
 * what the stores themselves find in it further below. */
static char *text_of(const char *table, const char *column, int row)
{
	if (strcmp(column, "backend") == 0 ||
		(strcmp(column, "id") == 0 && strcmp(table, "backend") == 0))
		return plane_strdupf("b-%d", row);
	return plane_strdupf(
		"%s.%s-%d \t\r\n\\ \\N \"'%% \xc3\xa9\xf0\x9f\x98\x80", table, column, row);
}

static int64_t number_of(const char *column, int row)
{
	static const char *const keys[] = { "id", "drone_id", "node_id", "sequence" };
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (strcmp(column, keys[i]) == 0)
			return row + 1;
	if (strcmp(column, "status") == 0)
		return row * 10;
	return row == 0 ? INT64_MAX : (int64_t)strlen(column) * 1000003 * row - 5000;
}

static bool is_null(const char *nullable, const char *table, const char *column, int row)
{
	_cleanup_free_ char *line = plane_strdupf("\n%s.%s\n", table, column);
	return row % 3 == 1 && strstr(nullable, line);
}

static void fill_table(struct plane_copy_side *to, const struct plane_copy_table *table,
	const char *nullable, int64_t now_ms)
{
	assert_int_equal(to->impl->begin_write(to, table, &err), 0);
	for (int row = 0; row < ROWS; row++) {
		struct plane_copy_value values[PLANE_COPY_COLUMNS_MAX] = { 0 };
		char *texts[PLANE_COPY_COLUMNS_MAX] = { 0 };
		for (size_t i = 0; i < table->count; i++) {
			const struct plane_copy_column *column = &table->columns[i];
			struct plane_copy_value *value = &values[i];
			value->is_null = is_null(nullable, table->name, column->name, row);
			texts[i] = text_of(table->name, column->name, row);
			value->text = texts[i];
			value->len = strlen(texts[i]);
			if (column->kind == PLANE_COPY_FLAG)
				value->number = row % 2;
			else if (column->kind == PLANE_COPY_TIME)
				value->number = now_ms + (row - 3) * 100000 + (int64_t)i;
			else
				value->number = number_of(column->name, row);
		}
		if (to->impl->write(to, values, &err) < 0)
			fail_msg("%s: %s", table->name, err.message);
		for (size_t i = 0; i < table->count; i++)
			free(texts[i]);
	}
	if (to->impl->end_write(to, &err) < 0)
		fail_msg("%s: %s", table->name, err.message);
}

/* ROWS rows in each table of a new store; all controllers in it have stopped long ago. */
static void fill(const char *name, int64_t fencing_token)
{
	_cleanup_free_ char *nullable = postgres_columns("is_nullable = 'YES'");
	struct plane_copy_side *to = side(name, true);
	int64_t now_ms = 0;
	assert_int_equal(to->impl->now(to, &now_ms, &err), 0);
	for (size_t i = 0; i < plane_copy_table_count; i++)
		fill_table(to, &plane_copy_tables[i], nullable, now_ms - (i == 0 ? 86400000 : 0));
	assert_int_equal(to->impl->finish(to, fencing_token, &err), 0);
	plane_copy_side_close(to);
}

static int compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Without what SQLite has no column for, if asked; times less `shift_ms`. */
static char *line_of(const struct plane_copy_table *table, const struct plane_copy_value *values,
	int64_t shift_ms, bool is_for_sqlite)
{
	struct plane_buffer line = { 0 };
	for (size_t i = 0; i < table->count; i++) {
		const struct plane_copy_column *column = &table->columns[i];
		int64_t number =
			values[i].number - (column->kind == PLANE_COPY_TIME ? shift_ms : 0);
		if (is_for_sqlite && column->sqlite_value &&
			strcmp(column->sqlite_value, "NULL") == 0)
			continue;
		plane_buffer_addf(&line, "%s.%s=", table->name, column->name);
		if (values[i].is_null)
			plane_buffer_add_text(&line, "NULL;");
		else if (column->kind == PLANE_COPY_TEXT)
			plane_buffer_addf(&line, "%s;", values[i].text);
		else
			plane_buffer_addf(&line, "%" PRId64 ";", number);
	}
	return plane_buffer_steal(&line);
}

/* All rows, in order. */
static char *dump(const char *name, int64_t shift_ms, bool is_for_sqlite)
{
	struct plane_buffer text = { 0 };
	struct plane_copy_value values[PLANE_COPY_COLUMNS_MAX];
	struct plane_copy_side *from = side(name, false);
	for (size_t i = 0; i < plane_copy_table_count; i++) {
		const struct plane_copy_table *table = &plane_copy_tables[i];
		char *lines[ROWS] = { 0 };
		assert_int_equal(from->impl->begin_read(from, table, &err), 0);
		for (int j = 0; j < ROWS; j++) {
			assert_int_equal(from->impl->read(from, values, &err), 1);
			lines[j] = line_of(table, values, shift_ms, is_for_sqlite);
		}
		assert_int_equal(from->impl->read(from, values, &err), 0);
		qsort(lines, ROWS, sizeof(lines[0]), compare_lines);
		for (int j = 0; j < ROWS; j++) {
			plane_buffer_addf(&text, "%s\n", lines[j]);
			free(lines[j]);
		}
	}
	plane_copy_side_close(from);
	return plane_buffer_steal(&text);
}

/* As drone.cluster of a filled store is not its node's, which is where SQLite has it from. */
static void make_consistent(const char *name)
{
	if (name[0] == 'p')
		run_on(name[1] - '0', "UPDATE drone SET cluster = node.cluster FROM node WHERE "
				      "node.id = drone.id");
}

static void check_copy(const char *from, const char *to)
{
	bool is_for_sqlite = from[0] == 's' || to[0] == 's';
	fill(from, 5000);
	make_consistent(from);
	_cleanup_free_ char *before = dump(from, 0, is_for_sqlite);
	struct plane_store_copied copied = copy(from, to);
	assert_int_equal(copied.count, plane_copy_table_count);
	for (size_t i = 0; i < copied.count; i++)
		assert_int_equal(copied.tables[i].rows, ROWS);
	_cleanup_free_ char *after = dump(to, copied.time_shift_ms, is_for_sqlite);
	assert_string_equal(after, before);
	_cleanup_free_ char *again = dump(from, 0, is_for_sqlite);
	assert_string_equal(again, before);
}

static void sqlite_to_postgres_keeps_every_value_of_every_table(void **state)
{
	check_copy("s0", "p1");
}

static void postgres_to_sqlite_keeps_every_value_of_every_table(void **state)
{
	check_copy("p0", "s1");
}

static void postgres_to_postgres_keeps_every_value_of_every_table(void **state)
{
	check_copy("p0", "p1");
}

static void sqlite_to_sqlite_keeps_every_value_of_every_table(void **state)
{
	check_copy("s0", "s1");
}

/* ---- what the stores make of it ---- */

static int64_t connect_drone(struct plane_store *store, const char *name)
{
	struct plane_store_node node = { .kind = PLANE_NODE_DRONE,
		.name = name,
		.cluster = "c:1",
		.controller = "co-a",
		.pool = "" };
	int64_t id = 0, connection;
	assert_int_equal(plane_store_controller_heartbeat(store, "co-a", &err), 0);
	assert_int_equal(plane_store_node_connected(store, &node, &id, &connection, &err), 0);
	return id;
}

static int64_t spawn(struct plane_store *store, int64_t drone, const char *key, const char *backend)
{
	_cleanup_json_ json_t *executable = json_pack("{s:s}", "image", "echo");
	_cleanup_json_ json_t *auth = json_pack("{s:s}", "role", "editor");
	_cleanup_free_ char *action = plane_strdupf("ak-%s", backend);
	_cleanup_free_ char *name = plane_strdupf("tk-%s", backend);
	struct plane_store_spawned spawned = { 0 };
	struct plane_store_token token = { .token = name,
		.secret_token = "secret",
		.backend = backend,
		.user = "ada",
		.auth = auth,
		.lifetime_ms = 86400000 };
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
		.token = &token,
		.lease_ms = 60000 };
	if (plane_store_spawn(store, &order, &spawned, &err) < 0)
		fail_msg("spawn: %s", err.message);
	free(spawned.message);
	return spawned.fencing_token;
}

static void stop(struct plane_store *store)
{
	assert_int_equal(plane_store_controller_offline(store, "co-a", &err), 0);
	plane_store_close(store);
}

static int64_t expires_in_ms(struct plane_store *store, const char *key)
{
	struct plane_store_key_filter filter = { .key_name = key, .limit = 10 };
	struct plane_store_key_list list = { 0 };
	assert_int_equal(plane_store_key_list(store, &filter, &list, &err), 0);
	assert_int_equal(list.count, 1);
	int64_t ms = list.entries[0].expires_in_ms;
	plane_store_key_list_finish(&list);
	return ms;
}

/* A schema is there, and a clock that stands still at `ms`. */
static void set_postgres_clock(int number, int64_t ms)
{
	char sql[160];
	plane_store_close(open_postgres(number));
	snprintf(sql, sizeof(sql),
		"CREATE OR REPLACE FUNCTION now_ms() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT "
		"%" PRId64 "'",
		ms);
	run_on(number, sql);
}

static void check_still_served(struct plane_store *store, int64_t drone)
{
	bool is_found = false;
	struct plane_store_route route = { 0 };
	struct plane_store_backend found;
	struct plane_store_actions actions = { 0 };
	assert_int_equal(plane_store_route_find(store, "tk-one", &is_found, &route, &err), 0);
	assert_true(is_found);
	assert_string_equal(route.backend, "one");
	assert_string_equal(route.secret_token, "secret");
	assert_string_equal(route.user, "ada");
	assert_string_equal(json_string_value(json_object_get(route.auth, "role")), "editor");
	plane_store_route_finish(&route);
	assert_int_equal(plane_store_backend_find(store, "one", &found, &err), 0);
	assert_int_equal(found.drone_id, drone);
	assert_int_equal(plane_store_actions_pending(store, drone, 10, &actions, &err), 0);
	assert_int_equal(actions.count, 1);
	assert_string_equal(actions.entries[0].action_id, "ak-one");
	plane_store_actions_finish(&actions);
}

/* The target's clock is far behind the source's: only what is copied makes tokens greater. */
static void check_goes_on(const char *from, const char *to)
{
	set_postgres_clock(0, 4000000000000);
	set_postgres_clock(1, 1500000000000);
	struct plane_store *store = open_store(from);
	int64_t drone = connect_drone(store, "dr-a");
	int64_t first = spawn(store, drone, "k1", "one");
	int64_t left_ms = expires_in_ms(store, "k1");
	assert_int_equal(left_ms, 60000);
	stop(store);
	if (to[0] == 's') {
		sqlite_ms = 1400000000000;
		boot_id = "boot-of-another-machine";
	}
	(void)copy(from, to);
	store = open_store(to);
	assert_int_equal(expires_in_ms(store, "k1"), left_ms);
	check_still_served(store, drone);
	assert_int_equal(connect_drone(store, "dr-a"), drone);
	int64_t other = connect_drone(store, "dr-b");
	assert_true(other > drone);
	int64_t second = spawn(store, other, "k2", "two");
	assert_true(second > first);
	assert_true(spawn(store, other, "k3", "three") > second);
	plane_store_close(store);
}

static void a_copy_in_postgres_goes_on_where_sqlite_was(void **state)
{
	check_goes_on("s0", "p1");
}

static void a_copy_in_sqlite_goes_on_where_postgres_was(void **state)
{
	check_goes_on("p0", "s1");
}

static void tokens_go_on_above_those_of_a_source_whose_machine_has_booted_since(void **state)
{
	set_postgres_clock(1, 1500000000000);
	struct plane_store *store = open_sqlite(0);
	int64_t drone = connect_drone(store, "dr-a");
	int64_t first = spawn(store, drone, "k1", "one");
	stop(store);
	boot_id = "boot-2";
	sqlite_ms -= 1000000; /* its wall clock too */
	(void)copy("s0", "p1");
	store = open_postgres(1);
	/* nobody knows how long it was off: leases get their whole time again */
	assert_int_equal(expires_in_ms(store, "k1"), 60000);
	assert_true(spawn(store, drone, "k2", "two") > first);
	plane_store_close(store);
}

static void tokens_of_a_forgotten_backend_are_left_behind(void **state)
{
	struct plane_store *store = open_postgres(0);
	int64_t drone = connect_drone(store, "dr-a");
	(void)spawn(store, drone, "k1", "one");
	(void)spawn(store, drone, "k2", "two");
	stop(store);
	run_on(0, "DELETE FROM backend WHERE id = 'one'");
	(void)copy("p0", "s0");
	bool is_found = true;
	struct plane_store_route route = { 0 };
	store = open_sqlite(0);
	assert_int_equal(plane_store_route_find(store, "tk-one", &is_found, &route, &err), 0);
	assert_false(is_found);
	assert_int_equal(plane_store_route_find(store, "tk-two", &is_found, &route, &err), 0);
	assert_true(is_found);
	plane_store_route_finish(&route);
	plane_store_close(store);
}

/* ---- what is refused ---- */

static void refused(const char *from, const char *to, int code, const char *told)
{
	struct plane_store_copied copied;
	assert_int_equal(try_copy(from, to, &copied, &err), code);
	if (!strstr(err.message, told))
		fail_msg("\"%s\" does not say \"%s\"", err.message, told);
}

static void a_store_that_somebody_has_open_is_refused(void **state)
{
	struct plane_store *store = open_sqlite(0);
	refused("s0", "p1", -EBUSY, "is in use");
	refused("p1", "s0", -ENOTSUP, "no store");
	plane_store_close(open_postgres(1));
	refused("p1", "s0", -EBUSY, "is in use");
	plane_store_close(store);
	(void)copy("s0", "p1");
}

static void no_controller_can_open_a_store_that_is_copied(void **state)
{
	plane_store_close(open_sqlite(0));
	struct plane_copy_side *from = side("s0", false), *to = side("p1", true);
	struct plane_store_clock clock = the_clock();
	assert_null(plane_sqlite_store_open(sqlite_path(0), &clock, &err));
	assert_int_equal(err.code, -EBUSY);
	struct plane_store *store = open_postgres(1);
	assert_int_equal(plane_store_controller_heartbeat(store, "co-b", &err), -ETIMEDOUT);
	plane_copy_side_close(to);
	assert_int_equal(plane_store_controller_heartbeat(store, "co-b", &err), 0);
	plane_store_close(store);
	plane_copy_side_close(from);
	plane_store_close(open_sqlite(0));
}

static void a_store_with_a_controller_that_was_heard_of_is_refused(void **state)
{
	struct plane_store *store = open_postgres(0);
	assert_int_equal(plane_store_controller_heartbeat(store, "co-a", &err), 0);
	refused("p0", "s0", -EBUSY, "controller co-a ran 0 s ago");
	run_on(0, "UPDATE controller SET last_heartbeat_at = last_heartbeat_at - 31000");
	(void)copy("p0", "s0");
	assert_int_equal(plane_store_controller_heartbeat(store, "co-a", &err), 0);
	stop(store);
	(void)copy("p0", "s1");
}

static void a_source_that_may_have_forgotten_backends_is_refused(void **state)
{
	plane_store_close(open_postgres(0));
	run_on(0, "UPDATE meta SET value = 7 WHERE name = 'system_identifier'");
	refused("p0", "s0", -EBUSY, "failed over or restored");
	refused("p0", "s0", -EBUSY, "failed over or restored");
	run_on(0, "DELETE FROM meta WHERE name LIKE 'recovering%'");
	(void)copy("p0", "s0");
}

static void a_target_with_rows_is_refused_and_left_as_it_is(void **state)
{
	static const char *const targets[] = { "s1", "p1" };
	fill("s0", 1);
	for (int i = 0; i < 2; i++) {
		struct plane_store *store = open_store(targets[i]);
		int64_t drone = connect_drone(store, "dr-a");
		stop(store);
		refused("s0", targets[i], -EEXIST, "table controller has rows");
		store = open_store(targets[i]);
		assert_int_equal(connect_drone(store, "dr-a"), drone);
		stop(store);
	}
}

static sqlite3 *run_on_sqlite(int number, const char *sql)
{
	sqlite3 *db;
	assert_int_equal(sqlite3_open(sqlite_path(number), &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	return db;
}

static void a_source_of_another_version_is_refused(void **state)
{
	plane_store_close(open_sqlite(0));
	sqlite3_close(run_on_sqlite(0, "PRAGMA user_version = 99"));
	refused("s0", "p1", -ENOTSUP, "schema version 99");
	sqlite3_close(run_on_sqlite(0, "PRAGMA user_version = 1"));
	refused("s0", "p1", -ENOTSUP, "`plane migrate` first");
	plane_store_close(open_postgres(0));
	run_on(0, "UPDATE meta SET value = 99");
	refused("p0", "s1", -ENOTSUP, "schema version 99");
	refused("s2", "p1", -ENOENT, "No such file");
	assert_int_equal(access(sqlite_path(2), F_OK), -1);
}

/* Not only a controller has it open. */
static void a_file_that_is_looked_at_is_refused(void **state)
{
	plane_store_close(open_sqlite(0));
	sqlite3 *db = run_on_sqlite(0, "SELECT * FROM meta");
	refused("s0", "p1", -EBUSY, "is in use");
	sqlite3_close(db);
	(void)copy("s0", "p1");
}

/* The many rows behind it are on their way when the server says so. */
static void a_row_that_the_target_refuses_is_told_and_nothing_is_copied(void **state)
{
	plane_store_close(open_sqlite(0));
	sqlite3_close(run_on_sqlite(0,
		"INSERT INTO revocation VALUES (1, CAST(x'ff' AS TEXT), 'u', 5);"
		"WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < "
		"200000) INSERT INTO revocation SELECT i, 'b', 'a user', 5 FROM n"));
	refused("s0", "p1", -EIO, "target: write table revocation: database: invalid byte");
	assert_non_null(strstr(err.message, "line 1"));
	struct plane_copy_side *to = side("p1", true);
	for (size_t i = 0; i < plane_copy_table_count; i++) {
		bool has_rows = true;
		assert_int_equal(to->impl->has_rows(to, &plane_copy_tables[i], &has_rows, &err), 0);
		assert_false(has_rows);
	}
	plane_copy_side_close(to);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up_copy, tear_down_copy)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(every_column_of_the_sqlite_schema_is_copied),
		CASE(every_column_of_the_postgres_schema_is_copied),
		CASE(numbered_tables_are_those_whose_numbers_the_database_gives_out),
		CASE(sqlite_to_postgres_keeps_every_value_of_every_table),
		CASE(postgres_to_sqlite_keeps_every_value_of_every_table),
		CASE(postgres_to_postgres_keeps_every_value_of_every_table),
		CASE(sqlite_to_sqlite_keeps_every_value_of_every_table),
		CASE(a_copy_in_postgres_goes_on_where_sqlite_was),
		CASE(a_copy_in_sqlite_goes_on_where_postgres_was),
		CASE(tokens_go_on_above_those_of_a_source_whose_machine_has_booted_since),
		CASE(tokens_of_a_forgotten_backend_are_left_behind),
		CASE(a_store_that_somebody_has_open_is_refused),
		CASE(no_controller_can_open_a_store_that_is_copied),
		CASE(a_store_with_a_controller_that_was_heard_of_is_refused),
		CASE(a_source_that_may_have_forgotten_backends_is_refused),
		CASE(a_target_with_rows_is_refused_and_left_as_it_is),
		CASE(a_source_of_another_version_is_refused),
		CASE(a_file_that_is_looked_at_is_refused),
		CASE(a_row_that_the_target_refuses_is_told_and_nothing_is_copied),
	};
	postgres_server_start();
	int failed = cmocka_run_group_tests_name("copy", tests, NULL, NULL);
	postgres_server_stop();
	return failed;
}
