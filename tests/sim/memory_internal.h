/* Shared by the files of the store in memory. */
#ifndef PLANE_SIM_MEMORY_INTERNAL_H
#define PLANE_SIM_MEMORY_INTERNAL_H

#include <pthread.h>

#include <uthash.h>

#include "memory_store.h"
#include "store/store_impl.h"

struct memory_controller {
	char name[PLANE_NAME_SIZE];
	bool is_online;
	int64_t heartbeat_at;
	UT_hash_handle hh;
};

struct memory_backend;
struct memory_action;

/** A node, and what a drone is besides. */
struct memory_node {
	int64_t id, connection_id;
	int64_t seen_at; /* came or went last */
	enum plane_node_kind kind;
	char *name, *cluster, *controller, *controller_url, *version, *git_hash, *ip;
	char *path; /* cluster and name: the key of the hash */
	/* drones: */
	char *pool, *journal;
	char *backend_ip; /* NULL: not registered */
	int first_port, last_port;
	bool is_drone, is_ready, is_draining, is_lease_granted, has_key_leases;
	int64_t heartbeat_at; /* 0: none */
	int64_t local_time_ms;
	int64_t lease_epoch, lease_renewals, lease_expire_ms;
	bool is_unreconciled;
	bool has_broken;                 /* backends of an epoch before */
	struct memory_backend *backends; /* that have not ended */
	int64_t backend_count;
	int64_t own_leases, limited, terminating; /* among them: with a limit of time, status 60 */
	int64_t told_backend_count; /* as it reported, or as counted at its heartbeat */
	bool has_resources;
	struct plane_drone_resources resources;
	struct memory_action *actions; /* not acknowledged, oldest first */
	UT_hash_handle hh, hh_id;
};

/** A state as it is stored: most have neither address nor message. */
struct memory_state {
	int64_t time_ms;
	struct plane_backend_state *rare; /* owned; NULL: all but the status is zero */
	enum plane_backend_status status;
};

struct memory_key {
	char *path; /* namespace, NUL, name */
	unsigned path_length;
	const char *name;
	char *tag;
	struct memory_backend *backend;
	struct memory_node *drone;
	int64_t expires_at, fencing_token, lease_epoch;
	UT_hash_handle hh;
};

struct memory_token {
	char token[PLANE_TOKEN_SIZE];
	char *secret, *user, *auth;
	int64_t expires_at;
	struct memory_backend *backend;
	struct memory_token *prev, *next; /* of the backend */
	UT_hash_handle hh;
};

struct memory_action {
	char id[PLANE_NAME_SIZE];
	struct memory_backend *backend;
	struct memory_node *drone;
	const char *kind; /* "spawn", "soft", "hard" */
	char *message;
	bool must_wait;                    /* until the store has recovered */
	struct memory_action *prev, *next; /* of the drone */
	struct memory_action *of_backend_prev, *of_backend_next;
	UT_hash_handle hh;
};

struct memory_backend {
	char name[PLANE_NAME_SIZE];
	struct memory_node *drone;
	char *cluster, *key_namespace, *key_name, *key_tag, *subdomain, *static_token;
	int64_t lease_epoch, fencing_token; /* epoch 0: its key has a lease of its own */
	int64_t created_at, keepalive_at, lifetime_ends_at, max_idle_ms; /* last two: -1 none */
	struct memory_state *states;                                     /* at least one */
	size_t state_count;
	struct memory_key *key; /* NULL: lost or ended */
	struct memory_token *tokens;
	struct memory_action *actions; /* not acknowledged */
	bool is_end_ordered;           /* acknowledged or not */
	int64_t *tried;                /* drones that were to start it */
	size_t tried_count;
	struct memory_backend *prev, *next; /* of the drone, while it has not ended */
	UT_hash_handle hh, hh_token;
};

struct memory_revocation {
	char backend[PLANE_NAME_SIZE];
	char *user;
	int64_t time_ms;
	struct memory_revocation *prev, *next;
};

struct memory_certificate {
	char *cluster, *txt_value;
	int64_t node_id, ends_at;
	UT_hash_handle hh;
};

/** An event for feeds. Numbers go up by one. */
struct memory_event {
	struct plane_store_event event; /* owns message and user */
	int64_t origin;
	struct memory_event *next;
	int64_t number;
};

struct memory_feed;

struct memory_database {
	pthread_mutex_t mutex;
	struct memory_clock clock;
	int64_t last_ms;          /* the store's time never goes back */
	int64_t recovering_since; /* 0: it does not */
	int64_t incarnation, last_fencing_token, last_node_id, last_connection_id, last_origin;
	enum memory_fault fault;
	struct memory_controller *controllers;
	struct memory_node *nodes, *nodes_by_id;
	struct memory_backend *backends, *backends_by_token;
	struct memory_key *keys;
	struct memory_token *tokens;
	struct memory_action *actions;
	struct memory_revocation *revocations; /* oldest first */
	struct memory_certificate *certificates;
	struct memory_event *first_event, *last_event;
	int64_t last_event_number;
	struct memory_feed *feeds;
};

struct memory_store {
	struct plane_store base;
	struct memory_database *database;
	int64_t origin, opened_at;
};

#define MEMORY_STORE(store) ((struct memory_store *)(store))

/** Locks the database of a store for the time of one function. */
struct memory_database *memory_begin(struct plane_store *store);
/** Returns `result`. */
int memory_end(struct memory_database *database, int result);

int64_t memory_now(struct memory_database *database);
struct memory_node *memory_node_by_id(struct memory_database *database, int64_t id);
struct memory_backend *memory_backend_by_name(struct memory_database *database, const char *name);
enum plane_backend_status memory_status(const struct memory_backend *backend);
/** May it become due by the passing of time? */
bool memory_is_limited(const struct memory_backend *backend);
struct plane_backend_state memory_state(const struct memory_state *state);
bool memory_key_is_live(const struct memory_key *key, int64_t now_ms);
/** Adds a state; an end frees the key, tokens and orders. Tells feeds. */
void memory_put_state(struct memory_store *store, struct memory_backend *backend,
	const struct plane_backend_state *state);
void memory_release_key(struct memory_database *database, struct memory_key *key);
void memory_forget_token(struct memory_database *database, struct memory_token *token);
void memory_forget_action(struct memory_database *database, struct memory_action *action);
/** `owned_message`; NULL when the order's id is taken. */
struct memory_action *memory_add_action(struct memory_store *store, struct memory_backend *backend,
	const char *id, const char *kind, char *owned_message);
/** -ENOENT for an unknown backend. */
int memory_add_token(struct memory_database *database, const struct plane_store_token *token,
	struct plane_error *err);
void memory_drones_eligible(struct memory_database *database,
	const struct plane_store_connect *request, struct plane_store_drones *drones);
/** Takes what the event owns. */
void memory_tell(struct memory_store *store, const struct plane_store_event *event);
void memory_free_node(struct memory_database *database, struct memory_node *node);
void memory_free_backend(struct memory_database *database, struct memory_backend *backend);
void memory_free_events(struct memory_database *database);

#define MEMORY_FUNCTION(name) __typeof__(plane_store_##name) memory_##name
MEMORY_FUNCTION(controller_heartbeat);
MEMORY_FUNCTION(controller_offline);
MEMORY_FUNCTION(node_connected);
MEMORY_FUNCTION(node_disconnected);
MEMORY_FUNCTION(registrations_check);
MEMORY_FUNCTION(node_controller);
MEMORY_FUNCTION(address_owner);
MEMORY_FUNCTION(drone_heartbeat);
MEMORY_FUNCTION(drone_drain);
MEMORY_FUNCTION(member_list);
MEMORY_FUNCTION(leases_find);
MEMORY_FUNCTION(recovery_end);
MEMORY_FUNCTION(drone_reconciled);
MEMORY_FUNCTION(leases_renew);
MEMORY_FUNCTION(lease_break);
MEMORY_FUNCTION(connect);
MEMORY_FUNCTION(keys_renew);
MEMORY_FUNCTION(token_create);
MEMORY_FUNCTION(token_revoke);
MEMORY_FUNCTION(revocations);
MEMORY_FUNCTION(spawn);
MEMORY_FUNCTION(refused_find);
MEMORY_FUNCTION(move);
MEMORY_FUNCTION(backend_find);
MEMORY_FUNCTION(backend_update);
MEMORY_FUNCTION(backends_keep_alive);
MEMORY_FUNCTION(running_check);
MEMORY_FUNCTION(backend_history);
MEMORY_FUNCTION(route_find);
MEMORY_FUNCTION(backend_list);
MEMORY_FUNCTION(key_list);
MEMORY_FUNCTION(actions_pending);
MEMORY_FUNCTION(actions_ack);
MEMORY_FUNCTION(terminate);
MEMORY_FUNCTION(sweep_candidates);
MEMORY_FUNCTION(mark_lost);
MEMORY_FUNCTION(mark_broken);
MEMORY_FUNCTION(feed_open);
MEMORY_FUNCTION(cleanup_nodes);
MEMORY_FUNCTION(cleanup_tokens);
MEMORY_FUNCTION(cleanup_revocations);
MEMORY_FUNCTION(cleanup_backends);
MEMORY_FUNCTION(cert_lease);
MEMORY_FUNCTION(cert_set_txt);
MEMORY_FUNCTION(cert_release);
MEMORY_FUNCTION(cert_get_txt);

#endif
