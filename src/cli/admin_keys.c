/* Commands that list backends, and the keys that are held. */
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/admin.h"
#include "cli/admin_list.h"
#include "cli/display.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define LIMIT_FLAG(target)                                                                         \
	"limit", PLANE_FLAG_INT, &(target), "N",                                                   \
		"at most so many (default: all; 1000 with --watch)", 1, 1000000000

static void add_backend(struct plane_table *table, const json_t *backend)
{
	const json_t *key = json_object_get(backend, "key");
	const json_t *metrics = json_object_get(backend, "metrics");
	char since[PLANE_DISPLAY_SIZE], memory[PLANE_DISPLAY_SIZE], cpu[PLANE_DISPLAY_SIZE];
	plane_display_time(json_integer_value(json_object_get(backend, "time")), since);
	plane_admin_bytes(json_object_get(metrics, "memory_used_bytes"), memory);
	plane_admin_millis(json_object_get(metrics, "cpu_millis"), cpu);
	plane_table_add(table, plane_admin_text(backend, "backend_id"),
		plane_admin_text(backend, "status"), plane_admin_text(key, "name"),
		plane_admin_text(backend, "cluster"), plane_admin_text(backend, "drone"), memory,
		cpu, since);
}

int plane_admin_backends(int argc, char **argv)
{
	static const char *const heading[] = { "BACKEND", "STATUS", "KEY", "CLUSTER", "DRONE",
		"MEMORY", "CPU", "SINCE" };
	struct plane_admin admin = { 0 };
	struct plane_admin_view view = PLANE_ADMIN_VIEW_DEFAULTS;
	const char *cluster = NULL, *state = NULL, *key = NULL, *drone = NULL;
	int64_t limit = 0;
	bool is_alive = false;
	const struct plane_flag flags[] = {
		{ "cluster", PLANE_FLAG_TEXT, &cluster, "CLUSTER", "only of this one" },
		{ "drone", PLANE_FLAG_TEXT, &drone, "dr-NAME", "only on this one" },
		{ "status", PLANE_FLAG_TEXT, &state, "STATUS", "only in this state" },
		{ "alive", PLANE_FLAG_BOOL, &is_alive, NULL, "only those that have not ended" },
		{ "key", PLANE_FLAG_TEXT, &key, "KEY", "only of this key" },
		{ LIMIT_FLAG(limit) },
		PLANE_ADMIN_VIEW_FLAGS(view),
	};
	const struct plane_command command = {
		.usage = "plane admin backends [flags]",
		.summary = "Lists backends.",
		.examples = "  plane admin backends --status ready\n"
			    "  plane admin backends --alive --watch\n",
		.flags = flags,
		.flag_count = COUNT(flags),
	};
	int status = plane_admin_parse(&admin, &command, argc, argv, NULL);
	if (status >= 0)
		return status;
	_cleanup_(plane_buffer_finish) struct plane_buffer path = { 0 };
	plane_buffer_add_text(&path, "/ctrl/backends?metrics=true");
	plane_admin_add_query(&path, "cluster", cluster);
	plane_admin_add_query(&path, "drone", drone);
	plane_admin_add_query(&path, "status", state);
	plane_admin_add_query(&path, "alive", is_alive ? "true" : NULL);
	plane_admin_add_query(&path, "key", key);
	struct plane_admin_list list = { .title = "plane admin backends",
		.path = plane_buffer_text(&path),
		.field = "backends",
		.columns = COUNT(heading),
		.right_columns = 1u << 5 | 1u << 6,
		.heading = heading,
		.add_row = add_backend,
		.limit = limit };
	return plane_admin_list_run(&admin, &view, &list);
}

static void add_key(struct plane_table *table, const json_t *entry)
{
	const json_t *key = json_object_get(entry, "key");
	const json_t *expires_in = json_object_get(entry, "expires_in_ms");
	char token[PLANE_DISPLAY_SIZE], lease[PLANE_DISPLAY_SIZE] = "drone";
	int64_t left_ms = json_integer_value(expires_in);
	plane_admin_integer(json_object_get(entry, "fencing_token"), token);
	if (json_is_integer(expires_in) && left_ms > 0)
		plane_display_age((left_ms + 999) / 1000, lease);
	if (!json_is_true(json_object_get(entry, "live")))
		snprintf(lease, sizeof(lease), "over");
	plane_table_add(table, plane_admin_text(key, "name"), plane_admin_text(key, "namespace"),
		plane_admin_text(key, "tag"), plane_admin_text(entry, "backend_id"),
		plane_admin_text(entry, "status"), plane_admin_text(entry, "cluster"),
		plane_admin_text(entry, "drone"), token, lease);
}

int plane_admin_keys(int argc, char **argv)
{
	static const char *const heading[] = { "KEY", "NAMESPACE", "TAG", "BACKEND", "STATUS",
		"CLUSTER", "DRONE", "FENCING TOKEN", "LEASE" };
	struct plane_admin admin = { 0 };
	struct plane_admin_view view = PLANE_ADMIN_VIEW_DEFAULTS;
	const char *cluster = NULL, *key_namespace = NULL, *name = NULL;
	int64_t limit = 0;
	const struct plane_flag flags[] = {
		{ "cluster", PLANE_FLAG_TEXT, &cluster, "CLUSTER", "only of backends of this one" },
		{ "namespace", PLANE_FLAG_TEXT, &key_namespace, "TEXT", "only of this one" },
		{ "key", PLANE_FLAG_TEXT, &name, "KEY", "only of this name" },
		{ LIMIT_FLAG(limit) },
		PLANE_ADMIN_VIEW_FLAGS(view),
	};
	const struct plane_command command = {
		.usage = "plane admin keys [flags]",
		.summary =
			"Lists the keys that backends hold, with their leases. LEASE says how long "
			"a key's own\nlease lasts, \"drone\" where its drone's lease counts, "
			"\"over\" "
			"when the key may be given away.",
		.examples = "  plane admin keys --namespace documents\n",
		.flags = flags,
		.flag_count = COUNT(flags),
	};
	int status = plane_admin_parse(&admin, &command, argc, argv, NULL);
	if (status >= 0)
		return status;
	_cleanup_(plane_buffer_finish) struct plane_buffer path = { 0 };
	plane_buffer_add_text(&path, "/ctrl/keys?");
	plane_admin_add_query(&path, "cluster", cluster);
	plane_admin_add_query(&path, "namespace", key_namespace);
	plane_admin_add_query(&path, "key", name);
	struct plane_admin_list list = { .title = "plane admin keys",
		.path = plane_buffer_text(&path),
		.field = "keys",
		.columns = COUNT(heading),
		.right_columns = 1u << 7 | 1u << 8,
		.heading = heading,
		.add_row = add_key,
		.limit = limit };
	return plane_admin_list_run(&admin, &view, &list);
}
