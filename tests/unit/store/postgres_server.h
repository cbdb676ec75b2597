/* A PostgreSQL of a test program's own: made in a temporary directory, reached by a unix socket. */
#ifndef TESTS_UNIT_STORE_POSTGRES_SERVER_H
#define TESTS_UNIT_STORE_POSTGRES_SERVER_H

/** Makes and starts it, as user postgres when this runs as root. Ends the program when it cannot.
 */
void postgres_server_start(void);
void postgres_server_stop(void);
/** Ends it as a crash does, and starts it on the same data. */
void postgres_server_restart(void);
/** "postgres://..." of its database. */
const char *postgres_server_url(void);
/** The same as another user, who may log in without a password. */
const char *postgres_server_url_of(const char *user);
/** Runs statements as the superuser, in a connection of their own. Fails the test if they fail. */
void postgres_server_run(const char *sql);

#endif
