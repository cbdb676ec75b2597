/* What a request's target asks for, and which hosts may ask. */
#include "cmocka_all.h"

#include <string.h>

#include "proxy/target.h"

#define TOKEN "0123456789012345678901234567890123456789abc"

static struct plane_slice slice(const char *text)
{
	return (struct plane_slice){ text, strlen(text) };
}

static struct plane_target read_target(const char *text)
{
	return plane_target_read(slice(text));
}

static void own_pages_are_told_from_tokens(void **state)
{
	(void)state;
	assert_int_equal(read_target("/").kind, PLANE_TARGET_ROOT);
	assert_int_equal(read_target("/?a=b").kind, PLANE_TARGET_ROOT);
	assert_int_equal(read_target("/ready").kind, PLANE_TARGET_READY);
	assert_int_equal(read_target("/ready/x").kind, PLANE_TARGET_GONE);
	assert_int_equal(read_target("//x").kind, PLANE_TARGET_BAD);
	assert_int_equal(read_target("").kind, PLANE_TARGET_BAD);
	assert_int_equal(read_target("*").kind, PLANE_TARGET_BAD);
	assert_int_equal(read_target("http://host/" TOKEN).kind, PLANE_TARGET_BAD);
	assert_int_equal(read_target("/short/x").kind, PLANE_TARGET_GONE);
}

static void a_dynamic_token_is_cut_off(void **state)
{
	struct plane_target target = read_target("/" TOKEN "/a/b?c=d");
	(void)state;
	assert_int_equal(target.kind, PLANE_TARGET_TOKEN);
	assert_true(plane_slice_equals(target.token, TOKEN));
	assert_true(plane_slice_equals(target.forwarded, "/a/b?c=d"));
	assert_true(plane_slice_equals(target.original_path, "/" TOKEN "/a/b"));
	assert_false(target.needs_slash);
	target = read_target("/" TOKEN "?c=/d");
	assert_true(plane_slice_equals(target.forwarded, "?c=/d"));
	assert_true(target.needs_slash);
	target = read_target("/" TOKEN);
	assert_int_equal(target.forwarded.len, 0);
	assert_true(target.needs_slash);
}

static void a_static_token_stays(void **state)
{
	struct plane_target target = read_target("/s." TOKEN "/a");
	(void)state;
	assert_int_equal(target.kind, PLANE_TARGET_TOKEN);
	assert_true(plane_slice_equals(target.forwarded, "/s." TOKEN "/a"));
}

static void hosts_belong_to_the_cluster_as_a_whole_label(void **state)
{
	(void)state;
	assert_int_equal(plane_target_check_host(slice("a.b"), "a.b", NULL), 0);
	assert_int_equal(plane_target_check_host(slice("a.b:443"), "a.b", NULL), 0);
	assert_int_equal(plane_target_check_host(slice("x.a.b"), "a.b:443", NULL), 0);
	assert_int_equal(plane_target_check_host(slice("evila.b"), "a.b", NULL), 403);
	assert_int_equal(plane_target_check_host(slice("a.b.evil"), "a.b", NULL), 403);
	assert_int_equal(plane_target_check_host(slice("b"), "a.b", NULL), 403);
	assert_int_equal(plane_target_check_host(slice(""), "a.b", NULL), 400);
	assert_int_equal(plane_target_check_host(slice("x.a.b"), "a.b", "x"), 0);
	assert_int_equal(plane_target_check_host(slice("y.x.a.b"), "a.b", "x"), 403);
	assert_int_equal(plane_target_check_host(slice("a.b"), "a.b", "x"), 403);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(own_pages_are_told_from_tokens),
		cmocka_unit_test(a_dynamic_token_is_cut_off),
		cmocka_unit_test(a_static_token_stays),
		cmocka_unit_test(hosts_belong_to_the_cluster_as_a_whole_label),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
