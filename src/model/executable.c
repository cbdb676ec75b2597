/* Reading the executable of a spawn configuration. */
#include "model/executable.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/text.h"

#define ENV_COUNT_MAX 1000
#define IMAGE_NAME_MAX 512

void plane_executable_finish(struct plane_executable *executable)
{
	free(executable->image);
	for (size_t i = 0; i < executable->env_count; i++)
		free(executable->env[i]);
	free(executable->env);
	free(executable->mount_path);
	free(executable->network_name);
	free(executable->username);
	if (executable->password)
		explicit_bzero(executable->password, strlen(executable->password));
	free(executable->password);
	*executable = (struct plane_executable){ 0 };
}

static int read_image(
	const json_t *json, struct plane_executable *executable, struct plane_error *err)
{
	const char *image = NULL, *policy = NULL, *network = NULL;
	int result = plane_json_get_text(json, "image", PLANE_JSON_REQUIRED, &image, err);
	if (result == 0)
		result =
			plane_json_get_text(json, "pull_policy", PLANE_JSON_OPTIONAL, &policy, err);
	if (result == 0)
		result = plane_json_get_text(
			json, "network_name", PLANE_JSON_OPTIONAL, &network, err);
	if (result < 0)
		return result;
	if (!image[0] || strlen(image) > IMAGE_NAME_MAX)
		return plane_error_set(
			err, EPROTO, "image: must have 1 to %d characters", IMAGE_NAME_MAX);
	if (!policy || strcmp(policy, "IfNotPresent") == 0)
		executable->pull_policy = PLANE_PULL_IF_NOT_PRESENT;
	else if (strcmp(policy, "Always") == 0)
		executable->pull_policy = PLANE_PULL_ALWAYS;
	else if (strcmp(policy, "Never") == 0)
		executable->pull_policy = PLANE_PULL_NEVER;
	else
		return plane_error_set(err, EPROTO,
			"pull_policy: \"%.40s\" is none of IfNotPresent, Always, Never", policy);
	executable->image = plane_strdup(image);
	executable->network_name = plane_strdup(network);
	return 0;
}

static int read_credentials(
	const json_t *json, struct plane_executable *executable, struct plane_error *err)
{
	json_t *credentials = NULL;
	const char *username, *password;
	int result =
		plane_json_get_object(json, "credentials", PLANE_JSON_OPTIONAL, &credentials, err);
	if (result < 0 || !credentials)
		return result;
	result = plane_json_get_text(credentials, "username", PLANE_JSON_REQUIRED, &username, err);
	if (result == 0)
		result = plane_json_get_text(
			credentials, "password", PLANE_JSON_REQUIRED, &password, err);
	if (result < 0)
		return plane_error_prefix(err, "credentials");
	executable->username = plane_strdup(username);
	executable->password = plane_strdup(password);
	return 0;
}

static int read_env(
	const json_t *json, struct plane_executable *executable, struct plane_error *err)
{
	json_t *env = NULL;
	int result = plane_json_get_object(json, "env", PLANE_JSON_DEFAULT, &env, err);
	if (result < 0)
		return result;
	size_t count = env ? json_object_size(env) : 0;
	if (count > ENV_COUNT_MAX)
		return plane_error_set(err, EPROTO, "env: more than %d variables", ENV_COUNT_MAX);
	executable->env = plane_alloc_zero(count + 1, sizeof(char *));
	const char *name;
	json_t *value;
	json_object_foreach (env, name, value) {
		if (!name[0] || strchr(name, '='))
			return plane_error_set(err, EPROTO,
				"env: \"%.40s\" is not a name of an environment variable", name);
		if (!json_is_string(value))
			return plane_error_set(err, EPROTO, "env.%.60s: expected a string", name);
		executable->env[executable->env_count++] =
			plane_strdupf("%s=%s", name, json_string_value(value));
	}
	return 0;
}

static int read_limits(
	const json_t *json, struct plane_executable *executable, struct plane_error *err)
{
	struct plane_resource_limits *limits = &executable->limits;
	const struct {
		const char *name;
		int64_t max;
		int64_t *value;
	} fields[] = {
		{ "cpu_period", 1000000, &limits->cpu_period_us },
		{ "cpu_period_percent", 255, &limits->cpu_period_percent },
		{ "cpu_time_limit", INT32_MAX, &limits->cpu_time_limit_seconds },
		{ "memory_limit_bytes", INT64_MAX, &limits->memory_limit_bytes },
		{ "disk_limit_bytes", INT64_MAX, &limits->disk_limit_bytes },
	};
	json_t *object = NULL;
	int result =
		plane_json_get_object(json, "resource_limits", PLANE_JSON_DEFAULT, &object, err);
	if (result < 0 || !object)
		return result;
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		result = plane_json_get_int(object, fields[i].name, PLANE_JSON_OPTIONAL, 1,
			fields[i].max, fields[i].value, err);
		if (result < 0)
			return plane_error_prefix(err, "resource_limits");
	}
	return 0;
}

static bool is_inside_path(const char *path)
{
	if (path[0] == '/' || !path[0])
		return false;
	for (const char *part = path; part; part = strchr(part, '/')) {
		part += *part == '/';
		size_t len = strcspn(part, "/");
		if (len == 0 || (len == 1 && part[0] == '.') ||
			(len == 2 && !memcmp(part, "..", 2)))
			return false;
	}
	return true;
}

static int read_mount(
	const json_t *json, struct plane_executable *executable, struct plane_error *err)
{
	json_t *mount = json_object_get(json, "mount");
	if (!mount || json_is_null(mount) || json_is_false(mount))
		return 0;
	if (json_is_true(mount)) {
		executable->mount = PLANE_MOUNT_KEY_NAME;
		return 0;
	}
	if (!json_is_string(mount))
		return plane_error_set(err, EPROTO, "mount: expected true, false or a path");
	const char *path = json_string_value(mount);
	if (!is_inside_path(path) || strlen(path) > PATH_MAX / 4)
		return plane_error_set(err, EPROTO,
			"mount: \"%.100s\" must be a relative path without \".\" or \"..\"", path);
	executable->mount = PLANE_MOUNT_PATH;
	executable->mount_path = plane_strdup(path);
	return 0;
}

int plane_executable_read(
	const json_t *json, struct plane_executable *executable, struct plane_error *err)
{
	struct plane_executable read = { 0 };
	if (!json_is_object(json))
		return plane_error_set(err, EPROTO, "executable: expected an object");
	int result = read_image(json, &read, err);
	if (result == 0)
		result = read_credentials(json, &read, err);
	if (result == 0)
		result = read_env(json, &read, err);
	if (result == 0)
		result = read_limits(json, &read, err);
	if (result == 0)
		result = read_mount(json, &read, err);
	if (result < 0) {
		plane_executable_finish(&read);
		return plane_error_prefix(err, "executable");
	}
	*executable = read;
	return 0;
}
