/* Externally tagged messages. */
#include "model/tagged.h"

#include <errno.h>

int plane_tagged_read(
	const json_t *json, const char **tag, const json_t **content, struct plane_error *err)
{
	if (json_is_string(json)) {
		*tag = json_string_value(json);
		*content = NULL;
		return 0;
	}
	if (!json_is_object(json) || json_object_size(json) != 1)
		return plane_error_set(
			err, EPROTO, "message: expected a string or an object with one key");
	void *first = json_object_iter((json_t *)json);
	*tag = json_object_iter_key(first);
	*content = json_object_iter_value(first);
	return 0;
}

json_t *plane_tagged_write(const char *tag, json_t *owned_content)
{
	json_t *json = json_object();
	json_object_set_new(json, tag, owned_content);
	return json;
}
