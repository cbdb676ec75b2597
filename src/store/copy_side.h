/* A store as tables of rows, to be copied. Private to store/ and tests. */
#ifndef PLANE_STORE_COPY_SIDE_H
#define PLANE_STORE_COPY_SIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "store/copy.h"

struct plane_store_clock;

enum plane_copy_kind {
	PLANE_COPY_TEXT,
	PLANE_COPY_NUMBER,
	PLANE_COPY_FLAG, /* SQLite: 0 or 1 */
	PLANE_COPY_TIME, /* of the store's clock */
	PLANE_COPY_OWN,  /* each store fills it by itself: not copied */
};

struct plane_copy_column {
	const char *name; /* in PostgreSQL; also in SQLite, unless: */
	enum plane_copy_kind kind;
	const char *sqlite_name;  /* it is another there, or */
	const char *sqlite_value; /* there is none, and this expression has the value */
};

#define PLANE_COPY_COLUMNS_MAX 24

/** In the order in which rows can be written: what they refer to comes first. */
struct plane_copy_table {
	const char *name;
	bool is_numbered;            /* its first column is a number that the store gives out */
	const char *postgres_filter; /* a condition; other rows are not read. NULL: all */
	const struct plane_copy_column *columns;
	size_t count;
};

extern const struct plane_copy_table plane_copy_tables[];
extern const size_t plane_copy_table_count;

struct plane_copy_value {
	bool is_null;
	const char *text; /* TEXT: terminated too; valid until the next row is read */
	size_t len;
	int64_t number; /* the others */
};

/** One of the two stores. One thread at a time; failures as in store.h, the side can only be closed
 *  then. */
struct plane_copy_side {
	const struct plane_copy_side_impl *impl;
};

struct plane_copy_side_impl {
	/** What was written and not finished is forgotten. */
	void (*close)(struct plane_copy_side *side);
	/** The store's present time. */
	int (*now)(struct plane_copy_side *side, int64_t *ms, struct plane_error *err);
	/** No fencing token that was given out is greater. */
	int (*last_fencing_token)(
		struct plane_copy_side *side, int64_t *token, struct plane_error *err);
	int (*has_rows)(struct plane_copy_side *side, const struct plane_copy_table *table,
		bool *has_rows, struct plane_error *err);
	/** Rows of one table at a time. `read`: 1 and `values` filled; 0 after the last one. */
	int (*begin_read)(struct plane_copy_side *side, const struct plane_copy_table *table,
		struct plane_error *err);
	int (*read)(struct plane_copy_side *side, struct plane_copy_value *values,
		struct plane_error *err);
	/** The same for writing; `end_write` after the last row. */
	int (*begin_write)(struct plane_copy_side *side, const struct plane_copy_table *table,
		struct plane_error *err);
	int (*write)(struct plane_copy_side *side, const struct plane_copy_value *values,
		struct plane_error *err);
	int (*end_write)(struct plane_copy_side *side, struct plane_error *err);
	/** Makes all that was written durable, and that greater fencing tokens are given out. */
	int (*finish)(struct plane_copy_side *side, int64_t fencing_token, struct plane_error *err);
};

/** Opens a store for itself alone, until it is closed. A source must be of this schema version, a
 *  target is brought to it. `clock` as for plane_sqlite_store_open. */
struct plane_copy_side *plane_sqlite_copy_open(const char *path,
	const struct plane_store_clock *clock, bool is_target, struct plane_error *err);
struct plane_copy_side *plane_postgres_copy_open(
	const char *url, bool is_target, struct plane_error *err);
void plane_copy_side_close(struct plane_copy_side *side);

/** Copies all from one to the other. */
int plane_copy_run(struct plane_copy_side *from, struct plane_copy_side *to,
	struct plane_store_copied *copied, struct plane_error *err);

#endif
