/* Strict JSON reading. */
#include "base/json.h"

#include <errno.h>
#include <string.h>

json_t *plane_json_parse(const char *bytes, size_t len, struct plane_error *err)
{
	json_error_t where;
	json_t *value = json_loadb(bytes, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
	if (!value)
		plane_error_set(err, EINVAL, "invalid JSON at line %d column %d: %s", where.line,
			where.column, where.text);
	return value;
}

/* Behind the quote that ends a string; the end of the text if there is none. */
static const char *skip_string(const char *at, const char *end)
{
	while (at < end && *at != '"')
		at += *at == '\\' && end - at > 1 ? 2 : 1;
	return at < end ? at + 1 : end;
}

struct plane_json_size plane_json_measure(const char *bytes, size_t len)
{
	struct plane_json_size size = { .values = 1 };
	size_t depth = 0;
	const char *end = bytes + len;
	for (const char *at = bytes; at < end;) {
		char byte = *at++;
		if (byte == '"')
			at = skip_string(at, end);
		else if (byte == ']' || byte == '}')
			depth -= depth > 0;
		else if (byte == '[' || byte == '{' || byte == ',')
			size.values++;
		if (byte == '[' || byte == '{')
			depth++;
		if (depth > size.depth)
			size.depth = depth;
	}
	return size;
}

json_t *plane_json_parse_foreign(
	const char *bytes, size_t len, struct plane_json_size *size, struct plane_error *err)
{
	struct plane_json_size found = plane_json_measure(bytes, len);
	if (size)
		*size = found;
	if (found.values <= PLANE_JSON_VALUES_MAX && found.depth <= PLANE_JSON_DEPTH_MAX)
		return plane_json_parse(bytes, len, err);
	if (found.depth > PLANE_JSON_DEPTH_MAX)
		plane_error_set(err, -E2BIG, "JSON that is nested more than %zu deep",
			PLANE_JSON_DEPTH_MAX);
	else
		plane_error_set(err, -E2BIG, "JSON of more than %zu values", PLANE_JSON_VALUES_MAX);
	return NULL;
}

char *plane_json_dump(const json_t *value)
{
	return json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
}

/* 1: the value is there; 0: absent and that is fine; negative: an error. */
static int find(const json_t *object, const char *name, enum plane_json_need need, json_t **value,
	struct plane_error *err)
{
	json_t *found = json_object_get(object, name);
	if (found && (!json_is_null(found) || need == PLANE_JSON_DEFAULT)) {
		*value = found;
		return 1;
	}
	if (need == PLANE_JSON_REQUIRED)
		return plane_error_set(err, EPROTO, "%s: missing field", name);
	return 0;
}

static int wrong_type(const char *name, const char *expected, struct plane_error *err)
{
	return plane_error_set(err, EPROTO, "%s: expected %s", name, expected);
}

int plane_json_get_text(const json_t *object, const char *name, enum plane_json_need need,
	const char **text, struct plane_error *err)
{
	json_t *value = NULL;
	int found = find(object, name, need, &value, err);
	if (found <= 0)
		return found;
	if (!json_is_string(value))
		return wrong_type(name, "a string", err);
	*text = json_string_value(value);
	return 0;
}

int plane_json_get_int(const json_t *object, const char *name, enum plane_json_need need,
	int64_t min, int64_t max, int64_t *number, struct plane_error *err)
{
	json_t *value = NULL;
	int found = find(object, name, need, &value, err);
	if (found <= 0)
		return found;
	if (!json_is_integer(value))
		return wrong_type(name, "an integer", err);
	json_int_t integer = json_integer_value(value);
	if (integer < min || integer > max)
		return plane_error_set(err, EPROTO, "%s: %lld is not between %lld and %lld", name,
			(long long)integer, (long long)min, (long long)max);
	*number = integer;
	return 0;
}

int plane_json_get_bool(const json_t *object, const char *name, enum plane_json_need need,
	bool *boolean, struct plane_error *err)
{
	json_t *value = NULL;
	int found = find(object, name, need, &value, err);
	if (found <= 0)
		return found;
	if (!json_is_boolean(value))
		return wrong_type(name, "true or false", err);
	*boolean = json_is_true(value);
	return 0;
}

int plane_json_get_object(const json_t *object, const char *name, enum plane_json_need need,
	json_t **inner, struct plane_error *err)
{
	json_t *value = NULL;
	int found = find(object, name, need, &value, err);
	if (found <= 0)
		return found;
	if (!json_is_object(value))
		return wrong_type(name, "an object", err);
	*inner = value;
	return 0;
}

int plane_json_get_any(const json_t *object, const char *name, enum plane_json_need need,
	json_t **any, struct plane_error *err)
{
	json_t *value = json_object_get(object, name);
	if (!value && need == PLANE_JSON_REQUIRED)
		return plane_error_set(err, EPROTO, "%s: missing field", name);
	if (value && (need == PLANE_JSON_REQUIRED || !json_is_null(value)))
		*any = value;
	return 0;
}
