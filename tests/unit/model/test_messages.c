/* Every socket message, against its exact bytes: what the original writes must be read and written
 * again as the same JSON. */
#include "../cmocka_all.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "model/messages.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static json_t *parse(const char *text)
{
	struct plane_error err = { 0 };
	json_t *json = plane_json_parse(text, strlen(text), &err);
	if (!json)
		fail_msg("%s: %s", text, err.message);
	return json;
}

/* Takes `owned_again`. */
static void assert_same_json(const json_t *json, json_t *owned_again)
{
	_cleanup_free_ char *before = plane_json_dump(json);
	_cleanup_free_ char *after = plane_json_dump(owned_again);
	assert_string_equal(before, after);
	json_decref(owned_again);
}

static const char *const drone_messages[] = {
	"{\"Heartbeat\":{\"local_time\":1700000000000}}",
	"{\"BackendEvent\":{\"event_id\":7,\"backend_id\":\"abc\",\"state\":{\"status\":"
	"\"loading\"},"
	"\"timestamp\":1700000000000}}",
	"{\"BackendEvent\":{\"event_id\":8,\"backend_id\":\"abc\",\"state\":{\"status\":\"ready\","
	"\"address\":\"127.0.0.1:32768\"},\"timestamp\":1}}",
	"{\"BackendEvent\":{\"event_id\":9,\"backend_id\":\"abc\",\"state\":{\"status\":"
	"\"terminating\","
	"\"last_status\":\"ready\",\"termination\":\"soft\",\"reason\":\"swept\"},\"timestamp\":1}"
	"}",
	"{\"BackendEvent\":{\"event_id\":9,\"backend_id\":\"abc\",\"state\":{\"status\":"
	"\"hard-terminating\",\"last_status\":\"ready\",\"reason\":\"external\"},\"timestamp\":1}}",
	"{\"BackendEvent\":{\"event_id\":9,\"backend_id\":\"abc\",\"state\":{\"status\":"
	"\"terminated\","
	"\"last_status\":\"ready\",\"termination\":\"soft\",\"reason\":\"external\",\"exit_code\":"
	"0},"
	"\"timestamp\":1}}",
	"{\"BackendEvent\":{\"event_id\":9,\"backend_id\":\"abc\",\"state\":{\"status\":"
	"\"terminated\","
	"\"last_status\":\"ready\",\"termination\":null,\"reason\":null,\"exit_code\":137,"
	"\"oom_killed\":true,\"signal\":9,\"message\":\"m\"},\"timestamp\":1}}",
	"{\"BackendMetrics\":{\"backend_id\":\"abc\",\"mem_used\":1,\"mem_total\":2,\"mem_active\":"
	"3,"
	"\"mem_inactive\":4,\"mem_unevictable\":5,\"mem_limit\":6,\"cpu_used\":7,\"sys_cpu\":8}}",
	"{\"AckAction\":{\"action_id\":\"ak-xxxxxxxxxxxxxx\"}}",
	"{\"RenewKey\":{\"backend\":\"abc\",\"local_time\":1700000000000}}",
	"{\"RenewLease\":{\"epoch\":7,\"last_epoch\":7,\"journal\":\"jo-x\",\"local_time\":"
	"1700000000000}}",
	"{\"RenewLease\":{\"epoch\":null,\"last_epoch\":0,\"journal\":\"jo-x\",\"local_time\":1}}",
	"{\"Inventory\":{\"backends\":{\"ba-one\":4,\"ba-two\":null}}}",
	"{\"Inventory\":{\"backends\":{}}}",
	"{\"Inventory\":{\"backends\":{\"ba-one\":4},\"has_more\":true}}",
	"{\"RenewLease\":{\"epoch\":7,\"last_epoch\":7,\"journal\":\"jo-x\",\"local_time\":1,"
	"\"hard_in_ms\":8000}}",
	"{\"RenewLease\":{\"epoch\":7,\"last_epoch\":7,\"journal\":\"jo-x\",\"local_time\":1,"
	"\"resources\":{\"memory_total_bytes\":1,\"memory_allocatable_bytes\":2,"
	"\"memory_reserved_bytes\":3,\"memory_available_bytes\":4,\"cpu_total_millis\":5,"
	"\"cpu_allocatable_millis\":6,\"cpu_reserved_millis\":7,\"load_millis\":8,"
	"\"backend_count\":9,\"last_fencing_token\":10}}}",
	"{\"RefuseAction\":{\"action_id\":\"ak-1\",\"reason\":\"no room\"}}",
	"{\"MetricsReport\":{\"backends\":{}}}",
	"{\"MetricsReport\":{\"backends\":{\"abc\":[1,0,3],\"def\":[4,5,6]}}}",
	"{\"LogsChunk\":{\"request_id\":1,\"data\":\"line\\n\",\"end\":false}}",
	"{\"LogsChunk\":{\"request_id\":1,\"data\":\"\",\"end\":true,\"error\":\"gone\"}}",
};

static void drone_messages_survive_reading_and_writing(void **state)
{
	for (size_t i = 0; i < COUNT(drone_messages); i++) {
		_cleanup_json_ json_t *json = parse(drone_messages[i]);
		struct plane_drone_message message;
		struct plane_error err = { 0 };
		if (plane_drone_message_read(json, &message, &err) < 0)
			fail_msg("%s: %s", drone_messages[i], err.message);
		assert_same_json(json, plane_drone_message_write(&message));
	}
}

static const char *const drone_orders[] = {
	"{\"Action\":{\"action_id\":\"ak-1\",\"backend_id\":\"abc\",\"drone_id\":3,\"action\":{"
	"\"Spawn\":"
	"{\"executable\":{\"image\":\"i\"},\"key\":{\"key\":{\"name\":\"k\",\"namespace\":\"\","
	"\"tag\":\"\"},"
	"\"deadlines\":{\"renew_at\":1,\"soft_terminate_at\":2,\"hard_terminate_at\":3},"
	"\"token\":1700000000000},\"static_token\":null}}}}",
	"{\"Action\":{\"action_id\":\"ak-1\",\"backend_id\":\"abc\",\"drone_id\":3,\"action\":"
	"{\"Terminate\":{\"kind\":\"soft\",\"reason\":\"external\"}}}}",
	"{\"AckEvent\":{\"event_id\":7}}",
	"{\"RenewKeyResponse\":{\"backend\":\"abc\",\"deadlines\":{\"renew_at\":1,\"soft_terminate_"
	"at\":2,"
	"\"hard_terminate_at\":3}}}",
	"{\"RenewKeyResponse\":{\"backend\":\"abc\",\"deadlines\":null}}",
	"{\"Action\":{\"action_id\":\"ak-1\",\"backend_id\":\"abc\",\"drone_id\":3,\"action\":{"
	"\"Spawn\":{\"executable\":{\"image\":\"i\"},\"key\":{\"key\":{\"name\":\"k\","
	"\"namespace\":"
	"\"\",\"tag\":\"\"},\"deadlines\":{\"renew_at\":1,\"soft_terminate_at\":2,"
	"\"hard_terminate_at\":3},\"token\":1700000000000},\"static_token\":null,"
	"\"lease_epoch\":4}}}}",
	"{\"Action\":{\"action_id\":\"ak-1\",\"backend_id\":\"abc\",\"drone_id\":3,\"action\":{"
	"\"Spawn\":{\"executable\":{\"image\":\"i\"},\"key\":{\"key\":{\"name\":\"k\","
	"\"namespace\":"
	"\"\",\"tag\":\"\"},\"deadlines\":{\"renew_at\":1,\"soft_terminate_at\":2,"
	"\"hard_terminate_at\":3},\"token\":1700000000000},\"static_token\":null,"
	"\"lease_epoch\":4,\"resources\":{\"memory_bytes\":1,\"cpu_millis\":0}}}}}",
	"{\"MetricsRequest\":{\"interval_ms\":10000,\"duration_ms\":60000}}",
	"{\"LeaseResponse\":{\"epoch\":4,\"local_time\":-7,\"deadlines\":{\"renew_at\":1,\"soft_"
	"terminate_at\":2,"
	"\"hard_terminate_at\":3}}}",
	"{\"LeaseResponse\":{\"epoch\":4,\"local_time\":-7,\"deadlines\":null}}",
	"{\"LeaseResponse\":{\"epoch\":null,\"local_time\":1,\"deadlines\":null}}",
	"{\"EndBackends\":{\"backends\":[\"ba-one\",\"ba-two\"]}}",
	"{\"LogsRequest\":{\"request_id\":4,\"backend_id\":\"abc\",\"tail\":-1,\"follow\":true}}",
	"{\"LogsCancel\":{\"request_id\":4}}",
};

static void drone_orders_survive_reading_and_writing(void **state)
{
	for (size_t i = 0; i < COUNT(drone_orders); i++) {
		_cleanup_json_ json_t *json = parse(drone_orders[i]);
		struct plane_drone_order order;
		struct plane_error err = { 0 };
		if (plane_drone_order_read(json, &order, &err) < 0)
			fail_msg("%s: %s", drone_orders[i], err.message);
		assert_same_json(json, plane_drone_order_write(&order));
	}
}

static const char *const proxy_messages[] = {
	"{\"RouteInfoRequest\":{\"token\":\"t\"}}",
	"{\"KeepAlive\":\"backendid\"}",
	"{\"CertManagerRequest\":\"CertLeaseRequest\"}",
	"{\"CertManagerRequest\":{\"SetTxtRecord\":{\"txt_value\":\"v\"}}}",
	"{\"CertManagerRequest\":\"ReleaseCertLease\"}",
	"{\"RevokedSince\":{\"since_ms\":60000}}",
};

static const char *const proxy_orders[] = {
	"{\"RouteInfoResponse\":{\"token\":\"t\",\"route_info\":null}}",
	"{\"RouteInfoResponse\":{\"token\":\"t\",\"route_info\":{\"backend_id\":\"abc\","
	"\"address\":\"10.0.0.5:32768\",\"secret_token\":\"s\",\"cluster\":\"localhost:9090\","
	"\"user\":null,\"user_data\":{},\"subdomain\":null}}}",
	"{\"RouteInfoResponse\":{\"token\":\"t\",\"route_info\":{\"backend_id\":\"abc\","
	"\"address\":\"10.0.0.5:32768\",\"secret_token\":\"\",\"cluster\":\"localhost:9090\","
	"\"user\":\"u\",\"user_data\":null,\"subdomain\":\"x\"}}}",
	"{\"CertManagerResponse\":{\"CertLeaseResponse\":{\"accepted\":true}}}",
	"{\"CertManagerResponse\":{\"SetTxtRecordResponse\":{\"accepted\":false}}}",
	"{\"BackendRemoved\":{\"backend\":\"abc\"}}",
	"{\"RevokeTokens\":{\"backend\":\"abc\",\"user\":\"u\"}}",
};

static void proxy_messages_survive_reading_and_writing(void **state)
{
	struct plane_error err = { 0 };
	for (size_t i = 0; i < COUNT(proxy_messages); i++) {
		_cleanup_json_ json_t *json = parse(proxy_messages[i]);
		struct plane_proxy_message message;
		assert_int_equal(plane_proxy_message_read(json, &message, &err), 0);
		assert_same_json(json, plane_proxy_message_write(&message));
	}
	for (size_t i = 0; i < COUNT(proxy_orders); i++) {
		_cleanup_json_ json_t *json = parse(proxy_orders[i]);
		struct plane_proxy_order order;
		assert_int_equal(plane_proxy_order_read(json, &order, &err), 0);
		assert_same_json(json, plane_proxy_order_write(&order));
	}
}

static const char *const malformed[] = {
	"5",
	"null",
	"[]",
	"{}",
	"\"Heartbeat\"",
	"{\"Heartbeat\":{}}",
	"{\"Heartbeat\":{\"local_time\":1.5}}",
	"{\"Heartbeat\":null}",
	"{\"Heartbeat\":{\"local_time\":1},\"AckAction\":{\"action_id\":\"a\"}}",
	"{\"BackendEvent\":{\"event_id\":7,\"backend_id\":\"abc\",\"state\":{\"status\":\"Ready\"},"
	"\"timestamp\":1}}",
	"{\"BackendEvent\":{\"event_id\":7,\"backend_id\":\"abc\",\"state\":{\"status\":\"ready\"},"
	"\"timestamp\":1}}",
	"{\"KeepAlive\":5}",
	"{\"CertManagerRequest\":\"SetTxtRecord\"}",
	"{\"Action\":{\"action_id\":\"ak-1\",\"backend_id\":\"abc\",\"drone_id\":3,\"action\":"
	"{\"Terminate\":{\"kind\":\"gently\",\"reason\":\"external\"}}}}",
};

static void malformed_messages_are_errors(void **state)
{
	for (size_t i = 0; i < COUNT(malformed); i++) {
		_cleanup_json_ json_t *json = parse(malformed[i]);
		struct plane_error err = { 0 };
		struct plane_drone_message drone_message;
		struct plane_drone_order drone_order;
		struct plane_proxy_message proxy_message;
		struct plane_proxy_order proxy_order;
		struct plane_dns_message dns_message;
		struct plane_dns_order dns_order;
		struct plane_handshake handshake;
		assert_true(plane_dns_message_read(json, &dns_message, &err) < 0);
		assert_true(plane_dns_order_read(json, &dns_order, &err) < 0);
		assert_true(plane_drone_message_read(json, &drone_message, &err) < 0);
		assert_true(plane_drone_order_read(json, &drone_order, &err) < 0);
		assert_true(plane_proxy_message_read(json, &proxy_message, &err) < 0);
		assert_true(plane_proxy_order_read(json, &proxy_order, &err) < 0);
		assert_true(plane_handshake_read(json, &handshake, &err) < 0);
		assert_true(err.message[0] != '\0');
	}
}

static void what_the_original_accepts_is_accepted(void **state)
{
	struct plane_error err = { 0 };
	struct plane_drone_message message;
	struct plane_drone_order order;
	struct plane_proxy_message proxy_message;
	struct plane_dns_order dns_order;
	_cleanup_json_ json_t *unknown_keys =
		parse("{\"Heartbeat\":{\"later\":[{}],\"local_time\":-5,\"more\":null}}");
	assert_int_equal(plane_drone_message_read(unknown_keys, &message, &err), 0);
	assert_int_equal(message.local_time_ms, -5);
	_cleanup_json_ json_t *absent =
		parse("{\"BackendEvent\":{\"timestamp\":1,\"state\":{\"last_status\":\"ready\","
		      "\"address\":\"unused\",\"status\":\"terminated\"},\"event_id\":9,"
		      "\"backend_id\":\"\"}}");
	assert_int_equal(plane_drone_message_read(absent, &message, &err), 0);
	assert_int_equal(message.state.status, PLANE_TERMINATED);
	assert_int_equal(message.state.termination, PLANE_KIND_NONE);
	assert_int_equal(message.state.reason, PLANE_REASON_NONE);
	assert_false(message.state.has_exit_code);
	assert_string_equal(message.state.address, "");
	_cleanup_json_ json_t *defaults = parse(
		"{\"Action\":{\"action_id\":\"ak-1\",\"backend_id\":\"b\",\"drone_id\":-1,"
		"\"action\":{\"Spawn\":{\"executable\":null,\"key\":{\"key\":{\"name\":\"k\"},"
		"\"token\":1,\"deadlines\":{\"renew_at\":1,\"soft_terminate_at\":2,"
		"\"hard_terminate_at\":3}}}}}}");
	assert_int_equal(plane_drone_order_read(defaults, &order, &err), 0);
	assert_string_equal(order.key_namespace, "");
	assert_string_equal(order.key_tag, "");
	assert_null(order.static_token);
	_cleanup_json_ json_t *unit = parse("{\"CertManagerRequest\":{\"CertLeaseRequest\":null}}");
	assert_int_equal(plane_proxy_message_read(unit, &proxy_message, &err), 0);
	assert_int_equal(proxy_message.kind, PLANE_PROXY_CERT_LEASE_REQUEST);
	_cleanup_json_ json_t *no_value = parse("{\"TxtRecordResponse\":{\"cluster\":\"c\"}}");
	assert_int_equal(plane_dns_order_read(no_value, &dns_order, &err), 0);
	assert_null(dns_order.txt_value);
}

static void null_stands_for_no_default(void **state)
{
	struct plane_error err = { 0 };
	struct plane_drone_order order;
	_cleanup_json_ json_t *json = parse(
		"{\"Action\":{\"action_id\":\"ak-1\",\"backend_id\":\"b\",\"drone_id\":1,"
		"\"action\":{\"Spawn\":{\"executable\":{},\"key\":{\"key\":{\"name\":\"k\","
		"\"tag\":null},\"token\":1,\"deadlines\":{\"renew_at\":1,\"soft_terminate_at\":2,"
		"\"hard_terminate_at\":3}}}}}}");
	assert_int_equal(plane_drone_order_read(json, &order, &err), -EPROTO);
	assert_non_null(strstr(err.message, "tag"));
}

static void a_key_that_stands_twice_is_refused(void **state)
{
	const char *texts[] = { "{\"Heartbeat\":{\"local_time\":1,\"local_time\":2}}",
		"{\"KeepAlive\":\"a\",\"KeepAlive\":\"b\"}" };
	for (size_t i = 0; i < COUNT(texts); i++) {
		struct plane_error err = { 0 };
		assert_null(plane_json_parse(texts[i], strlen(texts[i]), &err));
	}
}

static void unknown_messages_are_told_apart_from_malformed_ones(void **state)
{
	struct plane_error err = { 0 };
	struct plane_drone_message message;
	_cleanup_json_ json_t *unknown = parse("{\"NewThing\":{}}");
	assert_int_equal(plane_drone_message_read(unknown, &message, &err), -ENOTSUP);
	_cleanup_json_ json_t *malformed_one = parse("{\"Heartbeat\":{}}");
	assert_int_equal(plane_drone_message_read(malformed_one, &message, &err), -EPROTO);
}

static void handshakes_of_the_original_and_of_ours_are_read(void **state)
{
	struct plane_error err = { 0 };
	struct plane_handshake handshake;
	_cleanup_json_ json_t *original = parse("{\"version\":{\"version\":\"0.5.5\",\"git_hash\":"
						"\"abca8022\"},\"name\":\"dr-x\"}");
	assert_int_equal(plane_handshake_read(original, &handshake, &err), 0);
	assert_string_equal(handshake.name, "dr-x");
	assert_false(plane_handshake_has(&handshake, PLANE_EXTENSION_LOGS));
	const char *const extensions[] = { PLANE_EXTENSION_LOGS, NULL };
	_cleanup_json_ json_t *ours = plane_handshake_write("dr-y", extensions);
	assert_int_equal(plane_handshake_read(ours, &handshake, &err), 0);
	assert_true(plane_handshake_has(&handshake, PLANE_EXTENSION_LOGS));
	assert_false(plane_handshake_has(&handshake, PLANE_EXTENSION_REVOKE));
}

static void a_drone_s_handshake_says_where_its_backends_are(void **state)
{
	struct plane_error err = { 0 };
	struct plane_handshake handshake;
	struct plane_backend_place places[] = { { .is_told = true },
		{ .is_told = true, .ip = "10.0.0.21", .first_port = 20000, .last_port = 21022 } };
	_cleanup_json_ json_t *json = plane_handshake_write("dr-y", NULL);
	assert_int_equal(plane_handshake_read(json, &handshake, &err), 0);
	assert_false(handshake.backends.is_told);
	for (int i = 0; i < 2; i++) {
		json_object_set_new(json, "backends", plane_backend_place_write(&places[i]));
		assert_int_equal(plane_handshake_read(json, &handshake, &err), 0);
		assert_true(handshake.backends.is_told);
		assert_int_equal(handshake.backends.first_port, places[i].first_port);
		assert_int_equal(handshake.backends.last_port, places[i].last_port);
	}
	assert_string_equal(handshake.backends.ip, "10.0.0.21");
	static const char *const wrong[] = { "[]", "{\"ip\":5}", "{\"ip\":\"10.0.0.1\"}",
		"{\"ip\":\"10.0.0.1\",\"first_port\":0,\"last_port\":5}",
		"{\"ip\":\"10.0.0.1\",\"first_port\":9,\"last_port\":8}",
		"{\"ip\":\"10.0.0.1\",\"first_port\":9,\"last_port\":65536}" };
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		json_object_set_new(json, "backends", parse(wrong[i]));
		assert_true(plane_handshake_read(json, &handshake, &err) < 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(drone_messages_survive_reading_and_writing),
		cmocka_unit_test(drone_orders_survive_reading_and_writing),
		cmocka_unit_test(proxy_messages_survive_reading_and_writing),
		cmocka_unit_test(malformed_messages_are_errors),
		cmocka_unit_test(what_the_original_accepts_is_accepted),
		cmocka_unit_test(null_stands_for_no_default),
		cmocka_unit_test(a_key_that_stands_twice_is_refused),
		cmocka_unit_test(unknown_messages_are_told_apart_from_malformed_ones),
		cmocka_unit_test(handshakes_of_the_original_and_of_ours_are_read),
		cmocka_unit_test(a_drone_s_handshake_says_where_its_backends_are),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
