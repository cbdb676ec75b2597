/* net/address.c: what an address is good for. */
#include "../cmocka_all.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "net/address.h"

static struct sockaddr_storage read_address(const char *text)
{
	struct sockaddr_storage address;
	struct plane_error err = { 0 };
	if (plane_address_parse(text, &address, &err) < 0)
		fail_msg("%s", err.message);
	return address;
}

static void addresses_that_are_nobody_s_are_known(void **state)
{
	static const char *const special[] = { "0.0.0.0:1", "0.1.2.3:1", "169.254.169.254:80",
		"224.0.0.1:1", "255.255.255.255:1", "240.0.0.1:1", "[::]:1", "[fe80::1]:1",
		"[ff02::1]:1", "[::ffff:169.254.169.254]:80", "[::ffff:0.0.0.0]:1",
		"[::7f00:1]:1" };
	static const char *const good[] = { "127.0.0.1:1", "10.0.0.1:1", "169.253.0.1:1",
		"169.255.0.1:1", "223.255.255.255:1", "[::1]:1", "[2001:db8::1]:1", "[fd00::1]:1",
		"[::ffff:10.0.0.1]:1" };
	for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++) {
		struct sockaddr_storage address = read_address(special[i]);
		if (!plane_address_is_special(&address))
			fail_msg("%s", special[i]);
	}
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct sockaddr_storage address = read_address(good[i]);
		if (plane_address_is_special(&address))
			fail_msg("%s", good[i]);
	}
}

static void an_ip_address_is_the_same_however_it_is_written(void **state)
{
	struct sockaddr_storage v4 = read_address("10.0.0.1:80");
	struct sockaddr_storage mapped = read_address("[::ffff:10.0.0.1]:81");
	struct sockaddr_storage other = read_address("10.0.0.2:80");
	assert_true(plane_address_is_same_ip(&v4, &mapped));
	assert_false(plane_address_is_same_ip(&v4, &other));
	assert_int_equal(plane_address_port(&v4), 80);
	assert_int_equal(plane_address_port(&mapped), 81);
	_cleanup_free_ char *first = plane_address_format_ip(&v4);
	_cleanup_free_ char *second = plane_address_format_ip(&mapped);
	assert_string_equal(first, "10.0.0.1");
	assert_string_equal(second, "10.0.0.1");
	struct sockaddr_storage v6 = read_address("[2001:DB8:0::1]:80");
	_cleanup_free_ char *third = plane_address_format_ip(&v6);
	assert_string_equal(third, "2001:db8::1");
}

static void own_addresses_are_those_of_this_machine(void **state)
{
	assert_true(plane_address_is_own("127.0.0.1"));
	assert_true(plane_address_is_own("127.8.9.1"));
	assert_true(plane_address_is_own("::1"));
	assert_true(plane_address_is_own("::ffff:127.0.0.1"));
	assert_false(plane_address_is_own("203.0.113.77")); /* RFC 5737: nobody's */
	assert_false(plane_address_is_own("2001:db8::77"));
	assert_false(plane_address_is_own(""));
	assert_false(plane_address_is_own("localhost"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_that_are_nobody_s_are_known),
		cmocka_unit_test(an_ip_address_is_the_same_however_it_is_written),
		cmocka_unit_test(own_addresses_are_those_of_this_machine),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
