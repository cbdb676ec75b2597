/* controller/backend_rules.c: where a drone may have proxies sent. */
#include "../cmocka_all.h"

#include <errno.h>
#include <string.h>

#include "controller/backend_rules.h"
#include "net/address.h"

#define ELSEWHERE false
#define HERE true

static const struct plane_backend_place original = { 0 };
static const struct plane_backend_place local = { .is_told = true };
static const struct plane_backend_place published = {
	.is_told = true, .ip = "10.0.0.21", .first_port = 20000, .last_port = 21022
};

static struct plane_backend_rules rules_of(
	const struct plane_backend_place *place, bool is_own_machine, const char *only_ip)
{
	struct plane_backend_rules rules = { 0 };
	struct plane_error err = { 0 };
	if (plane_backend_rules_set(&rules, place, is_own_machine, only_ip, &err) < 0)
		fail_msg("%s", err.message);
	return rules;
}

static void assert_registration_refused(const struct plane_backend_place *place,
	bool is_own_machine, const char *only_ip, int code, const char *why)
{
	struct plane_backend_rules rules = { 0 };
	struct plane_error err = { 0 };
	assert_int_equal(
		plane_backend_rules_set(&rules, place, is_own_machine, only_ip, &err), code);
	if (!strstr(err.message, why))
		fail_msg("\"%s\" is not in: %s", why, err.message);
	assert_false(rules.has_ip);
}

static int check(struct plane_backend_rules *rules, const char *text)
{
	struct sockaddr_storage address;
	struct plane_error err = { 0 };
	assert_int_equal(plane_address_parse(text, &address, &err), 0);
	int result = plane_backend_rules_check(rules, &address, &err);
	assert_true(result == 0 || strstr(err.message, text));
	return result;
}

static void what_is_registered_is_all_that_may_be_told(void **state)
{
	struct plane_backend_rules rules = rules_of(&published, ELSEWHERE, NULL);
	assert_false(plane_backend_rules_is_unsure(&rules));
	assert_int_equal(check(&rules, "10.0.0.21:20000"), 0);
	assert_int_equal(check(&rules, "10.0.0.21:21022"), 0);
	assert_int_equal(check(&rules, "[::ffff:10.0.0.21]:20001"), 0);
	static const char *const others[] = { "10.0.0.21:19999", "10.0.0.21:21023", "10.0.0.21:22",
		"10.0.0.22:20000", "127.0.0.1:20000", "169.254.169.254:80", "0.0.0.0:20000",
		"[::1]:20000" };
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (check(&rules, others[i]) != -EACCES)
			fail_msg("%s", others[i]);
	rules = rules_of(&published, HERE, NULL); /* also where much else is let through */
	assert_int_equal(check(&rules, "10.0.0.21:20000"), 0);
	assert_int_equal(check(&rules, "127.0.0.1:20000"), -EACCES);
}

static void addresses_of_nobody_cannot_be_registered(void **state)
{
	static const char *const special[] = { "169.254.169.254", "0.0.0.0", "224.0.0.1",
		"255.255.255.255", "::", "fe80::1", "::ffff:169.254.0.1" };
	struct plane_backend_place place = published;
	for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++) {
		place.ip = special[i];
		assert_registration_refused(&place, HERE, NULL, -EACCES, "no address of a machine");
		assert_registration_refused(&place, ELSEWHERE, NULL, -EACCES, special[i]);
	}
	place.ip = "drone.example";
	assert_registration_refused(&place, HERE, NULL, -EINVAL, "no IP address");
	place.ip = "127.0.0.1";
	assert_registration_refused(&place, ELSEWHERE, NULL, -EACCES, "--ip");
	struct plane_backend_rules rules = rules_of(&place, HERE, NULL);
	assert_int_equal(check(&rules, "127.0.0.1:20000"), 0);
}

static void a_drone_that_is_reached_from_its_machine_only_must_be_on_the_controller_s(void **state)
{
	assert_registration_refused(&local, ELSEWHERE, NULL, -EACCES, "start the drone with --ip");
	struct plane_backend_rules rules = rules_of(&local, HERE, NULL);
	assert_false(plane_backend_rules_is_unsure(&rules)); /* who has this machine has it all */
	assert_int_equal(check(&rules, "10.88.16.2:8080"), 0);
	assert_int_equal(check(&rules, "10.88.16.3:8080"), 0);
	assert_int_equal(check(&rules, "127.0.0.1:1234"), 0);
	assert_int_equal(check(&rules, "169.254.169.254:80"), -EACCES);
	assert_int_equal(check(&rules, "[ff02::1]:80"), -EACCES);
}

static void an_original_drone_elsewhere_keeps_to_the_first_address_that_it_tells(void **state)
{
	struct plane_backend_rules rules = rules_of(&original, ELSEWHERE, NULL);
	assert_true(plane_backend_rules_is_unsure(&rules));
	assert_int_equal(check(&rules, "127.0.0.1:32768"), -EACCES);
	assert_int_equal(check(&rules, "[::1]:32768"), -EACCES);
	assert_int_equal(check(&rules, "169.254.169.254:80"), -EACCES);
	assert_int_equal(check(&rules, "10.0.0.7:32768"), 0); /* those did not count */
	assert_int_equal(check(&rules, "10.0.0.7:32769"), 0);
	assert_int_equal(check(&rules, "10.0.0.8:32768"), -EACCES);
	rules = rules_of(&original, HERE, NULL);
	assert_int_equal(check(&rules, "127.0.0.1:32768"), 0);
	assert_int_equal(check(&rules, "10.0.0.8:32768"), 0);
}

static void a_token_for_one_address_is_good_for_no_other(void **state)
{
	assert_registration_refused(&published, ELSEWHERE, "10.0.0.22", -EACCES,
		"its token is for a drone at 10.0.0.22");
	struct plane_backend_rules rules = rules_of(&published, ELSEWHERE, "10.0.0.21");
	assert_int_equal(check(&rules, "10.0.0.21:20000"), 0);
	assert_int_equal(check(&rules, "10.0.0.21:22"), -EACCES);
	rules = rules_of(&original, HERE, "10.0.0.21");
	assert_int_equal(check(&rules, "10.0.0.21:32768"), 0);
	assert_int_equal(check(&rules, "10.0.0.22:32768"), -EACCES);
	rules = rules_of(&local, ELSEWHERE, "10.0.0.21");
	assert_int_equal(check(&rules, "10.0.0.21:32768"), 0);
	assert_int_equal(check(&rules, "10.88.16.2:8080"), -EACCES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_registered_is_all_that_may_be_told),
		cmocka_unit_test(addresses_of_nobody_cannot_be_registered),
		cmocka_unit_test(
			a_drone_that_is_reached_from_its_machine_only_must_be_on_the_controller_s),
		cmocka_unit_test(
			an_original_drone_elsewhere_keeps_to_the_first_address_that_it_tells),
		cmocka_unit_test(a_token_for_one_address_is_good_for_no_other),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
