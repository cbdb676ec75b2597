/* drone/log_reader.c: what a reader far away gets of a backend's log, and where it begins. */
#include "../cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/file.h"
#include "drone/log_reader.h"

static char directory[] = "/tmp/plane-log-XXXXXX";
static char path[64], old_path[64];

static struct {
	uv_loop_t loop;
	struct plane_buffer text;
	bool is_ended; /* what the reader is told about the backend */
	int refusals;  /* so many texts are not taken at once */
	int ends;
	char error[64];
	void (*on_first_text)(void);
} far;

static bool on_text(void *data, int64_t request_id, const char *text)
{
	(void)data;
	assert_int_equal(request_id, 7);
	if (far.refusals > 0) {
		far.refusals--;
		return false;
	}
	plane_buffer_add_text(&far.text, text);
	if (far.on_first_text) {
		far.on_first_text();
		far.on_first_text = NULL;
	}
	return true;
}

static void on_end(void *data, int64_t request_id, const char *error)
{
	(void)data;
	assert_int_equal(request_id, 7);
	far.ends++;
	snprintf(far.error, sizeof(far.error), "%s", error ? error : "");
}

static bool is_ended(void *data, const char *backend)
{
	(void)data;
	assert_string_equal(backend, "b1");
	return far.is_ended;
}

static int set_up(void **state)
{
	(void)state;
	strcpy(directory + strlen(directory) - 6, "XXXXXX");
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/b1.log", directory);
	snprintf(old_path, sizeof(old_path), "%s/b1.log.1", directory);
	memset(&far, 0, sizeof(far));
	return uv_loop_init(&far.loop);
}

static int tear_down(void **state)
{
	struct plane_error err;
	(void)state;
	plane_buffer_finish(&far.text);
	return uv_loop_close(&far.loop) | plane_file_remove_tree(directory, &err);
}

static void append(const char *to, const char *bytes, size_t len)
{
	FILE *file = fopen(to, "a");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
}

static void append_lines(const char *to, int first, int last)
{
	char line[64];
	for (int i = first; i <= last; i++) {
		int len = snprintf(line, sizeof(line), "2026-01-01T00:00:00Z stdout F %d\n", i);
		append(to, line, (size_t)len);
	}
}

/* All that a reader gets, until its end. */
static const char *read_log(int64_t tail_lines, bool is_follow)
{
	const struct plane_log_reader_listener listener = { NULL, on_text, on_end, is_ended };
	plane_buffer_clear(&far.text);
	far.ends = 0;
	struct plane_log_reader *reader =
		plane_log_reader_create(&far.loop, path, "b1", 7, tail_lines, is_follow, &listener);
	assert_int_equal(plane_log_reader_request_id(reader), 7);
	assert_int_equal(uv_run(&far.loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(far.ends, 1);
	return plane_buffer_text(&far.text);
}

static void the_last_lines_are_counted_over_both_files(void **state)
{
	(void)state;
	append_lines(old_path, 1, 4);
	append_lines(path, 5, 6);
	assert_string_equal(read_log(-1, false), "1\n2\n3\n4\n5\n6\n");
	assert_string_equal(read_log(0, false), "");
	assert_string_equal(read_log(1, false), "6\n");
	assert_string_equal(read_log(2, false), "5\n6\n");
	assert_string_equal(read_log(3, false), "4\n5\n6\n");
	assert_string_equal(read_log(6, false), "1\n2\n3\n4\n5\n6\n");
	assert_string_equal(read_log(99, false), "1\n2\n3\n4\n5\n6\n");
}

static void write_one_more(void)
{
	append_lines(path, 7, 7);
}

static void a_tail_is_not_longer_because_more_is_written_meanwhile(void **state)
{
	(void)state;
	append_lines(path, 1, 6);
	far.on_first_text = write_one_more;
	assert_string_equal(read_log(2, false), "5\n6\n");
	far.on_first_text = write_one_more;
	assert_string_equal(read_log(-1, false), "1\n2\n3\n4\n5\n6\n7\n7\n");
}

static void an_empty_file_after_a_rotation_takes_no_line_away(void **state)
{
	(void)state;
	append_lines(old_path, 1, 4);
	append(path, "", 0);
	assert_string_equal(read_log(1, false), "4\n");
	assert_string_equal(read_log(2, false), "3\n4\n");
}

static void many_lines_are_found_from_the_end(void **state)
{
	(void)state;
	append_lines(path, 1, 3000);
	const char *text = read_log(2999, false);
	assert_memory_equal(text, "2\n3\n4\n", 6);
	assert_string_equal(text + strlen(text) - 5, "3000\n");
}

static void a_log_that_is_not_there_is_empty(void **state)
{
	(void)state;
	assert_string_equal(read_log(-1, false), "");
	assert_string_equal(far.error, "");
	assert_string_equal(read_log(5, false), "");
	assert_int_equal(mkdir(path, 0700), 0);
	assert_string_equal(read_log(-1, false), "");
	assert_string_equal(far.error, "the log cannot be read");
}

static void what_is_no_text_becomes_text(void **state)
{
	static const char bytes[] = "t stdout F a\0b\n"
				    "t stdout F caf\xc3\xa9 \xff\n"
				    "t stderr P half, \n"
				    "t stderr F whole\n"
				    "no CRI line\n"
				    "t stdout F \n"
				    "t stdout F unfinished";
	(void)state;
	append(path, bytes, sizeof(bytes) - 1);
	assert_string_equal(read_log(-1, false), "a\xef\xbf\xbd"
						 "b\n"
						 "caf\xef\xbf\xbd\xef\xbf\xbd \xef\xbf\xbd\n"
						 "half, whole\nno CRI line\n\n");
}

static void text_that_is_refused_is_offered_again(void **state)
{
	(void)state;
	append_lines(path, 1, 3);
	far.refusals = 2;
	assert_string_equal(read_log(-1, false), "1\n2\n3\n");
	assert_int_equal(far.refusals, 0);
}

static void rotate_and_end(void)
{
	assert_int_equal(rename(path, old_path), 0);
	append_lines(old_path, 3, 3); /* written between the reader's last look and the rotation */
	append_lines(path, 4, 5);
	far.is_ended = true;
}

static void a_follower_goes_over_a_rotation_to_the_end(void **state)
{
	(void)state;
	append_lines(path, 1, 2);
	far.on_first_text = rotate_and_end;
	assert_string_equal(read_log(-1, true), "1\n2\n3\n4\n5\n");
	assert_string_equal(far.error, "");
}

static void appear_and_end(void)
{
	append_lines(path, 1, 2);
	far.is_ended = true;
}

static bool is_ended_later(void *data, const char *backend)
{
	static int asked;
	(void)data;
	(void)backend;
	if (++asked == 2)
		appear_and_end();
	return far.is_ended;
}

static void a_follower_waits_for_a_log_that_comes_later(void **state)
{
	const struct plane_log_reader_listener listener = { NULL, on_text, on_end, is_ended_later };
	(void)state;
	(void)plane_log_reader_create(&far.loop, path, "b1", 7, 10, true, &listener);
	assert_int_equal(uv_run(&far.loop, UV_RUN_DEFAULT), 0);
	assert_string_equal(plane_buffer_text(&far.text), "1\n2\n");
	assert_int_equal(far.ends, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_last_lines_are_counted_over_both_files),
		TEST(a_tail_is_not_longer_because_more_is_written_meanwhile),
		TEST(an_empty_file_after_a_rotation_takes_no_line_away),
		TEST(many_lines_are_found_from_the_end),
		TEST(a_log_that_is_not_there_is_empty),
		TEST(what_is_no_text_becomes_text),
		TEST(text_that_is_refused_is_offered_again),
		TEST(a_follower_goes_over_a_rotation_to_the_end),
		TEST(a_follower_waits_for_a_log_that_comes_later),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
