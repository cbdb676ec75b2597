/* The handshake. */
#include "model/messages.h"

#include <errno.h>
#include <string.h>

#include "base/json.h"
#include "base/version.h"

json_t *plane_handshake_write(const char *name, const char *const *extensions)
{
	json_t *json = json_pack("{s:{s:s,s:s},s:s}", "version", "version", PLANE_VERSION,
		"git_hash", PLANE_GIT_HASH, "name", name);
	if (extensions && extensions[0]) {
		json_t *list = json_array();
		for (size_t i = 0; extensions[i]; i++)
			json_array_append_new(list, json_string(extensions[i]));
		json_object_set_new(json, "extensions", list);
	}
	return json;
}

json_t *plane_backend_place_write(const struct plane_backend_place *place)
{
	if (!place->ip)
		return json_pack("{s:n}", "ip");
	return json_pack("{s:s,s:i,s:i}", "ip", place->ip, "first_port", place->first_port,
		"last_port", place->last_port);
}

static int read_place(
	const json_t *json, struct plane_backend_place *place, struct plane_error *err)
{
	struct plane_backend_place read = { .is_told = true };
	json_t *backends = NULL;
	int64_t first = 0, last = 0;
	int result = plane_json_get_object(json, "backends", PLANE_JSON_OPTIONAL, &backends, err);
	if (result < 0 || !backends)
		return result;
	result = plane_json_get_text(backends, "ip", PLANE_JSON_OPTIONAL, &read.ip, err);
	if (result == 0 && read.ip)
		result = plane_json_get_int(
			backends, "first_port", PLANE_JSON_REQUIRED, 1, 65535, &first, err);
	if (result == 0 && read.ip)
		result = plane_json_get_int(
			backends, "last_port", PLANE_JSON_REQUIRED, first, 65535, &last, err);
	if (result < 0)
		return plane_error_prefix(err, "backends");
	read.first_port = (int)first;
	read.last_port = (int)last;
	*place = read;
	return 0;
}

int plane_handshake_read(
	const json_t *json, struct plane_handshake *handshake, struct plane_error *err)
{
	struct plane_handshake read = { 0 };
	json_t *version = NULL, *extensions = NULL;
	if (!json_is_object(json))
		return plane_error_set(err, EPROTO, "handshake: expected an object");
	int result = plane_json_get_text(json, "name", PLANE_JSON_REQUIRED, &read.name, err);
	if (result == 0)
		result = plane_json_get_object(json, "version", PLANE_JSON_REQUIRED, &version, err);
	if (result == 0)
		result = plane_json_get_text(
			version, "version", PLANE_JSON_REQUIRED, &read.version, err);
	if (result == 0)
		result = plane_json_get_text(
			version, "git_hash", PLANE_JSON_REQUIRED, &read.git_hash, err);
	if (result == 0)
		result = plane_json_get_any(
			json, "extensions", PLANE_JSON_OPTIONAL, &extensions, err);
	if (result == 0)
		result = read_place(json, &read.backends, err);
	if (result < 0)
		return plane_error_prefix(err, "handshake");
	size_t kept = 0;
	for (size_t i = 0; i < json_array_size(extensions) && kept < PLANE_EXTENSIONS_MAX; i++) {
		const char *text = json_string_value(json_array_get(extensions, i));
		if (text)
			read.extensions[kept++] = text;
	}
	*handshake = read;
	return 0;
}

bool plane_handshake_has(const struct plane_handshake *handshake, const char *extension)
{
	for (size_t i = 0; i < PLANE_EXTENSIONS_MAX && handshake->extensions[i]; i++)
		if (strcmp(handshake->extensions[i], extension) == 0)
			return true;
	return false;
}
