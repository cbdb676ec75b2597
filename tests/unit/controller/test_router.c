/* controller/router.c and controller/public_url.c. */
#include "../cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "controller/public_url.h"
#include "controller/router.h"

static void parameters_are_whole_segments(void **state)
{
	struct plane_route_params params;
	assert_true(plane_route_match("/ctrl/c/:/d/:/drain", "/ctrl/c/a:90/d/dr-1/drain", &params));
	assert_int_equal(params.count, 2);
	assert_string_equal(params.values[0], "a:90");
	assert_string_equal(params.values[1], "dr-1");
	assert_false(plane_route_match("/ctrl/b/:/logs", "/ctrl/b/a/b/logs", &params));
	assert_false(plane_route_match("/ctrl/b/:/logs", "/ctrl/b//logs", &params));
	assert_false(plane_route_match("/ctrl/b/:/logs", "/ctrl/b/a/logs/", &params));
	assert_false(plane_route_match("/ctrl/b/:/logs", "/ctrl/b/a", &params));
	assert_false(plane_route_match("/ctrl/status", "/ctrl/statu", &params));
}

static void parameters_are_decoded(void **state)
{
	struct plane_route_params params;
	assert_true(plane_route_match("/c/:/x", "/c/a%3A9%30/x", &params));
	assert_string_equal(params.values[0], "a:90");
}

static void hostile_parameters_do_not_match(void **state)
{
	struct plane_route_params params;
	assert_false(plane_route_match("/c/:", "/c/a%00b", &params));
	assert_false(plane_route_match("/c/:", "/c/a%2fb", &params));
	assert_false(plane_route_match("/c/:", "/c/a%", &params));
	assert_false(plane_route_match("/c/:", "/c/a%4", &params));
	assert_false(plane_route_match("/c/:", "/c/a%zz", &params));
	char path[400] = "/c/";
	memset(path + 3, 'a', 300);
	path[303] = '\0';
	assert_false(plane_route_match("/c/:", path, &params));
}

static void assert_url(const char *from, const char *to)
{
	struct plane_error err;
	char *url = plane_public_url(from, &err);
	assert_non_null(url);
	assert_string_equal(url, to);
	free(url);
}

static void public_urls_have_no_user_and_no_path(void **state)
{
	assert_url("http://localhost:8080", "http://localhost:8080");
	assert_url("https://TOKEN@plane.example/", "https://plane.example");
	assert_url("wss://a:b@h:1/prefix?x#y", "https://h:1");
	assert_url("ws://[::1]:80", "http://[::1]:80");
}

static void what_is_no_url_is_refused(void **state)
{
	const char *const wrong[] = { "", "localhost:8080", "ftp://x", "http://", "http://u@",
		"http://a b", "http://a\"b" };
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct plane_error err = { 0 };
		assert_null(plane_public_url(wrong[i], &err));
		assert_true(err.code < 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parameters_are_whole_segments),
		cmocka_unit_test(parameters_are_decoded),
		cmocka_unit_test(hostile_parameters_do_not_match),
		cmocka_unit_test(public_urls_have_no_user_and_no_path),
		cmocka_unit_test(what_is_no_url_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
