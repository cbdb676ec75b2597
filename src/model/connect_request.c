/* Reading and checking a connect request. */
#include "model/connect_request.h"

#include <errno.h>
#include <stdlib.h>

#include "base/json.h"
#include "model/executable.h"
#include "model/names.h"

static int invalid(const char *what, struct plane_error *err)
{
	err->code = -EPROTO;
	return plane_error_prefix(err, "%s", what);
}

static int read_key(
	const json_t *json, struct plane_connect_request *request, struct plane_error *err)
{
	json_t *key = NULL;
	int result = plane_json_get_object(json, "key", PLANE_JSON_OPTIONAL, &key, err);
	if (result < 0 || !key)
		return result;
	request->has_key = true;
	result = plane_json_get_text(key, "name", PLANE_JSON_REQUIRED, &request->key_name, err);
	if (result == 0)
		result = plane_json_get_text(
			key, "namespace", PLANE_JSON_DEFAULT, &request->key_namespace, err);
	if (result == 0)
		result =
			plane_json_get_text(key, "tag", PLANE_JSON_DEFAULT, &request->key_tag, err);
	if (result == 0)
		result = plane_text_check(request->key_name, "name", err);
	if (result == 0)
		result = plane_text_check(request->key_namespace, "namespace", err);
	if (result == 0)
		result = plane_text_check(request->key_tag, "tag", err);
	return result < 0 ? invalid("key", err) : 0;
}

static int read_spawn_texts(
	const json_t *config, struct plane_connect_request *request, struct plane_error *err)
{
	int result = plane_json_get_text(config, "id", PLANE_JSON_OPTIONAL, &request->backend, err);
	if (result == 0)
		result = plane_json_get_text(
			config, "cluster", PLANE_JSON_OPTIONAL, &request->cluster, err);
	if (result == 0)
		result = plane_json_get_text(
			config, "pool", PLANE_JSON_DEFAULT, &request->pool, err);
	if (result == 0)
		result = plane_json_get_text(
			config, "subdomain", PLANE_JSON_OPTIONAL, &request->subdomain, err);
	return result;
}

static int check_spawn_texts(const struct plane_connect_request *request, struct plane_error *err)
{
	if (request->backend && plane_name_check(request->backend, NULL, err) < 0)
		return invalid("id", err);
	if (request->cluster && plane_cluster_check(request->cluster, err) < 0)
		return invalid("cluster", err);
	if (plane_text_check(request->pool, "pool", err) < 0)
		return err->code;
	if (request->subdomain && plane_subdomain_check(request->subdomain, err) < 0)
		return invalid("subdomain", err);
	return 0;
}

static int check_executable(struct plane_connect_request *request, struct plane_error *err)
{
	struct plane_executable executable = { 0 };
	int result = plane_executable_read(request->executable, &executable, err);
	request->resources = plane_resources_of_limits(&executable.limits);
	plane_executable_finish(&executable);
	return result;
}

static int read_resources(
	const json_t *config, struct plane_connect_request *request, struct plane_error *err)
{
	json_t *resources = NULL;
	int result =
		plane_json_get_object(config, "resources", PLANE_JSON_OPTIONAL, &resources, err);
	return result < 0 || !resources
		       ? result
		       : plane_resources_read(resources, false, &request->resources, err);
}

static int read_spawn_config(
	const json_t *json, struct plane_connect_request *request, struct plane_error *err)
{
	json_t *config = NULL;
	int result = plane_json_get_object(json, "spawn_config", PLANE_JSON_OPTIONAL, &config, err);
	if (result < 0 || !config)
		return result;
	request->has_spawn_config = true;
	result = read_spawn_texts(config, request, err);
	if (result == 0)
		result = plane_json_get_object(
			config, "executable", PLANE_JSON_REQUIRED, &request->executable, err);
	if (result == 0)
		result = plane_json_get_int(config, "lifetime_limit_seconds", PLANE_JSON_OPTIONAL,
			0, INT32_MAX, &request->lifetime_limit_seconds, err);
	if (result == 0)
		result = plane_json_get_int(config, "max_idle_seconds", PLANE_JSON_OPTIONAL, 0,
			INT32_MAX, &request->max_idle_seconds, err);
	if (result == 0)
		result = plane_json_get_bool(config, "use_static_token", PLANE_JSON_DEFAULT,
			&request->use_static_token, err);
	if (result == 0)
		result = check_spawn_texts(request, err);
	if (result == 0)
		result = check_executable(request, err);
	if (result == 0)
		result = read_resources(config, request, err);
	return result < 0 ? invalid("spawn_config", err) : 0;
}

int plane_connect_request_read(
	const json_t *json, struct plane_connect_request *request, struct plane_error *err)
{
	struct plane_connect_request read = { .key_namespace = "",
		.key_tag = "",
		.pool = "",
		.lifetime_limit_seconds = -1,
		.max_idle_seconds = -1 };
	if (!json_is_object(json))
		return plane_error_set(err, EPROTO, "expected a JSON object");
	int result = read_key(json, &read, err);
	if (result == 0)
		result = read_spawn_config(json, &read, err);
	if (result == 0)
		result = plane_json_get_text(json, "user", PLANE_JSON_OPTIONAL, &read.user, err);
	if (result == 0 && read.user)
		result = plane_text_check(read.user, "user", err);
	if (result == 0)
		result = plane_json_get_object(json, "auth", PLANE_JSON_DEFAULT, &read.auth, err);
	if (result < 0)
		return invalid("request", err);
	*request = read;
	return 0;
}
