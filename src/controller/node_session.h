/* What the three kinds of node sockets share: the handshake, registration in the store, and an
 * orderly end. A session ends on any Close; then its node is unregistered. Loop thread only,
 * except where a job's `run` is said. */
#ifndef PLANE_CONTROLLER_NODE_SESSION_H
#define PLANE_CONTROLLER_NODE_SESSION_H

#include <stdatomic.h>

#include <jansson.h>

#include "controller/internal.h"
#include "model/messages.h"

#define PLANE_CLUSTER_SIZE (PLANE_TEXT_MAX + 1)

struct plane_node_session;

/** Who opened the socket. */
struct plane_node_caller {
	const char *peer_address; /* "ip" */
	bool is_own_machine;      /* it is an address of the controller's machine */
	uint64_t ticket;          /* what it was let in by, as plane_access_decide gave it */
};

struct plane_node_role {
	enum plane_node_kind kind;
	/** NULL, or looks at what else the handshake says; an error refuses the node. */
	int (*check)(struct plane_node_session *session, const struct plane_handshake *handshake,
		struct plane_error *err);
	/** NULL, or adds what only this kind has. Pool thread. */
	void (*describe)(const struct plane_node_session *session, struct plane_store_node *node);
	/** NULL, or a last look once the node is registered: -EADDRINUSE refuses it, and tells it
	 * why. Pool thread. */
	int (*check_registered)(struct plane_node_session *session, struct plane_error *err);
	/** What we say to understand, NULL-terminated or NULL; told to nodes with extensions. */
	const char *const *extensions;
	void (*on_registered)(struct plane_node_session *session);
	void (*on_message)(struct plane_node_session *session, const json_t *message);
	/** It serves no longer: release what belongs to it. No other call comes after. */
	void (*on_closed)(struct plane_node_session *session);
	void (*free_session)(struct plane_node_session *session);
};

enum plane_session_phase {
	PLANE_SESSION_HANDSHAKE,   /* the first frame is awaited */
	PLANE_SESSION_REGISTERING, /* the store is asked; what is said meanwhile waits */
	PLANE_SESSION_SERVING,
	PLANE_SESSION_CLOSED, /* or closing: another connection has taken its place */
};

/** First member of each kind's session. */
struct plane_node_session {
	struct plane_controller *controller;
	const struct plane_node_role *role;
	struct plane_ws *ws; /* NULL once closed */
	struct plane_strand *strand;
	enum plane_session_phase phase;
	json_t *early; /* messages that came before it was registered, or NULL */
	size_t early_weight;
	size_t message_weight;            /* of the message that is being handled; else 0 */
	bool was_serving;                 /* once closed: until then, on_closed is due */
	atomic_bool is_gone;              /* for jobs: the connection is closed */
	char cluster[PLANE_CLUSTER_SIZE]; /* "" for DNS servers */
	char pool[PLANE_CLUSTER_SIZE];    /* drones */
	char peer_address[PLANE_ADDRESS_SIZE];
	bool is_own_machine;             /* where that is */
	uint64_t ticket;                 /* what it was let in by */
	struct plane_node_limits limits; /* of that; from the handshake on */
	char name[PLANE_NAME_SIZE];
	char version[64], git_hash[64];
	bool has_extensions, has_logs, has_revoke, has_metrics, has_lease;
	int64_t node_id;          /* from the registration on */
	int64_t registered_at_ms; /* boot clock; no earlier than that was stored */
	int64_t connection_id;    /* tells this connection from others of the same node */
	uv_timer_t timer;         /* the handshake's limit; from then on the role's tick */
	struct plane_node_session *prev, *next;
};

/** Fills the base; texts are copied and were checked for their length. */
void plane_node_session_init(struct plane_node_session *session,
	struct plane_controller *controller, const struct plane_node_role *role,
	const char *cluster, const struct plane_node_caller *caller);
/** Starts listening on `ws`; takes the session. */
void plane_node_session_start(struct plane_node_session *owned_session, struct plane_ws *ws);
/** Sends a message; `owned_json` is decref'd. A peer too slow to read is closed by the server. */
void plane_node_session_send(struct plane_node_session *session, json_t *owned_json);
void plane_node_session_send_text(struct plane_node_session *session, const char *text);
/** Closes the connection (its end is reported as any other). */
void plane_node_session_close(struct plane_node_session *session);
/** The same, and tells the node why, in words for its log. */
void plane_node_session_refuse(struct plane_node_session *session, const char *why);
/** Another connection of the node has taken its place: it serves no longer from now on, and is
 *  closed, even when its peer is dead and never answers the Close frame. */
void plane_node_session_retire(struct plane_node_session *session);

/**
 * Asks the store whether the connections that are served here are still those of their nodes, and
 * closes the others. A node may have come to another controller; a registration that was late may
 * have taken the place of a newer one; or the store has lost it. A node whose only connection is
 * closed comes again. What is asked already is not asked twice.
 */
void plane_node_sessions_check(struct plane_controller *controller);

/** A job for the session's strand; embed as first member. While a message is handled it counts with
 *  that one's size. A session with too many unfinished jobs
 *  is closed: its node sends again after it has reconnected. */
bool plane_node_session_submit(struct plane_node_session *session, struct plane_job *owned_job);

#endif
