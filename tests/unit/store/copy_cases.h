/* Stores of both kinds for the cases of copies, named by a letter and a number from 0 to 2: s0 is a
 * file of SQLite, p1 a database of the server, which must run. All of it fails the case when it
 * cannot be done, but what is called "try". */
#ifndef TESTS_UNIT_STORE_COPY_CASES_H
#define TESTS_UNIT_STORE_COPY_CASES_H

#include "../cmocka_all.h"

#include "store/copy_side.h"
#include "store/sqlite.h"
#include "store/store.h"

extern int64_t sqlite_ms; /* the clock of all SQLite stores */
extern const char *boot_id;
struct plane_store_clock the_clock(void);

/** Setup and teardown of a case: there are no stores yet. */
int set_up_copy(void **state);
int tear_down_copy(void **state);

/** Valid until the next call. */
const char *sqlite_path(int number);
const char *postgres_url(int number);
/** Runs a statement in the database. */
void run_on(int number, const char *sql);

/** For a controller: the schema is made. */
struct plane_store *open_sqlite(int number);
struct plane_store *open_postgres(int number);
struct plane_store *open_store(const char *name);

/** For a copy; plane_copy_side_close. */
struct plane_copy_side *side(const char *name, bool is_target);
/** What the copy says; `err` is the caller's. */
int try_copy(const char *from_name, const char *to_name, struct plane_store_copied *copied,
	struct plane_error *error);
struct plane_store_copied copy(const char *from, const char *to);

#endif
