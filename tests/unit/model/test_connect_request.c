/* model/connect_request.c and model/executable.c: what a caller may ask for. */
#include "../cmocka_all.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "model/backend_state.h"
#include "model/connect_request.h"
#include "model/executable.h"

static json_t *parse(const char *text)
{
	struct plane_error err = { 0 };
	json_t *json = plane_json_parse(text, strlen(text), &err);
	if (!json)
		fail_msg("%s: %s", text, err.message);
	return json;
}

static void a_full_request_is_read(void **state)
{
	_cleanup_json_ json_t *json = parse(
		"{\"key\":{\"name\":\"room-1\",\"namespace\":\"n\",\"tag\":\"t\"},\"spawn_config\":"
		"{\"id\":"
		"\"b-1\",\"cluster\":\"localhost:9090\",\"pool\":\"p\",\"executable\":{\"image\":"
		"\"echo\"},"
		"\"lifetime_limit_seconds\":3600,\"max_idle_seconds\":60,\"use_static_token\":true,"
		"\"subdomain\":\"abc\"},\"user\":\"alice\",\"auth\":{\"any\":1},\"unknown\":[]}");
	struct plane_connect_request request;
	struct plane_error err = { 0 };
	if (plane_connect_request_read(json, &request, &err) < 0)
		fail_msg("%s", err.message);
	assert_string_equal(request.key_name, "room-1");
	assert_string_equal(request.backend, "b-1");
	assert_int_equal(request.lifetime_limit_seconds, 3600);
	assert_true(request.use_static_token);
	assert_string_equal(request.user, "alice");
}

static void absent_fields_have_the_defaults_of_the_reference(void **state)
{
	_cleanup_json_ json_t *json =
		parse("{\"spawn_config\":{\"executable\":{\"image\":\"e\"}}}");
	struct plane_connect_request request;
	struct plane_error err = { 0 };
	assert_int_equal(plane_connect_request_read(json, &request, &err), 0);
	assert_false(request.has_key);
	assert_null(request.cluster);
	assert_string_equal(request.pool, "");
	assert_int_equal(request.max_idle_seconds, -1);
	assert_null(request.auth);
}

static void mistakes_name_the_field(void **state)
{
	static const char *const cases[][2] = {
		{ "[]", "object" },
		{ "{\"key\":{}}", "key: name: missing" },
		{ "{\"key\":\"k\"}", "key: expected an object" },
		{ "{\"key\":{\"name\":\"k\",\"tag\":null}}", "key: tag" },
		{ "{\"spawn_config\":{}}", "spawn_config: executable: missing" },
		{ "{\"spawn_config\":{\"executable\":{}}}", "executable: image: missing" },
		{ "{\"spawn_config\":{\"executable\":{\"image\":\"\"}}}", "image" },
		{ "{\"spawn_config\":{\"executable\":{\"image\":\"e\",\"env\":{\"A\":1}}}}",
			"env.A" },
		{ "{\"spawn_config\":{\"executable\":{\"image\":\"e\",\"env\":{\"A=B\":\"1\"}}}}",
			"env" },
		{ "{\"spawn_config\":{\"executable\":{\"image\":\"e\",\"mount\":\"../x\"}}}",
			"mount" },
		{ "{\"spawn_config\":{\"executable\":{\"image\":\"e\",\"mount\":\"a/b/../../../"
		  "x\"}}}",
			"mount" },
		{ "{\"spawn_config\":{\"executable\":{\"image\":\"e\",\"mount\":\"/x\"}}}",
			"mount" },
		{ "{\"spawn_config\":{\"executable\":{\"image\":\"e\",\"resource_limits\":"
		  "{\"memory_limit_bytes\":-1}}}}",
			"memory_limit_bytes" },
		{ "{\"spawn_config\":{\"executable\":{\"image\":\"e\"},\"lifetime_limit_seconds\":-"
		  "5}}",
			"lifetime_limit_seconds" },
		{ "{\"spawn_config\":{\"executable\":{\"image\":\"e\"},\"subdomain\":\"a.b\"}}",
			"subdomain" },
		{ "{\"spawn_config\":{\"executable\":{\"image\":\"e\"},\"id\":\"UPPER\"}}", "id" },
		{ "{\"spawn_config\":{\"executable\":{\"image\":\"e\"},\"cluster\":\"a b\"}}",
			"cluster" },
		{ "{\"user\":5}", "user" },
		{ "{\"auth\":null}", "auth" },
		{ "{\"auth\":\"x\"}", "auth" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		_cleanup_json_ json_t *json = parse(cases[i][0]);
		struct plane_connect_request request;
		struct plane_error err = { 0 };
		assert_int_equal(plane_connect_request_read(json, &request, &err), -EPROTO);
		if (!strstr(err.message, cases[i][1]))
			fail_msg("%s: \"%s\" lacks \"%s\"", cases[i][0], err.message, cases[i][1]);
	}
}

static void an_executable_is_read_with_its_limits(void **state)
{
	_cleanup_json_ json_t *json = parse(
		"{\"image\":\"e\",\"pull_policy\":\"Never\",\"credentials\":{\"username\":\"u\","
		"\"password\":\"p\"},\"env\":{\"B\":\"2\",\"A\":\"1\"},\"resource_limits\":"
		"{\"cpu_period_percent\":80,\"memory_limit_bytes\":1048576},\"mount\":true}");
	struct plane_executable executable = { 0 };
	struct plane_error err = { 0 };
	assert_int_equal(plane_executable_read(json, &executable, &err), 0);
	assert_int_equal(executable.pull_policy, PLANE_PULL_NEVER);
	assert_int_equal(executable.env_count, 2);
	assert_null(executable.env[2]);
	assert_int_equal(executable.limits.cpu_period_percent, 80);
	assert_int_equal(executable.mount, PLANE_MOUNT_KEY_NAME);
	plane_executable_finish(&executable);
}

static void a_status_entry_never_shows_the_address(void **state)
{
	struct plane_backend_state ready = { .status = PLANE_READY, .address = "10.0.0.1:8080" };
	_cleanup_json_ json_t *entry = plane_backend_status_entry(&ready, 5);
	_cleanup_free_ char *text = plane_json_dump(entry);
	assert_string_equal(text, "{\"status\":\"ready\",\"time\":5}");
	struct plane_backend_state ended = { .status = PLANE_TERMINATED,
		.last_status = PLANE_READY,
		.has_exit_code = true,
		.exit_code = 3 };
	_cleanup_json_ json_t *end = plane_backend_status_entry(&ended, 6);
	assert_true(json_is_true(json_object_get(end, "exit_error")));
	assert_null(json_object_get(end, "termination_reason"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_request_is_read),
		cmocka_unit_test(absent_fields_have_the_defaults_of_the_reference),
		cmocka_unit_test(mistakes_name_the_field),
		cmocka_unit_test(an_executable_is_read_with_its_limits),
		cmocka_unit_test(a_status_entry_never_shows_the_address),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
