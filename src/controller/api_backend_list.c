/* GET /ctrl/backends: backends by filters, a page at a time. */
#include "controller/api.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "controller/error_body.h"

#define LIMIT_DEFAULT 100
#define LIMIT_MAX 1000

/* Owned texts of the query. */
struct list_query {
	char *cluster, *status, *key, *cursor, *limit;
};

static void query_finish(struct list_query *query)
{
	free(query->cluster);
	free(query->status);
	free(query->key);
	free(query->cursor);
	free(query->limit);
}

static const char *filter_text(const char *text)
{
	return text && text[0] ? text : NULL;
}

/* NULL, or what is wrong. */
static const char *read_filter(
	const struct list_query *query, struct plane_store_backend_filter *filter)
{
	enum plane_backend_status status = 0;
	int64_t limit = LIMIT_DEFAULT;
	if (filter_text(query->status) && !plane_backend_status_parse(query->status, &status))
		return "status: expected scheduled, loading, starting, waiting, ready, "
		       "terminating, hard-terminating or terminated";
	if (query->limit && !plane_text_parse_int(query->limit, 1, LIMIT_MAX, &limit))
		return "limit: expected a number from 1 to 1000";
	*filter = (struct plane_store_backend_filter){ .cluster = filter_text(query->cluster),
		.status = (int)status,
		.key_name = filter_text(query->key),
		.after = filter_text(query->cursor),
		.limit = (int)limit };
	return NULL;
}

static json_t *write_backend(const struct plane_store_listed_backend *backend)
{
	json_t *entry = plane_backend_status_entry(&backend->state, backend->state_time_ms);
	json_t *more = json_pack("{s:s,s:s,s:s?,s:I,s:o}", "backend_id", backend->backend,
		"cluster", backend->cluster, "drone", backend->drone, "created_at",
		(json_int_t)backend->created_at_ms, "key",
		backend->key_name
			? json_pack("{s:s,s:s,s:s}", "name", backend->key_name, "namespace",
				  backend->key_namespace, "tag", backend->key_tag)
			: json_null());
	(void)json_object_update(entry, more); /* objects both: fails for want of memory only */
	json_decref(more);
	return entry;
}

static json_t *write_page(const struct plane_store_backend_list *list, int limit)
{
	json_t *backends = json_array();
	for (size_t i = 0; i < list->count; i++)
		(void)json_array_append_new(backends, write_backend(&list->entries[i]));
	bool is_full = list->count == (size_t)limit;
	return json_pack("{s:o,s:s?}", "backends", backends, "next_cursor",
		is_full ? list->entries[list->count - 1].backend : NULL);
}

void plane_api_backend_list(struct plane_api_call *call)
{
	const struct plane_http_request *request = call->request;
	struct plane_store_backend_filter filter;
	struct plane_store_backend_list list = { 0 };
	struct plane_error err = { 0 };
	struct list_query query = { .cluster = plane_http_request_query(request, "cluster"),
		.status = plane_http_request_query(request, "status"),
		.key = plane_http_request_query(request, "key"),
		.cursor = plane_http_request_query(request, "cursor"),
		.limit = plane_http_request_query(request, "limit") };
	const char *problem = read_filter(&query, &filter);
	if (problem)
		plane_api_fail(call->response, PLANE_API_INVALID_QUERY, problem);
	else if (plane_store_backend_list(call->controller->store, &filter, &list, &err) < 0)
		plane_api_fail_because(call->response, PLANE_API_DATABASE, &err);
	else
		plane_api_answer(call->response, write_page(&list, filter.limit));
	plane_store_backend_list_finish(&list);
	query_finish(&query);
}
