/* The store in one SQLite file, for one controller on one machine. Private to store/ and tests. */
#ifndef PLANE_STORE_SQLITE_H
#define PLANE_STORE_SQLITE_H

#include <pthread.h>

#include "store/sqlite_db.h"
#include "store/sqlite_group.h"
#include "store/store_impl.h"

/** Where the store reads the time; tests give their own. */
struct plane_store_clock {
	int64_t (*realtime_ms)(void *data);
	int64_t (*boot_ms)(void *data); /* never goes back while the machine runs */
	const char *boot_id;            /* differs after each boot of the machine */
	void *data;
};

/** `path` may end in "?synchronous=normal|full". `clock` NULL: the machine's. */
struct plane_store *plane_sqlite_store_open(
	const char *path, const struct plane_store_clock *clock, struct plane_error *err);

/**
 * Opens it for one user alone, who may call none of the interface's functions but close and
 * migrate: no other connection can be opened until it is closed. A commit is durable. -EBUSY when
 * somebody has it open.
 */
struct plane_sqlite_store *plane_sqlite_store_open_alone(
	const char *path, const struct plane_store_clock *clock, struct plane_error *err);

struct plane_sqlite_store {
	struct plane_store base;
	struct plane_db writer;
	struct plane_db_group group; /* small writes of many threads, on the writer */
	struct plane_db reader;      /* sees what the writer has committed */
	bool is_synchronous_full;
	int wal_fd; /* of the writer's write-ahead log; -1 until it is there */
	struct plane_store_clock clock;
	char boot_id[64];
	int64_t clock_offset_ms;                     /* store's time = boot_ms + offset */
	int64_t opened_at_ms;                        /* store's time */
	int64_t last_fencing_token, fencing_ceiling; /* under the writer's mutex */
};

/** As plane_db_begin and plane_db_end on the writer, for transactions that need not survive a power
 *  cut before plane_store_sync. */
int plane_sqlite_begin_relaxed(struct plane_sqlite_store *store, struct plane_error *err);
int plane_sqlite_end_relaxed(struct plane_sqlite_store *store, int result, struct plane_error *err);

#define PLANE_SQLITE_STORE(store) ((struct plane_sqlite_store *)(store))

/** The store's time: grows with the machine's boot clock, whatever the wall clock does. */
int64_t plane_sqlite_now(const struct plane_sqlite_store *store);
/** Is the key `k`, a row of backend_key, live? `now` stands for the time. Epochs only grow. */
#define PLANE_SQLITE_KEY_IS_LIVE(now)                                                              \
	"CASE WHEN k.lease_epoch IS NULL THEN k.expires_at > " now                                 \
	" ELSE k.lease_epoch >= (SELECT lease_epoch FROM drone WHERE id = k.drone_id) END"
/** A token greater than all before; call it inside no transaction, with the writer locked. */
int plane_sqlite_next_fencing_token(
	struct plane_sqlite_store *store, int64_t *token, struct plane_error *err);
/** In a transaction that has used it. */
int plane_sqlite_put_fencing_token(
	struct plane_sqlite_store *store, int64_t token, struct plane_error *err);
/** From now on tokens are greater than `token`. Inside of a transaction of the writer. */
int plane_sqlite_raise_fencing_token(
	struct plane_sqlite_store *store, int64_t token, struct plane_error *err);
/** -ENOTSUP unless the schema is exactly this version. */
int plane_sqlite_check_version(struct plane_sqlite_store *store, struct plane_error *err);
/** Drones that may get a backend; sqlite_nodes.c. */
int plane_sqlite_drones_eligible(struct plane_sqlite_store *store,
	const struct plane_store_connect *request, struct plane_store_drones *drones,
	struct plane_error *err);
/** Runs `sql`, which deletes what is older than its first parameter, as many as its second says. */
int plane_sqlite_delete_batch(struct plane_store *base, const char *sql, int64_t age_ms, int batch,
	int64_t *removed, struct plane_error *err);
/** Stores a state of a backend and its history; frees the key of one that has ended. Inside a
 *  transaction. */
int plane_sqlite_put_state(struct plane_sqlite_store *store, const char *backend,
	const struct plane_backend_state *state, int64_t now_ms, struct plane_error *err);

/* The functions of the implementation, by file. */
/** In a transaction: -ESTALE unless the drone's lease is this one, 0 for none, and it may get
 *  backends. */
int plane_sqlite_check_drone(
	struct plane_sqlite_store *store, int64_t drone_id, int64_t epoch, struct plane_error *err);
/** Reads PLANE_STORE_RESOURCE_COLUMNS from column `first` on; false: the drone does not tell. */
bool plane_sqlite_read_resources(
	sqlite3_stmt *row, int first, struct plane_drone_resources *resources);

#define PLANE_STORE_FUNCTION(name) __typeof__(plane_store_##name) plane_sqlite_##name

/* sqlite.c */
PLANE_STORE_FUNCTION(migrate);
/* sqlite_nodes.c */
PLANE_STORE_FUNCTION(controller_heartbeat);
PLANE_STORE_FUNCTION(controller_offline);
PLANE_STORE_FUNCTION(node_connected);
PLANE_STORE_FUNCTION(node_disconnected);
PLANE_STORE_FUNCTION(registrations_check);
PLANE_STORE_FUNCTION(address_owner);
PLANE_STORE_FUNCTION(drone_heartbeat);
PLANE_STORE_FUNCTION(drone_drain);
/* sqlite_leases.c */
PLANE_STORE_FUNCTION(leases_find);
PLANE_STORE_FUNCTION(leases_renew);
PLANE_STORE_FUNCTION(lease_break);
PLANE_STORE_FUNCTION(running_check);
/* sqlite_keys.c */
PLANE_STORE_FUNCTION(connect);
PLANE_STORE_FUNCTION(keys_renew);
PLANE_STORE_FUNCTION(token_create);
PLANE_STORE_FUNCTION(token_revoke);
PLANE_STORE_FUNCTION(revocations);
PLANE_STORE_FUNCTION(spawn);
PLANE_STORE_FUNCTION(route_find);
PLANE_STORE_FUNCTION(cleanup_nodes);
PLANE_STORE_FUNCTION(cleanup_tokens);
PLANE_STORE_FUNCTION(cleanup_revocations);
/* sqlite_backends.c */
PLANE_STORE_FUNCTION(backend_find);
PLANE_STORE_FUNCTION(backend_update);
PLANE_STORE_FUNCTION(backends_keep_alive);
PLANE_STORE_FUNCTION(backend_history);
PLANE_STORE_FUNCTION(cleanup_backends);
/* sqlite_lists.c */
PLANE_STORE_FUNCTION(member_list);
PLANE_STORE_FUNCTION(backend_list);
PLANE_STORE_FUNCTION(key_list);
/* sqlite_moves.c */
PLANE_STORE_FUNCTION(refused_find);
PLANE_STORE_FUNCTION(move);
/* sqlite_orders.c */
PLANE_STORE_FUNCTION(actions_pending);
PLANE_STORE_FUNCTION(actions_ack);
PLANE_STORE_FUNCTION(terminate);
PLANE_STORE_FUNCTION(sweep_candidates);
PLANE_STORE_FUNCTION(mark_lost);
PLANE_STORE_FUNCTION(mark_broken);
/* sqlite_certificates.c */
PLANE_STORE_FUNCTION(cert_lease);
PLANE_STORE_FUNCTION(cert_set_txt);
PLANE_STORE_FUNCTION(cert_release);
PLANE_STORE_FUNCTION(cert_get_txt);

#endif
