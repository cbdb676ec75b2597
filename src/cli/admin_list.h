/* What the lists of `plane admin` share: tables or JSON, page by page, once or with --watch. */
#ifndef PLANE_CLI_ADMIN_LIST_H
#define PLANE_CLI_ADMIN_LIST_H

#include "cli/admin.h"
#include "cli/table.h"
#include "cli/watch.h"

/** Flags of each list, and where they go. Start from PLANE_ADMIN_VIEW_DEFAULTS. */
struct plane_admin_view {
	bool is_watched;
	int64_t interval_s;
};
#define PLANE_ADMIN_VIEW_DEFAULTS                                                                  \
	{                                                                                          \
		.interval_s = 2                                                                    \
	}
/* clang-format off */
#define PLANE_ADMIN_VIEW_FLAGS(view)                                                               \
	{ "watch", PLANE_FLAG_BOOL, &(view).is_watched, NULL, "again and again, until Ctrl-C" },   \
	{ "interval", PLANE_FLAG_INT, &(view).interval_s, "S",                                     \
		"seconds between two looks, with --watch (default: 2)", 1, 3600 }
/* clang-format on */

/** One way to make a block of text: a table, or lines of JSON. */
struct plane_admin_block {
	const char *title; /* "plane admin drones" */
	int (*write)(void *data, struct plane_buffer *text, struct plane_error *err);
	void *data;
};
/** Prints the block, or shows it with --watch. The exit status. */
int plane_admin_show(const struct plane_admin *admin, const struct plane_admin_view *view,
	const struct plane_admin_block *block);

/** A list of the API. */
struct plane_admin_list {
	const char *title;
	const char *path;  /* with "?" and filters behind it */
	const char *field; /* of the answer: an array of objects */
	int columns;
	unsigned right_columns;
	const char *const *heading;
	void (*add_row)(struct plane_table *table, const json_t *entry);
	int64_t limit; /* entries at most; 0: all, but a page with --watch */
};
int plane_admin_list_run(const struct plane_admin *admin, const struct plane_admin_view *view,
	const struct plane_admin_list *list);

/** The value of a JSON number by plane_display_bytes and the like; "" when it is none. */
void plane_admin_bytes(const json_t *value, char text[40]);
void plane_admin_millis(const json_t *value, char text[40]);
void plane_admin_age(const json_t *seconds, char text[40]);
void plane_admin_integer(const json_t *value, char text[40]);

#endif
