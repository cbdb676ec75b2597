/* A SQLite store as rows. The only connection to the file, so that nobody can use it meanwhile. */
#include "store/copy_side.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "store/sqlite.h"

struct sqlite_side {
	struct plane_copy_side base;
	struct plane_sqlite_store *store;
	bool is_writing; /* in its transaction */
	const struct plane_copy_table *table;
	sqlite3_stmt *statement;
};

#define SIDE(side) ((struct sqlite_side *)(side))

static int fail(struct sqlite_side *side, struct plane_error *err)
{
	return plane_error_set(
		err, -EIO, "database: %s", sqlite3_errmsg(side->store->writer.sqlite));
}

static void end_statement(struct sqlite_side *side)
{
	(void)sqlite3_finalize(side->statement); /* repeats the error of the last step */
	side->statement = NULL;
}

static int prepare(
	struct sqlite_side *side, struct plane_buffer *owned_sql, struct plane_error *err)
{
	end_statement(side);
	int code = sqlite3_prepare_v2(side->store->writer.sqlite, plane_buffer_text(owned_sql), -1,
		&side->statement, NULL);
	plane_buffer_finish(owned_sql);
	return code == SQLITE_OK ? 0 : fail(side, err);
}

static void close_side(struct plane_copy_side *base)
{
	struct sqlite_side *side = SIDE(base);
	struct plane_error ignored;
	end_statement(side);
	if (side->is_writing) /* to be given up: what failed was told */
		(void)plane_db_end(&side->store->writer, -ECANCELED, &ignored);
	if (side->store)
		plane_store_close(&side->store->base);
	free(side);
}

static int now(struct plane_copy_side *base, int64_t *ms, struct plane_error *err)
{
	(void)err;
	*ms = plane_sqlite_now(SIDE(base)->store);
	return 0;
}

/* As a controller that starts now would go on from it. */
static int last_fencing_token(struct plane_copy_side *base, int64_t *token, struct plane_error *err)
{
	(void)err;
	*token = SIDE(base)->store->last_fencing_token;
	return 0;
}

static int has_rows(struct plane_copy_side *base, const struct plane_copy_table *table,
	bool *has_rows, struct plane_error *err)
{
	struct sqlite_side *side = SIDE(base);
	struct plane_buffer sql = { 0 };
	plane_buffer_addf(&sql, "SELECT EXISTS (SELECT 1 FROM %s)", table->name);
	if (prepare(side, &sql, err) < 0)
		return err->code;
	if (sqlite3_step(side->statement) != SQLITE_ROW)
		return fail(side, err);
	*has_rows = sqlite3_column_int(side->statement, 0) != 0;
	end_statement(side);
	return 0;
}

/* ---- reading ---- */

static const char *value_of(const struct plane_copy_column *column)
{
	if (column->kind == PLANE_COPY_OWN)
		return "NULL";
	if (column->sqlite_value)
		return column->sqlite_value;
	return column->sqlite_name ? column->sqlite_name : column->name;
}

static int begin_read(
	struct plane_copy_side *base, const struct plane_copy_table *table, struct plane_error *err)
{
	struct plane_buffer sql = { 0 };
	for (size_t i = 0; i < table->count; i++)
		plane_buffer_addf(&sql, "%s%s", i ? ", " : "SELECT ", value_of(&table->columns[i]));
	plane_buffer_addf(&sql, " FROM %s", table->name);
	SIDE(base)->table = table;
	return prepare(SIDE(base), &sql, err);
}

static int read_row(
	struct plane_copy_side *base, struct plane_copy_value *values, struct plane_error *err)
{
	struct sqlite_side *side = SIDE(base);
	sqlite3_stmt *row = side->statement;
	int step = sqlite3_step(row);
	if (step == SQLITE_DONE)
		end_statement(side);
	if (step != SQLITE_ROW)
		return step == SQLITE_DONE ? 0 : fail(side, err);
	for (int i = 0; i < (int)side->table->count; i++) {
		struct plane_copy_value *value = &values[i];
		*value = (struct plane_copy_value){ .is_null = sqlite3_column_type(row, i) ==
							       SQLITE_NULL };
		if (value->is_null)
			continue;
		if (side->table->columns[i].kind == PLANE_COPY_TEXT) {
			value->text = (const char *)sqlite3_column_text(row, i);
			value->len = (size_t)sqlite3_column_bytes(row, i);
		} else {
			value->number = sqlite3_column_int64(row, i);
		}
	}
	return 1;
}

/* ---- writing ---- */

static bool is_written(const struct plane_copy_column *column)
{
	return column->kind != PLANE_COPY_OWN && !column->sqlite_value;
}

static int begin_write(
	struct plane_copy_side *base, const struct plane_copy_table *table, struct plane_error *err)
{
	struct sqlite_side *side = SIDE(base);
	struct plane_buffer sql = { 0 };
	int count = 0;
	if (!side->is_writing && plane_db_begin(&side->store->writer, err) < 0)
		return err->code;
	side->is_writing = true;
	side->table = table;
	plane_buffer_addf(&sql, "INSERT INTO %s (", table->name);
	for (size_t i = 0; i < table->count; i++)
		if (is_written(&table->columns[i]))
			plane_buffer_addf(
				&sql, "%s%s", count++ ? ", " : "", value_of(&table->columns[i]));
	plane_buffer_add_text(&sql, ") VALUES (?");
	while (--count > 0)
		plane_buffer_add_text(&sql, ", ?");
	plane_buffer_add_text(&sql, ")");
	return prepare(side, &sql, err);
}

static int bind(sqlite3_stmt *statement, int index, enum plane_copy_kind kind,
	const struct plane_copy_value *value)
{
	if (value->is_null)
		return sqlite3_bind_null(statement, index);
	if (kind == PLANE_COPY_TEXT)
		return sqlite3_bind_text64(
			statement, index, value->text, value->len, SQLITE_STATIC, SQLITE_UTF8);
	return sqlite3_bind_int64(statement, index, value->number);
}

static int write_row(struct plane_copy_side *base, const struct plane_copy_value *values,
	struct plane_error *err)
{
	struct sqlite_side *side = SIDE(base);
	int index = 0;
	for (size_t i = 0; i < side->table->count; i++) {
		const struct plane_copy_column *column = &side->table->columns[i];
		if (is_written(column) &&
			bind(side->statement, ++index, column->kind, &values[i]) != SQLITE_OK)
			return fail(side, err);
	}
	if (sqlite3_step(side->statement) != SQLITE_DONE)
		return fail(side, err);
	(void)sqlite3_reset(side->statement); /* it succeeded */
	return 0;
}

static int end_write(struct plane_copy_side *base, struct plane_error *err)
{
	(void)err;
	end_statement(SIDE(base));
	return 0;
}

static int finish(struct plane_copy_side *base, int64_t fencing_token, struct plane_error *err)
{
	struct sqlite_side *side = SIDE(base);
	int result = plane_sqlite_raise_fencing_token(side->store, fencing_token, err);
	side->is_writing = false;
	return plane_db_end(&side->store->writer, result, err);
}

static const struct plane_copy_side_impl sqlite_side_impl = {
	.close = close_side,
	.now = now,
	.last_fencing_token = last_fencing_token,
	.has_rows = has_rows,
	.begin_read = begin_read,
	.read = read_row,
	.begin_write = begin_write,
	.write = write_row,
	.end_write = end_write,
	.finish = finish,
};

/* The copy must not make the file that it is to read. */
static int check_exists(const char *text, struct plane_error *err)
{
	_cleanup_free_ char *path = plane_strndup(text, strcspn(text, "?"));
	return access(path, F_OK) < 0 ? plane_error_errno(err, "open the database %s", path) : 0;
}

/* What a migration writes to a source of this version is what a controller's start does: up to
 * where the clock and the fencing tokens have come. */
static int open_store(struct sqlite_side *side, const char *text,
	const struct plane_store_clock *clock, bool is_target, struct plane_error *err)
{
	if (!is_target && check_exists(text, err) < 0)
		return err->code;
	side->store = plane_sqlite_store_open_alone(text, clock, err);
	if (!side->store)
		return err->code == -EBUSY
			       ? plane_error_set(err, -EBUSY,
					 "%.*s is in use: stop the controller (and whatever else "
					 "has it open) first",
					 (int)strcspn(text, "?"), text)
			       : err->code;
	if (!is_target && plane_sqlite_check_version(side->store, err) < 0)
		return err->code;
	return plane_store_migrate(&side->store->base, err);
}

struct plane_copy_side *plane_sqlite_copy_open(const char *text,
	const struct plane_store_clock *clock, bool is_target, struct plane_error *err)
{
	struct sqlite_side *side = PLANE_NEW(struct sqlite_side);
	side->base.impl = &sqlite_side_impl;
	if (open_store(side, text, clock, is_target, err) == 0)
		return &side->base;
	close_side(&side->base);
	return NULL;
}
