/* cli/display.h and cli/table.h: what text of others becomes, and how it is aligned. */
#include "../cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/display.h"
#include "cli/table.h"

/* U+202E, in numbers: a literal of it would fool who reads this. */
static const char from_right_to_left[] = { (char)0xe2, (char)0x80, (char)0xae, 'x', '\0' };

static void text_that_could_move_the_cursor_is_replaced(void **state)
{
	static const struct {
		const char *text, *clean;
	} cases[] = {
		{ "plain", "plain" },
		{ "\033[2Jx", "?[2Jx" },
		{ "a\nb\tc\x7f", "a?b?c?" },
		{ "\xc2\x9b"
		  "1m",
			"?1m" }, /* CSI in one character of UTF-8 */
		{ from_right_to_left, "?x" },
		{ "\xff\xc3", "??" },
		{ "\xe6\xbc\xa2\xc3\xa9", "\xe6\xbc\xa2\xc3\xa9" },
		{ "", "" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		_cleanup_free_ char *clean = plane_display_clean(cases[i].text);
		assert_string_equal(clean, cases[i].clean);
	}
}

static void widths_are_those_of_a_terminal(void **state)
{
	assert_int_equal(plane_display_width("abc"), 3);
	assert_int_equal(plane_display_width("\xc3\xa9"), 1);
	assert_int_equal(plane_display_width("e\xcc\x81"), 1);    /* a combining accent */
	assert_int_equal(plane_display_width("\xe6\xbc\xa2"), 2); /* a wide character */
	assert_int_equal(plane_display_fit("abc", 3, 2), 2);
	assert_int_equal(plane_display_fit("\xe6\xbc\xa2x", 4, 1), 0); /* half of one is none */
	assert_int_equal(plane_display_fit("\xe6\xbc\xa2x", 4, 2), 3);
	assert_int_equal(plane_display_fit("e\xcc\x81", 3, 1), 3);
	assert_int_equal(plane_display_fit("abc", 3, 0), 0);
}

static void columns_are_aligned_by_what_is_seen(void **state)
{
	_cleanup_(plane_buffer_finish) struct plane_buffer text = { 0 };
	struct plane_table table = { .columns = 3, .right_columns = 1u << 1, .empty = "-" };
	plane_table_add(&table, "NAME", "COUNT", "LAST");
	plane_table_add(&table, "\xe6\xbc\xa2", "1", "");
	plane_table_add(&table, "longer", "1000000", NULL);
	plane_table_write(&table, &text);
	assert_string_equal(plane_buffer_text(&text), "NAME      COUNT  LAST\n"
						      "\xe6\xbc\xa2            1  -\n"
						      "longer  1000000  -\n");
	assert_int_equal(table.cell_count, 0);
}

static void values_are_short(void **state)
{
	char text[PLANE_DISPLAY_SIZE];
	static const struct {
		void (*write)(int64_t value, char text[PLANE_DISPLAY_SIZE]);
		int64_t value;
		const char *text;
	} cases[] = {
		{ plane_display_age, 0, "0s" },
		{ plane_display_age, 59, "59s" },
		{ plane_display_age, 60, "1m" },
		{ plane_display_age, 7199, "1h" },
		{ plane_display_age, 86400, "1d" },
		{ plane_display_bytes, 0, "0B" },
		{ plane_display_bytes, 1023, "1023B" },
		{ plane_display_bytes, 1536, "1.5K" },
		{ plane_display_bytes, 512LL << 20, "512M" },
		{ plane_display_bytes, 8LL << 30, "8G" },
		{ plane_display_bytes, INT64_MAX, "8E" },
		{ plane_display_millis, 0, "0" },
		{ plane_display_millis, 1250, "1.25" },
		{ plane_display_millis, 4000, "4" },
		{ plane_display_millis, 7, "0.007" },
		{ plane_display_time, 1768299630123, "2026-01-13 10:20:30.123 UTC" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cases[i].write(cases[i].value, text);
		assert_string_equal(text, cases[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_that_could_move_the_cursor_is_replaced),
		cmocka_unit_test(widths_are_those_of_a_terminal),
		cmocka_unit_test(columns_are_aligned_by_what_is_seen),
		cmocka_unit_test(values_are_short),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
