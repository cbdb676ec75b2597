/* Externally tagged messages: a bare string, or an object with exactly one key. Private to model/.
 */
#ifndef PLANE_MODEL_TAGGED_H
#define PLANE_MODEL_TAGGED_H

#include <stddef.h>

#include <jansson.h>

#include "base/error.h"

/** Finds the tag and its content (NULL for a bare string). */
int plane_tagged_read(
	const json_t *json, const char **tag, const json_t **content, struct plane_error *err);
/** {tag: content}; takes `owned_content`. */
json_t *plane_tagged_write(const char *tag, json_t *owned_content);

#endif
