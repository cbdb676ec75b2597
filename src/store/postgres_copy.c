/* A PostgreSQL store as rows: one transaction on a connection of its own, which waits as long as it
 * takes. Its lock on all tables lets others read but not write. */
#include "store/copy_side.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "store/postgres.h"

#define ROWS_AT_A_TIME "1000"
#define SEND_BYTES 65536
/* A controller tells every 7 s that it runs (by default), and once more when it stops. */
#define SILENT_MS "30000"

struct postgres_side {
	struct plane_copy_side base;
	struct plane_pg pg;
	struct plane_pg_statistics statistics;
	const struct plane_copy_table *table;
	PGresult *rows; /* of which the next one is `row` */
	int row;
	struct plane_buffer out;
};

#define SIDE(side) ((struct postgres_side *)(side))

/* The server says in its context which row and column it is about. */
static int fail(struct postgres_side *side, const PGresult *result, struct plane_error *err)
{
	const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *context = PQresultErrorField(result, PG_DIAG_CONTEXT);
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *lost = PQerrorMessage(side->pg.connection);
	if (!primary)
		return plane_error_set(
			err, -EAGAIN, "database: %.*s", (int)strcspn(lost, "\n"), lost);
	return plane_error_set(err, state && strcmp(state, "55P03") == 0 ? -EBUSY : -EIO,
		"database: %s%s%.200s%s", primary, context ? " (" : "", context ? context : "",
		context ? ")" : "");
}

/* One statement; `*rows` (may be NULL) is the caller's. */
static int execute(
	struct postgres_side *side, PGresult **rows, struct plane_error *err, const char *sql)
{
	_cleanup_rows_ PGresult *result = PQexec(side->pg.connection, sql);
	ExecStatusType status = PQresultStatus(result);
	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_COPY_IN)
		return fail(side, result, err);
	if (rows) {
		*rows = result;
		result = NULL;
	}
	return 0;
}

static int execute_buffer(
	struct postgres_side *side, struct plane_buffer *owned_sql, struct plane_error *err)
{
	int result = execute(side, NULL, err, plane_buffer_text(owned_sql));
	plane_buffer_finish(owned_sql);
	return result;
}

static int read_number(
	struct postgres_side *side, int64_t *number, struct plane_error *err, const char *sql)
{
	_cleanup_rows_ PGresult *rows = NULL;
	int result = execute(side, &rows, err, sql);
	if (result == 0)
		*number = plane_pg_int(rows, 0, 0);
	return result;
}

static void close_side(struct plane_copy_side *base)
{
	struct postgres_side *side = SIDE(base);
	PQclear(side->rows);
	plane_pg_close(&side->pg); /* ends its transaction */
	plane_buffer_finish(&side->out);
	free(side);
}

static int now(struct plane_copy_side *base, int64_t *ms, struct plane_error *err)
{
	return read_number(SIDE(base), ms, err, "SELECT now_ms()");
}

static int last_fencing_token(struct plane_copy_side *base, int64_t *token, struct plane_error *err)
{
	return read_number(SIDE(base), token, err, "SELECT last_value FROM fencing_token");
}

static int has_rows(struct plane_copy_side *base, const struct plane_copy_table *table,
	bool *has_rows, struct plane_error *err)
{
	struct plane_buffer sql = { 0 };
	int64_t count = 0;
	plane_buffer_addf(
		&sql, "SELECT count(*) FROM (SELECT 1 FROM %s LIMIT 1) found", table->name);
	int result = read_number(SIDE(base), &count, err, plane_buffer_text(&sql));
	plane_buffer_finish(&sql);
	if (result == 0)
		*has_rows = count > 0;
	return result;
}

/* ---- reading ---- */

static int begin_read(
	struct plane_copy_side *base, const struct plane_copy_table *table, struct plane_error *err)
{
	struct plane_buffer sql = { 0 };
	plane_buffer_add_text(&sql, "DECLARE rows NO SCROLL CURSOR FOR SELECT ");
	for (size_t i = 0; i < table->count; i++)
		plane_buffer_addf(&sql, "%s%s", i ? ", " : "", table->columns[i].name);
	plane_buffer_addf(&sql, " FROM %s", table->name);
	if (table->postgres_filter)
		plane_buffer_addf(&sql, " WHERE %s", table->postgres_filter);
	SIDE(base)->table = table;
	return execute_buffer(SIDE(base), &sql, err);
}

/* 0 after the last row. */
static int fetch(struct postgres_side *side, struct plane_error *err)
{
	PQclear(side->rows);
	side->rows = NULL;
	side->row = 0;
	if (execute(side, &side->rows, err, "FETCH " ROWS_AT_A_TIME " FROM rows") < 0)
		return err->code;
	if (PQntuples(side->rows) > 0)
		return 1;
	PQclear(side->rows);
	side->rows = NULL;
	return execute(side, NULL, err, "CLOSE rows");
}

static int read_row(
	struct plane_copy_side *base, struct plane_copy_value *values, struct plane_error *err)
{
	struct postgres_side *side = SIDE(base);
	if (!side->rows || side->row == PQntuples(side->rows)) {
		int result = fetch(side, err);
		if (result <= 0)
			return result;
	}
	for (int i = 0; i < (int)side->table->count; i++) {
		struct plane_copy_value *value = &values[i];
		enum plane_copy_kind kind = side->table->columns[i].kind;
		const char *text = PQgetvalue(side->rows, side->row, i);
		*value = (struct plane_copy_value){
			.is_null = kind == PLANE_COPY_OWN || PQgetisnull(side->rows, side->row, i),
			.text = text,
			.len = (size_t)PQgetlength(side->rows, side->row, i),
		};
		if (kind == PLANE_COPY_FLAG)
			value->number = text[0] == 't';
		else if (kind != PLANE_COPY_TEXT)
			value->number = strtoll(text, NULL, 10);
	}
	side->row++;
	return 1;
}

/* ---- writing ---- */

static int begin_write(
	struct plane_copy_side *base, const struct plane_copy_table *table, struct plane_error *err)
{
	struct plane_buffer sql = { 0 };
	const char *between = "";
	plane_buffer_addf(&sql, "COPY %s (", table->name);
	for (size_t i = 0; i < table->count; i++) {
		if (table->columns[i].kind == PLANE_COPY_OWN)
			continue;
		plane_buffer_addf(&sql, "%s%s", between, table->columns[i].name);
		between = ", ";
	}
	plane_buffer_add_text(&sql, ") FROM STDIN");
	SIDE(base)->table = table;
	plane_buffer_clear(&SIDE(base)->out);
	return execute_buffer(SIDE(base), &sql, err);
}

/* PostgreSQL's manual, COPY, "Text Format". */
static void add_text(struct plane_buffer *out, const char *text, size_t len)
{
	static const char specials[] = "\\\n\r\t", letters[] = "\\nrt";
	for (size_t i = 0; i < len;) {
		size_t plain = i;
		while (plain < len && (text[plain] == '\0' || !strchr(specials, text[plain])))
			plain++;
		plane_buffer_add(out, text + i, plain - i);
		if (plain < len) {
			char escaped[2] = { '\\',
				letters[strchr(specials, text[plain]) - specials] };
			plane_buffer_add(out, escaped, sizeof(escaped));
			plain++;
		}
		i = plain;
	}
}

static void add_value(
	struct plane_buffer *out, enum plane_copy_kind kind, const struct plane_copy_value *value)
{
	if (value->is_null)
		plane_buffer_add_text(out, "\\N");
	else if (kind == PLANE_COPY_TEXT)
		add_text(out, value->text, value->len);
	else
		plane_buffer_addf(out, "%" PRId64, value->number);
}

/* Reads the answer to all rows that were sent. */
static int end_copy(struct postgres_side *side, struct plane_error *err)
{
	int failure = 0;
	PGresult *result;
	while ((result = PQgetResult(side->pg.connection))) {
		if (!failure && PQresultStatus(result) != PGRES_COMMAND_OK)
			failure = fail(side, result, err);
		PQclear(result);
	}
	return failure;
}

/* A server that refuses a row says so before the last one is sent. */
static int send_rows(struct postgres_side *side, struct plane_error *err)
{
	struct plane_buffer *out = &side->out;
	int result = PQputCopyData(side->pg.connection, out->data, (int)out->len);
	plane_buffer_clear(out);
	if (result < 0 && end_copy(side, err) == 0)
		return fail(side, NULL, err);
	return result < 0 ? err->code : 0;
}

static int write_row(struct plane_copy_side *base, const struct plane_copy_value *values,
	struct plane_error *err)
{
	struct postgres_side *side = SIDE(base);
	const char *between = "";
	for (size_t i = 0; i < side->table->count; i++) {
		enum plane_copy_kind kind = side->table->columns[i].kind;
		if (kind == PLANE_COPY_OWN)
			continue;
		plane_buffer_add_text(&side->out, between);
		add_value(&side->out, kind, &values[i]);
		between = "\t";
	}
	plane_buffer_add_text(&side->out, "\n");
	return side->out.len < SEND_BYTES ? 0 : send_rows(side, err);
}

static int end_write(struct plane_copy_side *base, struct plane_error *err)
{
	struct postgres_side *side = SIDE(base);
	if (side->out.len > 0 && send_rows(side, err) < 0)
		return err->code;
	if (PQputCopyEnd(side->pg.connection, NULL) < 0)
		return end_copy(side, err) < 0 ? err->code : fail(side, NULL, err);
	return end_copy(side, err);
}

/* Sequences know no transactions: raised before the commit, they are at worst raised for nothing.
 */
static int raise_sequences(
	struct postgres_side *side, int64_t fencing_token, struct plane_error *err)
{
	struct plane_buffer sql = { 0 };
	int result = 0;
	plane_buffer_addf(&sql,
		"SELECT setval('fencing_token', greatest(last_value, %" PRId64
		")) FROM fencing_token",
		fencing_token);
	result = execute_buffer(side, &sql, err);
	for (size_t i = 0; result == 0 && i < plane_copy_table_count; i++) {
		const struct plane_copy_table *table = &plane_copy_tables[i];
		const char *column = table->columns[0].name;
		if (!table->is_numbered)
			continue;
		plane_buffer_addf(&sql,
			"SELECT setval(pg_get_serial_sequence('%s', '%s'), max(%s)) FROM %s "
			"HAVING max(%s) IS NOT NULL",
			table->name, column, column, table->name, column);
		result = execute_buffer(side, &sql, err);
	}
	return result;
}

static int finish(struct plane_copy_side *base, int64_t fencing_token, struct plane_error *err)
{
	struct postgres_side *side = SIDE(base);
	if (raise_sequences(side, fencing_token, err) < 0)
		return err->code;
	if (execute(side, NULL, err, "COMMIT") < 0)
		return plane_error_prefix(err,
			"the end of the transaction was not confirmed; when it is done the target "
			"has rows");
	return 0;
}

static const struct plane_copy_side_impl postgres_side_impl = {
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

/* ---- opening ---- */

static int make_schema(const char *url, struct plane_error *err)
{
	struct plane_store *store = plane_postgres_store_open(url, err);
	int result = store ? plane_store_migrate(store, err) : err->code;
	plane_store_close(store);
	return result;
}

/* What it may have forgotten the other store would not know to wait for. */
static int check_not_recovering(struct plane_pg *pg, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	int result = plane_pg_run(
		pg, &rows, NULL, err, "SELECT 1 FROM meta WHERE name = 'recovering_since'", "");
	if (result < 0 || PQntuples(rows) == 0)
		return result;
	return plane_error_set(err, -EBUSY,
		"the database was failed over or restored, and may not know which backends run: "
		"start a controller on it, and stop it once it says that keys are given out again");
}

/* From pipelines with time limits to one statement after the other, without. */
static int connect_alone(struct postgres_side *side, const char *url, struct plane_error *err)
{
	if (plane_pg_connect(&side->pg, url, "", &side->statistics, err) < 0 ||
		plane_postgres_check_version(&side->pg, err) < 0 ||
		plane_postgres_check_server(&side->pg, false, err) < 0 ||
		check_not_recovering(&side->pg, err) < 0)
		return err->code;
	if (!PQexitPipelineMode(side->pg.connection) ||
		PQsetnonblocking(side->pg.connection, 0) < 0)
		return fail(side, NULL, err);
	return execute(side, NULL, err,
		"SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0");
}

static int lock_tables(struct postgres_side *side, struct plane_error *err)
{
	struct plane_buffer sql = { 0 };
	if (execute(side, NULL, err, "BEGIN ISOLATION LEVEL REPEATABLE READ") < 0)
		return err->code;
	for (size_t i = 0; i < plane_copy_table_count; i++)
		plane_buffer_addf(
			&sql, "%s%s", i ? ", " : "LOCK TABLE ", plane_copy_tables[i].name);
	plane_buffer_add_text(&sql, " IN EXCLUSIVE MODE");
	int result = execute_buffer(side, &sql, err);
	return result == -EBUSY ? plane_error_prefix(
					  err, "the database is in use: stop all controllers first")
				: result;
}

/* With the tables locked none can begin. */
static int check_stopped(struct postgres_side *side, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	int result = execute(side, &rows, err,
		"SELECT name, (now_ms() - last_heartbeat_at) / 1000 FROM controller WHERE "
		"is_online AND last_heartbeat_at > now_ms() - " SILENT_MS
		" ORDER BY last_heartbeat_at DESC LIMIT 1");
	if (result < 0 || PQntuples(rows) == 0)
		return result;
	return plane_error_set(err, -EBUSY,
		"controller %s ran %s s ago: stop all controllers first; one that was killed "
		"counts as stopped after " SILENT_MS " ms",
		plane_pg_text(rows, 0, 0), plane_pg_text(rows, 0, 1));
}

struct plane_copy_side *plane_postgres_copy_open(
	const char *url, bool is_target, struct plane_error *err)
{
	struct postgres_side *side = PLANE_NEW(struct postgres_side);
	side->base.impl = &postgres_side_impl;
	int result = is_target ? make_schema(url, err) : 0;
	if (result == 0)
		result = connect_alone(side, url, err);
	if (result == 0)
		result = lock_tables(side, err);
	if (result == 0)
		result = check_stopped(side, err);
	if (result == 0)
		return &side->base;
	close_side(&side->base);
	return NULL;
}
