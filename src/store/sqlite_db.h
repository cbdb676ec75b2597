/* Thin helpers over SQLite: connections with cached statements, bound by a format. Used by the
 * store and by the drone's journal. A connection is used under its mutex. */
#ifndef PLANE_STORE_SQLITE_DB_H
#define PLANE_STORE_SQLITE_DB_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <sqlite3.h>

#include "base/error.h"

#define PLANE_DB_STATEMENTS_MAX 96

struct plane_db {
	sqlite3 *sqlite;
	pthread_mutex_t mutex;
	/* prepared once; found by the address of their text, which is a literal */
	struct {
		const char *sql;
		sqlite3_stmt *statement;
	} cache[PLANE_DB_STATEMENTS_MAX];
	int cached;
};

/** Opens (and makes) the file. The message says what to do about it. */
int plane_db_open(struct plane_db *db, const char *path, struct plane_error *err);
/** The same for one connection alone: -EBUSY when another process or connection has the file open,
 *  and until this one is closed none can open it. */
int plane_db_open_alone(struct plane_db *db, const char *path, struct plane_error *err);
void plane_db_close(struct plane_db *db);

/** Runs several statements without parameters; not cached. */
int plane_db_script(struct plane_db *db, const char *sql, struct plane_error *err);

/**
 * Binds the values that `format` names, one letter each, and gives the statement for
 * plane_db_next. 't': const char *, NULL is NULL; 'i': int64_t; 'o': int64_t, negative is NULL.
 * Texts must live until the statement is done. NULL with `err` set on failure.
 */
sqlite3_stmt *plane_db_query(
	struct plane_db *db, struct plane_error *err, const char *sql, const char *format, ...);
/** 1: a row; 0: no more, the statement is reset; negative: failed, reset too. -EEXIST for a
 *  unique constraint, -ENOENT for a foreign key. */
int plane_db_next(struct plane_db *db, sqlite3_stmt *statement, struct plane_error *err);
/** Ends a query before its last row. */
void plane_db_done(sqlite3_stmt *statement);

/** Runs a statement that gives no rows; `*changed` (may be NULL) is the number of rows. */
int plane_db_run(struct plane_db *db, int64_t *changed, struct plane_error *err, const char *sql,
	const char *format, ...);

/** Text of a column; "" for NULL. Valid until the next step. */
const char *plane_db_text(sqlite3_stmt *statement, int column);
/** A copy, NULL for NULL. */
char *plane_db_text_copy(sqlite3_stmt *statement, int column);

/** Takes the mutex and begins; plane_db_end commits or, when `result` is negative, rolls back,
 *  releases the mutex, and returns the outcome. */
int plane_db_begin(struct plane_db *db, struct plane_error *err);
int plane_db_end(struct plane_db *db, int result, struct plane_error *err);

#endif
