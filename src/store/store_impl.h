/* What an implementation of the store provides; each function is what its namesake in store.h says.
 * Private to store/. */
#ifndef PLANE_STORE_STORE_IMPL_H
#define PLANE_STORE_STORE_IMPL_H

#include "store/store.h"

struct plane_store_impl {
	void (*close)(struct plane_store *store);
	/* NULL where there are none */
	void (*trust_standbys)(struct plane_store *store);
	int (*migrate)(struct plane_store *store, struct plane_error *err);
	int (*ping)(struct plane_store *store, struct plane_error *err);
	int (*sync)(struct plane_store *store, struct plane_error *err);
	void (*statistics)(struct plane_store *store, struct plane_store_statistics *statistics);
	int (*controller_heartbeat)(
		struct plane_store *store, const char *name, struct plane_error *err);
	int (*controller_offline)(
		struct plane_store *store, const char *name, struct plane_error *err);
	int (*node_connected)(struct plane_store *store, const struct plane_store_node *node,
		int64_t *node_id, int64_t *connection_id, struct plane_error *err);
	int (*node_disconnected)(struct plane_store *store, int64_t node_id, int64_t connection_id,
		struct plane_error *err);
	int (*registrations_check)(struct plane_store *store,
		struct plane_store_registration *registrations, size_t count,
		struct plane_error *err);
	/* NULL where the store is not shared */
	int (*node_controller)(struct plane_store *store, int64_t node_id, char **name, char **url,
		struct plane_error *err);
	int (*address_owner)(struct plane_store *store, int64_t node_id, const char *ip,
		int first_port, int last_port, int64_t healthy_ms, char **name,
		struct plane_error *err);
	int (*drone_heartbeat)(struct plane_store *store, int64_t node_id, int64_t local_time_ms,
		struct plane_error *err);
	int (*drone_drain)(struct plane_store *store, const char *cluster, const char *name,
		bool is_draining, bool *is_changed, struct plane_error *err);
	int (*member_list)(struct plane_store *store,
		const struct plane_store_member_filter *filter, struct plane_store_members *members,
		struct plane_error *err);
	int (*leases_find)(struct plane_store *store, struct plane_store_leases *leases,
		struct plane_error *err);
	/* both NULL where no other server can take over */
	int (*recovery_end)(struct plane_store *store, int64_t since_ms, bool *is_over,
		struct plane_error *err);
	int (*drone_reconciled)(struct plane_store *store, int64_t node_id, int64_t connection_id,
		struct plane_error *err);
	int (*leases_renew)(struct plane_store *store, struct plane_store_renewal *renewals,
		size_t count, struct plane_error *err);
	int (*lease_break)(struct plane_store *store, const struct plane_store_lease *lease,
		bool *is_broken, struct plane_error *err);
	int (*connect)(struct plane_store *store, const struct plane_store_connect *request,
		struct plane_store_connection *connection, struct plane_error *err);
	int (*keys_renew)(struct plane_store *store, const char *const *backends, size_t count,
		int64_t node_id, int64_t lease_ms, bool *is_renewed, struct plane_error *err);
	int (*token_create)(struct plane_store *store, const struct plane_store_token *token,
		struct plane_error *err);
	int (*token_revoke)(struct plane_store *store, const char *backend, const char *user,
		struct plane_error *err);
	int (*revocations)(struct plane_store *store, int64_t since_ms,
		struct plane_store_revocations *revocations, struct plane_error *err);
	int (*spawn)(struct plane_store *store, const struct plane_store_spawn *spawn,
		struct plane_store_spawned *spawned, struct plane_error *err);
	int (*refused_find)(struct plane_store *store, int64_t drone_id, const char *action_id,
		struct plane_store_refused *refused, struct plane_error *err);
	int (*move)(struct plane_store *store, const struct plane_store_move *move,
		struct plane_store_spawned *spawned, struct plane_error *err);
	int (*backend_find)(struct plane_store *store, const char *backend,
		struct plane_store_backend *found, struct plane_error *err);
	int (*backend_update)(struct plane_store *store, int64_t node_id,
		struct plane_store_report *reports, size_t count, struct plane_error *err);
	int (*running_check)(struct plane_store *store, int64_t node_id,
		struct plane_store_running *running, size_t count, struct plane_error *err);
	int (*backends_keep_alive)(struct plane_store *store, const char *const *backends,
		size_t count, bool *is_alive, struct plane_error *err);
	int (*backend_history)(struct plane_store *store, const char *backend,
		struct plane_store_history *history, struct plane_error *err);
	int (*route_find)(struct plane_store *store, const char *token, bool *is_found,
		struct plane_store_route *route, struct plane_error *err);
	int (*backend_list)(struct plane_store *store,
		const struct plane_store_backend_filter *filter,
		struct plane_store_backend_list *list, struct plane_error *err);
	int (*key_list)(struct plane_store *store, const struct plane_store_key_filter *filter,
		struct plane_store_key_list *list, struct plane_error *err);
	int (*actions_pending)(struct plane_store *store, int64_t node_id, size_t limit,
		struct plane_store_actions *actions, struct plane_error *err);
	int (*actions_ack)(struct plane_store *store, const char *const *action_ids, size_t count,
		int64_t node_id, struct plane_error *err);
	int (*terminate)(struct plane_store *store, const char *backend, const char *action_id,
		enum plane_termination_kind kind, enum plane_termination_reason reason,
		int64_t *drone_id, char **message, struct plane_error *err);
	int (*sweep_candidates)(struct plane_store *store, int64_t node_id,
		struct plane_store_sweep *sweep, struct plane_error *err);
	int (*mark_lost)(struct plane_store *store, int64_t silent_ms,
		struct plane_store_lost *lost, struct plane_error *err);
	int (*mark_broken)(
		struct plane_store *store, struct plane_store_lost *lost, struct plane_error *err);
	/* NULL where the store is not shared */
	struct plane_store_feed *(*feed_open)(
		struct plane_store *store, const char *controller, struct plane_error *err);
	int (*cleanup_nodes)(struct plane_store *store, int64_t min_age_ms, int batch,
		int64_t *removed, struct plane_error *err);
	int (*cleanup_tokens)(
		struct plane_store *store, int batch, int64_t *removed, struct plane_error *err);
	int (*cleanup_revocations)(
		struct plane_store *store, int batch, int64_t *removed, struct plane_error *err);
	int (*cleanup_backends)(struct plane_store *store, int min_age_days, int batch,
		int64_t *removed, struct plane_error *err);
	int (*cert_lease)(struct plane_store *store, const char *cluster, int64_t node_id,
		int64_t lease_ms, bool *is_accepted, struct plane_error *err);
	int (*cert_set_txt)(struct plane_store *store, const char *cluster, int64_t node_id,
		const char *txt_value, bool *is_accepted, struct plane_error *err);
	int (*cert_release)(struct plane_store *store, const char *cluster, int64_t node_id,
		struct plane_error *err);
	int (*cert_get_txt)(struct plane_store *store, const char *cluster, char **txt_value,
		struct plane_error *err);
};

struct plane_store_feed_impl {
	void (*close)(struct plane_store_feed *feed);
	int (*wait)(struct plane_store_feed *feed, int wake_fd, int timeout_ms, bool *is_notified,
		struct plane_error *err);
	int (*read)(struct plane_store_feed *feed, struct plane_store_events *events,
		struct plane_error *err);
	int (*notify)(struct plane_store_feed *feed, struct plane_error *err);
};

/** The first members of an implementation's own structs. */
struct plane_store_feed {
	const struct plane_store_feed_impl *impl;
};

struct plane_store {
	const struct plane_store_impl *impl;
};

/** What a drone reports of itself: columns of its row, NULL where it does not. */
#define PLANE_STORE_RESOURCE_COLUMNS                                                               \
	"memory_total_bytes, memory_allocatable_bytes, memory_reserved_bytes, "                    \
	"memory_available_bytes, cpu_total_millis, cpu_allocatable_millis, cpu_reserved_millis, "  \
	"load_millis, last_fencing_token"
#define PLANE_STORE_RESOURCE_COUNT 9
/** The one that is in the column. */
int64_t *plane_store_resource(struct plane_drone_resources *resources, int column);

/** All states that a backend can be in, as a relation with the column column1: a list of backends
 *  is a page of each of them that it wants, so that each is found by an index. */
#define PLANE_STORE_STATUSES "(VALUES (10), (20), (30), (40), (50), (60), (65), (70))"
/** Which of them, both included. */
void plane_store_statuses_wanted(
	const struct plane_store_backend_filter *filter, int64_t *first, int64_t *last);

/** The order to start it, without its fencing token; borrows. */
struct plane_drone_order plane_store_spawn_order(const struct plane_store_spawn *spawn);
/** The caller frees it. */
char *plane_store_order_text(const struct plane_drone_order *order);
/** The text of an order around a number that only the database knows. */
struct plane_store_order_parts {
	char *before, *after; /* owned */
};
/** `number` is the order's own, and has any value afterwards. All else is as in the text: what a
 *  database would make of JSON is not what it was given. */
void plane_store_order_split(
	struct plane_drone_order *order, int64_t *number, struct plane_store_order_parts *parts);
void plane_store_order_parts_finish(struct plane_store_order_parts *parts);
#define _cleanup_order_parts_ __attribute__((cleanup(plane_store_order_parts_finish)))

/** Reads the JSON of a state, as it is stored. */
int plane_store_read_state(
	const char *text, struct plane_backend_state *state, struct plane_error *err);

#endif
