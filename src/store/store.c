/* Chooses the implementation by the URL, and calls it. */
#include "store/store.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "store/sqlite.h"
#include "store/store_impl.h"

struct plane_store *plane_store_open(const char *url, struct plane_error *err)
{
	if (plane_text_starts_with(url, "sqlite:"))
		return plane_sqlite_store_open(url + strlen("sqlite:"), NULL, err);
	plane_error_set(err, -EINVAL, "no known kind of database: expected sqlite:PATH");
	return NULL;
}

void plane_store_close(struct plane_store *store)
{
	if (store)
		store->impl->close(store);
}

int plane_store_migrate(struct plane_store *store, struct plane_error *err)
{
	return store->impl->migrate(store, err);
}

int plane_store_ping(struct plane_store *store, struct plane_error *err)
{
	return store->impl->ping(store, err);
}

int plane_store_sync(struct plane_store *store, struct plane_error *err)
{
	return store->impl->sync(store, err);
}

int plane_store_controller_heartbeat(
	struct plane_store *store, const char *name, struct plane_error *err)
{
	return store->impl->controller_heartbeat(store, name, err);
}

int plane_store_controller_offline(
	struct plane_store *store, const char *name, struct plane_error *err)
{
	return store->impl->controller_offline(store, name, err);
}

int plane_store_node_connected(struct plane_store *store, const struct plane_store_node *node,
	int64_t *node_id, int64_t *connection_id, struct plane_error *err)
{
	return store->impl->node_connected(store, node, node_id, connection_id, err);
}

int plane_store_node_disconnected(
	struct plane_store *store, int64_t node_id, int64_t connection_id, struct plane_error *err)
{
	return store->impl->node_disconnected(store, node_id, connection_id, err);
}

int plane_store_drone_heartbeat(
	struct plane_store *store, int64_t node_id, int64_t local_time_ms, struct plane_error *err)
{
	return store->impl->drone_heartbeat(store, node_id, local_time_ms, err);
}

int plane_store_drone_drain(struct plane_store *store, const char *cluster, const char *name,
	bool is_draining, bool *is_changed, struct plane_error *err)
{
	return store->impl->drone_drain(store, cluster, name, is_draining, is_changed, err);
}

int plane_store_drones_eligible(struct plane_store *store, const char *cluster, const char *pool,
	int64_t healthy_ms, struct plane_store_drones *drones, struct plane_error *err)
{
	return store->impl->drones_eligible(store, cluster, pool, healthy_ms, drones, err);
}

int plane_store_cluster_members(struct plane_store *store, const char *cluster,
	struct plane_store_members *members, struct plane_error *err)
{
	return store->impl->cluster_members(store, cluster, members, err);
}

int plane_store_key_find(struct plane_store *store, const char *key_namespace, const char *name,
	struct plane_store_held_key *key, struct plane_error *err)
{
	return store->impl->key_find(store, key_namespace, name, key, err);
}

int plane_store_key_remove_expired(
	struct plane_store *store, const char *backend, bool *is_removed, struct plane_error *err)
{
	return store->impl->key_remove_expired(store, backend, is_removed, err);
}

int plane_store_keys_renew(struct plane_store *store, const char *const *backends, size_t count,
	int64_t node_id, int64_t lease_ms, bool *is_renewed, struct plane_error *err)
{
	return store->impl->keys_renew(store, backends, count, node_id, lease_ms, is_renewed, err);
}

int plane_store_token_create(
	struct plane_store *store, const struct plane_store_token *token, struct plane_error *err)
{
	return store->impl->token_create(store, token, err);
}

int plane_store_token_revoke(
	struct plane_store *store, const char *backend, const char *user, struct plane_error *err)
{
	return store->impl->token_revoke(store, backend, user, err);
}

int plane_store_spawn(struct plane_store *store, const struct plane_store_spawn *spawn,
	char **message, int64_t *time_ms, struct plane_error *err)
{
	return store->impl->spawn(store, spawn, message, time_ms, err);
}

int plane_store_backend_find(struct plane_store *store, const char *backend,
	struct plane_store_backend *found, struct plane_error *err)
{
	return store->impl->backend_find(store, backend, found, err);
}

int plane_store_backend_update(struct plane_store *store, int64_t node_id,
	struct plane_store_report *reports, size_t count, struct plane_error *err)
{
	return store->impl->backend_update(store, node_id, reports, count, err);
}

int plane_store_backend_keep_alive(
	struct plane_store *store, const char *backend, bool *is_alive, struct plane_error *err)
{
	return store->impl->backend_keep_alive(store, backend, is_alive, err);
}

int plane_store_backend_history(struct plane_store *store, const char *backend,
	struct plane_store_history *history, struct plane_error *err)
{
	return store->impl->backend_history(store, backend, history, err);
}

int plane_store_route_find(struct plane_store *store, const char *token, bool *is_found,
	struct plane_store_route *route, struct plane_error *err)
{
	return store->impl->route_find(store, token, is_found, route, err);
}

int plane_store_backend_list(struct plane_store *store,
	const struct plane_store_backend_filter *filter, struct plane_store_backend_list *list,
	struct plane_error *err)
{
	return store->impl->backend_list(store, filter, list, err);
}

int plane_store_actions_pending(struct plane_store *store, int64_t node_id, size_t limit,
	struct plane_store_actions *actions, struct plane_error *err)
{
	return store->impl->actions_pending(store, node_id, limit, actions, err);
}

int plane_store_action_ack(
	struct plane_store *store, const char *action_id, int64_t node_id, struct plane_error *err)
{
	return store->impl->action_ack(store, action_id, node_id, err);
}

int plane_store_terminate(struct plane_store *store, const char *backend, const char *action_id,
	enum plane_termination_kind kind, enum plane_termination_reason reason, int64_t *drone_id,
	char **message, struct plane_error *err)
{
	return store->impl->terminate(
		store, backend, action_id, kind, reason, drone_id, message, err);
}

int plane_store_sweep_candidates(struct plane_store *store, int64_t node_id,
	struct plane_store_sweep *sweep, struct plane_error *err)
{
	return store->impl->sweep_candidates(store, node_id, sweep, err);
}

int plane_store_mark_lost(struct plane_store *store, int64_t silent_ms,
	struct plane_store_lost *lost, struct plane_error *err)
{
	return store->impl->mark_lost(store, silent_ms, lost, err);
}

int plane_store_cleanup_tokens(struct plane_store *store, int64_t *removed, struct plane_error *err)
{
	return store->impl->cleanup_tokens(store, removed, err);
}

int plane_store_cleanup_backends(struct plane_store *store, int min_age_days, int batch,
	int64_t *removed, struct plane_error *err)
{
	return store->impl->cleanup_backends(store, min_age_days, batch, removed, err);
}

int plane_store_cert_lease(struct plane_store *store, const char *cluster, int64_t node_id,
	int64_t lease_ms, bool *is_accepted, struct plane_error *err)
{
	return store->impl->cert_lease(store, cluster, node_id, lease_ms, is_accepted, err);
}

int plane_store_cert_set_txt(struct plane_store *store, const char *cluster, int64_t node_id,
	const char *txt_value, bool *is_accepted, struct plane_error *err)
{
	return store->impl->cert_set_txt(store, cluster, node_id, txt_value, is_accepted, err);
}

int plane_store_cert_release(
	struct plane_store *store, const char *cluster, int64_t node_id, struct plane_error *err)
{
	return store->impl->cert_release(store, cluster, node_id, err);
}

int plane_store_cert_get_txt(
	struct plane_store *store, const char *cluster, char **txt_value, struct plane_error *err)
{
	return store->impl->cert_get_txt(store, cluster, txt_value, err);
}
