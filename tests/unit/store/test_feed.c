/* The feed of store/store.h: two stores on one PostgreSQL, one follows what the other does. */
#include "../cmocka_all.h"
#include "postgres_server.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <libpq-fe.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/text.h"
#include "store/store.h"

#define SEEN_SIZE 512

static struct plane_store *own, *other;
static struct plane_store_feed *feed;
static struct plane_error err;
static int64_t drone_here, drone_elsewhere;

static int64_t connect_drone(const char *name, const char *controller)
{
	struct plane_store_node node = { .kind = PLANE_NODE_DRONE,
		.name = name,
		.cluster = "c:1",
		.controller = controller,
		.pool = "" };
	int64_t id = 0, connection = 0;
	assert_int_equal(plane_store_node_connected(other, &node, &id, &connection, &err), 0);
	return id;
}

static struct plane_store_feed *open_feed(struct plane_store *store, const char *controller)
{
	struct plane_store_feed *opened = plane_store_feed_open(store, controller, &err);
	if (!opened)
		fail_msg("%s", err.message);
	return opened;
}

static int set_up(void **state)
{
	postgres_server_run("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
	own = plane_store_open(postgres_server_url(), &err);
	other = plane_store_open(postgres_server_url(), &err);
	assert_non_null(own);
	assert_non_null(other);
	assert_int_equal(plane_store_migrate(own, &err), 0);
	assert_int_equal(plane_store_migrate(other, &err), 0);
	drone_here = connect_drone("dr-here", "co-own");
	drone_elsewhere = connect_drone("dr-elsewhere", "co-other");
	feed = open_feed(own, "co-own");
	return 0;
}

static int tear_down(void **state)
{
	plane_store_feed_close(feed);
	plane_store_close(own);
	plane_store_close(other);
	return 0;
}

static void spawn(struct plane_store *store, const char *backend, int64_t drone)
{
	_cleanup_json_ json_t *executable = json_pack("{s:s}", "image", "echo");
	_cleanup_free_ char *action = plane_strdupf("ak-%s", backend);
	struct plane_store_spawned spawned = { 0 };
	struct plane_store_spawn order = { .backend = backend,
		.cluster = "c:1",
		.drone_id = drone,
		.key_name = backend,
		.key_namespace = "",
		.key_tag = "",
		.lifetime_limit_seconds = -1,
		.max_idle_seconds = -1,
		.action_id = action,
		.executable = executable,
		.lease_ms = 60000 };
	if (plane_store_spawn(store, &order, &spawned, &err) < 0)
		fail_msg("%s", err.message);
	free(spawned.message);
}

static void report(struct plane_store *store, const char *backend, int64_t drone,
	enum plane_backend_status status)
{
	struct plane_backend_state reported = { .status = status, .last_status = PLANE_READY };
	struct plane_store_report one = { .backend = backend, .state = &reported };
	assert_int_equal(plane_store_backend_update(store, drone, &one, 1, &err), 0);
	assert_true(one.is_changed);
}

/* Reads all there is: "b1:ready ", "b1>ak-b1 " for an action, "b1-ada ". */
static void read_all(char seen[SEEN_SIZE], bool *has_missed)
{
	struct plane_store_events events = { .has_more = true };
	seen[0] = '\0';
	*has_missed = false;
	while (events.has_more) {
		if (plane_store_feed_read(feed, &events, &err) < 0)
			fail_msg("%s", err.message);
		for (size_t i = 0; i < events.count; i++) {
			const struct plane_store_event *event = &events.entries[i];
			size_t used = strlen(seen);
			const char *what = event->user;
			if (event->kind == PLANE_STORE_EVENT_STATE)
				what = plane_backend_status_text(event->state.status);
			else if (event->kind == PLANE_STORE_EVENT_ACTION)
				what = event->action_id;
			assert_true(event->kind != PLANE_STORE_EVENT_ACTION || event->message);
			snprintf(seen + used, SEEN_SIZE - used, "%s%c%s ", event->backend,
				":>-"[event->kind], what);
		}
		bool has_more = events.has_more;
		*has_missed |= events.has_missed;
		plane_store_events_finish(&events);
		events.has_more = has_more;
	}
}

static void assert_read(const char *expected)
{
	char seen[SEEN_SIZE];
	bool has_missed;
	read_all(seen, &has_missed);
	assert_false(has_missed);
	assert_string_equal(seen, expected);
}

static void what_others_do_is_read_once_and_in_order(void **state)
{
	spawn(other, "b1", drone_here);
	report(other, "b1", drone_here, PLANE_LOADING);
	report(other, "b1", drone_here, PLANE_READY);
	assert_int_equal(plane_store_token_revoke(other, "b1", "ada", &err), 0);
	assert_read("b1:scheduled b1:loading b1:ready b1>ak-b1 b1-ada ");
	assert_read("");
	report(other, "b1", drone_here, PLANE_TERMINATED);
	assert_read("b1:terminated ");
}

static void what_this_store_did_is_not_read(void **state)
{
	spawn(own, "b1", drone_here);
	report(own, "b1", drone_here, PLANE_LOADING);
	assert_int_equal(plane_store_token_revoke(own, "b1", "ada", &err), 0);
	assert_read("");
	report(other, "b1", drone_here, PLANE_READY);
	assert_read("b1:ready ");
}

static void what_was_done_before_is_not_read(void **state)
{
	spawn(other, "b1", drone_here);
	plane_store_feed_close(feed);
	feed = open_feed(own, "co-own");
	assert_read("");
	report(other, "b1", drone_here, PLANE_READY);
	assert_read("b1:ready ");
}

static void orders_are_read_for_drones_of_this_controller_only(void **state)
{
	char *message = NULL;
	int64_t drone = 0;
	spawn(other, "b1", drone_elsewhere);
	assert_read("b1:scheduled ");
	assert_int_equal(plane_store_terminate(other, "b1", "ak-end", PLANE_KIND_SOFT,
				 PLANE_REASON_EXTERNAL, &drone, &message, &err),
		0);
	free(message);
	assert_read("");
	spawn(other, "b2", drone_here);
	const char *const acknowledged[] = { "ak-b2" };
	assert_int_equal(plane_store_actions_ack(other, acknowledged, 1, drone_here, &err), 0);
	assert_read("b2:scheduled "); /* the drone has it already */
}

static void a_row_that_cannot_be_read_does_not_stop_others(void **state)
{
	spawn(other, "b1", drone_here);
	postgres_server_run("INSERT INTO backend_state (backend, state, created_at) VALUES ('b1', "
			    "'{\"status\":\"of a later version\"}', 0)");
	report(other, "b1", drone_here, PLANE_LOADING);
	assert_read("b1:scheduled b1:loading b1>ak-b1 ");
}

static void more_than_one_read_holds_is_read_in_several(void **state)
{
	spawn(other, "b1", drone_here);
	assert_read("b1:scheduled b1>ak-b1 ");
	postgres_server_run(
		"INSERT INTO revocation (backend, username, created_at) SELECT 'b1', i, "
		"0 FROM generate_series(1, 1200) i");
	size_t count = 0;
	struct plane_store_events events = { .has_more = true };
	while (events.has_more) {
		assert_int_equal(plane_store_feed_read(feed, &events, &err), 0);
		for (size_t i = 0; i < events.count; i++) {
			char number[24];
			snprintf(number, sizeof(number), "%zu", ++count);
			assert_string_equal(events.entries[i].user, number);
		}
		bool has_more = events.has_more;
		plane_store_events_finish(&events);
		events.has_more = has_more;
	}
	assert_int_equal(count, 1200);
}

/* ---- late commits ---- */

static void run_on(PGconn *connection, const char *sql)
{
	PGresult *result = PQexec(connection, sql);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		fail_msg("%s: %s", sql, PQerrorMessage(connection));
	PQclear(result);
}

static PGconn *begin_revocation(const char *user)
{
	PGconn *connection = PQconnectdb(postgres_server_url());
	_cleanup_free_ char *insert = plane_strdupf(
		"INSERT INTO revocation (backend, username, created_at) VALUES ('b1', '%s', 0)",
		user);
	run_on(connection, "BEGIN");
	run_on(connection, insert);
	return connection;
}

static void end(PGconn *connection, const char *how)
{
	run_on(connection, how);
	PQfinish(connection);
}

static void a_row_that_commits_late_is_read_late(void **state)
{
	spawn(other, "b1", drone_here);
	assert_read("b1:scheduled b1>ak-b1 ");
	PGconn *first = begin_revocation("first"), *lost = begin_revocation("lost");
	PGconn *second = begin_revocation("second");
	assert_int_equal(plane_store_token_revoke(other, "b1", "third", &err), 0);
	assert_read("b1-third ");
	end(second, "COMMIT");
	assert_int_equal(plane_store_token_revoke(other, "b1", "fourth", &err), 0);
	assert_read("b1-second b1-fourth ");
	end(lost, "ROLLBACK");
	end(first, "COMMIT");
	assert_read("b1-first ");
	assert_read("");
}

static void a_row_that_was_on_its_way_when_the_feed_was_opened_is_read(void **state)
{
	spawn(other, "b1", drone_here);
	PGconn *early = begin_revocation("early");
	assert_int_equal(plane_store_token_revoke(other, "b1", "before", &err), 0);
	plane_store_feed_close(feed);
	feed = open_feed(own, "co-own");
	assert_read("");
	end(early, "COMMIT");
	assert_read("b1-early ");
}

/* ---- notifications and lost connections ---- */

static bool wait_notified(int wake_fd, int timeout_ms)
{
	bool is_notified = false;
	assert_int_equal(plane_store_feed_wait(feed, wake_fd, timeout_ms, &is_notified, &err), 0);
	return is_notified;
}

static void another_store_s_notification_ends_the_wait_and_an_own_one_does_not(void **state)
{
	struct plane_store_feed *others = open_feed(other, "co-other");
	int fd = eventfd(1, EFD_CLOEXEC);
	assert_int_equal(plane_store_feed_notify(others, &err), 0);
	assert_true(wait_notified(-1, 60000));
	assert_int_equal(plane_store_feed_notify(feed, &err), 0);
	assert_false(wait_notified(fd, 60000)); /* fd is readable: nothing is waited for */
	assert_int_equal(plane_store_feed_notify(others, &err), 0);
	assert_read(""); /* the notification may come with an answer */
	assert_true(wait_notified(-1, 60000));
	plane_store_feed_close(others);
	close(fd);
}

static void end_all_connections(void)
{
	postgres_server_run(
		"SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE pid <> "
		"pg_backend_pid() AND datname = current_database()");
}

static void nothing_is_lost_with_the_connection(void **state)
{
	bool is_notified;
	int result = 0;
	spawn(other, "b1", drone_here);
	assert_read("b1:scheduled b1>ak-b1 ");
	end_all_connections();
	while (result == 0) /* until the end of the connection has come */
		result = plane_store_feed_wait(feed, -1, 60000, &is_notified, &err);
	assert_int_equal(result, -EAGAIN);
	assert_int_equal(plane_store_feed_notify(feed, &err), 0); /* that comes first, maybe */
	report(other, "b1", drone_here, PLANE_LOADING);
	assert_int_equal(plane_store_token_revoke(other, "b1", "ada", &err), 0);
	assert_read("b1:loading b1-ada ");
	struct plane_store_feed *others = open_feed(other, "co-other");
	assert_int_equal(plane_store_feed_notify(others, &err), 0);
	assert_true(wait_notified(-1, 60000)); /* it listens again */
	plane_store_feed_close(others);
}

/* It was not there to hear of what was done in between. */
static void a_connection_that_a_notification_made_anew_is_to_be_read(void **state)
{
	int fd = eventfd(1, EFD_CLOEXEC);
	spawn(other, "b1", drone_here);
	assert_read("b1:scheduled b1>ak-b1 ");
	end_all_connections();
	report(other, "b1", drone_here, PLANE_LOADING);
	while (plane_store_feed_notify(feed, &err) < 0) /* once, to find that it is lost */
		assert_int_equal(err.code, -EAGAIN);
	assert_true(wait_notified(fd, 60000)); /* fd is readable: nothing is waited for */
	assert_true(wait_notified(fd, 60000)); /* until it is read */
	assert_read("b1:loading ");
	assert_false(wait_notified(fd, 60000));
	close(fd);
}

static void another_server_may_not_have_all_and_that_is_said_once(void **state)
{
	struct plane_store_events events = { 0 };
	spawn(other, "b1", drone_here);
	assert_read("b1:scheduled b1>ak-b1 ");
	postgres_server_restart();
	while (plane_store_feed_read(feed, &events, &err) < 0)
		assert_int_equal(err.code, -EAGAIN);
	assert_true(events.has_missed);
	plane_store_events_finish(&events);
	assert_read("");
	report(other, "b1", drone_here, PLANE_LOADING);
	assert_read("b1:loading ");
}

/* ---- calls of this store that were not told what became of them ---- */

static bool is_waiting_for_standby(void)
{
	PGconn *connection = PQconnectdb(postgres_server_url());
	PGresult *rows =
		PQexec(connection, "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
	bool is_waiting = PQntuples(rows) > 0;
	PQclear(rows);
	PQfinish(connection);
	return is_waiting;
}

static void end_waiting(void)
{
	postgres_server_run("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE "
			    "wait_event = 'SyncRep'");
}

/* From now on what is committed waits for a standby that there is not; until that is so, nothing
 * but a commit shows whether it is. */
static void take_standby_away(void)
{
	PGconn *probe = PQconnectdb(postgres_server_url());
	postgres_server_run("ALTER SYSTEM SET synchronous_standby_names = 'away'");
	postgres_server_run("SELECT pg_reload_conf()");
	while (!is_waiting_for_standby()) {
		if (PQtransactionStatus(probe) == PQTRANS_IDLE)
			PQsendQuery(probe, "UPDATE meta SET value = value");
		while (PQconsumeInput(probe) && !PQisBusy(probe) &&
			PQstatus(probe) == CONNECTION_OK) {
			PGresult *result = PQgetResult(probe);
			PQclear(result);
			if (!result)
				break;
		}
	}
	end_waiting();
	PQfinish(probe);
}

static void bring_standby_back(void)
{
	postgres_server_run("ALTER SYSTEM RESET synchronous_standby_names");
	postgres_server_run("SELECT pg_reload_conf()");
}

static void *report_loading(void *data)
{
	struct plane_backend_state reported = { .status = PLANE_LOADING };
	struct plane_store_report one = { .backend = "b1", .state = &reported };
	struct plane_error failure = { 0 };
	(void)plane_store_backend_update(own, drone_here, &one, 1, &failure);
	*(int *)data = failure.code;
	return NULL;
}

static pthread_t report_without_standby(int *result)
{
	pthread_t thread;
	spawn(own, "b1", drone_here);
	assert_read("");
	take_standby_away();
	assert_int_equal(pthread_create(&thread, NULL, report_loading, result), 0);
	while (!is_waiting_for_standby())
		usleep(1000);
	return thread;
}

static void what_was_done_and_the_answer_lost_is_read(void **state)
{
	char seen[SEEN_SIZE];
	bool has_missed;
	int result = 0;
	pthread_t thread = report_without_standby(&result);
	assert_read("");
	end_waiting();
	pthread_join(thread, NULL);
	assert_int_equal(result, -EAGAIN);
	bring_standby_back();
	read_all(seen, &has_missed);
	assert_true(has_missed); /* it may have been there before, too */
	assert_string_equal(seen, "b1:loading ");
	assert_read("");
}

static void what_is_done_after_its_call_has_given_up_is_read(void **state)
{
	char seen[SEEN_SIZE];
	bool has_missed;
	int result = 0;
	pthread_t thread = report_without_standby(&result);
	pthread_join(thread, NULL);
	assert_int_equal(result, -EAGAIN);
	read_all(seen, &has_missed);
	assert_true(has_missed);
	assert_string_equal(seen, "");
	assert_read("");
	bring_standby_back();
	while (!seen[0]) {
		read_all(seen, &has_missed);
		assert_false(has_missed);
	}
	assert_string_equal(seen, "b1:loading ");
	assert_read("");
}

static void sqlite_has_one_controller_and_no_feed(void **state)
{
	char path[] = "sqlite:/tmp/plane-feed-XXXXXX";
	int fd = mkstemp(path + strlen("sqlite:"));
	struct plane_store *alone = plane_store_open(path, &err);
	assert_non_null(alone);
	assert_false(plane_store_is_shared(alone));
	assert_true(plane_store_is_shared(own));
	plane_store_close(alone);
	close(fd);
	unlink(path + strlen("sqlite:"));
}

int main(void)
{
#define WITH_STORES(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		WITH_STORES(what_others_do_is_read_once_and_in_order),
		WITH_STORES(what_this_store_did_is_not_read),
		WITH_STORES(what_was_done_before_is_not_read),
		WITH_STORES(orders_are_read_for_drones_of_this_controller_only),
		WITH_STORES(a_row_that_cannot_be_read_does_not_stop_others),
		WITH_STORES(more_than_one_read_holds_is_read_in_several),
		WITH_STORES(a_row_that_commits_late_is_read_late),
		WITH_STORES(a_row_that_was_on_its_way_when_the_feed_was_opened_is_read),
		WITH_STORES(another_store_s_notification_ends_the_wait_and_an_own_one_does_not),
		WITH_STORES(nothing_is_lost_with_the_connection),
		WITH_STORES(a_connection_that_a_notification_made_anew_is_to_be_read),
		WITH_STORES(another_server_may_not_have_all_and_that_is_said_once),
		WITH_STORES(what_was_done_and_the_answer_lost_is_read),
		WITH_STORES(what_is_done_after_its_call_has_given_up_is_read),
		WITH_STORES(sqlite_has_one_controller_and_no_feed),
	};
	postgres_server_start();
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	postgres_server_stop();
	return failed;
}
