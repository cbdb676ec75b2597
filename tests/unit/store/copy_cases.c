#include "copy_cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "postgres_server.h"
#include "store/postgres.h"

#define STORES 3 /* that a case may have of each kind */

int64_t sqlite_ms;
const char *boot_id;

static char directory[64];
static struct plane_error err;

static int64_t fake_clock(void *data)
{
	(void)data;
	return sqlite_ms;
}

struct plane_store_clock the_clock(void)
{
	return (struct plane_store_clock){ fake_clock, fake_clock, boot_id, NULL };
}

const char *sqlite_path(int number)
{
	static char path[96];
	snprintf(path, sizeof(path), "%s/db%d", directory, number);
	return path;
}

const char *postgres_url(int number)
{
	static char url[200];
	const char *first = postgres_server_url(), *name = strstr(first, "/postgres?");
	snprintf(url, sizeof(url), "%.*s/copy%d%s", (int)(name - first), first, number,
		strchr(name, '?'));
	return url;
}

void run_on(int number, const char *sql)
{
	PGconn *connection = PQconnectdb(postgres_url(number));
	PGresult *result = PQexec(connection, sql);
	ExecStatusType status = PQresultStatus(result);
	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
		fail_msg("%s: %s", sql, PQerrorMessage(connection));
	PQclear(result);
	PQfinish(connection);
}

int set_up_copy(void **state)
{
	(void)state;
	snprintf(directory, sizeof(directory), "/tmp/plane-copy-XXXXXX");
	assert_non_null(mkdtemp(directory));
	sqlite_ms = 4000000000000; /* far ahead of the machine's: nobody's tokens follow that */
	boot_id = "boot-1";
	for (int i = 0; i < STORES; i++) {
		char sql[64];
		snprintf(sql, sizeof(sql), "DROP DATABASE IF EXISTS copy%d", i);
		postgres_server_run(sql);
		snprintf(sql, sizeof(sql), "CREATE DATABASE copy%d", i);
		postgres_server_run(sql);
	}
	return 0;
}

int tear_down_copy(void **state)
{
	static const char *const suffixes[] = { "", "-wal", "-shm" };
	(void)state;
	for (int i = 0; i < STORES; i++) {
		for (int j = 0; j < 3; j++) {
			_cleanup_free_ char *file =
				plane_strdupf("%s%s", sqlite_path(i), suffixes[j]);
			(void)unlink(file); /* not each case has each */
		}
	}
	assert_int_equal(rmdir(directory), 0);
	return 0;
}

struct plane_store *open_sqlite(int number)
{
	struct plane_store_clock clock = the_clock();
	struct plane_store *store = plane_sqlite_store_open(sqlite_path(number), &clock, &err);
	if (!store || plane_store_migrate(store, &err) < 0)
		fail_msg("%s", err.message);
	return store;
}

struct plane_store *open_postgres(int number)
{
	struct plane_store *store = plane_store_open(postgres_url(number), &err);
	if (!store || plane_store_migrate(store, &err) < 0)
		fail_msg("%s", err.message);
	return store;
}

/* Stores are named by a letter and a number: s0, p1. */
static struct plane_copy_side *try_side(const char *name, bool is_target, struct plane_error *error)
{
	struct plane_store_clock clock = the_clock();
	int number = name[1] - '0';
	return name[0] == 's'
		       ? plane_sqlite_copy_open(sqlite_path(number), &clock, is_target, error)
		       : plane_postgres_copy_open(postgres_url(number), is_target, error);
}

struct plane_copy_side *side(const char *name, bool is_target)
{
	struct plane_copy_side *opened = try_side(name, is_target, &err);
	if (!opened)
		fail_msg("%s: %s", name, err.message);
	return opened;
}

struct plane_store *open_store(const char *name)
{
	return name[0] == 's' ? open_sqlite(name[1] - '0') : open_postgres(name[1] - '0');
}

int try_copy(const char *from_name, const char *to_name, struct plane_store_copied *copied,
	struct plane_error *error)
{
	struct plane_copy_side *from = try_side(from_name, false, error);
	struct plane_copy_side *to = from ? try_side(to_name, true, error) : NULL;
	int result = to ? plane_copy_run(from, to, copied, error) : error->code;
	plane_copy_side_close(to);
	plane_copy_side_close(from);
	return result;
}

struct plane_store_copied copy(const char *from, const char *to)
{
	struct plane_store_copied copied;
	if (try_copy(from, to, &copied, &err) < 0)
		fail_msg("copy %s to %s: %s", from, to, err.message);
	return copied;
}
