/* Chooses the implementation by the URL, and calls it. */
#include "store/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/text.h"
#include "store/postgres.h"
#include "store/sqlite.h"
#include "store/store_impl.h"

struct plane_store *plane_store_open(const char *url, struct plane_error *err)
{
	if (plane_text_starts_with(url, "sqlite:"))
		return plane_sqlite_store_open(url + strlen("sqlite:"), NULL, err);
	if (plane_text_starts_with(url, "postgres://") ||
		plane_text_starts_with(url, "postgresql://"))
		return plane_postgres_store_open(url, err);
	plane_error_set(
		err, -EINVAL, "no known kind of database: expected sqlite:PATH or postgres://...");
	return NULL;
}

void plane_store_close(struct plane_store *store)
{
	if (store)
		store->impl->close(store);
}

void plane_store_trust_standbys(struct plane_store *store)
{
	if (store->impl->trust_standbys)
		store->impl->trust_standbys(store);
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

void plane_store_statistics(struct plane_store *store, struct plane_store_statistics *statistics)
{
	store->impl->statistics(store, statistics);
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

int plane_store_registrations_check(struct plane_store *store,
	struct plane_store_registration *registrations, size_t count, struct plane_error *err)
{
	return count ? store->impl->registrations_check(store, registrations, count, err) : 0;
}

int plane_store_node_controller(struct plane_store *store, int64_t node_id, char **name, char **url,
	struct plane_error *err)
{
	if (store->impl->node_controller)
		return store->impl->node_controller(store, node_id, name, url, err);
	*name = *url = NULL;
	return 0;
}

int plane_store_address_owner(struct plane_store *store, int64_t node_id, const char *ip,
	int first_port, int last_port, int64_t healthy_ms, char **name, struct plane_error *err)
{
	return store->impl->address_owner(
		store, node_id, ip, first_port, last_port, healthy_ms, name, err);
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

int plane_store_leases_find(
	struct plane_store *store, struct plane_store_leases *leases, struct plane_error *err)
{
	return store->impl->leases_find(store, leases, err);
}

int plane_store_recovery_end(
	struct plane_store *store, int64_t since_ms, bool *is_over, struct plane_error *err)
{
	*is_over = true;
	return store->impl->recovery_end ? store->impl->recovery_end(store, since_ms, is_over, err)
					 : 0;
}

int plane_store_drone_reconciled(
	struct plane_store *store, int64_t node_id, int64_t connection_id, struct plane_error *err)
{
	return store->impl->drone_reconciled
		       ? store->impl->drone_reconciled(store, node_id, connection_id, err)
		       : 0;
}

int plane_store_leases_renew(struct plane_store *store, struct plane_store_renewal *renewals,
	size_t count, struct plane_error *err)
{
	return store->impl->leases_renew(store, renewals, count, err);
}

int plane_store_lease_break(struct plane_store *store, const struct plane_store_lease *lease,
	bool *is_broken, struct plane_error *err)
{
	return store->impl->lease_break(store, lease, is_broken, err);
}

int plane_store_member_list(struct plane_store *store,
	const struct plane_store_member_filter *filter, struct plane_store_members *members,
	struct plane_error *err)
{
	return store->impl->member_list(store, filter, members, err);
}

int plane_store_connect(struct plane_store *store, const struct plane_store_connect *request,
	struct plane_store_connection *connection, struct plane_error *err)
{
	return store->impl->connect(store, request, connection, err);
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

int plane_store_revocations(struct plane_store *store, int64_t since_ms,
	struct plane_store_revocations *revocations, struct plane_error *err)
{
	return store->impl->revocations(store, since_ms, revocations, err);
}

void plane_store_revocations_finish(struct plane_store_revocations *revocations)
{
	for (size_t i = 0; i < revocations->count; i++) {
		free(revocations->entries[i].backend);
		free(revocations->entries[i].user);
	}
	free(revocations->entries);
	*revocations = (struct plane_store_revocations){ 0 };
}

int plane_store_spawn(struct plane_store *store, const struct plane_store_spawn *spawn,
	struct plane_store_spawned *spawned, struct plane_error *err)
{
	return store->impl->spawn(store, spawn, spawned, err);
}

int plane_store_refused_find(struct plane_store *store, int64_t drone_id, const char *action_id,
	struct plane_store_refused *refused, struct plane_error *err)
{
	return store->impl->refused_find(store, drone_id, action_id, refused, err);
}

int plane_store_move(struct plane_store *store, const struct plane_store_move *move,
	struct plane_store_spawned *spawned, struct plane_error *err)
{
	return store->impl->move(store, move, spawned, err);
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

int plane_store_running_check(struct plane_store *store, int64_t node_id,
	struct plane_store_running *running, size_t count, struct plane_error *err)
{
	return store->impl->running_check(store, node_id, running, count, err);
}

int plane_store_backends_keep_alive(struct plane_store *store, const char *const *backends,
	size_t count, bool *is_alive, struct plane_error *err)
{
	return store->impl->backends_keep_alive(store, backends, count, is_alive, err);
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

int plane_store_key_list(struct plane_store *store, const struct plane_store_key_filter *filter,
	struct plane_store_key_list *list, struct plane_error *err)
{
	return store->impl->key_list(store, filter, list, err);
}

int plane_store_actions_pending(struct plane_store *store, int64_t node_id, size_t limit,
	struct plane_store_actions *actions, struct plane_error *err)
{
	return store->impl->actions_pending(store, node_id, limit, actions, err);
}

int plane_store_actions_ack(struct plane_store *store, const char *const *action_ids, size_t count,
	int64_t node_id, struct plane_error *err)
{
	return store->impl->actions_ack(store, action_ids, count, node_id, err);
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

int plane_store_mark_broken(
	struct plane_store *store, struct plane_store_lost *lost, struct plane_error *err)
{
	return store->impl->mark_broken(store, lost, err);
}

bool plane_store_is_shared(const struct plane_store *store)
{
	return store->impl->feed_open != NULL;
}

struct plane_store_feed *plane_store_feed_open(
	struct plane_store *store, const char *controller, struct plane_error *err)
{
	return store->impl->feed_open(store, controller, err);
}

void plane_store_feed_close(struct plane_store_feed *feed)
{
	if (feed)
		feed->impl->close(feed);
}

int plane_store_feed_wait(struct plane_store_feed *feed, int wake_fd, int timeout_ms,
	bool *is_notified, struct plane_error *err)
{
	return feed->impl->wait(feed, wake_fd, timeout_ms, is_notified, err);
}

int plane_store_feed_read(
	struct plane_store_feed *feed, struct plane_store_events *events, struct plane_error *err)
{
	return feed->impl->read(feed, events, err);
}

int plane_store_feed_notify(struct plane_store_feed *feed, struct plane_error *err)
{
	return feed->impl->notify(feed, err);
}

void plane_store_events_finish(struct plane_store_events *events)
{
	for (size_t i = 0; i < events->count; i++) {
		free(events->entries[i].message);
		free(events->entries[i].user);
	}
	free(events->entries);
	*events = (struct plane_store_events){ 0 };
}

int plane_store_cleanup_nodes(struct plane_store *store, int64_t min_age_ms, int batch,
	int64_t *removed, struct plane_error *err)
{
	return store->impl->cleanup_nodes(store, min_age_ms, batch, removed, err);
}

int plane_store_cleanup_tokens(
	struct plane_store *store, int batch, int64_t *removed, struct plane_error *err)
{
	return store->impl->cleanup_tokens(store, batch, removed, err);
}

int plane_store_cleanup_revocations(
	struct plane_store *store, int batch, int64_t *removed, struct plane_error *err)
{
	return store->impl->cleanup_revocations(store, batch, removed, err);
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

/* ---- what results own ---- */

void plane_store_drones_finish(struct plane_store_drones *drones)
{
	free(drones->entries);
	*drones = (struct plane_store_drones){ 0 };
}

void plane_store_leases_finish(struct plane_store_leases *leases)
{
	free(leases->entries);
	*leases = (struct plane_store_leases){ 0 };
}

void plane_store_refused_finish(struct plane_store_refused *refused)
{
	free(refused->cluster);
	free(refused->pool);
	free(refused->message);
	free(refused->tried);
	*refused = (struct plane_store_refused){ 0 };
}

void plane_store_members_finish(struct plane_store_members *members)
{
	for (size_t i = 0; i < members->count; i++) {
		struct plane_store_member *member = &members->entries[i];
		free(member->name);
		free(member->cluster);
		free(member->version);
		free(member->git_hash);
		free(member->ip);
		free(member->controller);
		free(member->pool);
	}
	free(members->entries);
	*members = (struct plane_store_members){ 0 };
}

void plane_store_route_finish(struct plane_store_route *route)
{
	free(route->backend);
	free(route->secret_token);
	free(route->cluster);
	free(route->user);
	free(route->subdomain);
	json_decref(route->auth);
	*route = (struct plane_store_route){ 0 };
}

void plane_store_history_finish(struct plane_store_history *history)
{
	free(history->entries);
	*history = (struct plane_store_history){ 0 };
}

void plane_store_backend_list_finish(struct plane_store_backend_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		struct plane_store_listed_backend *listed = &list->entries[i];
		free(listed->backend);
		free(listed->cluster);
		free(listed->drone);
		free(listed->key_namespace);
		free(listed->key_name);
		free(listed->key_tag);
	}
	free(list->entries);
	*list = (struct plane_store_backend_list){ 0 };
}

void plane_store_key_list_finish(struct plane_store_key_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		struct plane_store_listed_key *key = &list->entries[i];
		free(key->key_namespace);
		free(key->key_name);
		free(key->key_tag);
		free(key->backend);
		free(key->cluster);
		free(key->drone);
	}
	free(list->entries);
	*list = (struct plane_store_key_list){ 0 };
}

void plane_store_actions_finish(struct plane_store_actions *actions)
{
	for (size_t i = 0; i < actions->count; i++)
		free(actions->entries[i].message);
	free(actions->entries);
	*actions = (struct plane_store_actions){ 0 };
}

void plane_store_sweep_finish(struct plane_store_sweep *sweep)
{
	free(sweep->entries);
	*sweep = (struct plane_store_sweep){ 0 };
}

void plane_store_lost_finish(struct plane_store_lost *lost)
{
	free(lost->entries);
	*lost = (struct plane_store_lost){ 0 };
}

int plane_store_read_state(
	const char *text, struct plane_backend_state *state, struct plane_error *err)
{
	_cleanup_json_ json_t *json = plane_json_parse(text, strlen(text), err);
	if (!json || plane_backend_state_read(json, state, err) < 0)
		return plane_error_prefix(err, "read a stored state");
	return 0;
}

void plane_store_statuses_wanted(
	const struct plane_store_backend_filter *filter, int64_t *first, int64_t *last)
{
	*first = filter->status ? filter->status : PLANE_SCHEDULED;
	*last = filter->status ? filter->status : PLANE_TERMINATED;
	if (filter->is_alive && *last == PLANE_TERMINATED)
		*last = PLANE_TERMINATED - 1; /* none when that is wanted */
}

int64_t *plane_store_resource(struct plane_drone_resources *resources, int column)
{
	int64_t *const columns[PLANE_STORE_RESOURCE_COUNT] = {
		&resources->total.memory_bytes,
		&resources->allocatable.memory_bytes,
		&resources->reserved.memory_bytes,
		&resources->memory_available_bytes,
		&resources->total.cpu_millis,
		&resources->allocatable.cpu_millis,
		&resources->reserved.cpu_millis,
		&resources->load_millis,
		&resources->last_fencing_token,
	};
	return columns[column];
}

struct plane_drone_order plane_store_spawn_order(const struct plane_store_spawn *spawn)
{
	return (struct plane_drone_order){ .kind = PLANE_ORDER_SPAWN,
		.action_id = spawn->action_id,
		.backend = spawn->backend,
		.drone_id = spawn->drone_id,
		.executable = spawn->executable,
		.key_name = spawn->key_name,
		.key_namespace = spawn->key_namespace,
		.key_tag = spawn->key_tag,
		.epoch = spawn->lease_epoch,
		.has_deadlines = true,
		.deadlines = spawn->deadlines,
		.static_token = spawn->static_token,
		.has_resources = plane_resources_any(&spawn->resources),
		.resources = spawn->resources };
}

char *plane_store_order_text(const struct plane_drone_order *order)
{
	_cleanup_json_ json_t *json = plane_drone_order_write(order);
	return plane_json_dump(json);
}

void plane_store_order_split(
	struct plane_drone_order *order, int64_t *number, struct plane_store_order_parts *parts)
{
	*number = 1;
	char *one = plane_store_order_text(order);
	*number = 2;
	_cleanup_free_ char *two = plane_store_order_text(order);
	size_t at = 0; /* of the one digit in which they differ */
	while (one[at] == two[at])
		at++;
	one[at] = '\0';
	*parts = (struct plane_store_order_parts){ .before = one,
		.after = plane_strdup(two + at + 1) };
}

void plane_store_order_parts_finish(struct plane_store_order_parts *parts)
{
	free(parts->before);
	free(parts->after);
	*parts = (struct plane_store_order_parts){ 0 };
}
