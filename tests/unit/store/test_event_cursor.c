/* store/event_cursor.c, alone and against a log of transactions that commit in any order. */
#include "../cmocka_all.h"

#include <stdio.h>
#include <string.h>

#include "store/event_cursor.h"

#define IDS(...) ((const int64_t[]){ __VA_ARGS__ })
#define COUNT(...) (sizeof(IDS(__VA_ARGS__)) / sizeof(int64_t))
/* Takes the ids in a look of this time, between these transactions. */
#define TAKE(cursor, now, oldest, next_one, ...)                                                   \
	plane_event_cursor_take(cursor, &(struct plane_event_look){ .ids = IDS(__VA_ARGS__),       \
						.count = COUNT(__VA_ARGS__),                       \
						.oldest_open = (oldest),                           \
						.next = (next_one),                                \
						.now_ms = (now) })
#define TAKE_NONE(cursor, now, oldest, next_one)                                                   \
	plane_event_cursor_take(                                                                   \
		cursor, &(struct plane_event_look){                                                \
				.oldest_open = (oldest), .next = (next_one), .now_ms = (now) })

static void assert_gaps(const struct plane_event_cursor *cursor, const char *expected)
{
	struct plane_buffer text = { 0 };
	plane_event_cursor_write_gaps(cursor, &text);
	assert_string_equal(plane_buffer_text(&text), expected);
	plane_buffer_finish(&text);
}

static void rows_in_order_leave_no_gap(void **state)
{
	struct plane_event_cursor cursor = { 0 };
	assert_true(TAKE(&cursor, 0, 10, 10, 1, 2, 3));
	assert_int_equal(cursor.last_id, 3);
	assert_gaps(&cursor, "{}");
	assert_true(TAKE_NONE(&cursor, 1, 10, 10));
	assert_int_equal(cursor.last_id, 3);
	plane_event_cursor_finish(&cursor);
}

static void a_row_that_comes_late_closes_its_gap(void **state)
{
	struct plane_event_cursor cursor = { .last_id = 4 };
	assert_true(TAKE(&cursor, 0, 7, 9, 6, 9));
	assert_gaps(&cursor, "{5,7,8}");
	assert_true(TAKE(&cursor, 1, 7, 9, 7, 10));
	assert_gaps(&cursor, "{5,8}");
	assert_int_equal(cursor.last_id, 10);
	assert_true(TAKE(&cursor, 2, 7, 9, 5, 8));
	assert_gaps(&cursor, "{}");
	assert_int_equal(cursor.last_id, 10);
	plane_event_cursor_finish(&cursor);
}

static void a_gap_is_given_up_once_all_that_could_fill_it_are_decided(void **state)
{
	struct plane_event_cursor cursor = { 0 };
	assert_true(TAKE(&cursor, 0, 7, 9, 2));
	assert_true(TAKE_NONE(&cursor, PLANE_EVENT_GAP_MIN_MS, 8, 12));
	assert_gaps(&cursor, "{1}"); /* number 8 is open yet */
	assert_true(TAKE_NONE(&cursor, PLANE_EVENT_GAP_MIN_MS - 1, 9, 12));
	assert_gaps(&cursor, "{1}"); /* too soon to be sure */
	assert_true(TAKE_NONE(&cursor, PLANE_EVENT_GAP_MIN_MS, 9, 12));
	assert_gaps(&cursor, "{}");
	plane_event_cursor_finish(&cursor);
}

static void a_gap_is_given_up_after_the_longest_transaction(void **state)
{
	struct plane_event_cursor cursor = { 0 };
	assert_true(TAKE(&cursor, 100, 7, 9, 2));
	assert_true(TAKE_NONE(&cursor, 100 + PLANE_EVENT_GAP_MAX_MS - 1, 7, 900));
	assert_gaps(&cursor, "{1}");
	assert_true(TAKE_NONE(&cursor, 100 + PLANE_EVENT_GAP_MAX_MS, 7, 900));
	assert_gaps(&cursor, "{}");
	plane_event_cursor_finish(&cursor);
}

static void what_may_have_filled_a_gap_that_was_given_up_is_told_once(void **state)
{
	struct plane_event_cursor cursor = { 0 };
	assert_true(TAKE(&cursor, 0, 7, 9, 2));
	assert_true(TAKE(&cursor, 1, 7, 12, 4));
	assert_true(TAKE_NONE(&cursor, PLANE_EVENT_GAP_MAX_MS + 1, 7, 900));
	assert_gaps(&cursor, "{}");
	assert_true(TAKE_NONE(&cursor, PLANE_EVENT_GAP_MAX_MS + 2, 11, 900));
	assert_false(TAKE_NONE(&cursor, PLANE_EVENT_GAP_MAX_MS + 3, 12, 900));
	assert_true(TAKE_NONE(&cursor, PLANE_EVENT_GAP_MAX_MS + 4, 900, 900));
	plane_event_cursor_finish(&cursor);
}

static void a_row_wins_over_giving_up_its_gap(void **state)
{
	struct plane_event_cursor cursor = { 0 };
	assert_true(TAKE(&cursor, 0, 7, 9, 3));
	assert_true(TAKE(&cursor, PLANE_EVENT_GAP_MAX_MS, 9, 9, 1, 4));
	assert_gaps(&cursor, "{}");
	assert_int_equal(cursor.last_id, 4);
	plane_event_cursor_finish(&cursor);
}

static void too_many_gaps_forget_the_oldest_and_say_so(void **state)
{
	struct plane_event_cursor cursor = { 0 };
	assert_true(TAKE(&cursor, 0, 1, 9, PLANE_EVENT_GAPS_MAX + 1));
	assert_int_equal(cursor.gap_count, PLANE_EVENT_GAPS_MAX);
	assert_false(TAKE(&cursor, 0, 1, 9, PLANE_EVENT_GAPS_MAX + 4));
	assert_int_equal(cursor.gap_count, PLANE_EVENT_GAPS_MAX);
	assert_int_equal(cursor.gaps[0].id, 3);
	assert_int_equal(cursor.gaps[cursor.gap_count - 1].id, PLANE_EVENT_GAPS_MAX + 3);
	assert_true(TAKE_NONE(&cursor, 0, 8, 10));
	assert_false(TAKE_NONE(&cursor, 0, 9, 10)); /* they could be filled until now */
	plane_event_cursor_finish(&cursor);
}

static void a_jump_of_the_numbers_is_no_more_than_many_gaps(void **state)
{
	struct plane_event_cursor cursor = { .last_id = 5 };
	assert_false(TAKE(&cursor, 0, 1, 9, INT64_MAX));
	assert_int_equal(cursor.gap_count, PLANE_EVENT_GAPS_MAX);
	assert_int_equal(cursor.last_id, INT64_MAX);
	plane_event_cursor_finish(&cursor);
}

/* ---- doubt about the reader's own rows ---- */

static void look_in_doubt(
	struct plane_event_doubt *doubt, int64_t now_ms, int64_t oldest_open, int64_t next)
{
	plane_event_doubt_take(
		doubt, &(struct plane_event_look){
			       .oldest_open = oldest_open, .next = next, .now_ms = now_ms });
}

static void a_doubt_lasts_until_all_that_it_is_about_is_decided(void **state)
{
	struct plane_event_doubt doubt = { 0 };
	assert_false(plane_event_doubt_begin(&doubt, 0, 100));
	assert_false(doubt.is_open);
	assert_true(plane_event_doubt_begin(&doubt, 1, 100));
	assert_false(plane_event_doubt_begin(&doubt, 1, 101));
	look_in_doubt(&doubt, 100 + PLANE_EVENT_DOUBT_MS - 1, 7, 7);
	assert_true(doubt.is_open); /* the server may begin it yet */
	look_in_doubt(&doubt, 100 + PLANE_EVENT_DOUBT_MS, 5, 7);
	look_in_doubt(&doubt, 200 + PLANE_EVENT_DOUBT_MS, 6, 9);
	assert_true(doubt.is_open); /* number 6 is open yet */
	look_in_doubt(&doubt, 300 + PLANE_EVENT_DOUBT_MS, 7, 9);
	assert_false(doubt.is_open);
	assert_false(plane_event_doubt_begin(&doubt, 1, 400 + PLANE_EVENT_DOUBT_MS));
}

static void another_unknown_outcome_begins_the_doubt_anew(void **state)
{
	struct plane_event_doubt doubt = { 0 };
	assert_true(plane_event_doubt_begin(&doubt, 3, 0));
	look_in_doubt(&doubt, PLANE_EVENT_DOUBT_MS, 5, 7);
	assert_true(plane_event_doubt_begin(&doubt, 4, PLANE_EVENT_DOUBT_MS));
	look_in_doubt(&doubt, PLANE_EVENT_DOUBT_MS + 1, 7, 7);
	assert_true(doubt.is_open);
	look_in_doubt(&doubt, 2 * PLANE_EVENT_DOUBT_MS, 8, 8);
	assert_true(doubt.is_open);
	look_in_doubt(&doubt, 2 * PLANE_EVENT_DOUBT_MS, 8, 8);
	assert_false(doubt.is_open);
}

/* ---- any interleaving ---- */

#define LOG_MAX 600
#define OPEN_MAX 8
#define LOOK_MAX 5

enum row_state { ROW_NONE, ROW_COMMITTED, ROW_ROLLED_BACK };

struct log_model {
	uint32_t random;
	enum row_state rows[LOG_MAX + 1];
	int delivered[LOG_MAX + 1];
	int64_t last_id, next_transaction, now_ms;
	struct {
		int64_t transaction, id; /* id 0: it has drawn none */
	} open[OPEN_MAX];
	int open_count;
};

static uint32_t draw(struct log_model *log, uint32_t bound)
{
	log->random = log->random * 1664525 + 1013904223;
	return (log->random >> 8) % bound;
}

static void decide(struct log_model *log, int which)
{
	int64_t id = log->open[which].id;
	if (id)
		log->rows[id] = draw(log, 5) ? ROW_COMMITTED : ROW_ROLLED_BACK;
	log->open[which] = log->open[--log->open_count];
}

static void step(struct log_model *log)
{
	int which = log->open_count ? (int)draw(log, (uint32_t)log->open_count) : 0;
	log->now_ms += draw(log, 30) ? draw(log, 20) : 2000;
	switch (draw(log, 3)) {
	case 0:
		if (log->open_count < OPEN_MAX) {
			log->open[log->open_count].transaction = log->next_transaction++;
			log->open[log->open_count++].id = 0;
		}
		break;
	case 1:
		if (log->open_count && !log->open[which].id && log->last_id < LOG_MAX)
			log->open[which].id = ++log->last_id;
		break;
	default:
		if (log->open_count)
			decide(log, which);
	}
}

static void look(struct log_model *log, struct plane_event_cursor *cursor)
{
	int64_t ids[LOG_MAX];
	struct plane_event_look look = { .ids = ids,
		.oldest_open = log->next_transaction,
		.next = log->next_transaction,
		.now_ms = log->now_ms };
	for (int i = 0; i < log->open_count; i++)
		if (log->open[i].transaction < look.oldest_open)
			look.oldest_open = log->open[i].transaction;
	for (size_t i = 0; i < cursor->gap_count; i++)
		if (log->rows[cursor->gaps[i].id] == ROW_COMMITTED)
			ids[look.count++] = cursor->gaps[i].id;
	size_t end = look.count + LOOK_MAX;
	for (int64_t id = cursor->last_id + 1; id <= log->last_id && look.count < end; id++)
		if (log->rows[id] == ROW_COMMITTED)
			ids[look.count++] = id;
	for (size_t i = 0; i < look.count; i++)
		log->delivered[ids[i]]++;
	assert_true(plane_event_cursor_take(cursor, &look));
}

static void whatever_the_order_of_commits_each_row_is_seen_once(void **state)
{
	for (uint32_t seed = 1; seed <= 500; seed++) {
		struct log_model log = { .random = seed, .next_transaction = 100 };
		struct plane_event_cursor cursor = { 0 };
		for (int i = 0; i < 2500; i++) {
			step(&log);
			if (draw(&log, 4) == 0)
				look(&log, &cursor);
		}
		while (log.open_count)
			decide(&log, 0);
		for (int i = 0; i < LOG_MAX / LOOK_MAX + 2; i++)
			look(&log, &cursor);
		log.now_ms += PLANE_EVENT_GAP_MIN_MS;
		look(&log, &cursor);
		assert_int_equal(cursor.gap_count, 0);
		for (int64_t id = 1; id <= log.last_id; id++)
			assert_int_equal(log.delivered[id], log.rows[id] == ROW_COMMITTED);
		plane_event_cursor_finish(&cursor);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_in_order_leave_no_gap),
		cmocka_unit_test(a_row_that_comes_late_closes_its_gap),
		cmocka_unit_test(a_gap_is_given_up_once_all_that_could_fill_it_are_decided),
		cmocka_unit_test(a_gap_is_given_up_after_the_longest_transaction),
		cmocka_unit_test(what_may_have_filled_a_gap_that_was_given_up_is_told_once),
		cmocka_unit_test(a_row_wins_over_giving_up_its_gap),
		cmocka_unit_test(too_many_gaps_forget_the_oldest_and_say_so),
		cmocka_unit_test(a_jump_of_the_numbers_is_no_more_than_many_gaps),
		cmocka_unit_test(a_doubt_lasts_until_all_that_it_is_about_is_decided),
		cmocka_unit_test(another_unknown_outcome_begins_the_doubt_anew),
		cmocka_unit_test(whatever_the_order_of_commits_each_row_is_seen_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
