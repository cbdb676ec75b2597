/* Lists: the pages of the API in, a table or JSON out. */
#include "cli/admin_list.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "cli/display.h"

#define PAGE 1000 /* the most that the API gives at once */

void plane_admin_bytes(const json_t *value, char text[40])
{
	text[0] = '\0';
	if (json_is_integer(value))
		plane_display_bytes(json_integer_value(value), text);
}

void plane_admin_millis(const json_t *value, char text[40])
{
	text[0] = '\0';
	if (json_is_integer(value))
		plane_display_millis(json_integer_value(value), text);
}

void plane_admin_age(const json_t *seconds, char text[40])
{
	text[0] = '\0';
	if (json_is_integer(seconds))
		plane_display_age(json_integer_value(seconds), text);
}

void plane_admin_integer(const json_t *value, char text[40])
{
	text[0] = '\0';
	if (json_is_integer(value))
		snprintf(text, 40, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
}

static int print_once(const struct plane_admin_block *block)
{
	struct plane_error err = { 0 };
	_cleanup_(plane_buffer_finish) struct plane_buffer text = { 0 };
	if (block->write(block->data, &text, &err) < 0)
		return plane_fail("%s", err.message);
	(void)fwrite(text.data, 1, text.len, stdout); /* told below */
	return fflush(stdout) == 0 ? 0 : plane_fail("write to stdout: %s", strerror(errno));
}

int plane_admin_show(const struct plane_admin *admin, const struct plane_admin_view *view,
	const struct plane_admin_block *block)
{
	if (!view->is_watched)
		return print_once(block);
	struct plane_watch watch = { .title = admin->as_json ? NULL : block->title,
		.interval_s = view->interval_s,
		.snapshot = block->write,
		.data = block->data };
	return plane_watch(&watch);
}

struct reading {
	const struct plane_admin *admin;
	const struct plane_admin_view *view;
	const struct plane_admin_list *list;
};

static json_t *read_page(
	const struct reading *reading, const char *cursor, int64_t limit, struct plane_error *err)
{
	_cleanup_(plane_buffer_finish) struct plane_buffer path = { 0 };
	plane_buffer_addf(&path, "%s&limit=%" PRId64, reading->list->path, limit);
	plane_admin_add_query(&path, "cursor", cursor);
	json_t *page =
		plane_admin_fetch(reading->admin, "GET", plane_buffer_text(&path), NULL, err);
	if (page && !json_is_array(json_object_get(page, reading->list->field))) {
		plane_error_set(err, -EPROTO, "the controller's answer has no \"%s\"",
			reading->list->field);
		json_decref(page);
		return NULL;
	}
	return page;
}

/* One value a line; with --watch one line a look, which is an array of them. */
static void write_json(const struct reading *reading, const json_t *entries, json_t *all,
	struct plane_buffer *text)
{
	size_t i;
	json_t *entry;
	if (reading->view->is_watched) {
		(void)json_array_extend(all, (json_t *)entries); /* arrays both */
		return;
	}
	json_array_foreach (entries, i, entry) {
		_cleanup_free_ char *line = plane_json_dump(entry);
		plane_buffer_addf(text, "%s\n", line);
	}
	(void)fwrite(text->data, 1, text->len, stdout); /* now: a list may be long */
	plane_buffer_clear(text);
}

static int64_t next_limit(const struct reading *reading, int64_t had)
{
	int64_t limit = reading->list->limit;
	if (limit == 0 && reading->view->is_watched)
		limit = PAGE;
	if (limit == 0)
		return PAGE;
	return limit - had < PAGE ? limit - had : PAGE;
}

/* All pages; `*has_more` says that there are entries beyond the limit. */
static int read_all(const struct reading *reading, struct plane_table *table, json_t *all,
	struct plane_buffer *text, bool *has_more, struct plane_error *err)
{
	_cleanup_free_ char *cursor = NULL;
	int64_t had = 0, limit = next_limit(reading, 0);
	do {
		_cleanup_json_ json_t *page = read_page(reading, cursor, limit, err);
		if (!page)
			return err->code;
		const json_t *entries = json_object_get(page, reading->list->field);
		size_t i;
		json_t *entry;
		if (reading->admin->as_json)
			write_json(reading, entries, all, text);
		else
			json_array_foreach (entries, i, entry)
				reading->list->add_row(table, entry);
		had += (int64_t)json_array_size(entries);
		limit = next_limit(reading, had);
		const char *next = json_string_value(json_object_get(page, "next_cursor"));
		free(cursor);
		cursor = next ? plane_strdup(next) : NULL;
	} while (cursor && limit > 0);
	*has_more = cursor != NULL;
	return 0;
}

static int write_list(void *data, struct plane_buffer *text, struct plane_error *err)
{
	const struct reading *reading = data;
	const struct plane_admin_list *list = reading->list;
	struct plane_table table = {
		.columns = list->columns, .right_columns = list->right_columns, .empty = "-"
	};
	_cleanup_json_ json_t *all = json_array();
	bool has_more = false;
	plane_table_add_row(&table, list->heading);
	int result = read_all(reading, &table, all, text, &has_more, err);
	if (result == 0 && reading->admin->as_json && reading->view->is_watched) {
		_cleanup_free_ char *line = plane_json_dump(all);
		plane_buffer_addf(text, "%s\n", line);
	}
	_cleanup_(plane_buffer_finish) struct plane_buffer rows = { 0 };
	plane_table_write(&table, &rows);
	if (result == 0 && !reading->admin->as_json) {
		plane_buffer_add(text, rows.data, rows.len);
		if (has_more)
			plane_buffer_add_text(text, "... and more\n");
	}
	return result;
}

int plane_admin_list_run(const struct plane_admin *admin, const struct plane_admin_view *view,
	const struct plane_admin_list *list)
{
	struct reading reading = { admin, view, list };
	struct plane_admin_block block = { list->title, write_list, &reading };
	return plane_admin_show(admin, view, &block);
}
