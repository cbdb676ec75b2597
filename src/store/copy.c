/* Copies a store: which rows, in which order, with which times. The sides do the rest. */
#include "store/copy.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "store/copy_side.h"

static int check_empty(struct plane_copy_side *to, struct plane_error *err)
{
	for (size_t i = 0; i < plane_copy_table_count; i++) {
		bool has_rows = false;
		int result = to->impl->has_rows(to, &plane_copy_tables[i], &has_rows, err);
		if (result < 0)
			return plane_error_prefix(err, "target");
		if (has_rows)
			return plane_error_set(err, -EEXIST,
				"target: its table %s has rows: the target must be an empty "
				"database, that no controller has used",
				plane_copy_tables[i].name);
	}
	return 0;
}

static int copy_table(struct plane_copy_side *from, struct plane_copy_side *to,
	const struct plane_copy_table *table, int64_t shift_ms, int64_t *rows,
	struct plane_error *err)
{
	struct plane_copy_value values[PLANE_COPY_COLUMNS_MAX];
	assert(table->count <= PLANE_COPY_COLUMNS_MAX);
	if (from->impl->begin_read(from, table, err) < 0)
		return plane_error_prefix(err, "source: read table %s", table->name);
	if (to->impl->begin_write(to, table, err) < 0)
		return plane_error_prefix(err, "target: write table %s", table->name);
	*rows = 0;
	for (;; ++*rows) {
		int result = from->impl->read(from, values, err);
		if (result < 0)
			return plane_error_prefix(err, "source: read table %s", table->name);
		if (result == 0)
			break;
		for (size_t i = 0; i < table->count; i++)
			if (table->columns[i].kind == PLANE_COPY_TIME && !values[i].is_null)
				values[i].number += shift_ms;
		if (to->impl->write(to, values, err) < 0)
			return plane_error_prefix(err, "target: write table %s", table->name);
	}
	if (to->impl->end_write(to, err) < 0)
		return plane_error_prefix(err, "target: write table %s", table->name);
	return 0;
}

/* The source is asked first: what passes between the two questions makes leases longer, which is
 * safe, and not shorter. */
static int find_shift(struct plane_copy_side *from, struct plane_copy_side *to, int64_t *shift_ms,
	struct plane_error *err)
{
	int64_t there = 0, here = 0;
	if (from->impl->now(from, &here, err) < 0)
		return plane_error_prefix(err, "source");
	if (to->impl->now(to, &there, err) < 0)
		return plane_error_prefix(err, "target");
	*shift_ms = there - here;
	return 0;
}

int plane_copy_run(struct plane_copy_side *from, struct plane_copy_side *to,
	struct plane_store_copied *copied, struct plane_error *err)
{
	struct plane_store_copied done = { 0 };
	assert(plane_copy_table_count <= PLANE_STORE_TABLES_MAX);
	if (check_empty(to, err) < 0 || find_shift(from, to, &done.time_shift_ms, err) < 0)
		return err->code;
	for (size_t i = 0; i < plane_copy_table_count; i++) {
		done.tables[i].table = plane_copy_tables[i].name;
		if (copy_table(from, to, &plane_copy_tables[i], done.time_shift_ms,
			    &done.tables[i].rows, err) < 0)
			return err->code;
	}
	done.count = plane_copy_table_count;
	if (from->impl->last_fencing_token(from, &done.fencing_token, err) < 0)
		return plane_error_prefix(err, "source");
	if (to->impl->finish(to, done.fencing_token, err) < 0)
		return plane_error_prefix(err, "target");
	*copied = done;
	return 0;
}

void plane_copy_side_close(struct plane_copy_side *side)
{
	if (side)
		side->impl->close(side);
}

static struct plane_copy_side *open_side(const char *url, bool is_target, struct plane_error *err)
{
	if (plane_text_starts_with(url, "sqlite:"))
		return plane_sqlite_copy_open(url + strlen("sqlite:"), NULL, is_target, err);
	if (plane_text_starts_with(url, "postgres://") ||
		plane_text_starts_with(url, "postgresql://"))
		return plane_postgres_copy_open(url, is_target, err);
	plane_error_set(
		err, -EINVAL, "no known kind of database: expected sqlite:PATH or postgres://...");
	return NULL;
}

int plane_store_copy(const char *from_url, const char *to_url, struct plane_store_copied *copied,
	struct plane_error *err)
{
	struct plane_copy_side *from = open_side(from_url, false, err);
	if (!from)
		return plane_error_prefix(err, "source");
	struct plane_copy_side *to = open_side(to_url, true, err);
	int result = to ? plane_copy_run(from, to, copied, err) : plane_error_prefix(err, "target");
	plane_copy_side_close(to);
	plane_copy_side_close(from);
	return result;
}
