/* GET /ctrl/backends: backends by filters, a page at a time. */
#include "controller/api.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "controller/error_body.h"

/* Null: not measured of late, or by a drone of another controller. */
static json_t *write_usage(struct plane_usage *usage, const char *backend)
{
	struct plane_usage_entry entry;
	if (!plane_usage_find(usage, backend, plane_clock_boot_ms(), &entry))
		return json_null();
	return json_pack("{s:I,s:I,s:o,s:I,s:I}", "memory_used_bytes",
		(json_int_t)entry.use.memory_bytes, "memory_limit_bytes",
		(json_int_t)entry.use.memory_limit_bytes, "cpu_millis",
		entry.cpu_millis < 0 ? json_null() : json_integer(entry.cpu_millis), "cpu_ns",
		(json_int_t)entry.use.cpu_ns, "age_ms", (json_int_t)entry.age_ms);
}

/* `usage` NULL: it is not wanted. */
static json_t *write_backend(
	const struct plane_store_listed_backend *backend, struct plane_usage *usage)
{
	json_t *entry = plane_backend_status_entry(&backend->state, backend->state_time_ms);
	json_t *more = json_pack("{s:s,s:s,s:s?,s:I,s:o}", "backend_id", backend->backend,
		"cluster", backend->cluster, "drone", backend->drone, "created_at",
		(json_int_t)backend->created_at_ms, "key",
		backend->key_name
			? json_pack("{s:s,s:s,s:s}", "name", backend->key_name, "namespace",
				  backend->key_namespace, "tag", backend->key_tag)
			: json_null());
	if (usage)
		(void)json_object_set_new(entry, "metrics", write_usage(usage, backend->backend));
	(void)json_object_update(entry, more); /* objects both: fails for want of memory only */
	json_decref(more);
	return entry;
}

static json_t *write_page(
	const struct plane_store_backend_list *list, int limit, struct plane_usage *usage)
{
	json_t *backends = json_array();
	for (size_t i = 0; i < list->count; i++)
		(void)json_array_append_new(backends, write_backend(&list->entries[i], usage));
	bool is_full = list->count == (size_t)limit;
	return json_pack("{s:o,s:s?}", "backends", backends, "next_cursor",
		is_full ? list->entries[list->count - 1].backend : NULL);
}

/* Owned texts of the query. */
struct list_query {
	char *cluster, *drone, *status, *key, *cursor;
};

static void query_finish(struct list_query *query)
{
	free(query->cluster);
	free(query->drone);
	free(query->status);
	free(query->key);
	free(query->cursor);
}

static bool read_filter(struct plane_api_call *call, struct list_query *query,
	struct plane_store_backend_filter *filter)
{
	enum plane_backend_status status = 0;
	query->cluster = plane_api_query(call, "cluster");
	query->drone = plane_api_query(call, "drone");
	query->status = plane_api_query(call, "status");
	query->key = plane_api_query(call, "key");
	query->cursor = plane_api_query(call, "cursor");
	*filter = (struct plane_store_backend_filter){ .cluster = query->cluster,
		.drone = query->drone,
		.key_name = query->key,
		.after = query->cursor };
	if (query->status && !plane_backend_status_parse(query->status, &status)) {
		plane_api_fail(call->response, PLANE_API_INVALID_QUERY,
			"status: expected scheduled, loading, starting, waiting, ready, "
			"terminating, hard-terminating or terminated");
		return false;
	}
	filter->status = (int)status;
	return plane_api_query_limit(call, &filter->limit) &&
	       plane_api_query_flag(call, "alive", &filter->is_alive);
}

void plane_api_backend_list(struct plane_api_call *call)
{
	struct plane_store_backend_filter filter;
	struct plane_store_backend_list list = { 0 };
	struct list_query query = { 0 };
	struct plane_error err = { 0 };
	bool is_usage_wanted = false;
	if (read_filter(call, &query, &filter) &&
		plane_api_query_flag(call, "metrics", &is_usage_wanted)) {
		if (is_usage_wanted)
			plane_api_want_usage(call->controller);
		if (plane_store_backend_list(call->controller->store, &filter, &list, &err) < 0)
			plane_api_fail_because(call->response, PLANE_API_DATABASE, &err);
		else
			plane_api_answer(call->response,
				write_page(&list, filter.limit,
					is_usage_wanted ? call->controller->usage : NULL));
	}
	plane_store_backend_list_finish(&list);
	query_finish(&query);
}
