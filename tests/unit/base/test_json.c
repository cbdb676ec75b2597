/* base/json.c: types are strict and errors name the field. */
#include "../cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

static json_t *parse(const char *text, struct plane_error *err)
{
	return plane_json_parse(text, strlen(text), err);
}

static void malformed_json_is_refused_with_its_place(void **state)
{
	const char *bad[] = { "", "{", "{\"a\":1,}", "{\"a\":1}x", "{\"a\":1,\"a\":2}",
		"\"\\u0000\"", "nul", "[1,2" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct plane_error err = { 0 };
		assert_null(parse(bad[i], &err));
		assert_non_null(strstr(err.message, "line 1"));
	}
	char deep[10000];
	memset(deep, '[', sizeof(deep));
	struct plane_error err = { 0 };
	assert_null(plane_json_parse(deep, sizeof(deep), &err));
}

static void fields_must_have_their_type(void **state)
{
	struct plane_error err = { 0 };
	_cleanup_json_ json_t *object = parse("{\"n\":1.0,\"t\":5,\"z\":null,\"i\":300}", &err);
	int64_t number = 9;
	const char *text = "kept";
	assert_true(plane_json_get_int(object, "n", PLANE_JSON_REQUIRED, 0, 9, &number, &err) < 0);
	assert_string_equal(err.message, "n: expected an integer");
	assert_true(plane_json_get_text(object, "t", PLANE_JSON_OPTIONAL, &text, &err) < 0);
	assert_true(plane_json_get_text(object, "gone", PLANE_JSON_REQUIRED, &text, &err) < 0);
	assert_true(plane_json_get_text(object, "z", PLANE_JSON_DEFAULT, &text, &err) < 0);
	assert_int_equal(plane_json_get_text(object, "z", PLANE_JSON_OPTIONAL, &text, &err), 0);
	assert_true(
		plane_json_get_int(object, "i", PLANE_JSON_REQUIRED, 0, 255, &number, &err) < 0);
	assert_string_equal(text, "kept");
	assert_int_equal(number, 9);
}

static void equal_values_dump_to_equal_bytes(void **state)
{
	struct plane_error err = { 0 };
	_cleanup_json_ json_t *value = parse("{ \"b\" : [1, 2], \"a\" : {\"d\":1,\"c\":2} }", &err);
	_cleanup_free_ char *text = plane_json_dump(value);
	assert_string_equal(text, "{\"a\":{\"c\":2,\"d\":1},\"b\":[1,2]}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(malformed_json_is_refused_with_its_place),
		cmocka_unit_test(fields_must_have_their_type),
		cmocka_unit_test(equal_values_dump_to_equal_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
