/* Every message as the original writes it, recorded: read, and written again. Our bytes are those
 * of the file with its keys in order, which is the only difference. */
#include "../cmocka_all.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/json.h"
#include "model/messages.h"

static json_t *load(const char *direction, const char *name)
{
	struct plane_error err = { 0 };
	_cleanup_free_ char *path = plane_strdupf("%s/%s/%s", PLANE_WIRE_FIXTURES, direction, name);
	char bytes[4096];
	FILE *file = fopen(path, "r");
	if (!file)
		fail_msg("%s is not there", path);
	size_t len = fread(bytes, 1, sizeof(bytes), file);
	fclose(file);
	assert_true(len > 0 && len < sizeof(bytes));
	json_t *json = plane_json_parse(bytes, len, &err);
	if (!json)
		fail_msg("%s: %s", path, err.message);
	return json;
}

/* Takes `owned_written`. */
static void assert_written_again(const char *name, const json_t *json, json_t *owned_written)
{
	_cleanup_json_ json_t *written = owned_written;
	_cleanup_free_ char *expected = plane_json_dump(json);
	_cleanup_free_ char *text = plane_json_dump(written);
	if (strcmp(text, expected) != 0)
		fail_msg("%s: wrote %s instead of %s", name, text, expected);
}

/* What reads and writes the messages of one direction; `kinds` gets the bit of each kind seen. */
typedef void (*check_fn)(const char *name, const json_t *json, unsigned *kinds);

#define CHECK(type)                                                                                \
	static void check_##type(const char *name, const json_t *json, unsigned *kinds)            \
	{                                                                                          \
		struct plane_##type message;                                                       \
		struct plane_error err = { 0 };                                                    \
		if (plane_##type##_read(json, &message, &err) < 0)                                 \
			fail_msg("%s: %s", name, err.message);                                     \
		assert_written_again(name, json, plane_##type##_write(&message));                  \
		*kinds |= KIND_BIT(message);                                                       \
	}

#define KIND_BIT(message) (1U << (message).kind)
CHECK(drone_message)
CHECK(drone_order)
CHECK(proxy_message)
CHECK(proxy_order)
#undef KIND_BIT
#define KIND_BIT(message) 1U
CHECK(dns_message)
CHECK(dns_order)

/* Version and hash are those of who writes. */
static void check_handshake(const char *name, const json_t *json)
{
	struct plane_handshake handshake, again;
	struct plane_error err = { 0 };
	if (plane_handshake_read(json, &handshake, &err) < 0)
		fail_msg("%s: %s", name, err.message);
	assert_string_equal(handshake.version, "0.5.5");
	assert_string_equal(handshake.git_hash, "");
	assert_null(handshake.extensions[0]);
	_cleanup_json_ json_t *written = plane_handshake_write(handshake.name, NULL);
	assert_int_equal(plane_handshake_read(written, &again, &err), 0);
	assert_string_equal(again.name, handshake.name);
	json_t *version = json_object_get(written, "version");
	assert_int_equal(json_object_size(written), 2);
	assert_int_equal(json_object_size(version), 2);
}

/* Checks all files of a direction; together they must be of all `kinds`. */
static void check_all(const char *direction, check_fn check, unsigned kinds)
{
	unsigned seen = 0;
	bool has_handshake = false;
	_cleanup_free_ char *path = plane_strdupf("%s/%s", PLANE_WIRE_FIXTURES, direction);
	DIR *directory = opendir(path);
	assert_non_null(directory);
	for (struct dirent *entry; (entry = readdir(directory));) {
		if (entry->d_name[0] == '.')
			continue;
		_cleanup_json_ json_t *json = load(direction, entry->d_name);
		if (strcmp(entry->d_name, "handshake.json") == 0) {
			check_handshake(entry->d_name, json);
			has_handshake = true;
		} else {
			check(entry->d_name, json, &seen);
		}
	}
	closedir(directory);
	assert_true(has_handshake);
	assert_int_equal(seen, kinds);
}

#define UP_TO(kind) ((1U << ((kind) + 1)) - 1)

static void a_drones_messages_are_the_originals(void **state)
{
	check_all("drone-socket/to-controller", check_drone_message, UP_TO(PLANE_DRONE_RENEW_KEY));
	check_all("drone-socket/from-controller", check_drone_order,
		UP_TO(PLANE_ORDER_RENEW_KEY_RESPONSE));
}

static void a_proxys_messages_are_the_originals(void **state)
{
	check_all(
		"proxy-socket/to-controller", check_proxy_message, UP_TO(PLANE_PROXY_CERT_RELEASE));
	check_all("proxy-socket/from-controller", check_proxy_order,
		UP_TO(PLANE_ORDER_BACKEND_REMOVED));
}

static void a_dns_servers_messages_are_the_originals(void **state)
{
	check_all("dns-socket/to-controller", check_dns_message, 1);
	check_all("dns-socket/from-controller", check_dns_order, 1);
}

/* Reading and writing could leave out the same field: some are looked at one by one. */
static void fields_land_where_they_belong(void **state)
{
	struct plane_error err = { 0 };
	struct plane_drone_order spawn;
	struct plane_drone_message event;
	struct plane_proxy_order route;
	_cleanup_json_ json_t *spawn_json =
		load("drone-socket/from-controller", "action-spawn-static.json");
	assert_int_equal(plane_drone_order_read(spawn_json, &spawn, &err), 0);
	assert_string_equal(spawn.action_id, "ak-29jhvxijxpnu9d");
	assert_string_equal(spawn.backend, "wfu6che8sewg27");
	assert_int_equal(spawn.drone_id, 2);
	assert_string_equal(spawn.key_name, "two");
	assert_string_equal(spawn.key_namespace, "space");
	assert_string_equal(spawn.key_tag, "tag");
	assert_int_equal(spawn.deadlines.renew_at_ms, 1795610636922);
	assert_int_equal(spawn.deadlines.soft_terminate_at_ms, 1795610646922);
	assert_int_equal(spawn.fencing_token, 1795610607057);
	assert_string_equal(spawn.static_token, "s.TOses3vHyaSvaZrUGfGZpjId2geKmD3RdP9IAt5c6vQ");
	_cleanup_json_ json_t *event_json =
		load("drone-socket/to-controller", "backend-event-terminated-hard.json");
	assert_int_equal(plane_drone_message_read(event_json, &event, &err), 0);
	assert_int_equal(event.event_id, 14);
	assert_int_equal(event.state.status, PLANE_TERMINATED);
	assert_int_equal(event.state.last_status, PLANE_READY);
	assert_int_equal(event.state.termination, PLANE_KIND_HARD);
	assert_int_equal(event.state.reason, PLANE_REASON_EXTERNAL);
	assert_true(event.state.has_exit_code);
	assert_int_equal(event.state.exit_code, 137);
	assert_int_equal(event.timestamp_ms, 1795610607608);
	_cleanup_json_ json_t *route_json =
		load("proxy-socket/from-controller", "route-info-response-static.json");
	assert_int_equal(plane_proxy_order_read(route_json, &route, &err), 0);
	assert_string_equal(route.route.secret_token, "");
	assert_null(route.route.user);
	assert_null(route.route.user_data);
	assert_string_equal(route.route.subdomain, "sub");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_drones_messages_are_the_originals),
		cmocka_unit_test(a_proxys_messages_are_the_originals),
		cmocka_unit_test(a_dns_servers_messages_are_the_originals),
		cmocka_unit_test(fields_land_where_they_belong),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
