/* base/json.c: types are strict and errors name the field. */
#include "../cmocka_all.h"

#include <errno.h>
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

static json_t *parse_foreign(
	const char *text, struct plane_json_size *size, struct plane_error *err)
{
	return plane_json_parse_foreign(text, strlen(text), size, err);
}

static void values_are_counted_before_they_are_made(void **state)
{
	static const struct {
		const char *text;
		size_t values, depth;
	} cases[] = { { "", 1, 0 }, { "5", 1, 0 }, { "[1,2,3]", 4, 1 },
		{ "{\"a\":{\"b\":[]}}", 4, 3 }, { "\"[{,\\\"[\\\\\"", 1, 0 },
		{ "[\"]\",\"\\\\\",[]]", 5, 2 }, { "]]][", 2, 1 }, { "\"open [[[\\", 1, 0 } };
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct plane_json_size size =
			plane_json_measure(cases[i].text, strlen(cases[i].text));
		assert_int_equal(size.values, cases[i].values);
		assert_int_equal(size.depth, cases[i].depth);
	}
}

/* "[", `count` times `piece` with commas between, "]" */
static char *repeat(const char *piece, size_t count)
{
	size_t len = strlen(piece);
	char *text = malloc(count * (len + 1) + 2), *end = text;
	*end++ = '[';
	for (size_t i = 0; i < count; i++) {
		memcpy(end, piece, len);
		end += len;
		*end++ = i + 1 < count ? ',' : ']';
	}
	*end = '\0';
	return text;
}

static void texts_from_elsewhere_have_limits(void **state)
{
	struct plane_error err = { 0 };
	struct plane_json_size size;
	_cleanup_free_ char *most = repeat("1", PLANE_JSON_VALUES_MAX - 1);
	_cleanup_free_ char *more = repeat("1", PLANE_JSON_VALUES_MAX);
	_cleanup_free_ char *empties = repeat("[]", 700000);
	_cleanup_json_ json_t *value = parse_foreign(most, &size, &err);
	assert_int_equal(json_array_size(value), PLANE_JSON_VALUES_MAX - 1);
	assert_int_equal(size.values, PLANE_JSON_VALUES_MAX);
	assert_null(parse_foreign(more, &size, &err));
	assert_int_equal(err.code, -E2BIG);
	assert_null(parse_foreign(empties, NULL, &err));
	assert_string_equal(err.message, "JSON of more than 16384 values");
	char deep[2 * (PLANE_JSON_DEPTH_MAX + 1) + 1] = "";
	memset(deep, '[', PLANE_JSON_DEPTH_MAX);
	memset(deep + PLANE_JSON_DEPTH_MAX, ']', PLANE_JSON_DEPTH_MAX);
	json_decref(parse_foreign(deep, &size, &err));
	assert_int_equal(size.depth, PLANE_JSON_DEPTH_MAX);
	memset(deep, '[', PLANE_JSON_DEPTH_MAX + 1);
	assert_null(parse_foreign(deep, NULL, &err));
	assert_string_equal(err.message, "JSON that is nested more than 128 deep");
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
		cmocka_unit_test(values_are_counted_before_they_are_made),
		cmocka_unit_test(texts_from_elsewhere_have_limits),
		cmocka_unit_test(fields_must_have_their_type),
		cmocka_unit_test(equal_values_dump_to_equal_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
