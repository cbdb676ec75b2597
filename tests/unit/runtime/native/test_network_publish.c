/* What the flags of published ports mean. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/native/network_publish.h"

static void nothing_is_published_at_loopback(void **state)
{
	static const char *const loopback[] = { NULL, "127.0.0.1", "127.8.9.1" };
	struct plane_network_publish publish = { .address = 7 };
	bool is_published = true;

	for (size_t i = 0; i < sizeof(loopback) / sizeof(*loopback); i++) {
		assert_int_equal(plane_network_publish_read(loopback[i], "nonsense", NULL, &publish,
					 &is_published, NULL),
			0);
		assert_false(is_published);
	}
	assert_int_equal(publish.address, 7); /* untouched */
}

static void private_networks_and_a_port_for_each_sandbox_are_the_default(void **state)
{
	static const struct plane_network_cidr wanted[] = { { 10u << 24, 8 },
		{ 172u << 24 | 16u << 16, 12 }, { 192u << 24 | 168u << 16, 16 },
		{ 100u << 24 | 64u << 16, 10 } };
	struct plane_network_publish publish;
	bool is_published = false;

	assert_int_equal(
		plane_network_publish_read("10.1.2.3", NULL, NULL, &publish, &is_published, NULL),
		0);
	assert_true(is_published);
	assert_int_equal(publish.address, 10u << 24 | 1 << 16 | 2 << 8 | 3);
	assert_int_equal(plane_network_publish_count(&publish, 1023), 1023);
	assert_int_equal(publish.allowed_count, 4);
	assert_memory_equal(publish.allowed, wanted, sizeof(wanted));
}

static void what_is_given_replaces_the_default(void **state)
{
	static const char *const allowed[] = { "192.0.2.7", "0.0.0.0/0", NULL };
	struct plane_network_publish publish;
	bool is_published;

	assert_int_equal(plane_network_publish_read("192.0.2.1", "65530-65535", allowed, &publish,
				 &is_published, NULL),
		0);
	assert_int_equal(publish.first_port, 65530);
	assert_int_equal(plane_network_publish_count(&publish, 1023), 6);
	assert_int_equal(plane_network_publish_count(&publish, 2), 2);
	assert_int_equal(publish.allowed_count, 2);
	assert_int_equal(publish.allowed[0].prefix, 32);
	assert_int_equal(publish.allowed[0].address, 192u << 24 | 2 << 8 | 7);
	assert_int_equal(publish.allowed[1].prefix, 0);
}

static void mistakes_are_refused(void **state)
{
	static const struct {
		const char *ip, *ports, *allowed[2];
	} mistakes[] = { { "0.0.0.0", NULL, { NULL } }, { "224.0.0.1", NULL, { NULL } },
		{ "255.255.255.255", NULL, { NULL } }, { "10.1.2.3", "", { NULL } },
		{ "10.1.2.3", "2000", { NULL } }, { "10.1.2.3", "2000-", { NULL } },
		{ "10.1.2.3", "-2000", { NULL } }, { "10.1.2.3", "2000-1999", { NULL } },
		{ "10.1.2.3", "1023-1024", { NULL } }, { "10.1.2.3", "2000-65536", { NULL } },
		{ "10.1.2.3", "00000002000-2001", { NULL } },
		{ "10.1.2.3", NULL, { "10.1.0.0/8" } }, { "10.1.2.3", NULL, { "10.0.0.0/33" } },
		{ "10.1.2.3", NULL, { "10.0.0.0/" } }, { "10.1.2.3", NULL, { "10.0.0/8" } },
		{ "10.1.2.3", NULL, { "" } }, { "10.1.2.3", NULL, { "proxy.example" } },
		{ "10.1.2.3", NULL, { "::1" } }, { "10.1.2.3", NULL, { "10.1.2.3 } drop; {" } } };
	struct plane_network_publish publish = { .address = 7 };
	bool is_published;

	for (size_t i = 0; i < sizeof(mistakes) / sizeof(*mistakes); i++) {
		struct plane_error err = { 0 };
		assert_int_equal(plane_network_publish_read(mistakes[i].ip, mistakes[i].ports,
					 mistakes[i].allowed, &publish, &is_published, &err),
			-EINVAL);
		assert_true(err.message[0]);
	}
	assert_int_equal(publish.address, 7);
}

static void more_networks_than_there_is_room_for_are_refused(void **state)
{
	const char *allowed[PLANE_NETWORK_ALLOWED_MAX + 2] = { NULL };
	struct plane_network_publish publish;
	bool is_published;

	for (int i = 0; i < PLANE_NETWORK_ALLOWED_MAX; i++)
		allowed[i] = "192.0.2.7";
	assert_int_equal(plane_network_publish_read(
				 "10.1.2.3", NULL, allowed, &publish, &is_published, NULL),
		0);
	allowed[PLANE_NETWORK_ALLOWED_MAX] = "192.0.2.8";
	assert_int_equal(plane_network_publish_read(
				 "10.1.2.3", NULL, allowed, &publish, &is_published, NULL),
		-EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_published_at_loopback),
		cmocka_unit_test(private_networks_and_a_port_for_each_sandbox_are_the_default),
		cmocka_unit_test(what_is_given_replaces_the_default),
		cmocka_unit_test(mistakes_are_refused),
		cmocka_unit_test(more_networks_than_there_is_room_for_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
