/* Shared by the files of a drone's session: drone_session.c, drone_actions.c, drone_logs.c. */
#ifndef PLANE_CONTROLLER_DRONE_INTERNAL_H
#define PLANE_CONTROLLER_DRONE_INTERNAL_H

#include <uthash.h>

#include "controller/backend_rules.h"
#include "controller/drone_session.h"

struct plane_sent_action;
struct plane_log_request;
struct plane_lease_request;

struct plane_drone_session {
	struct plane_node_session base;
	struct plane_sent_action *sent; /* actions that were sent and not acked */
	struct plane_log_request *logs;
	int64_t last_log_request_id;
	bool is_tick_running, is_tick_wanted; /* wanted: another one behind it */
	bool is_usage_asked;                  /* and it has not answered yet */
	int64_t lease_epoch; /* the one it was last told on this connection; 0: none */
	bool is_waiting_logged;
	struct plane_lease_request *lease_request; /* that waits; see lease_renewals.c */
	bool has_unknown;                          /* in the inventory so far; its jobs' */
	int64_t *unacked_events; /* stored, and to be acknowledged once they are durable */
	size_t unacked_count;
	bool is_syncing;
	struct plane_backend_rules rules; /* where its backends may be */
	char *registered_ip;              /* as others write it; NULL: none */
	UT_hash_handle hh;                /* of the controller's drone_sessions */
};

/** The session that serves this drone, or NULL. */
struct plane_drone_session *plane_drone_session_find(
	struct plane_controller *controller, int64_t drone_id);

/** May it be sent orders? One that has leases of its own must have been told of it first. */
bool plane_drone_session_has_lease(const struct plane_drone_session *drone);
/** Answers a request that named `epoch`. */
void plane_drone_session_lease_answer(struct plane_drone_session *drone, int64_t epoch,
	const struct plane_store_renewal *renewal);

/* drone_actions.c */
/** Starts a round: sweeps the drone, then sends what is pending and was not sent just now. */
void plane_drone_actions_tick(struct plane_drone_session *drone);
void plane_drone_actions_ack(struct plane_drone_session *drone, const char *action_id);
void plane_drone_actions_finish(struct plane_drone_session *drone);

/* drone_acks.c */
/** An event is stored: it is acknowledged once the store is durable. */
void plane_drone_acks_add(struct plane_drone_session *drone, int64_t event_id);
void plane_drone_acks_finish(struct plane_drone_session *drone);

/* drone_addresses.c */
/** Of a handshake: sets the session's rules. */
int plane_drone_addresses_take(struct plane_node_session *session,
	const struct plane_handshake *handshake, struct plane_error *err);
/** Tells the store where the backends of this drone are. */
void plane_drone_addresses_describe(
	const struct plane_node_session *session, struct plane_store_node *node);
/** Of a drone that was registered just now: -EADDRINUSE when another one, which is connected, has
 *  registered an address of it. Pool thread. */
int plane_drone_addresses_check(struct plane_node_session *session, struct plane_error *err);
/** May a backend be at "ip:port"? By the rules; -EINVAL for what is no address. Loop thread. */
int plane_drone_address_take(
	struct plane_drone_session *drone, const char *text, struct plane_error *err);
/** The same, by what others have registered, where the rules do not say enough; "" is fine.
 * -EADDRINUSE when it is another's, other codes are the store's. Pool thread. */
int plane_drone_address_check(
	const struct plane_drone_session *drone, const char *text, struct plane_error *err);

/* drone_logs.c */
void plane_drone_logs_on_chunk(
	struct plane_drone_session *drone, const struct plane_drone_message *message);
/** Ends requests that the drone does not answer. */
void plane_drone_logs_tick(struct plane_drone_session *drone);
void plane_drone_logs_finish(struct plane_drone_session *drone);

#endif
