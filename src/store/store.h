/* The controller's memory: nodes, keys, backends, tokens, orders. SQLite for one machine,
 * PostgreSQL for any number of controllers; both do what is said here. Each function is one
 * transaction, done or not done as a whole, and may block: pool threads only, any number at once.
 * Functions return 0, or a negative code with `err` filled; outputs are untouched then. -EAGAIN:
 * the database is away or did not answer in time, and later it may; when it went in the middle of a
 * transaction, that may have been done or not. -ETIMEDOUT: it took too long for the database, and
 * nothing of it was done. -EUSERS: too many read lists at the moment. -EINPROGRESS: the store
 * recovers, see plane_store_leases. Times are the store's own clock in milliseconds, which only
 * grows: no caller compares it with a clock of its own. */
#ifndef PLANE_STORE_STORE_H
#define PLANE_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/error.h"
#include "model/backend_state.h"
#include "model/messages.h"
#include "model/names.h"
#include "model/resources.h"

struct plane_store;

/**
 * Opens "sqlite:PATH", optionally followed by "?synchronous=full" (the default: what was answered
 * survives a power cut) or "?synchronous=normal" (it survives the death of the process; see
 * docs/store.md). Makes the file, with mode 0600. Or connects to
 * "postgres://USER:PASSWORD@HOST/NAME" (anything that libpq takes with such a beginning). NULL with
 * `err` when it cannot be used.
 */
struct plane_store *plane_store_open(const char *url, struct plane_error *err);
void plane_store_close(struct plane_store *store);
/** Before plane_store_migrate: a standby that takes over has all that was answered, so that a
 *  failover is nothing to recover from. */
void plane_store_trust_standbys(struct plane_store *store);
/** Brings the schema to this version. -ENOTSUP when it was made by a newer one. */
int plane_store_migrate(struct plane_store *store, struct plane_error *err);
int plane_store_ping(struct plane_store *store, struct plane_error *err);
/**
 * Makes durable what functions marked "relaxed" have done so far: those survive the death of the
 * process at once, but a power cut only after this. All others are durable when they return.
 */
int plane_store_sync(struct plane_store *store, struct plane_error *err);

/** Since the store was opened. All zero where there is no server to talk to. */
struct plane_store_statistics {
	int64_t statements, round_trips; /* several statements can share a round trip */
	int64_t connections;             /* made, also those that are closed by now */
	int64_t failures;                /* statements refused, connections lost or not made */
};
void plane_store_statistics(struct plane_store *store, struct plane_store_statistics *statistics);

/* ---- controllers and nodes ---- */

int plane_store_controller_heartbeat(
	struct plane_store *store, const char *name, struct plane_error *err);
int plane_store_controller_offline(
	struct plane_store *store, const char *name, struct plane_error *err);

/** Texts may be NULL where the node has none. */
struct plane_store_node {
	enum plane_node_kind kind;
	const char *name, *cluster, *controller, *version, *git_hash, *ip;
	const char *pool; /* drones */
	bool has_lease;   /* drones: it knows of leases for all its keys */
	/** Under which other controllers reach that one; NULL: they do not. */
	const char *controller_url;
	/** Drones: where proxies reach its backends, as plane_address_format_ip writes it; NULL:
	 * not registered. */
	const char *backend_ip;
	int first_port, last_port;
};

/**
 * Registers a node that has connected, or its new connection. A drone is eligible again from its
 * next heartbeat on, or at once under a lease that it goes on with; it keeps its draining flag, and
 * its pool is the one that it says now.
 */
int plane_store_node_connected(struct plane_store *store, const struct plane_store_node *node,
	int64_t *node_id, int64_t *connection_id, struct plane_error *err);
/** Nothing happens when the node has another connection by now. */
int plane_store_node_disconnected(
	struct plane_store *store, int64_t node_id, int64_t connection_id, struct plane_error *err);
/** A connection of a node, and whether it is the last one that was registered. */
struct plane_store_registration {
	int64_t node_id, connection_id;
	bool is_current; /* filled in */
};
int plane_store_registrations_check(struct plane_store *store,
	struct plane_store_registration *registrations, size_t count, struct plane_error *err);
/**
 * The controller that the node is connected to, and its URL for other controllers; NULL when there
 * is none. The caller frees both. Where the store is not shared, there never is one.
 */
int plane_store_node_controller(struct plane_store *store, int64_t node_id, char **name, char **url,
	struct plane_error *err);
/**
 * Another drone that has registered one of these ports of `ip` and is connected to a controller
 * that was heard of within `healthy_ms`: its name, which the caller frees; NULL when there is none.
 */
int plane_store_address_owner(struct plane_store *store, int64_t node_id, const char *ip,
	int first_port, int last_port, int64_t healthy_ms, char **name, struct plane_error *err);
int plane_store_drone_heartbeat(
	struct plane_store *store, int64_t node_id, int64_t local_time_ms, struct plane_error *err);
/** -ENOENT for an unknown drone. `*is_changed`: it was not so before. */
int plane_store_drone_drain(struct plane_store *store, const char *cluster, const char *name,
	bool is_draining, bool *is_changed, struct plane_error *err);

struct plane_store_drone {
	int64_t id;
	char name[PLANE_NAME_SIZE];
	int64_t backend_count; /* not terminated, as it last reported or was last counted */
	int64_t last_local_time_ms;
	int64_t lease_epoch; /* 0: keys are leased one by one */
	int64_t silent_ms;   /* since its last heartbeat or renewal */
	bool has_resources;  /* it has reported them since it connected */
	struct plane_drone_resources resources;
};
struct plane_store_drones {
	size_t count;
	struct plane_store_drone *entries;
};
void plane_store_drones_finish(struct plane_store_drones *drones);

/** A drone or proxy, as lists show it. */
struct plane_store_member {
	enum plane_node_kind kind;
	char *name, *cluster, *version, *git_hash, *ip; /* owned, as all texts */
	char *controller;                               /* which it is connected to; NULL: none */
	int64_t controller_heartbeat_age_ms;
	/* drones */
	char *pool;
	bool is_ready, is_draining;
	int64_t heartbeat_age_ms; /* -1: none yet */
	int64_t backend_count;    /* not terminated */
	bool has_lease;           /* one for all its keys, not broken */
	bool has_resources;
	struct plane_drone_resources resources;
};
struct plane_store_members {
	size_t count;
	struct plane_store_member *entries; /* ordered by cluster and name */
};
/** NULL filters let everything pass. */
struct plane_store_member_filter {
	const char *cluster, *pool, *name;
	bool are_drones, are_proxies; /* which of them are wanted */
	/* Those that are not connected: */
	bool has_busy; /* drones that have backends */
	bool has_away; /* all of them */
};
int plane_store_member_list(struct plane_store *store,
	const struct plane_store_member_filter *filter, struct plane_store_members *members,
	struct plane_error *err);
void plane_store_members_finish(struct plane_store_members *members);

/* ---- leases of whole drones (docs/consistency.md) ---- */

/** A lease that a drone holds. The pair of numbers never comes twice, and grows. */
struct plane_store_lease {
	int64_t drone_id, epoch, renewals;
	int64_t expire_ms; /* what the last renewal said; 0: nothing */
	char drone[PLANE_NAME_SIZE];
};
struct plane_store_leases {
	/** Differs after another database has taken over, which may not know the last renewals. */
	int64_t incarnation;
	/**
	 * Not 0: another server than before was found at this time, and may have forgotten which
	 * backends run. Until plane_store_recovery_end no key that is not held is given to anybody,
	 * and orders to start backends that are older stay where they are.
	 */
	int64_t recovering_since_ms;
	bool has_key_leases; /* there are drones, of late, that lease their keys one by one */
	size_t count;
	struct plane_store_lease *entries;
};
/** All leases that are held. */
int plane_store_leases_find(
	struct plane_store *store, struct plane_store_leases *leases, struct plane_error *err);
void plane_store_leases_finish(struct plane_store_leases *leases);
/**
 * Ends the recovery that began at `since_ms`, once each drone that holds a lease is reconciled.
 * `*is_over` is false when one is not. That all other leases are over is for the caller to know.
 */
int plane_store_recovery_end(
	struct plane_store *store, int64_t since_ms, bool *is_over, struct plane_error *err);
/** The drone has told on this connection all that it runs, and the store knows all of it. Nothing
 *  happens when the connection is not the one that was registered last, with this server. */
int plane_store_drone_reconciled(
	struct plane_store *store, int64_t node_id, int64_t connection_id, struct plane_error *err);

enum plane_store_renewal_result {
	PLANE_RENEWAL_GRANTED, /* `epoch` is held, and nobody breaks it before it expires anew */
	PLANE_RENEWAL_BROKEN,  /* `epoch` is over, or was never this journal's */
	PLANE_RENEWAL_WAITING, /* no epoch yet: that of another journal is not over */
};
struct plane_store_renewal {
	int64_t drone_id;
	int64_t epoch;         /* 0: a new one is wanted; filled in when granted */
	int64_t last_epoch;    /* a new one is greater than this, the greatest that it knows */
	const char *journal;   /* tells processes of the same name apart */
	int64_t local_time_ms; /* the drone's clock */
	int64_t expire_ms;     /* when granted: nobody may break it before so long from now */
	bool has_resources;    /* else it does not tell them */
	struct plane_drone_resources resources;
	enum plane_store_renewal_result result; /* filled in */
};
/**
 * Renews or begins the leases of drones, each drone at most once, which are heartbeats of those
 * too. Renewals may be lost with the power of a store's only machine, where all begins anew.
 */
int plane_store_leases_renew(struct plane_store *store, struct plane_store_renewal *renewals,
	size_t count, struct plane_error *err);
/**
 * Ends the lease if it is still exactly so. Its keys are free from then on, orders under it void,
 * and the drone gets no backends before it has a new lease. `*is_broken` is false when it was
 * renewed, or broken by somebody else.
 */
int plane_store_lease_break(struct plane_store *store, const struct plane_store_lease *lease,
	bool *is_broken, struct plane_error *err);

/* ---- keys and backends ---- */

struct plane_store_held_key {
	bool is_found;
	bool is_live; /* its lease has not expired, or its drone's is not broken */
	char tag[PLANE_TEXT_MAX + 1];
	char backend[PLANE_NAME_SIZE];
	char cluster[PLANE_TEXT_MAX + 1];
	char subdomain[64];                  /* "" for none */
	char static_token[PLANE_TOKEN_SIZE]; /* "" for none */
	enum plane_backend_status status;
};
struct plane_store_token {
	const char *token, *secret_token, *backend;
	const char *user;   /* NULL for none */
	const json_t *auth; /* object */
	int64_t lifetime_ms;
};
struct plane_store_connect {
	const char *key_namespace, *key_name; /* name NULL: no key, only drones */
	const char *key_tag;
	/* For the holder, so that its `backend` is not read; NULL: none. */
	const struct plane_store_token *token;
	/* Where a new backend may be placed; cluster NULL: nowhere. */
	const char *cluster, *pool;
	int64_t healthy_ms;       /* drones not heard of for so long get none */
	int64_t lease_healthy_ms; /* the same for those that have a lease for all their keys */
};
/** Zeroed is empty. */
struct plane_store_connection {
	struct plane_store_held_key key;
	bool has_token;                   /* the token was stored */
	bool is_recovering;               /* the store is, and the key is not held */
	struct plane_store_drones drones; /* none when the key is held by a live backend */
};
/**
 * Looks a key up. When its lease is live, the tag is the same, its backend is not terminating and
 * has no static token, the token is stored for it. When the lease is not live, the drones that may
 * get a backend (reference section 3) are given. plane_store_drones_finish frees them.
 */
int plane_store_connect(struct plane_store *store, const struct plane_store_connect *request,
	struct plane_store_connection *connection, struct plane_error *err);
/** Extends each lease to `lease_ms` from now whose backend `node_id` runs and holds the key of;
 *  `is_renewed[i]` says whether `backends[i]` was one. */
int plane_store_keys_renew(struct plane_store *store, const char *const *backends, size_t count,
	int64_t node_id, int64_t lease_ms, bool *is_renewed, struct plane_error *err);

/** -ENOENT when there is no such backend. */
int plane_store_token_create(
	struct plane_store *store, const struct plane_store_token *token, struct plane_error *err);
/** Removes the tokens of a user for a backend, and remembers it; no error when there are none. */
int plane_store_token_revoke(
	struct plane_store *store, const char *backend, const char *user, struct plane_error *err);

struct plane_store_revocations {
	size_t count;
	struct plane_store_revocation {
		char *backend, *user; /* owned */
	} * entries;                  /* oldest first */
};
/** How long revocations are remembered: for proxies that could not hear of them. */
#define PLANE_STORE_REVOCATIONS_KEPT_MS (24 * 3600 * 1000)
/** Those of the last `since_ms`. */
int plane_store_revocations(struct plane_store *store, int64_t since_ms,
	struct plane_store_revocations *revocations, struct plane_error *err);
void plane_store_revocations_finish(struct plane_store_revocations *revocations);

struct plane_store_spawn {
	const char *backend, *cluster;
	int64_t drone_id;
	const char *key_name, *key_namespace, *key_tag;
	bool is_key_new;                       /* made for this backend: nobody can hold it */
	int64_t lifetime_limit_seconds;        /* -1: none */
	int64_t max_idle_seconds;              /* -1: none */
	const char *subdomain;                 /* NULL for none */
	const char *static_token;              /* NULL for none */
	const struct plane_store_token *token; /* a first dynamic token, or NULL */
	const char *action_id;
	const json_t *executable;
	struct plane_deadlines deadlines; /* for the drone, in its clock */
	int64_t lease_epoch; /* of the drone as it was found; 0: the key has a lease of its own */
	int64_t lease_ms;    /* of that */
	struct plane_resources resources; /* what the backend asks for */
};
/** An order to start a backend, as it is stored. */
struct plane_store_spawned {
	char *message; /* for the drone's socket; the caller frees it */
	int64_t fencing_token;
	int64_t time_ms;
};
/**
 * Stores backend, key, first state, token and the order to start it, with a fencing token greater
 * than any before. -EEXIST when the key is held and its lease live, or the backend's name is taken.
 * A key whose lease is over is taken over. -ESTALE when the drone's lease is another one by now, or
 * it is draining: once plane_store_drone_drain has returned, it gets nothing more. -EINPROGRESS
 * while the store recovers, unless the key is new.
 */
int plane_store_spawn(struct plane_store *store, const struct plane_store_spawn *spawn,
	struct plane_store_spawned *spawned, struct plane_error *err);

/** An order to start a backend that its drone has refused. */
struct plane_store_refused {
	char *cluster, *pool, *message; /* owned; the pool that its drone is in */
	size_t tried_count;
	int64_t *tried; /* drones that the backend was ordered from, the one that refused too */
};
/** -ENOENT when nothing is to be done: the order is not pending, its backend not scheduled, or
 *  ordered to end; or the store recovers, and the order, which is older, comes again later. */
int plane_store_refused_find(struct plane_store *store, int64_t drone_id, const char *action_id,
	struct plane_store_refused *refused, struct plane_error *err);
void plane_store_refused_finish(struct plane_store_refused *refused);

struct plane_store_move {
	int64_t refused_by;
	const char *refused_action_id;
	/** The new one, for another drone, under its lease as it was found. */
	const struct plane_drone_order *order;
	int64_t lease_ms;
};
/**
 * Gives a backend that was refused to another drone: the refused order is void, the key is that
 * drone's, with a new fencing token, and the order to start it is stored. -ENOENT as above, and
 * when the key's lease is over; -ESTALE as of plane_store_spawn.
 */
int plane_store_move(struct plane_store *store, const struct plane_store_move *move,
	struct plane_store_spawned *spawned, struct plane_error *err);

struct plane_store_backend {
	struct plane_backend_state state;
	int64_t state_time_ms;
	int64_t drone_id;
};
/** -ENOENT for an unknown backend. */
int plane_store_backend_find(struct plane_store *store, const char *backend,
	struct plane_store_backend *found, struct plane_error *err);

/** A state that a drone reports, and what became of it. */
struct plane_store_report {
	const char *backend;
	const struct plane_backend_state *state;
	bool is_changed; /* false for a state that is no step forward, or a backend of another drone
			  */
	int64_t time_ms; /* when it was stored */
};
/**
 * Stores what drone `node_id` reports, in order, all in one transaction. States only move forward;
 * `terminated` frees the key. Relaxed, unless a `terminated` is among them: acknowledge to the
 * drone after plane_store_sync.
 */
int plane_store_backend_update(struct plane_store *store, int64_t node_id,
	struct plane_store_report *reports, size_t count, struct plane_error *err);
/** A backend that a drone says it runs, and whether it may. */
struct plane_store_running {
	const char *backend;
	int64_t epoch; /* of the drone's lease that it is under; 0: its own */
	bool is_known; /* filled in: it is this drone's, under this epoch, and has not ended */
};
int plane_store_running_check(struct plane_store *store, int64_t node_id,
	struct plane_store_running *running, size_t count, struct plane_error *err);
/** The backends are in use. Relaxed. `is_alive[i]` is false when that one is unknown or terminated.
 */
int plane_store_backends_keep_alive(struct plane_store *store, const char *const *backends,
	size_t count, bool *is_alive, struct plane_error *err);

struct plane_store_history {
	size_t count;
	struct plane_store_past_state {
		struct plane_backend_state state;
		int64_t time_ms;
	} * entries; /* oldest first */
};
int plane_store_backend_history(struct plane_store *store, const char *backend,
	struct plane_store_history *history, struct plane_error *err);
void plane_store_history_finish(struct plane_store_history *history);

/** What a token leads to. Texts are owned. */
struct plane_store_route {
	struct plane_backend_state state;
	char *backend, *secret_token, *cluster, *user, *subdomain; /* NULL for none */
	json_t *auth;                                              /* NULL for a static token */
};
/** Expired and revoked tokens are not found. */
int plane_store_route_find(struct plane_store *store, const char *token, bool *is_found,
	struct plane_store_route *route, struct plane_error *err);
void plane_store_route_finish(struct plane_store_route *route);

/** NULL filters let everything pass. */
struct plane_store_backend_filter {
	const char *cluster, *drone;
	int status;    /* 0: any */
	bool is_alive; /* only those that are not terminated */
	const char *key_name;
	const char *after; /* cursor: the last backend of the page before, or NULL */
	int limit;
};
struct plane_store_listed_backend {
	char *backend, *cluster, *drone, *key_namespace, *key_name, *key_tag; /* owned */
	struct plane_backend_state state;
	int64_t state_time_ms, created_at_ms;
};
struct plane_store_backend_list {
	size_t count;
	struct plane_store_listed_backend *entries; /* ordered by name */
};
int plane_store_backend_list(struct plane_store *store,
	const struct plane_store_backend_filter *filter, struct plane_store_backend_list *list,
	struct plane_error *err);
void plane_store_backend_list_finish(struct plane_store_backend_list *list);

/** NULL filters let everything pass. */
struct plane_store_key_filter {
	const char *cluster, *key_namespace, *key_name;
	/* cursor: the last key of the page before, or both NULL */
	const char *after_namespace, *after_name;
	int limit;
};
struct plane_store_listed_key {
	char *key_namespace, *key_name, *key_tag, *backend, *cluster, *drone; /* owned */
	enum plane_backend_status status;
	int64_t fencing_token;
	bool is_live;          /* its lease is not over */
	int64_t expires_in_ms; /* of a lease of its own; -1: its drone's lease covers it */
};
struct plane_store_key_list {
	size_t count;
	struct plane_store_listed_key *entries; /* ordered by namespace and name */
};
int plane_store_key_list(struct plane_store *store, const struct plane_store_key_filter *filter,
	struct plane_store_key_list *list, struct plane_error *err);
void plane_store_key_list_finish(struct plane_store_key_list *list);

/* ---- orders to drones, sweeping ---- */

struct plane_store_actions {
	size_t count;
	struct plane_store_action {
		char action_id[PLANE_NAME_SIZE];
		char *message; /* owned */
	} * entries;           /* oldest first */
};
/** Orders not acknowledged yet. A spawn whose lease has expired is none of them, and none that is
 *  older than the server while the store recovers. */
int plane_store_actions_pending(struct plane_store *store, int64_t node_id, size_t limit,
	struct plane_store_actions *actions, struct plane_error *err);
void plane_store_actions_finish(struct plane_store_actions *actions);
/** Relaxed: an order whose acknowledgement is lost is repeated, and drones know those they had. */
int plane_store_actions_ack(struct plane_store *store, const char *const *action_ids, size_t count,
	int64_t node_id, struct plane_error *err);

/**
 * Stores the order to end a backend. `*message` (the caller frees it) is NULL when there is nothing
 * to send: an equal order is on its way, or the backend has ended. -ENOENT for an unknown one.
 */
int plane_store_terminate(struct plane_store *store, const char *backend, const char *action_id,
	enum plane_termination_kind kind, enum plane_termination_reason reason, int64_t *drone_id,
	char **message, struct plane_error *err);

struct plane_store_sweep {
	size_t count;
	struct plane_store_sweep_entry {
		char backend[PLANE_NAME_SIZE];
		enum plane_backend_status status;
		int64_t in_status_ms;
		bool is_due; /* idle or alive for too long */
		bool has_pending_soft, has_pending_hard;
	} * entries;
};
/** A proxy tells every 7 s that a backend is in use: less than this cannot be told from idleness,
 *  and shorter limits count as this. */
#define PLANE_STORE_IDLE_MIN_MS 9000
/** Backends of a drone that are due or terminating. Idleness counts while a backend is ready. */
int plane_store_sweep_candidates(struct plane_store *store, int64_t node_id,
	struct plane_store_sweep *sweep, struct plane_error *err);
void plane_store_sweep_finish(struct plane_store_sweep *sweep);

struct plane_store_lost {
	size_t count;
	struct plane_store_lost_entry {
		char backend[PLANE_NAME_SIZE];
		struct plane_backend_state state;
		int64_t time_ms;
	} * entries;
};
/** Backends whose keys are leased one by one: gives up those whose lease has expired, when their
 *  drone has been silent for `silent_ms`, or it expired as long ago (the drone speaks, and does not
 *  know the backend any more: another program has its place, or it has lost its disk). They are
 *  terminated with reason lost. At most a batch at a time. */
int plane_store_mark_lost(struct plane_store *store, int64_t silent_ms,
	struct plane_store_lost *lost, struct plane_error *err);
/** The same for backends under a drone's lease that is broken. */
int plane_store_mark_broken(
	struct plane_store *store, struct plane_store_lost *lost, struct plane_error *err);
void plane_store_lost_finish(struct plane_store_lost *lost);

/* ---- what other controllers do: a feed of their states, orders and revocations ---- */

/** Can other controllers write to this store? Then each of them follows it by a feed. */
bool plane_store_is_shared(const struct plane_store *store);

struct plane_store_feed;

/** What another controller did. Of one backend's states an earlier one never comes after a later
 *  one in the same feed. */
struct plane_store_event {
	enum plane_store_event_kind {
		PLANE_STORE_EVENT_STATE,
		PLANE_STORE_EVENT_ACTION, /* for a drone that is connected to this controller */
		PLANE_STORE_EVENT_REVOCATION,
	} kind;
	char backend[PLANE_NAME_SIZE];
	struct plane_backend_state state; /* state */
	int64_t time_ms;                  /* state */
	char action_id[PLANE_NAME_SIZE];  /* action */
	int64_t drone_id;                 /* action */
	char *message;                    /* action; owned */
	char *user;                       /* revocation; owned */
};
struct plane_store_events {
	size_t count;
	struct plane_store_event *entries;
	bool has_more;   /* read again at once */
	bool has_missed; /* others may have been missed: the store has the truth */
};

/**
 * A feed of what is committed from now on, for `controller` (its name), on a connection of its own.
 * One thread at a time. NULL with `err`.
 */
struct plane_store_feed *plane_store_feed_open(
	struct plane_store *store, const char *controller, struct plane_error *err);
void plane_store_feed_close(struct plane_store_feed *feed);
/**
 * Waits until another controller has notified (`*is_notified`), `wake_fd` is readable, or
 * `timeout_ms` have passed. -EAGAIN when the connection is lost: the next read or notification
 * makes another, and the wait after a notification that did so ends at once, as if notified: what
 * was notified in between was not heard. Also read without any, now and then.
 */
int plane_store_feed_wait(struct plane_store_feed *feed, int wake_fd, int timeout_ms,
	bool *is_notified, struct plane_error *err);
/** What was committed since the last read, however late: a row that waited for its transaction
 *  comes too. Nothing is skipped after a failure. When a call on this store was not told whether it
 *  is done, `has_missed`, and from then on what this store does comes as well, until all that was
 * on its way is decided. */
int plane_store_feed_read(
	struct plane_store_feed *feed, struct plane_store_events *events, struct plane_error *err);
/** Notifies the other controllers' feeds. Not durable: costs no write to disk. */
int plane_store_feed_notify(struct plane_store_feed *feed, struct plane_error *err);
void plane_store_events_finish(struct plane_store_events *events);

/* ---- cleanup ---- */

/* Each forgets up to `batch`, the oldest first. Fewer: there are no more, or others who clean up at
 * the same time have them. */

/**
 * Forgets up to `batch` nodes that have not been connected for `min_age_ms` and hold nothing: no
 * backend, ended or not, no order to drain, no certificate.
 */
int plane_store_cleanup_nodes(struct plane_store *store, int64_t min_age_ms, int batch,
	int64_t *removed, struct plane_error *err);

/** Expired tokens. */
int plane_store_cleanup_tokens(
	struct plane_store *store, int batch, int64_t *removed, struct plane_error *err);
/** Revocations that nobody has to hear of any more. */
int plane_store_cleanup_revocations(
	struct plane_store *store, int batch, int64_t *removed, struct plane_error *err);
/** Backends that ended `min_age_days` ago or earlier. */
int plane_store_cleanup_backends(struct plane_store *store, int min_age_days, int batch,
	int64_t *removed, struct plane_error *err);

/* ---- certificates: one proxy of a cluster at a time answers an ACME challenge ---- */

int plane_store_cert_lease(struct plane_store *store, const char *cluster, int64_t node_id,
	int64_t lease_ms, bool *is_accepted, struct plane_error *err);
/** Accepted from the holder of the lease only. */
int plane_store_cert_set_txt(struct plane_store *store, const char *cluster, int64_t node_id,
	const char *txt_value, bool *is_accepted, struct plane_error *err);
int plane_store_cert_release(
	struct plane_store *store, const char *cluster, int64_t node_id, struct plane_error *err);
/** `*txt_value` is NULL when there is none; the caller frees it. */
int plane_store_cert_get_txt(
	struct plane_store *store, const char *cluster, char **txt_value, struct plane_error *err);

#endif
