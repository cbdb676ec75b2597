/* The journal: what it remembers over a restart. */
#include "cmocka_all.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "drone/journal.h"
#include "drone/local_clock.h"

static char directory[] = "/tmp/plane-test-journal-XXXXXX";
static char path[64];

static int make_directory(void **state)
{
	(void)state;
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/drone.db", directory);
	return 0;
}

static int remove_directory(void **state)
{
	(void)state;
	return plane_file_remove_tree(directory, NULL);
}

static struct plane_journal *open_journal(void)
{
	struct plane_error err = { 0 };
	struct plane_journal *journal = plane_journal_open(path, &err);
	if (!journal)
		fail_msg("%s", err.message);
	return journal;
}

static int64_t record(struct plane_journal *journal, const char *backend,
	const struct plane_backend_state *state, int64_t timestamp_ms)
{
	struct plane_error err = { 0 };
	struct plane_journal_record one = { .state = *state, .timestamp_ms = timestamp_ms };
	strcpy(one.backend, backend);
	assert_int_equal(plane_journal_record(journal, &one, 1, &err), 0);
	return one.event_id;
}

static int add(struct plane_journal *journal, const char *backend, int64_t epoch,
	const struct plane_deadlines *deadlines)
{
	struct plane_error err = { 0 };
	struct plane_drone_order order = { .backend = backend,
		.epoch = epoch,
		.deadlines = *deadlines,
		.fencing_token = 77,
		.resources = { 1 << 20, 250 } };
	return plane_journal_add(journal, &order, &err);
}

static void states_recorded_together_are_events_in_order_and_the_last_stays(void **state)
{
	struct plane_error err = { 0 };
	struct plane_journal_record records[] = {
		{ .backend = "both", .state = { .status = PLANE_LOADING }, .timestamp_ms = 1 },
		{ .backend = "other", .state = { .status = PLANE_LOADING }, .timestamp_ms = 2 },
		{ .backend = "both", .state = { .status = PLANE_STARTING }, .timestamp_ms = 3 },
	};
	struct plane_journal_event events[4];
	struct plane_journal_backend *backends = NULL;
	struct plane_deadlines deadlines = { 1, 2, 3 };
	struct plane_journal *journal = open_journal();
	int count = 0;
	(void)state;
	assert_int_equal(add(journal, "both", 0, &deadlines), 0);
	assert_int_equal(plane_journal_record(journal, records, 3, &err), 0);
	assert_int_equal(plane_journal_events(journal, 0, events, 4, &err), 3);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(events[i].id, records[i].event_id);
		assert_string_equal(events[i].backend, records[i].backend);
		assert_int_equal(events[i].state.status, records[i].state.status);
		free(events[i].backend);
		assert_int_equal(
			plane_journal_events_done(journal, &records[i].event_id, 1, &err), 0);
	}
	assert_int_equal(plane_journal_backends(journal, &backends, &count, &err), 0);
	assert_int_equal(count, 1);
	assert_int_equal(backends[0].state.status, PLANE_STARTING);
	free(backends[0].name);
	free(backends);
	plane_journal_close(journal);
	(void)unlink(path); /* the next test begins with none */
}

static void events_are_kept_until_they_are_done(void **state)
{
	struct plane_error err = { 0 };
	struct plane_backend_state loading = { .status = PLANE_LOADING };
	struct plane_backend_state ready = { .status = PLANE_READY, .address = "10.0.0.2:8080" };
	struct plane_deadlines deadlines = { 1, 2, 3 };
	struct plane_journal_event events[4];
	int64_t first, second;
	struct plane_journal *journal = open_journal();
	(void)state;
	assert_int_equal(add(journal, "one", 0, &deadlines), 0);
	first = record(journal, "one", &loading, 10);
	second = record(journal, "one", &ready, 20);
	assert_true(second > first);
	plane_journal_close(journal);

	journal = open_journal();
	assert_int_equal(plane_journal_events(journal, 0, events, 4, &err), 2);
	assert_int_equal(events[0].id, first);
	assert_int_equal(events[1].state.status, PLANE_READY);
	assert_string_equal(events[1].state.address, "10.0.0.2:8080");
	assert_string_equal(events[1].backend, "one");
	free(events[0].backend);
	free(events[1].backend);
	assert_int_equal(plane_journal_events_done(journal, &first, 1, &err), 0);
	assert_int_equal(plane_journal_events(journal, 0, events, 4, &err), 1);
	free(events[0].backend);
	plane_journal_close(journal);
}

static void running_backends_are_found_again_and_ended_ones_are_known(void **state)
{
	struct plane_error err = { 0 };
	struct plane_backend_state terminated = { .status = PLANE_TERMINATED };
	struct plane_journal_backend *backends = NULL;
	struct plane_deadlines deadlines = { 7, 8, 9 };
	struct plane_journal *journal = open_journal();
	int64_t id;
	int count = 0;
	bool is_known = false;
	(void)state;
	assert_int_equal(add(journal, "runs", 0, &deadlines), 0);
	assert_int_equal(add(journal, "under lease", 12, &deadlines), 0);
	assert_int_equal(add(journal, "ended", 0, &deadlines), 0);
	id = record(journal, "ended", &terminated, 50);
	assert_int_equal(plane_journal_backends(journal, &backends, &count, &err), 0);
	for (int i = 0; i < count; i++) {
		assert_string_not_equal(backends[i].name, "ended");
		if (strcmp(backends[i].name, "runs") == 0)
			assert_int_equal(backends[i].deadlines.hard_terminate_at_ms, 9);
		assert_int_equal(
			backends[i].epoch, strcmp(backends[i].name, "under lease") ? 0 : 12);
		free(backends[i].name);
	}
	free(backends);
	assert_true(count >= 2);
	/* not before its end was reported */
	assert_int_equal(plane_journal_prune(journal, 100, &err), 0);
	assert_int_equal(plane_journal_knows(journal, "ended", &is_known, &err), 0);
	assert_true(is_known);
	assert_int_equal(plane_journal_events_done(journal, &id, 1, &err), 0);
	assert_int_equal(plane_journal_prune(journal, 100, &err), 0);
	assert_int_equal(plane_journal_knows(journal, "ended", &is_known, &err), 0);
	assert_false(is_known);
	plane_journal_close(journal);
}

static void only_one_drone_has_it_and_only_its_owner_reads_it(void **state)
{
	struct plane_error err = { 0 };
	struct stat status;
	struct plane_journal *journal = open_journal();
	(void)state;
	assert_null(plane_journal_open(path, &err));
	assert_int_equal(err.code, -EBUSY);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	assert_int_equal(fdatasync(plane_journal_sync_fd(journal)), 0);
	plane_journal_close(journal);
}

static void the_clock_goes_on_over_a_restart(void **state)
{
	struct plane_error err = { 0 };
	struct plane_local_clock first, second;
	struct plane_journal *journal = open_journal();
	(void)state;
	assert_int_equal(plane_local_clock_open(&first, journal, &err), 0);
	assert_int_equal(plane_local_clock_open(&second, journal, &err), 0);
	assert_int_equal(first.offset_ms, second.offset_ms);
	/* the machine was started anew: the clock begins anew, near the wall clock */
	assert_int_equal(plane_journal_set(journal, "boot_id", "another", &err), 0);
	assert_int_equal(plane_journal_set(journal, "clock_offset_ms", "5", &err), 0);
	assert_int_equal(plane_local_clock_open(&second, journal, &err), 0);
	assert_int_not_equal(second.offset_ms, 5);
	plane_journal_close(journal);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(states_recorded_together_are_events_in_order_and_the_last_stays),
		cmocka_unit_test(events_are_kept_until_they_are_done),
		cmocka_unit_test(running_backends_are_found_again_and_ended_ones_are_known),
		cmocka_unit_test(only_one_drone_has_it_and_only_its_owner_reads_it),
		cmocka_unit_test(the_clock_goes_on_over_a_restart),
	};
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
