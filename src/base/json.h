/* Reading JSON strictly: right types or an error that names the field and what was expected.
 * Values are jansson's (json_t); unknown fields are ignored by design. */
#ifndef PLANE_BASE_JSON_H
#define PLANE_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/error.h"

static inline void plane_json_decrefp(json_t **value)
{
	json_decref(*value);
}
#define _cleanup_json_ _cleanup_(plane_json_decrefp)

/**
 * Parses one JSON value (any type). Duplicate keys, NUL characters, trailing bytes and nesting
 * that would exhaust the stack are refused: -EINVAL with line and column. The caller decrefs.
 */
json_t *plane_json_parse(const char *bytes, size_t len, struct plane_error *err);

/** What a text from elsewhere may hold at most. */
#define PLANE_JSON_VALUES_MAX ((size_t)16384)
#define PLANE_JSON_DEPTH_MAX ((size_t)128) /* as the original's parser */

/** Values and nesting of a text, found without making anything of it: as many as a parser would
 *  make of it, or more. Any bytes. */
struct plane_json_size {
	size_t values, depth;
};
struct plane_json_size plane_json_measure(const char *bytes, size_t len);

/**
 * The same as plane_json_parse for a text from elsewhere: -E2BIG when it holds more than the limits
 * above, before anything is made of it (values take up to a hundred times the bytes of their text).
 * `*size` is filled in unless NULL.
 */
json_t *plane_json_parse_foreign(
	const char *bytes, size_t len, struct plane_json_size *size, struct plane_error *err);

/** Compact, keys sorted at every level: equal values give equal bytes. The caller frees it. */
char *plane_json_dump(const json_t *value);

enum plane_json_need {
	PLANE_JSON_REQUIRED, /* missing or null is an error */
	PLANE_JSON_OPTIONAL, /* missing and null leave the output as it is */
	PLANE_JSON_DEFAULT,  /* missing leaves the output as it is; null is an error */
};

/* Each reads field `name` of `object`; errors are -EPROTO and say "<name>: expected a string".
 * Texts and objects are borrowed from `object`. */
int plane_json_get_text(const json_t *object, const char *name, enum plane_json_need need,
	const char **text, struct plane_error *err);
int plane_json_get_int(const json_t *object, const char *name, enum plane_json_need need,
	int64_t min, int64_t max, int64_t *value, struct plane_error *err);
int plane_json_get_bool(const json_t *object, const char *name, enum plane_json_need need,
	bool *value, struct plane_error *err);
int plane_json_get_object(const json_t *object, const char *name, enum plane_json_need need,
	json_t **value, struct plane_error *err);
/** Any JSON value; null counts as missing unless `need` is REQUIRED (then null is a value). */
int plane_json_get_any(const json_t *object, const char *name, enum plane_json_need need,
	json_t **value, struct plane_error *err);

#endif
