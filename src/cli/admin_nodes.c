/* Commands that show a cluster: its state, drones, proxies. Fields that a controller does not tell,
 * as the original's does not, show as "-". */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "cli/admin.h"
#include "cli/admin_list.h"
#include "cli/display.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *const drone_heading[] = { "DRONE", "CLUSTER", "POOL", "STATE", "BACKENDS",
	"RESERVED", "FREE", "CPUS", "LOAD", "LEASE", "HEARTBEAT", "CONTROLLER", "VERSION" };
#define DRONE_NUMBERS (1u << 4 | 1u << 5 | 1u << 6 | 1u << 7 | 1u << 8 | 1u << 9 | 1u << 10)

static const char *const proxy_heading[] = { "PROXY", "CLUSTER", "CONTROLLER", "CONTROLLER SEEN",
	"ADDRESS", "VERSION" };
#define PROXY_NUMBERS (1u << 3)

static const char *state_of(const json_t *drone)
{
	const json_t *node = json_object_get(drone, "node");
	if (!json_is_true(json_object_get(drone, "ready")))
		return "not ready";
	if (!json_is_string(json_object_get(node, "controller")))
		return "away";
	if (!json_is_integer(json_object_get(drone, "last_heartbeat_age")))
		return "new"; /* connected, and not heard of yet */
	if (json_is_true(json_object_get(drone, "draining")))
		return "draining";
	return json_is_false(json_object_get(drone, "healthy")) ? "silent" : "ready";
}

/* "1.5G/8G": asked for, of how much. */
static void put_share(char text[96], const json_t *part, const json_t *all,
	void (*write)(const json_t *value, char text[PLANE_DISPLAY_SIZE]))
{
	char left[PLANE_DISPLAY_SIZE], right[PLANE_DISPLAY_SIZE];
	write(part, left);
	write(all, right);
	snprintf(text, 96, "%s%s%s", left, right[0] ? "/" : "", right);
}

static void add_drone(struct plane_table *table, const json_t *drone)
{
	const json_t *node = json_object_get(drone, "node");
	const json_t *resources = json_object_get(drone, "resources");
	char backends[PLANE_DISPLAY_SIZE], memory[96], available[PLANE_DISPLAY_SIZE], cpus[96];
	char load[PLANE_DISPLAY_SIZE], heartbeat[PLANE_DISPLAY_SIZE], lease[PLANE_DISPLAY_SIZE];
	plane_admin_integer(json_object_get(drone, "backend_count"), backends);
	put_share(memory, json_object_get(resources, "memory_reserved_bytes"),
		json_object_get(resources, "memory_allocatable_bytes"), plane_admin_bytes);
	plane_admin_bytes(json_object_get(resources, "memory_available_bytes"), available);
	put_share(cpus, json_object_get(resources, "cpu_reserved_millis"),
		json_object_get(resources, "cpu_allocatable_millis"), plane_admin_millis);
	plane_admin_millis(json_object_get(resources, "load_millis"), load);
	plane_admin_age(json_object_get(drone, "lease_age"), lease);
	plane_admin_age(json_object_get(drone, "last_heartbeat_age"), heartbeat);
	plane_table_add(table, plane_admin_text(json_object_get(node, "name"), "Drone"),
		plane_admin_text(drone, "cluster"), plane_admin_text(drone, "pool"),
		state_of(drone), backends, memory, available, cpus, load, lease, heartbeat,
		plane_admin_text(node, "controller"), plane_admin_text(node, "plane_version"));
}

static void add_proxy(struct plane_table *table, const json_t *node)
{
	char seen[PLANE_DISPLAY_SIZE];
	plane_admin_age(json_object_get(node, "controller_heartbeat_age"), seen);
	plane_table_add(table, plane_admin_text(json_object_get(node, "name"), "Proxy"),
		plane_admin_text(node, "cluster"), plane_admin_text(node, "controller"), seen,
		plane_admin_text(node, "ip"), plane_admin_text(node, "plane_version"));
}

/* ---- cluster-state ---- */

struct cluster_view {
	const struct plane_admin *admin;
	const char *path;
};

static void write_rows(struct plane_buffer *text, struct plane_table *table,
	const char *const *heading, const json_t *entries,
	void (*add_row)(struct plane_table *table, const json_t *entry))
{
	size_t i;
	json_t *entry;
	plane_table_add_row(table, heading);
	json_array_foreach (entries, i, entry)
		add_row(table, entry);
	plane_table_write(table, text);
}

static int write_cluster(void *data, struct plane_buffer *text, struct plane_error *err)
{
	const struct cluster_view *view = data;
	_cleanup_json_ json_t *state = plane_admin_fetch(view->admin, "GET", view->path, NULL, err);
	if (!state)
		return err->code;
	if (view->admin->as_json) {
		_cleanup_free_ char *line = plane_json_dump(state);
		plane_buffer_addf(text, "%s\n", line);
		return 0;
	}
	struct plane_table drones = {
		.columns = COUNT(drone_heading), .right_columns = DRONE_NUMBERS, .empty = "-"
	};
	struct plane_table proxies = {
		.columns = COUNT(proxy_heading), .right_columns = PROXY_NUMBERS, .empty = "-"
	};
	write_rows(text, &drones, drone_heading, json_object_get(state, "drones"), add_drone);
	plane_buffer_add_text(text, "\n");
	write_rows(text, &proxies, proxy_heading, json_object_get(state, "proxies"), add_proxy);
	return 0;
}

int plane_admin_cluster_state(int argc, char **argv)
{
	struct plane_admin admin = { 0 };
	struct plane_admin_view view = PLANE_ADMIN_VIEW_DEFAULTS;
	const char *words[PLANE_COMMAND_WORDS_MAX + 1];
	const struct plane_flag flags[] = { PLANE_ADMIN_VIEW_FLAGS(view) };
	const struct plane_command command = {
		.usage = "plane admin cluster-state CLUSTER [flags]",
		.summary = "Shows the connected drones and proxies of a cluster.",
		.examples = "  plane admin cluster-state localhost:9090 --watch\n",
		.flags = flags,
		.flag_count = COUNT(flags),
		.min_words = 1,
		.max_words = 1,
	};
	int status = plane_admin_parse(&admin, &command, argc, argv, words);
	if (status >= 0)
		return status;
	_cleanup_free_ char *path = plane_strdupf("/ctrl/c/%s/state", words[0]);
	_cleanup_free_ char *title = plane_strdupf("plane admin cluster-state %s", words[0]);
	struct cluster_view cluster = { &admin, path };
	struct plane_admin_block block = { title, write_cluster, &cluster };
	return plane_admin_show(&admin, &view, &block);
}

/* ---- drones, proxies ---- */

int plane_admin_drones(int argc, char **argv)
{
	struct plane_admin admin = { 0 };
	struct plane_admin_view view = PLANE_ADMIN_VIEW_DEFAULTS;
	const char *cluster = NULL, *pool = NULL;
	bool is_all = false;
	const struct plane_flag flags[] = {
		{ "cluster", PLANE_FLAG_TEXT, &cluster, "CLUSTER", "only of this one" },
		{ "pool", PLANE_FLAG_TEXT, &pool, "POOL", "only of this one; \"\": of none" },
		{ "all", PLANE_FLAG_BOOL, &is_all, NULL,
			"also those that are not connected and have no backends" },
		PLANE_ADMIN_VIEW_FLAGS(view),
	};
	const struct plane_command command = {
		.usage = "plane admin drones [flags]",
		.summary = "Lists drones: what they run, what they have room for, how they are.",
		.examples = "  plane admin drones --cluster localhost:9090 --watch\n",
		.flags = flags,
		.flag_count = COUNT(flags),
	};
	int status = plane_admin_parse(&admin, &command, argc, argv, NULL);
	if (status >= 0)
		return status;
	_cleanup_(plane_buffer_finish) struct plane_buffer path = { 0 };
	plane_buffer_add_text(&path, "/ctrl/drones?");
	plane_admin_add_query(&path, "cluster", cluster);
	plane_admin_add_query(&path, "pool", pool);
	plane_admin_add_query(&path, "all", is_all ? "true" : NULL);
	struct plane_admin_list list = { .title = "plane admin drones",
		.path = plane_buffer_text(&path),
		.field = "drones",
		.columns = COUNT(drone_heading),
		.right_columns = DRONE_NUMBERS,
		.heading = drone_heading,
		.add_row = add_drone };
	return plane_admin_list_run(&admin, &view, &list);
}

int plane_admin_proxies(int argc, char **argv)
{
	struct plane_admin admin = { 0 };
	struct plane_admin_view view = PLANE_ADMIN_VIEW_DEFAULTS;
	const char *cluster = NULL;
	const struct plane_flag flags[] = {
		{ "cluster", PLANE_FLAG_TEXT, &cluster, "CLUSTER", "only of this one" },
		PLANE_ADMIN_VIEW_FLAGS(view),
	};
	const struct plane_command command = {
		.usage = "plane admin proxies [flags]",
		.summary = "Lists connected proxies.",
		.flags = flags,
		.flag_count = COUNT(flags),
	};
	int status = plane_admin_parse(&admin, &command, argc, argv, NULL);
	if (status >= 0)
		return status;
	_cleanup_(plane_buffer_finish) struct plane_buffer path = { 0 };
	plane_buffer_add_text(&path, "/ctrl/proxies?");
	plane_admin_add_query(&path, "cluster", cluster);
	struct plane_admin_list list = { .title = "plane admin proxies",
		.path = plane_buffer_text(&path),
		.field = "proxies",
		.columns = COUNT(proxy_heading),
		.right_columns = PROXY_NUMBERS,
		.heading = proxy_heading,
		.add_row = add_proxy };
	return plane_admin_list_run(&admin, &view, &list);
}
