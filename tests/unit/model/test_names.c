/* model/names.c. */
#include "../cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "model/names.h"

static void names_keep_prefix_length_and_alphabet(void **state)
{
	struct plane_error err = { 0 };
	assert_int_equal(plane_name_check("dr-abc", "dr", &err), 0);
	assert_int_equal(plane_name_check("drone1", "dr", &err), 0);
	assert_int_equal(plane_name_check("abc", NULL, &err), 0);
	assert_true(plane_name_check("px-abc", "dr", &err) < 0);
	assert_non_null(strstr(err.message, "must start with"));
	assert_true(plane_name_check("", NULL, &err) < 0);
	assert_true(plane_name_check("ABC", NULL, &err) < 0);
	assert_true(plane_name_check("a/b", NULL, &err) < 0);
	char name[PLANE_NAME_MAX + 2];
	memset(name, 'a', sizeof(name));
	name[PLANE_NAME_MAX + 1] = '\0';
	assert_true(plane_name_check(name, NULL, &err) < 0);
	assert_non_null(strstr(err.message, "at most 45"));
	name[PLANE_NAME_MAX] = '\0';
	assert_int_equal(plane_name_check(name, NULL, &err), 0);
}

static void random_names_are_valid_and_differ(void **state)
{
	struct plane_error err;
	char a[PLANE_NAME_SIZE], b[PLANE_NAME_SIZE], token[PLANE_TOKEN_SIZE];
	plane_name_random("dr", a);
	plane_name_random("dr", b);
	assert_int_equal(plane_name_check(a, "dr-", &err), 0);
	assert_int_equal(strlen(a), 17);
	assert_string_not_equal(a, b);
	plane_token_random(true, token);
	assert_int_equal(strlen(token), 45);
	assert_true(plane_token_is_static(token, strlen(token)));
	plane_token_random(false, token);
	assert_int_equal(strlen(token), 43);
}

static void the_kind_of_a_node_is_its_prefix(void **state)
{
	enum plane_node_kind kind;
	assert_true(plane_node_kind_of("px-a", &kind) && kind == PLANE_NODE_PROXY);
	assert_true(plane_node_kind_of("dr-a", &kind) && kind == PLANE_NODE_DRONE);
	assert_true(plane_node_kind_of("ns-a", &kind) && kind == PLANE_NODE_DNS);
	assert_false(plane_node_kind_of("co-a", &kind));
}

static void clusters_are_hosts_with_an_optional_port(void **state)
{
	struct plane_error err;
	const char *good[] = { "localhost", "localhost:9090", "a.example.com", "10.0.0.1:80",
		"[::1]:9090" };
	const char *bad[] = { "", ":80", "a:", "a:0", "a:65536", "a:80x", "a b", "a/b", "a..b",
		"-a", "[::1", "[zz]:1", "::1" };
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_int_equal(plane_cluster_check(good[i], &err), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_true(plane_cluster_check(bad[i], &err) < 0);
	assert_true(plane_cluster_is_https("a.example.com"));
	assert_true(plane_cluster_is_https("a:443"));
	assert_false(plane_cluster_is_https("localhost:9090"));
}

static void subdomains_are_one_label(void **state)
{
	struct plane_error err;
	assert_int_equal(plane_subdomain_check("Abc-1", &err), 0);
	const char *bad[] = { "", "-a", "a-", "a.b", "a b", "a\xc3\xa9" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_true(plane_subdomain_check(bad[i], &err) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_keep_prefix_length_and_alphabet),
		cmocka_unit_test(random_names_are_valid_and_differ),
		cmocka_unit_test(the_kind_of_a_node_is_its_prefix),
		cmocka_unit_test(clusters_are_hosts_with_an_optional_port),
		cmocka_unit_test(subdomains_are_one_label),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
