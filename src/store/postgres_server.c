/* Which server it is. Fencing tokens only grow, whichever server gives them out: the one that took
 * over in a failover may lack the last ones, and its clock may be another. And what it may have
 * forgotten must have ended before its key is given to anybody else. */
#include <errno.h>

#include "base/log.h"
#include "store/postgres.h"

/* More than any server has given out between what its successor knows and its own end. */
#define JUMP "1000000000"

/* A server that takes over, and one whose log was replayed up to some moment, begins a new
 * timeline (PostgreSQL manual, 26.3.5); one that was filled from a dump has another identifier, or,
 * if it is the same server, other tables. */
#define PRESENT                                                                                    \
	"present AS MATERIALIZED (SELECT system_identifier, ('x' || "                              \
	"left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint AS timeline, "           \
	"'meta'::regclass::oid::bigint AS meta_oid, "                                              \
	"(SELECT value FROM meta WHERE name = 'system_identifier') AS known_system_identifier, "   \
	"(SELECT value FROM meta WHERE name = 'timeline') AS known_timeline, "                     \
	"(SELECT value FROM meta WHERE name = 'meta_oid') AS known_meta_oid FROM "                 \
	"pg_control_system()), facts AS MATERIALIZED (SELECT *, (system_identifier, timeline, "    \
	"meta_oid) = (known_system_identifier, known_timeline, known_meta_oid) AS is_same FROM "   \
	"present)"
/* Far from the time nobody else's token can come in between. */
#define IS_BEHIND "last_value < now_ms() - 10000"

static const char look[] = "WITH " PRESENT " SELECT coalesce(is_same, false) AND NOT (" IS_BEHIND
			   ") FROM facts, fencing_token";
static const char lock[] = "SELECT pg_advisory_xact_lock(" PLANE_POSTGRES_LOCK ")";
static const char adopt[] =
	"WITH " PRESENT
	", forgetful AS MATERIALIZED (SELECT now_ms() AS since, (SELECT coalesce(max(sequence), 0) "
	"FROM action) AS after FROM facts WHERE NOT is_same AND NOT ($1::boolean AND "
	"(system_identifier, meta_oid) = (known_system_identifier, known_meta_oid))), "
	"known AS (INSERT INTO meta SELECT 'system_identifier', system_identifier FROM facts UNION "
	"ALL SELECT 'timeline', timeline FROM facts UNION ALL SELECT 'meta_oid', meta_oid FROM "
	"facts UNION ALL SELECT 'recovering_since', since FROM forgetful UNION ALL SELECT "
	"'recovering_after', after FROM forgetful ON CONFLICT (name) DO UPDATE SET value = "
	"excluded.value), "
	"unreconciled AS (UPDATE drone SET is_reconciled = false FROM forgetful), "
	/* so that a drone is heard on a connection that began with this server */
	"unregistered AS (UPDATE node SET connection_id = 0 FROM forgetful WHERE kind = 'Drone') "
	"SELECT is_same, timeline, known_timeline, "
	"CASE WHEN NOT is_same THEN setval('fencing_token', greatest(last_value + " JUMP
	", now_ms())) WHEN " IS_BEHIND
	" THEN setval('fencing_token', now_ms()) END, EXISTS (SELECT 1 FROM "
	"forgetful) FROM facts, fencing_token";

static int adopt_server(struct plane_pg *pg, bool are_standbys_synchronous, struct plane_error *err)
{
	PGresult *rows[2];
	int result = plane_pg_queue(pg, err, lock, "");
	if (result == 0)
		result = plane_pg_queue(pg, err, adopt, "b", (int)are_standbys_synchronous);
	if (result == 0)
		result = plane_pg_flush(pg, rows, 2, err);
	if (result < 0)
		return result;
	bool is_known = !PQgetisnull(rows[1], 0, 0);
	if (is_known && !plane_pg_bool(rows[1], 0, 0))
		plane_warn("database: it has been failed over or restored (timeline %lld, before "
			   "%lld): fencing tokens go on from %lld%s",
			(long long)plane_pg_int(rows[1], 0, 1),
			(long long)plane_pg_int(rows[1], 0, 2),
			(long long)plane_pg_int(rows[1], 0, 3),
			plane_pg_bool(rows[1], 0, 4)
				? "; keys that are not held wait until nothing runs that it may "
				  "have forgotten"
				: "");
	PQclear(rows[0]);
	PQclear(rows[1]);
	return 0;
}

int plane_postgres_check_server(
	struct plane_pg *pg, bool are_standbys_synchronous, struct plane_error *err)
{
	_cleanup_rows_ PGresult *rows = NULL;
	int result = plane_pg_run(pg, &rows, NULL, err, look, "");
	if (result == 0 && !plane_pg_bool(rows, 0, 0))
		result = adopt_server(pg, are_standbys_synchronous, err);
	return result < 0 ? plane_error_prefix(err, "look at the server") : 0;
}

int plane_postgres_recovering(struct plane_error *err)
{
	return plane_error_set(err, -EINPROGRESS,
		"the database has become another one: it may have forgotten which backends run");
}

void plane_postgres_note_replication(struct plane_postgres_store *store, bool may_forget)
{
	if (atomic_exchange(&store->may_forget, may_forget) == may_forget)
		return;
	if (may_forget && store->are_standbys_synchronous)
		plane_warn("database: its standbys replicate asynchronously, against "
			   "--synchronous-standbys: after a failover keys that were given out may "
			   "be given out once more; set synchronous_standby_names");
	else if (may_forget)
		plane_warn("database: its standbys replicate asynchronously: after a failover keys "
			   "that are not held wait for as long as a lease, and backends that were "
			   "just started may be ended; set synchronous_standby_names");
	else
		plane_info("database: no standby replicates asynchronously any more");
}
