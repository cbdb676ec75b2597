/* GET /ctrl/keys: the keys that are held, a page at a time. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "controller/api.h"
#include "controller/error_body.h"

static json_t *write_key(const struct plane_store_listed_key *key)
{
	return json_pack("{s:{s:s,s:s,s:s},s:s,s:s,s:s,s:s?,s:I,s:b,s:o}", "key", "name",
		key->key_name, "namespace", key->key_namespace, "tag", key->key_tag, "backend_id",
		key->backend, "status", plane_backend_status_text(key->status), "cluster",
		key->cluster, "drone", key->drone, "fencing_token", (json_int_t)key->fencing_token,
		"live", key->is_live, "expires_in_ms",
		key->expires_in_ms < 0 ? json_null() : json_integer(key->expires_in_ms));
}

/* A cursor is the last key of a page, namespace and name: as JSON, so that both may be any text. */
static char *write_cursor(const struct plane_store_listed_key *key)
{
	_cleanup_json_ json_t *pair = json_pack("[s,s]", key->key_namespace, key->key_name);
	return plane_json_dump(pair);
}

/* The texts live in the JSON, which the caller decrefs; NULL when it is no cursor. */
static json_t *read_cursor(const char *text, struct plane_store_key_filter *filter)
{
	json_t *pair = plane_json_parse(text, strlen(text), NULL);
	filter->after_namespace = json_string_value(json_array_get(pair, 0));
	filter->after_name = json_string_value(json_array_get(pair, 1));
	if (filter->after_namespace && filter->after_name)
		return pair;
	json_decref(pair);
	return NULL;
}

static void answer_page(struct plane_api_call *call, const struct plane_store_key_filter *filter)
{
	struct plane_store_key_list list = { 0 };
	struct plane_error err = { 0 };
	if (plane_store_key_list(call->controller->store, filter, &list, &err) < 0) {
		plane_api_fail_because(call->response, PLANE_API_DATABASE, &err);
		return;
	}
	json_t *keys = json_array();
	for (size_t i = 0; i < list.count; i++)
		(void)json_array_append_new(keys, write_key(&list.entries[i]));
	bool is_full = list.count == (size_t)filter->limit;
	_cleanup_free_ char *cursor = is_full ? write_cursor(&list.entries[list.count - 1]) : NULL;
	plane_api_answer(
		call->response, json_pack("{s:o,s:s?}", "keys", keys, "next_cursor", cursor));
	plane_store_key_list_finish(&list);
}

void plane_api_key_list(struct plane_api_call *call)
{
	_cleanup_free_ char *cluster = plane_api_query(call, "cluster");
	/* an empty namespace is one, the default */
	_cleanup_free_ char *key_namespace = plane_http_request_query(call->request, "namespace");
	_cleanup_free_ char *name = plane_api_query(call, "key");
	_cleanup_free_ char *cursor = plane_api_query(call, "cursor");
	_cleanup_json_ json_t *after = NULL;
	struct plane_store_key_filter filter = {
		.cluster = cluster, .key_namespace = key_namespace, .key_name = name
	};
	if (!plane_api_query_limit(call, &filter.limit))
		return;
	if (cursor && !(after = read_cursor(cursor, &filter)))
		plane_api_fail(call->response, PLANE_API_INVALID_QUERY,
			"cursor: expected the next_cursor of a page");
	else
		answer_page(call, &filter);
}
