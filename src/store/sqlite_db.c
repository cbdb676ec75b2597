/* Connections, cached statements, errors of SQLite. */
#include "store/sqlite_db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"

#define BUSY_TIMEOUT_MS 5000
#define BUSY_ALONE_TIMEOUT_MS 1000

static int code_of(int extended)
{
	switch (extended) {
	case SQLITE_CONSTRAINT_UNIQUE:
	case SQLITE_CONSTRAINT_PRIMARYKEY:
		return -EEXIST;
	case SQLITE_CONSTRAINT_FOREIGNKEY:
		return -ENOENT;
	}
	switch (extended & 0xff) {
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return -EACCES;
	case SQLITE_NOTADB:
	case SQLITE_CORRUPT:
		return -EBADMSG;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	default:
		return -EIO;
	}
}

static int fail(struct plane_db *db, struct plane_error *err)
{
	return plane_error_set(err, code_of(sqlite3_extended_errcode(db->sqlite)), "database: %s",
		sqlite3_errmsg(db->sqlite));
}

/* SQLite would make the file with the umask's mode. A file that is there is never opened here:
 * closing it would take away the locks that another connection of this process has on it
 * (fcntl(2)), and the next one who opens and closes the database would remove its log. */
static int ensure_file(const char *path, struct plane_error *err)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0)
		(void)close(fd); /* empty */
	else if (errno != EEXIST || faccessat(AT_FDCWD, path, R_OK | W_OK, AT_EACCESS) < 0)
		return plane_error_errno(err, "open the database %s", path);
	return 0;
}

static int open_file(struct plane_db *db, const char *path, int busy_timeout_ms, const char *set_up,
	struct plane_error *err)
{
	*db = (struct plane_db){ 0 };
	int result = ensure_file(path, err);
	if (result < 0)
		return result;
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX;
	if (sqlite3_open_v2(path, &db->sqlite, flags, NULL) != SQLITE_OK) {
		int code = plane_error_set(err, -EIO, "open the database %s: %s", path,
			db->sqlite ? sqlite3_errmsg(db->sqlite) : "out of memory");
		sqlite3_close(db->sqlite);
		db->sqlite = NULL;
		return code;
	}
	pthread_mutex_init(&db->mutex, NULL);
	sqlite3_extended_result_codes(db->sqlite, 1);
	sqlite3_busy_timeout(db->sqlite, busy_timeout_ms);
	result = plane_db_script(db, set_up, err);
	if (result < 0) {
		plane_db_close(db);
		return plane_error_prefix(err, "open the database %s", path);
	}
	return 0;
}

int plane_db_open(struct plane_db *db, const char *path, struct plane_error *err)
{
	return open_file(
		db, path, BUSY_TIMEOUT_MS, "PRAGMA journal_mode=WAL; PRAGMA foreign_keys=ON", err);
}

/* A connection that uses a write-ahead log holds a shared lock on the file for as long as it is
 * open, and one in this mode an exclusive one, from its first access on (SQLite's "PRAGMA
 * locking_mode"). */
int plane_db_open_alone(struct plane_db *db, const char *path, struct plane_error *err)
{
	return open_file(db, path, BUSY_ALONE_TIMEOUT_MS,
		"PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA foreign_keys=ON; "
		"BEGIN IMMEDIATE; COMMIT",
		err);
}

void plane_db_close(struct plane_db *db)
{
	if (!db->sqlite)
		return;
	for (int i = 0; i < db->cached; i++)
		sqlite3_finalize(db->cache[i].statement);
	sqlite3_close(db->sqlite);
	pthread_mutex_destroy(&db->mutex);
	*db = (struct plane_db){ 0 };
}

int plane_db_script(struct plane_db *db, const char *sql, struct plane_error *err)
{
	if (sqlite3_exec(db->sqlite, sql, NULL, NULL, NULL) != SQLITE_OK)
		return fail(db, err);
	return 0;
}

static sqlite3_stmt *prepare(struct plane_db *db, const char *sql, struct plane_error *err)
{
	for (int i = 0; i < db->cached; i++)
		if (db->cache[i].sql == sql)
			return db->cache[i].statement;
	sqlite3_stmt *statement = NULL;
	if (db->cached == PLANE_DB_STATEMENTS_MAX) {
		plane_error_set(err, -ENOMEM, "database: too many different statements");
		return NULL;
	}
	if (sqlite3_prepare_v3(db->sqlite, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) !=
		SQLITE_OK) {
		(void)fail(db, err);
		return NULL;
	}
	db->cache[db->cached].sql = sql;
	db->cache[db->cached++].statement = statement;
	return statement;
}

static int bind_one(sqlite3_stmt *statement, int index, char kind, va_list *args)
{
	if (kind == 't') {
		const char *text = va_arg(*args, const char *);
		return sqlite3_bind_text(statement, index, text, -1, SQLITE_STATIC);
	}
	int64_t number = va_arg(*args, int64_t);
	if (kind == 'o' && number < 0)
		return sqlite3_bind_null(statement, index);
	return sqlite3_bind_int64(statement, index, number);
}

static sqlite3_stmt *query_list(struct plane_db *db, struct plane_error *err, const char *sql,
	const char *format, va_list *args)
{
	sqlite3_stmt *statement = prepare(db, sql, err);
	for (int i = 0; statement && format[i]; i++) {
		if (bind_one(statement, i + 1, format[i], args) != SQLITE_OK) {
			(void)fail(db, err);
			return NULL;
		}
	}
	return statement;
}

sqlite3_stmt *plane_db_query(
	struct plane_db *db, struct plane_error *err, const char *sql, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	sqlite3_stmt *statement = query_list(db, err, sql, format, &args);
	va_end(args);
	return statement;
}

int plane_db_next(struct plane_db *db, sqlite3_stmt *statement, struct plane_error *err)
{
	int step = sqlite3_step(statement);
	if (step == SQLITE_ROW)
		return 1;
	int result = step == SQLITE_DONE ? 0 : fail(db, err);
	plane_db_done(statement);
	return result;
}

void plane_db_done(sqlite3_stmt *statement)
{
	(void)sqlite3_reset(statement); /* repeats the error that was reported */
	(void)sqlite3_clear_bindings(statement);
}

int plane_db_run(struct plane_db *db, int64_t *changed, struct plane_error *err, const char *sql,
	const char *format, ...)
{
	va_list args;
	va_start(args, format);
	sqlite3_stmt *statement = query_list(db, err, sql, format, &args);
	va_end(args);
	if (!statement)
		return err ? err->code : -EIO;
	int result = plane_db_next(db, statement, err);
	if (result > 0) {
		plane_db_done(statement);
		result = 0;
	}
	if (result == 0 && changed)
		*changed = sqlite3_changes64(db->sqlite);
	return result;
}

const char *plane_db_text(sqlite3_stmt *statement, int column)
{
	const unsigned char *text = sqlite3_column_text(statement, column);
	return text ? (const char *)text : "";
}

char *plane_db_text_copy(sqlite3_stmt *statement, int column)
{
	return plane_strdup((const char *)sqlite3_column_text(statement, column));
}

int plane_db_begin(struct plane_db *db, struct plane_error *err)
{
	pthread_mutex_lock(&db->mutex);
	int result = plane_db_run(db, NULL, err, "BEGIN IMMEDIATE", "");
	if (result < 0)
		pthread_mutex_unlock(&db->mutex);
	return result;
}

int plane_db_end(struct plane_db *db, int result, struct plane_error *err)
{
	struct plane_error ignored;
	if (result >= 0)
		result = plane_db_run(db, NULL, err, "COMMIT", "");
	if (result < 0 && !sqlite3_get_autocommit(db->sqlite))
		(void)plane_db_run(db, NULL, &ignored, "ROLLBACK", ""); /* the first error counts */
	pthread_mutex_unlock(&db->mutex);
	return result;
}
