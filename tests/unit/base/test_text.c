/* base/text.c, base/buffer.c and base/error.c. */
#include "../cmocka_all.h"

#include <errno.h>
#include <string.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/random.h"
#include "base/text.h"

static void numbers_are_read_whole_and_in_range(void **state)
{
	int64_t value = 7;
	assert_true(plane_text_parse_int("42", 0, 100, &value));
	assert_int_equal(value, 42);
	assert_true(plane_text_parse_int("-3", -5, 5, &value));
	assert_int_equal(value, -3);
	const char *bad[] = { "", " 1", "1 ", "1x", "-", "+1", "101", "99999999999999999999" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(plane_text_parse_int(bad[i], 0, 100, &value));
	assert_int_equal(value, -3);
}

static void base64url_matches_rfc_4648_vectors(void **state)
{
	const char *vectors[][2] = { { "", "" }, { "f", "Zg" }, { "fo", "Zm8" }, { "foo", "Zm9v" },
		{ "foob", "Zm9vYg" }, { "\xfb\xff", "-_8" } };
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		char text[16];
		plane_text_base64url(
			(const unsigned char *)vectors[i][0], strlen(vectors[i][0]), text);
		assert_string_equal(text, vectors[i][1]);
	}
}

static void utf8_refuses_overlong_forms_and_surrogates(void **state)
{
	assert_true(plane_text_is_utf8("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10));
	assert_false(plane_text_is_utf8("\xc0\x80", 2));
	assert_false(plane_text_is_utf8("\xe0\x80\x80", 3));
	assert_false(plane_text_is_utf8("\xed\xa0\x80", 3));
	assert_false(plane_text_is_utf8("\xf4\x90\x80\x80", 4));
	assert_false(plane_text_is_utf8("\xe2\x82", 2));
}

static void random_names_use_the_alphabet(void **state)
{
	char name[15];
	plane_random_alphanumeric(name, 14);
	assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789"), 14);
	char token[PLANE_RANDOM_TOKEN_SIZE];
	plane_random_token(token);
	assert_int_equal(strlen(token), 43);
}

static void a_buffer_grows_and_is_consumed(void **state)
{
	struct plane_buffer buffer = { 0 };
	for (int i = 0; i < 1000; i++)
		plane_buffer_addf(&buffer, "%d,", i);
	plane_buffer_consume(&buffer, 2);
	assert_memory_equal(buffer.data, "1,2,3", 5);
	plane_buffer_consume(&buffer, 1 << 20);
	assert_string_equal(plane_buffer_text(&buffer), "");
	plane_buffer_finish(&buffer);
}

static void an_error_keeps_code_and_gains_context(void **state)
{
	struct plane_error err = { 0 };
	errno = EACCES;
	assert_int_equal(plane_error_errno(&err, "open %s", "/x"), -EACCES);
	assert_int_equal(plane_error_prefix(&err, "start backend %s", "b"), -EACCES);
	assert_string_equal(err.message, "start backend b: open /x: Permission denied");
	char longer[2000];
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	plane_error_set(&err, EINVAL, "%s", longer);
	assert_true(plane_text_ends_with(err.message, "..."));
	plane_error_set(&err, EINVAL, "\"%.2s\" and %s", "a\xc3\xa9", "\xe2\x82\xac\xff");
	assert_string_equal(err.message, "\"a?\" and \xe2\x82\xac?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_read_whole_and_in_range),
		cmocka_unit_test(base64url_matches_rfc_4648_vectors),
		cmocka_unit_test(utf8_refuses_overlong_forms_and_surrogates),
		cmocka_unit_test(random_names_use_the_alphabet),
		cmocka_unit_test(a_buffer_grows_and_is_consumed),
		cmocka_unit_test(an_error_keeps_code_and_gains_context),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
