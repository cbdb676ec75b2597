/* The store in PostgreSQL, for any number of controllers. Private to store/ and tests. Each
 * function is one transaction in one round trip, except where its comment says otherwise. */
#ifndef PLANE_STORE_POSTGRES_H
#define PLANE_STORE_POSTGRES_H

#include "store/postgres_db.h"
#include "store/postgres_group.h"
#include "store/store_impl.h"

/** Lists that are read at a time, and callers that wait for their turn: the other connections, and
 *  the threads that serve calls, are for the rest. */
#define PLANE_POSTGRES_LISTS_MAX 4
#define PLANE_POSTGRES_LISTS_WAITING_MAX 8
struct plane_postgres_lists {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	int running, waiting;
};

struct plane_postgres_store {
	struct plane_store base;
	struct plane_pg_pool pool;
	/* What backends live on, drones' leases and the controller's heartbeat, has connections of
	 * its own: it waits for nobody who keeps those of `pool`. */
	struct plane_pg_pool lease_pool;
	struct plane_pg_group group; /* of connects */
	struct plane_postgres_lists lists;
	/* Since when this process watches over nodes, in the store's time: what happened while the
	 * database was away is not held against them. */
	atomic_llong watching_since_ms;
	atomic_llong outages_seen;
	atomic_bool may_forget;        /* what plane_postgres_note_replication was last told */
	bool are_standbys_synchronous; /* as the user says; set before it is migrated */
};

/* "plane" in ASCII: the advisory lock of those who change the schema or the sequence. */
#define PLANE_POSTGRES_LOCK "482955325029"

#define PLANE_POSTGRES_STORE(store) ((struct plane_postgres_store *)(store))

/** `url`: "postgres://..." or "postgresql://...". Connects once; see plane_pg_connect. */
struct plane_store *plane_postgres_store_open(const char *url, struct plane_error *err);

/** -ENOTSUP unless the schema is exactly this version. */
int plane_postgres_check_version(struct plane_pg *pg, struct plane_error *err);
/** When this process last began to watch; asks the database after an outage. */
int plane_postgres_watching_since(
	struct plane_postgres_store *store, int64_t *since_ms, struct plane_error *err);

/**
 * Which server is this? After a failover or a restore, and whenever the clock is ahead, fencing
 * tokens go on from a number that no earlier server has given out; and the store recovers from
 * then on, for it may have forgotten what ran, unless it is a standby that has taken over and
 * `are_standbys_synchronous`. For each new connection before its first use, so that nothing is done
 * with another server before that; one round trip when all is as it was.
 */
int plane_postgres_check_server(
	struct plane_pg *pg, bool are_standbys_synchronous, struct plane_error *err);
/** -EINPROGRESS. */
int plane_postgres_recovering(struct plane_error *err);
/* While the store recovers: is the order `a` not older than the server? */
#define PLANE_POSTGRES_MAY_START                                                                   \
	"(a.sequence > coalesce((SELECT value FROM meta WHERE name = 'recovering_after'), 0))"
/* May a failover forget what callers were told? */
#define PLANE_POSTGRES_MAY_FORGET                                                                  \
	"(current_setting('synchronous_standby_names') = '' OR "                                   \
	"current_setting('synchronous_commit') IN ('off', 'local')) AND EXISTS (SELECT 1 FROM "    \
	"pg_stat_replication)"
/** Logs a warning when that has begun to be so. */
void plane_postgres_note_replication(struct plane_postgres_store *store, bool may_forget);

/* Is the lease of key `k` with drone `d` unbroken? Epochs only grow, so that a snapshot in which
 * the drone's is older than the key's says nothing against the key. */
#define PLANE_POSTGRES_KEY_IS_LIVE                                                                 \
	"(CASE WHEN k.lease_epoch IS NULL THEN k.expires_at > now_ms() "                           \
	"ELSE coalesce(k.lease_epoch >= d.lease_epoch, true) END)"

/** Reads PLANE_STORE_RESOURCE_COLUMNS from column `first` on; false: the drone does not tell. */
bool plane_postgres_read_resources(
	const PGresult *rows, int row, int first, struct plane_drone_resources *resources);

/* The functions of the implementation, by file. */
#define PLANE_POSTGRES_FUNCTION(name) __typeof__(plane_store_##name) plane_postgres_##name

/* postgres.c */
PLANE_POSTGRES_FUNCTION(migrate);
/* postgres_nodes.c */
PLANE_POSTGRES_FUNCTION(controller_heartbeat);
PLANE_POSTGRES_FUNCTION(controller_offline);
PLANE_POSTGRES_FUNCTION(node_connected);
PLANE_POSTGRES_FUNCTION(node_disconnected);
PLANE_POSTGRES_FUNCTION(registrations_check);
PLANE_POSTGRES_FUNCTION(node_controller);
PLANE_POSTGRES_FUNCTION(address_owner);
PLANE_POSTGRES_FUNCTION(drone_heartbeat);
PLANE_POSTGRES_FUNCTION(drone_drain);
/* postgres_leases.c */
PLANE_POSTGRES_FUNCTION(leases_find);
PLANE_POSTGRES_FUNCTION(leases_renew);
PLANE_POSTGRES_FUNCTION(lease_break);
PLANE_POSTGRES_FUNCTION(running_check);
PLANE_POSTGRES_FUNCTION(recovery_end);
PLANE_POSTGRES_FUNCTION(drone_reconciled);
/* postgres_keys.c */
PLANE_POSTGRES_FUNCTION(connect);
PLANE_POSTGRES_FUNCTION(keys_renew);
PLANE_POSTGRES_FUNCTION(spawn);
/* postgres_tokens.c */
PLANE_POSTGRES_FUNCTION(token_create);
PLANE_POSTGRES_FUNCTION(token_revoke);
PLANE_POSTGRES_FUNCTION(revocations);
PLANE_POSTGRES_FUNCTION(route_find);
PLANE_POSTGRES_FUNCTION(cleanup_nodes);
PLANE_POSTGRES_FUNCTION(cleanup_tokens);
PLANE_POSTGRES_FUNCTION(cleanup_revocations);
/* postgres_backends.c */
PLANE_POSTGRES_FUNCTION(backend_find);
PLANE_POSTGRES_FUNCTION(backend_update);
PLANE_POSTGRES_FUNCTION(backends_keep_alive);
PLANE_POSTGRES_FUNCTION(backend_history);
PLANE_POSTGRES_FUNCTION(cleanup_backends);
/* postgres_lists.c */
void plane_postgres_lists_init(struct plane_postgres_lists *lists);
void plane_postgres_lists_finish(struct plane_postgres_lists *lists);
PLANE_POSTGRES_FUNCTION(member_list);
PLANE_POSTGRES_FUNCTION(backend_list);
PLANE_POSTGRES_FUNCTION(key_list);
/* postgres_moves.c */
PLANE_POSTGRES_FUNCTION(refused_find);
PLANE_POSTGRES_FUNCTION(move);
/* postgres_orders.c */
PLANE_POSTGRES_FUNCTION(actions_pending);
PLANE_POSTGRES_FUNCTION(actions_ack);
PLANE_POSTGRES_FUNCTION(terminate);
PLANE_POSTGRES_FUNCTION(sweep_candidates);
PLANE_POSTGRES_FUNCTION(mark_lost);
PLANE_POSTGRES_FUNCTION(mark_broken);
/* postgres_events.c */
PLANE_POSTGRES_FUNCTION(feed_open);
/* postgres_certificates.c */
PLANE_POSTGRES_FUNCTION(cert_lease);
PLANE_POSTGRES_FUNCTION(cert_set_txt);
PLANE_POSTGRES_FUNCTION(cert_release);
PLANE_POSTGRES_FUNCTION(cert_get_txt);

#endif
