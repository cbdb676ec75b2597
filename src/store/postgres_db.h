/* Thin helpers over libpq: one connection with prepared statements, bound by a format, and a pool
 * of them. Every exchange is a pipeline: several statements are one transaction and one round trip,
 * and none waits for longer than the connection's time limit. A connection is one thread's at a
 * time. */
#ifndef PLANE_STORE_POSTGRES_DB_H
#define PLANE_STORE_POSTGRES_DB_H

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "base/buffer.h"
#include "base/error.h"

#define PLANE_PG_STATEMENTS_MAX 128
/** A call on the store fails after this when the database does not answer. */
#define PLANE_PG_TIMEOUT_MS 5000

/** Counts of all connections that share it. */
struct plane_pg_statistics {
	atomic_llong statements, round_trips, connections, failures;
	atomic_llong unknown; /* transactions that may have been committed; nobody told */
};

struct plane_pg {
	PGconn *connection; /* NULL: not open; see plane_pg_is_broken */
	struct plane_pg_statistics *statistics;
	int timeout_ms; /* for each round trip */
	/* prepared once; found by the address of their text, which is a literal */
	struct {
		const char *sql;
		unsigned number; /* its name on the server */
	} prepared[PLANE_PG_STATEMENTS_MAX];
	int prepared_count, prepared_before; /* the flush that is not done yet */
	int64_t taken_at_ms, used_at_ms;     /* boot clock; a pool's: when it last worked */
	unsigned next_number;
};

/**
 * Connects within the time limit of `pg` and sets its session up. `url`: "postgres://...", anything
 * that libpq takes (its manual, 34.1.1.2), several hosts included: the one that takes writes is
 * used. Rows of the logs that are written on it carry `origin`. -EAGAIN when nobody answers, or not
 * now; the message never holds a password.
 */
int plane_pg_connect(struct plane_pg *pg, const char *url, const char *origin,
	struct plane_pg_statistics *statistics, struct plane_error *err);
void plane_pg_close(struct plane_pg *pg);
/** After an error: is it of no more use? */
bool plane_pg_is_broken(const struct plane_pg *pg);

#define PLANE_PG_PARAMETERS_MAX 24
/** Values of a statement, to be queued later; texts are borrowed. */
struct plane_pg_values {
	int count;
	const char *texts[PLANE_PG_PARAMETERS_MAX];
	char numbers[PLANE_PG_PARAMETERS_MAX][24];
};
/** `format` as for plane_pg_queue. */
void plane_pg_values_set(struct plane_pg_values *values, const char *format, va_list *args);
int plane_pg_queue_values(struct plane_pg *pg, struct plane_error *err, const char *sql,
	const struct plane_pg_values *values);
/**
 * Queues a statement with the values that `format` names, one letter each: 't': const char *, NULL
 * is NULL; 'i': int64_t; 'o': int64_t, negative is NULL; 'b': int (a bool). Nothing is waited for.
 */
int plane_pg_queue(
	struct plane_pg *pg, struct plane_error *err, const char *sql, const char *format, ...);
/**
 * Runs what is queued in one transaction and one round trip: all of it is committed, or nothing.
 * `results` (may be NULL) has room for `count` results, in order, which the caller clears with
 * PQclear; it is untouched on failure. Codes: -EEXIST a unique constraint, -ENOENT a foreign key,
 * -EACCES no right, -ENOSPC, -EDEADLK: rolled back for the sake of another transaction, worth doing
 * again, -EAGAIN: the database is not there or did not answer in time (what became of the
 * transaction may be unknown), -ETIMEDOUT: the server gave it up, it took too long, -EIO others.
 */
int plane_pg_flush(struct plane_pg *pg, PGresult **results, size_t count, struct plane_error *err);
/** One statement by itself. `*rows` (may be NULL) is the caller's to PQclear; `*changed` (may be
 *  NULL): how many rows it concerned. */
int plane_pg_run(struct plane_pg *pg, PGresult **rows, int64_t *changed, struct plane_error *err,
	const char *sql, const char *format, ...);
/** The same with the values in a list. */
int plane_pg_run_list(struct plane_pg *pg, PGresult **rows, int64_t *changed,
	struct plane_error *err, const char *sql, const char *format, va_list *args);
/** Runs several statements without parameters, each in a transaction of its own unless they say
 *  BEGIN. `timeout_ms` for all. */
int plane_pg_script(struct plane_pg *pg, const char *sql, int timeout_ms, struct plane_error *err);

/** Waits up to `timeout_ms` for input on the connection or on `wake_fd` (-1: none), then reads
 *  what came, so that PQnotifies has it. 0, or -EAGAIN when the connection is lost. */
int plane_pg_wait(struct plane_pg *pg, int wake_fd, int timeout_ms, struct plane_error *err);

/** Adds a text as an element of the literal of an array (PostgreSQL manual, 8.15.2). */
void plane_pg_add_quoted(struct plane_buffer *literal, const char *text);
/** Adds the literal of an array of texts, to be a parameter of kind 't'. */
void plane_pg_add_array(struct plane_buffer *literal, const char *const *texts, size_t count);

/* Values of a result; for NULL: "", -1, false. Texts live as long as the result. */
const char *plane_pg_text(const PGresult *rows, int row, int column);
char *plane_pg_text_copy(const PGresult *rows, int row, int column); /* NULL for NULL */
int64_t plane_pg_int(const PGresult *rows, int row, int column);
bool plane_pg_bool(const PGresult *rows, int row, int column);
int64_t plane_pg_changed(PGresult *result); /* how many rows the statement concerned */
/** Zeroed memory for an element of `size` bytes for each row; NULL when there is none. */
void *plane_pg_entries(const PGresult *rows, size_t size);

static inline void plane_pg_clearp(PGresult **rows)
{
	PQclear(*rows);
}
#define _cleanup_rows_ __attribute__((cleanup(plane_pg_clearp)))

#define PLANE_PG_POOL_MAX 16
#define PLANE_PG_ORIGIN_LENGTH 12

/** Connections for many threads. While the database is away, one caller at a time tries again,
 *  with growing pauses; none waits for longer than the time limit, counted from when it went. */
struct plane_pg_pool {
	char *url;
	char origin[PLANE_PG_ORIGIN_LENGTH + 1]; /* random: tells this store's rows from others' */
	struct plane_pg_statistics own_statistics, *statistics; /* its own, or another pool's */
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	struct plane_pg *idle[PLANE_PG_POOL_MAX];
	int idle_count, open_count, opening_count; /* open: those that are being opened, too */
	/* When no more could be opened beside those that work: there are to be no more than these
	 * until then. */
	int ceiling;
	int64_t ceiling_until_ms;
	bool is_retrying;        /* one thread tries during an outage */
	int64_t outage_since_ms; /* boot clock; 0: none */
	int64_t retry_at_ms;
	int retry_pause_ms;
	struct plane_error outage_error;
	atomic_llong outages; /* how many have ended */
	/* What is done with each new connection before anybody gets it; NULL: nothing. Set while
	 * only one thread uses the pool. */
	int (*on_connected)(void *data, struct plane_pg *pg, struct plane_error *err);
	void *on_connected_data;
};

/** Connects once, so that a wrong URL is told at once. */
int plane_pg_pool_open(struct plane_pg_pool *pool, const char *url, struct plane_error *err);
/** Another pool for the same store, which connects when it is used. */
void plane_pg_pool_open_beside(struct plane_pg_pool *pool, const struct plane_pg_pool *first);
/** All connections must have been given back. Fine when zeroed. */
void plane_pg_pool_close(struct plane_pg_pool *pool);
/** A connection of the caller's until it gives it back. NULL with -EAGAIN during an outage. */
struct plane_pg *plane_pg_take(struct plane_pg_pool *pool, struct plane_error *err);
/** Broken ones are closed. NULL is fine. */
void plane_pg_give(struct plane_pg_pool *pool, struct plane_pg *pg);

/**
 * Calls `transaction` with a connection of the pool, again when it ends with -EDEADLK; after
 * several times that is -EAGAIN.
 */
int plane_pg_pool_call(struct plane_pg_pool *pool,
	int (*transaction)(struct plane_pg *pg, void *data, struct plane_error *err), void *data,
	struct plane_error *err);
/** As plane_pg_run, on a connection of the pool. */
int plane_pg_pool_run(struct plane_pg_pool *pool, PGresult **rows, int64_t *changed,
	struct plane_error *err, const char *sql, const char *format, ...);

#endif
