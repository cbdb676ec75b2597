/* Starts and stops PostgreSQL with its own programs. */
#include "postgres_server.h"

#include "../cmocka_all.h"

#include <glob.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libpq-fe.h>

#include "base/alloc.h"
#include "base/cleanup.h"

static char directory[] = "/tmp/plane-pg-XXXXXX";
static char url[160], binaries[96];

/* The server refuses to run as root. */
static void run(const char *what, const char *arguments)
{
	_cleanup_free_ char *command =
		plane_strdupf("cd / && exec %s%s/%s %s </dev/null >>%s/log 2>&1",
			geteuid() == 0 ? "runuser -u postgres -- " : "", binaries, what, arguments,
			directory);
	int status = system(command);
	if (status != 0) {
		_cleanup_free_ char *show = plane_strdupf("cat %s/log >&2", directory);
		fprintf(stderr, "%s: status %d\n", command, status);
		exit(system(show) == 0 ? 1 : 2);
	}
}

static void find_binaries(void)
{
	glob_t found;
	if (glob("/usr/lib/postgresql/*/bin", 0, NULL, &found) != 0) {
		fprintf(stderr, "no PostgreSQL below /usr/lib/postgresql\n");
		exit(1);
	}
	snprintf(binaries, sizeof(binaries), "%s", found.gl_pathv[found.gl_pathc - 1]);
	globfree(&found);
}

static void start_server(void)
{
	_cleanup_free_ char *start = plane_strdupf(
		"-D %s/data -w -t 60 -l %s/server.log -o \"-k %s -h '' -c fsync=off\" start",
		directory, directory, directory);
	run("pg_ctl", start);
}

static void stop_server(void)
{
	_cleanup_free_ char *stop =
		plane_strdupf("-D %s/data -w -t 60 -m immediate stop", directory);
	run("pg_ctl", stop);
}

void postgres_server_restart(void)
{
	stop_server();
	start_server();
}

void postgres_server_start(void)
{
	find_binaries();
	struct passwd *user = getpwnam("postgres");
	if (!mkdtemp(directory) ||
		(geteuid() == 0 && (!user || chown(directory, user->pw_uid, user->pw_gid) < 0))) {
		perror(directory);
		exit(1);
	}
	_cleanup_free_ char *make = plane_strdupf(
		"--no-sync --auth=trust --username=postgres --encoding=UTF8 --locale=C -D %s/data",
		directory);
	run("initdb", make);
	start_server();
}

void postgres_server_stop(void)
{
	stop_server();
	_cleanup_free_ char *remove = plane_strdupf("rm -rf %s", directory);
	if (system(remove) != 0)
		exit(1);
}

const char *postgres_server_url_of(const char *user)
{
	snprintf(url, sizeof(url), "postgres://%s@/postgres?host=%s", user, directory);
	return url;
}

const char *postgres_server_url(void)
{
	return postgres_server_url_of("postgres");
}

void postgres_server_run(const char *sql)
{
	PGconn *connection = PQconnectdb(postgres_server_url());
	PQclear(PQexec(connection, "SET client_min_messages = warning"));
	PGresult *result = PQexec(connection, sql);
	ExecStatusType status = PQresultStatus(result);
	PQclear(result);
	_cleanup_free_ char *message = plane_strdup(PQerrorMessage(connection));
	PQfinish(connection);
	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
		fail_msg("%s: %s", sql, message);
}
