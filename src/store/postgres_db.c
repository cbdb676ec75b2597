/* One connection of libpq: pipelines with a time limit, and errors with codes. */
#include "store/postgres_db.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"

#define NAME_SIZE 24

/* The class or code of an SQLSTATE (PostgreSQL manual, appendix A), and what it is for callers. */
static const struct {
	const char *state;
	int code;
} codes[] = {
	{ "23505", -EEXIST },
	{ "23503", -ENOENT },
	{ "42501", -EACCES },
	{ "28", -EACCES },
	{ "53100", -ENOSPC },
	{ "08", -EAGAIN },
	{ "40001", -EDEADLK },
	{ "40P01", -EDEADLK },
	{ "40", -EAGAIN },
	{ "53", -EAGAIN },
	{ "55P03", -ETIMEDOUT }, /* lock_timeout */
	{ "57014", -ETIMEDOUT }, /* statement_timeout */
	{ "57", -EAGAIN },
	{ "25006", -EAGAIN }, /* it has become a standby */
	{ "25P03", -EAGAIN },
};

static int code_of(const char *state)
{
	for (size_t i = 0; state && i < sizeof(codes) / sizeof(codes[0]); i++)
		if (strncmp(state, codes[i].state, strlen(codes[i].state)) == 0)
			return codes[i].code;
	return state ? -EIO : -EAGAIN;
}

/* libpq's messages end in a newline, and may have several lines. */
static int fail_text(struct plane_error *err, int code, const char *text)
{
	char line[512];
	snprintf(line, sizeof(line), "%s", text && text[0] ? text : "no connection");
	for (char *c = line; *c; c++)
		if (*c == '\n')
			*c = c[1] ? ' ' : '\0';
	return plane_error_set(err, code, "database: %s", line);
}

static int fail(struct plane_pg *pg, int code, const char *text, struct plane_error *err)
{
	atomic_fetch_add_explicit(&pg->statistics->failures, 1, memory_order_relaxed);
	return fail_text(err, code, text);
}

/* After this the connection is of no use: what the server did with what was sent is unknown. */
static int lose(struct plane_pg *pg, const char *text, struct plane_error *err)
{
	int code = fail(pg, -EAGAIN, text, err);
	plane_pg_close(pg);
	return code;
}

static int fail_result(struct plane_pg *pg, const PGresult *result, struct plane_error *err)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	return fail(pg, code_of(state), primary ? primary : PQresultErrorMessage(result), err);
}

bool plane_pg_is_broken(const struct plane_pg *pg)
{
	return !pg->connection || PQstatus(pg->connection) != CONNECTION_OK;
}

void plane_pg_close(struct plane_pg *pg)
{
	PQfinish(pg->connection);
	pg->connection = NULL;
	pg->prepared_count = pg->prepared_before = 0;
}

/* The events that came, 0 when none did in time. */
static int poll_until(struct plane_pg *pg, short events, int64_t deadline_ms)
{
	struct pollfd fd = { .fd = PQsocket(pg->connection), .events = events };
	for (;;) {
		int64_t left_ms = deadline_ms - plane_clock_boot_ms();
		if (left_ms <= 0)
			return 0;
		int count = poll(&fd, 1, (int)left_ms);
		if (count > 0)
			return fd.revents;
		if (count < 0 && errno != EINTR)
			return -errno;
	}
}

/* ---- queueing ---- */

/* The preparation travels with the first execution. */
static int prepare(
	struct plane_pg *pg, const char *sql, char name[NAME_SIZE], struct plane_error *err)
{
	int i = 0;
	while (i < pg->prepared_count && pg->prepared[i].sql != sql)
		i++;
	if (i < pg->prepared_count) {
		snprintf(name, NAME_SIZE, "plane%u", pg->prepared[i].number);
		return 0;
	}
	if (i == PLANE_PG_STATEMENTS_MAX)
		return lose(pg, "too many different statements", err);
	pg->prepared[i].sql = sql;
	pg->prepared[i].number = pg->next_number++;
	pg->prepared_count++;
	snprintf(name, NAME_SIZE, "plane%u", pg->prepared[i].number);
	if (!PQsendPrepare(pg->connection, name, sql, 0, NULL))
		return lose(pg, PQerrorMessage(pg->connection), err);
	return 0;
}

void plane_pg_values_set(struct plane_pg_values *values, const char *format, va_list *args)
{
	int i = 0;
	for (; format[i]; i++) {
		char kind = format[i];
		if (kind == 't') {
			values->texts[i] = va_arg(*args, const char *);
			continue;
		}
		int64_t number = kind == 'b' ? va_arg(*args, int) : va_arg(*args, int64_t);
		snprintf(values->numbers[i], sizeof(values->numbers[i]), "%" PRId64, number);
		values->texts[i] = kind == 'o' && number < 0 ? NULL : values->numbers[i];
	}
	values->count = i;
}

int plane_pg_queue_values(struct plane_pg *pg, struct plane_error *err, const char *sql,
	const struct plane_pg_values *values)
{
	char name[NAME_SIZE];
	if (plane_pg_is_broken(pg))
		return lose(pg, "the connection is lost", err);
	int result = prepare(pg, sql, name, err);
	if (result < 0)
		return result;
	atomic_fetch_add_explicit(&pg->statistics->statements, 1, memory_order_relaxed);
	if (!PQsendQueryPrepared(pg->connection, name, values->count, values->texts, NULL, NULL, 0))
		return lose(pg, PQerrorMessage(pg->connection), err);
	return 0;
}

static int queue_list(struct plane_pg *pg, struct plane_error *err, const char *sql,
	const char *format, va_list *args)
{
	struct plane_pg_values values;
	plane_pg_values_set(&values, format, args);
	return plane_pg_queue_values(pg, err, sql, &values);
}

int plane_pg_queue(
	struct plane_pg *pg, struct plane_error *err, const char *sql, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int result = queue_list(pg, err, sql, format, &args);
	va_end(args);
	return result;
}

/* ---- results ---- */

/* The next result within the time; NULL at the end of a statement's. -EAGAIN: none in time. */
static int next_result(
	struct plane_pg *pg, int64_t deadline_ms, PGresult **result, struct plane_error *err)
{
	PGconn *connection = pg->connection;
	for (;;) {
		int is_unsent = PQflush(connection);
		if (is_unsent < 0)
			return lose(pg, PQerrorMessage(connection), err);
		if (!is_unsent && !PQisBusy(connection))
			break;
		int events =
			poll_until(pg, (short)(POLLIN | (is_unsent ? POLLOUT : 0)), deadline_ms);
		if (events <= 0)
			return lose(pg, "no answer in time", err);
		if (!(events & ~POLLOUT))
			continue;
		if (!PQconsumeInput(connection))
			return lose(pg, PQerrorMessage(connection), err);
	}
	*result = PQgetResult(connection);
	if (!*result && PQstatus(connection) != CONNECTION_OK)
		return lose(pg, PQerrorMessage(connection), err);
	return 0;
}

struct gathering {
	PGresult **results;
	size_t count, found;
	int failure;
};

/* True for the end of the pipeline. A result is kept or cleared. */
static bool gather(
	struct plane_pg *pg, struct gathering *to, PGresult *owned_result, struct plane_error *err)
{
	switch (PQresultStatus(owned_result)) {
	case PGRES_PIPELINE_SYNC:
		PQclear(owned_result);
		return true;
	case PGRES_TUPLES_OK:
		break;
	case PGRES_COMMAND_OK:
		break;
	case PGRES_PIPELINE_ABORTED:
		if (!to->failure)
			to->failure = fail(pg, -EIO, "the pipeline was aborted", err);
		break;
	default:
		if (!to->failure)
			to->failure = fail_result(pg, owned_result, err);
	}
	/* that of a preparation has no command tag */
	bool is_answer =
		PQresultStatus(owned_result) == PGRES_TUPLES_OK || PQcmdStatus(owned_result)[0];
	if (is_answer && !to->failure && to->results && to->found < to->count)
		to->results[to->found++] = owned_result;
	else
		PQclear(owned_result);
	return false;
}

/* Reads until the end of the pipeline. */
static int gather_all(struct plane_pg *pg, struct gathering *to, struct plane_error *err)
{
	int64_t deadline_ms = plane_clock_boot_ms() + pg->timeout_ms;
	for (;;) {
		PGresult *one = NULL;
		int result = next_result(pg, deadline_ms, &one, err);
		if (result < 0 || (one && gather(pg, to, one, err)))
			return result < 0 ? result : to->failure;
		if (to->failure && PQstatus(pg->connection) != CONNECTION_OK) {
			plane_pg_close(pg); /* the server said why; there will be no end */
			return to->failure;
		}
	}
}

int plane_pg_flush(struct plane_pg *pg, PGresult **results, size_t count, struct plane_error *err)
{
	PGresult *found[count + 1];
	struct gathering to = { .results = found, .count = results ? count : 0 };
	if (plane_pg_is_broken(pg))
		return lose(pg, "the connection is lost", err);
	atomic_fetch_add_explicit(&pg->statistics->round_trips, 1, memory_order_relaxed);
	int result = PQpipelineSync(pg->connection) ? gather_all(pg, &to, err)
						    : lose(pg, PQerrorMessage(pg->connection), err);
	if (result < 0 && !pg->connection)
		atomic_fetch_add(&pg->statistics->unknown, 1);
	if (result < 0) /* the server may not have those that were prepared in it */
		pg->prepared_count = pg->prepared_before;
	pg->prepared_before = pg->prepared_count;
	for (size_t i = 0; i < to.found; i++) {
		if (result < 0)
			PQclear(found[i]);
		else
			results[i] = found[i];
	}
	for (size_t i = to.found; result == 0 && results && i < count; i++)
		results[i] = NULL;
	return result;
}

int plane_pg_run_list(struct plane_pg *pg, PGresult **rows, int64_t *changed,
	struct plane_error *err, const char *sql, const char *format, va_list *args)
{
	PGresult *answer = NULL;
	int result = queue_list(pg, err, sql, format, args);
	if (result == 0)
		result = plane_pg_flush(pg, &answer, 1, err);
	if (result < 0)
		return result;
	if (changed)
		*changed = plane_pg_changed(answer);
	if (rows)
		*rows = answer;
	else
		PQclear(answer);
	return 0;
}

int plane_pg_run(struct plane_pg *pg, PGresult **rows, int64_t *changed, struct plane_error *err,
	const char *sql, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int result = plane_pg_run_list(pg, rows, changed, err, sql, format, &args);
	va_end(args);
	return result;
}

/* Outside of pipeline mode, which takes no text of several statements. */
static int run_script(
	struct plane_pg *pg, const char *sql, int64_t deadline_ms, struct plane_error *err)
{
	int failure = 0;
	if (!PQsendQuery(pg->connection, sql))
		return lose(pg, PQerrorMessage(pg->connection), err);
	for (;;) {
		PGresult *one = NULL;
		int result = next_result(pg, deadline_ms, &one, err);
		if (result < 0 || !one)
			return result < 0 ? result : failure;
		ExecStatusType status = PQresultStatus(one);
		if (!failure && status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
			failure = fail_result(pg, one, err);
		PQclear(one);
	}
}

int plane_pg_script(struct plane_pg *pg, const char *sql, int timeout_ms, struct plane_error *err)
{
	int64_t deadline_ms = plane_clock_boot_ms() + timeout_ms;
	if (plane_pg_is_broken(pg) || !PQexitPipelineMode(pg->connection))
		return lose(pg, "the connection is lost", err);
	int result = run_script(pg, sql, deadline_ms, err);
	if (pg->connection && !PQenterPipelineMode(pg->connection))
		return lose(pg, PQerrorMessage(pg->connection), err);
	return result;
}

int plane_pg_wait(struct plane_pg *pg, int wake_fd, int timeout_ms, struct plane_error *err)
{
	if (plane_pg_is_broken(pg))
		return lose(pg, "the connection is lost", err);
	struct pollfd fds[2] = { { .fd = PQsocket(pg->connection), .events = POLLIN },
		{ .fd = wake_fd, .events = POLLIN } };
	int count = poll(fds, wake_fd < 0 ? 1 : 2, timeout_ms);
	if (count < 0 && errno != EINTR)
		return plane_error_errno(err, "wait for the database");
	if (count > 0 && fds[0].revents && !PQconsumeInput(pg->connection))
		return lose(pg, PQerrorMessage(pg->connection), err);
	return 0;
}

/* ---- connecting ---- */

/* In this order, those of the URL win over the first ones, and the last ones over them. */
static PGconn *begin_connect(const char *url)
{
	const char *const keywords[] = { "target_session_attrs", "keepalives_idle",
		"keepalives_interval", "keepalives_count", "tcp_user_timeout",
		"fallback_application_name", "dbname", "client_encoding", NULL };
	const char *const values[] = { "read-write", "5", "2", "3", "10000", "plane", url, "UTF8",
		NULL };
	return PQconnectStartParams(keywords, values, 1);
}

static int finish_connect(struct plane_pg *pg, int64_t deadline_ms, struct plane_error *err)
{
	PostgresPollingStatusType step = PGRES_POLLING_WRITING;
	while (step != PGRES_POLLING_OK) {
		if (step == PGRES_POLLING_FAILED)
			return lose(pg, PQerrorMessage(pg->connection), err);
		short events = step == PGRES_POLLING_READING ? POLLIN : POLLOUT;
		if (poll_until(pg, events, deadline_ms) <= 0)
			return lose(pg, "no answer in time", err);
		step = PQconnectPoll(pg->connection);
	}
	return 0;
}

/* As a statement, because PgBouncer takes few settings at the start of a connection. The server
 * gives up before its client does; a client that is gone holds nothing for long. Statements are
 * planned once, and that may be while tables are still empty, where reading the whole of them looks
 * cheapest: each finds its rows by an index. To compile them would take longer than they do. */
static const char set_session[] = "SELECT set_config('statement_timeout', $1, false), "
				  "set_config('lock_timeout', $1, false), "
				  "set_config('idle_in_transaction_session_timeout', $1, false), "
				  "set_config('tcp_keepalives_idle', '5', false), "
				  "set_config('tcp_keepalives_interval', '2', false), "
				  "set_config('tcp_keepalives_count', '3', false), "
				  "set_config('enable_seqscan', 'off', false), "
				  "set_config('jit', 'off', false), "
				  "set_config('plan_cache_mode', 'force_generic_plan', false), "
				  "set_config('plane.origin', $2, false)";

int plane_pg_connect(struct plane_pg *pg, const char *url, const char *origin,
	struct plane_pg_statistics *statistics, struct plane_error *err)
{
	*pg = (struct plane_pg){ .statistics = statistics, .timeout_ms = PLANE_PG_TIMEOUT_MS };
	int64_t deadline_ms = plane_clock_boot_ms() + pg->timeout_ms;
	pg->connection = begin_connect(url);
	if (!pg->connection || PQstatus(pg->connection) == CONNECTION_BAD)
		return lose(pg, PQerrorMessage(pg->connection), err);
	int result = finish_connect(pg, deadline_ms, err);
	if (result < 0)
		return result;
	if (PQsetnonblocking(pg->connection, 1) < 0 || !PQenterPipelineMode(pg->connection))
		return lose(pg, PQerrorMessage(pg->connection), err);
	result = plane_pg_run(
		pg, NULL, NULL, err, set_session, "it", (int64_t)pg->timeout_ms * 4 / 5, origin);
	if (result < 0)
		plane_pg_close(pg);
	else
		atomic_fetch_add_explicit(&statistics->connections, 1, memory_order_relaxed);
	return result;
}

/* ---- values ---- */

void plane_pg_add_quoted(struct plane_buffer *literal, const char *text)
{
	plane_buffer_add_text(literal, "\"");
	for (size_t plain; text[plain = strcspn(text, "\"\\")]; text += plain + 1) {
		plane_buffer_add(literal, text, plain);
		plane_buffer_add_text(literal, "\\");
		plane_buffer_add(literal, text + plain, 1);
	}
	plane_buffer_add_text(literal, text);
	plane_buffer_add_text(literal, "\"");
}

void plane_pg_add_array(struct plane_buffer *literal, const char *const *texts, size_t count)
{
	plane_buffer_add_text(literal, "{");
	for (size_t i = 0; i < count; i++) {
		plane_buffer_add_text(literal, i ? "," : "");
		plane_pg_add_quoted(literal, texts[i]);
	}
	plane_buffer_add_text(literal, "}");
}

const char *plane_pg_text(const PGresult *rows, int row, int column)
{
	return PQgetvalue(rows, row, column); /* "" for NULL */
}

char *plane_pg_text_copy(const PGresult *rows, int row, int column)
{
	return PQgetisnull(rows, row, column) ? NULL : plane_strdup(PQgetvalue(rows, row, column));
}

int64_t plane_pg_int(const PGresult *rows, int row, int column)
{
	return PQgetisnull(rows, row, column) ? -1
					      : strtoll(PQgetvalue(rows, row, column), NULL, 10);
}

bool plane_pg_bool(const PGresult *rows, int row, int column)
{
	return PQgetvalue(rows, row, column)[0] == 't';
}

int64_t plane_pg_changed(PGresult *result)
{
	return strtoll(PQcmdTuples(result), NULL, 10);
}

void *plane_pg_entries(const PGresult *rows, size_t size)
{
	int count = PQntuples(rows);
	return count > 0 ? plane_alloc_zero((size_t)count, size) : NULL;
}
