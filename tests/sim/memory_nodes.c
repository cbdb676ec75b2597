/* The store in memory: controllers, nodes, leases of drones. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "memory_internal.h"

int memory_controller_heartbeat(
	struct plane_store *store, const char *name, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	struct memory_controller *controller = NULL;
	(void)err;
	HASH_FIND_STR(database->controllers, name, controller);
	if (!controller) {
		controller = PLANE_NEW(struct memory_controller);
		(void)plane_text_copy(controller->name, sizeof(controller->name), name);
		HASH_ADD_STR(database->controllers, name, controller);
	}
	controller->is_online = true;
	controller->heartbeat_at = memory_now(database);
	return memory_end(database, 0);
}

int memory_controller_offline(struct plane_store *store, const char *name, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	struct memory_controller *controller = NULL;
	struct memory_node *node, *next;
	(void)err;
	HASH_FIND_STR(database->controllers, name, controller);
	if (controller)
		controller->is_online = false;
	HASH_ITER (hh, database->nodes, node, next)
		if (node->controller && strcmp(node->controller, name) == 0) {
			free(STEAL(node->controller));
			node->seen_at = memory_now(database);
		}
	return memory_end(database, 0);
}

static void replace(char **text, const char *value)
{
	free(*text);
	*text = plane_strdup(value ? value : "");
}

static struct memory_node *find_or_add(
	struct memory_database *database, const char *cluster, const char *name)
{
	_cleanup_free_ char *path = plane_strdupf("%s/%s", cluster ? cluster : "", name);
	struct memory_node *node = NULL;
	HASH_FIND_STR(database->nodes, path, node);
	if (node)
		return node;
	node = PLANE_NEW(struct memory_node);
	node->id = ++database->last_node_id;
	node->path = STEAL(path);
	node->name = plane_strdup(name);
	node->cluster = plane_strdup(cluster ? cluster : "");
	HASH_ADD_KEYPTR(hh, database->nodes, node->path, strlen(node->path), node);
	HASH_ADD(hh_id, database->nodes_by_id, id, sizeof(node->id), node);
	return node;
}

int memory_node_connected(struct plane_store *store, const struct plane_store_node *node,
	int64_t *node_id, int64_t *connection_id, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	struct memory_node *known = find_or_add(database, node->cluster, node->name);
	(void)err;
	known->kind = node->kind;
	known->connection_id = ++database->last_connection_id;
	free(known->controller);
	free(known->controller_url);
	known->controller = plane_strdup(node->controller); /* NULL stays NULL */
	known->controller_url = plane_strdup(node->controller_url);
	replace(&known->version, node->version);
	replace(&known->git_hash, node->git_hash);
	replace(&known->ip, node->ip);
	known->seen_at = memory_now(database);
	free(known->backend_ip);
	known->backend_ip = plane_strdup(node->backend_ip);
	known->first_port = node->first_port;
	known->last_port = node->last_port;
	if (node->kind == PLANE_NODE_DRONE) {
		replace(&known->pool, node->pool);
		known->is_drone = known->is_ready = true;
		known->has_key_leases = !node->has_lease;
		if (!node->has_lease || !known->is_lease_granted) {
			known->heartbeat_at = known->local_time_ms = 0;
			known->has_resources = false;
		}
	}
	*node_id = known->id;
	*connection_id = known->connection_id;
	return memory_end(database, 0);
}

int memory_node_disconnected(
	struct plane_store *store, int64_t node_id, int64_t connection_id, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	struct memory_node *node = memory_node_by_id(database, node_id);
	(void)err;
	if (node && (node->connection_id == connection_id || node->connection_id == 0)) {
		free(STEAL(node->controller));
		node->seen_at = memory_now(database);
	}
	return memory_end(database, 0);
}

int memory_registrations_check(struct plane_store *store,
	struct plane_store_registration *registrations, size_t count, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	(void)err;
	for (size_t i = 0; i < count; i++) {
		const struct memory_node *node =
			memory_node_by_id(database, registrations[i].node_id);
		registrations[i].is_current = node && node->controller &&
					      node->connection_id == registrations[i].connection_id;
	}
	return memory_end(database, 0);
}

int memory_node_controller(struct plane_store *store, int64_t node_id, char **name, char **url,
	struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	const struct memory_node *node = memory_node_by_id(database, node_id);
	bool is_connected = node && node->controller;
	(void)err;
	*name = is_connected ? plane_strdup(node->controller) : NULL;
	*url = is_connected ? plane_strdup(node->controller_url) : NULL;
	return memory_end(database, 0);
}

static bool is_heard_of(const struct memory_database *database, const char *name, int64_t since_ms)
{
	const struct memory_controller *controller = NULL;
	if (name)
		HASH_FIND_STR(database->controllers, name, controller);
	return controller && controller->heartbeat_at > since_ms;
}

int memory_address_owner(struct plane_store *store, int64_t node_id, const char *ip, int first_port,
	int last_port, int64_t healthy_ms, char **name, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	int64_t since_ms = memory_now(database) - healthy_ms;
	const struct memory_node *node, *next;
	(void)err;
	*name = NULL;
	HASH_ITER (hh, database->nodes, node, next) {
		if (*name || node->id == node_id || !node->backend_ip ||
			strcmp(node->backend_ip, ip) != 0 || node->first_port > last_port ||
			node->last_port < first_port)
			continue;
		const struct memory_controller *controller = NULL;
		if (node->controller)
			HASH_FIND_STR(database->controllers, node->controller, controller);
		if (is_heard_of(database, node->controller, since_ms) && controller->is_online)
			*name = plane_strdup(node->name);
	}
	return memory_end(database, 0);
}

static bool holds_something(const struct memory_database *database, const struct memory_node *node)
{
	const struct memory_backend *backend, *next;
	const struct memory_certificate *certificate, *next_certificate;
	if (node->is_drone && (node->is_draining || node->is_lease_granted))
		return true;
	HASH_ITER (hh, database->backends, backend, next)
		if (backend->drone == node)
			return true;
	HASH_ITER (hh, database->certificates, certificate, next_certificate)
		if (certificate->node_id == node->id)
			return true;
	return false;
}

int memory_cleanup_nodes(struct plane_store *store, int64_t min_age_ms, int batch, int64_t *removed,
	struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	int64_t before_ms = memory_now(database) - min_age_ms;
	struct memory_node *node, *next;
	(void)err;
	*removed = 0;
	HASH_ITER (hh, database->nodes, node, next) {
		if (*removed == batch || node->seen_at >= before_ms ||
			is_heard_of(database, node->controller, before_ms) ||
			holds_something(database, node))
			continue;
		memory_free_node(database, node);
		++*removed;
	}
	return memory_end(database, 0);
}

int memory_drone_heartbeat(
	struct plane_store *store, int64_t node_id, int64_t local_time_ms, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	struct memory_node *node = memory_node_by_id(database, node_id);
	(void)err;
	if (node) {
		node->heartbeat_at = node->is_lease_granted ? 0 : memory_now(database);
		node->local_time_ms = local_time_ms;
		node->told_backend_count = node->backend_count;
	}
	return memory_end(database, 0);
}

int memory_drone_drain(struct plane_store *store, const char *cluster, const char *name,
	bool is_draining, bool *is_changed, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	_cleanup_free_ char *path = plane_strdupf("%s/%s", cluster, name);
	struct memory_node *node = NULL;
	HASH_FIND_STR(database->nodes, path, node);
	if (!node || !node->is_drone)
		return memory_end(database,
			plane_error_set(err, -ENOENT, "no drone %s in cluster %s", name, cluster));
	*is_changed = node->is_draining != is_draining;
	node->is_draining = is_draining;
	return memory_end(database, 0);
}

/* ---- placement ---- */

static bool is_eligible(struct memory_database *database, const struct memory_node *node,
	const struct plane_store_connect *request, int64_t now_ms)
{
	struct memory_controller *controller = NULL;
	int64_t healthy_ms =
		node->is_lease_granted ? request->lease_healthy_ms : request->healthy_ms;
	if (!node->is_drone || !node->is_ready || node->is_draining || !node->controller ||
		strcmp(node->cluster, request->cluster) != 0 ||
		strcmp(node->pool, request->pool) != 0)
		return false;
	HASH_FIND_STR(database->controllers, node->controller, controller);
	return node->heartbeat_at && node->heartbeat_at > now_ms - healthy_ms && controller &&
	       controller->is_online && controller->heartbeat_at > now_ms - request->healthy_ms;
}

void memory_drones_eligible(struct memory_database *database,
	const struct plane_store_connect *request, struct plane_store_drones *drones)
{
	struct memory_node *node, *next;
	int64_t now_ms = memory_now(database);
	drones->entries =
		plane_alloc_zero(HASH_COUNT(database->nodes) + 1, sizeof(drones->entries[0]));
	HASH_ITER (hh, database->nodes, node, next) {
		if (!is_eligible(database, node, request, now_ms))
			continue;
		struct plane_store_drone *drone = &drones->entries[drones->count++];
		drone->id = node->id;
		drone->last_local_time_ms = node->local_time_ms;
		drone->silent_ms = now_ms - node->heartbeat_at;
		drone->backend_count = node->told_backend_count;
		drone->has_resources = node->has_resources;
		drone->resources = node->resources;
		drone->lease_epoch = node->is_lease_granted ? node->lease_epoch : 0;
		(void)plane_text_copy(drone->name, sizeof(drone->name), node->name);
	}
}

/* ---- leases of drones ---- */

int memory_leases_find(
	struct plane_store *store, struct plane_store_leases *leases, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	struct memory_node *node, *next;
	(void)err;
	*leases = (struct plane_store_leases){ .incarnation = database->incarnation,
		.recovering_since_ms = database->recovering_since,
		.entries = plane_alloc_zero(
			HASH_COUNT(database->nodes) + 1, sizeof(leases->entries[0])) };
	HASH_ITER (hh, database->nodes, node, next) {
		leases->has_key_leases |=
			database->recovering_since && node->has_key_leases &&
			(node->controller || node->seen_at > memory_now(database) - 86400000);
		if (!node->is_lease_granted)
			continue;
		struct plane_store_lease *lease = &leases->entries[leases->count++];
		*lease = (struct plane_store_lease){ .drone_id = node->id,
			.epoch = node->lease_epoch,
			.renewals = node->lease_renewals,
			.expire_ms = node->lease_expire_ms };
		(void)plane_text_copy(lease->drone, sizeof(lease->drone), node->name);
	}
	return memory_end(database, 0);
}

static bool may_renew(const struct memory_database *database, const struct memory_node *node,
	const struct plane_store_renewal *renewal)
{
	if (!node || !node->is_drone)
		return false;
	if (database->fault == MEMORY_FAULT_RENEW_BROKEN && renewal->epoch)
		return true;
	if (!node->is_lease_granted)
		return renewal->epoch == 0;
	return strcmp(node->journal, renewal->journal) == 0 &&
	       (renewal->epoch == 0 || renewal->epoch == node->lease_epoch);
}

static void renew(struct memory_database *database, struct plane_store_renewal *renewal)
{
	struct memory_node *node = memory_node_by_id(database, renewal->drone_id);
	if (!may_renew(database, node, renewal)) {
		renewal->result = renewal->epoch ? PLANE_RENEWAL_BROKEN : PLANE_RENEWAL_WAITING;
		return;
	}
	int64_t after = renewal->epoch ? renewal->epoch - 1 : renewal->last_epoch;
	if (!node->is_lease_granted || node->lease_epoch <= after) {
		node->lease_epoch = (node->lease_epoch > after ? node->lease_epoch : after) + 1;
		node->has_broken = true; /* perhaps */
	}
	node->is_lease_granted = true;
	node->lease_renewals++;
	node->lease_expire_ms = renewal->expire_ms;
	node->heartbeat_at = memory_now(database);
	node->local_time_ms = renewal->local_time_ms;
	node->has_resources = renewal->has_resources;
	node->resources = renewal->resources;
	node->told_backend_count = renewal->has_resources ? renewal->resources.backend_count : 0;
	replace(&node->journal, renewal->journal);
	renewal->result = PLANE_RENEWAL_GRANTED;
	if (database->fault != MEMORY_FAULT_RENEW_BROKEN || renewal->epoch == 0)
		renewal->epoch = node->lease_epoch;
}

int memory_leases_renew(struct plane_store *store, struct plane_store_renewal *renewals,
	size_t count, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	(void)err;
	for (size_t i = 0; i < count; i++)
		renew(database, &renewals[i]);
	return memory_end(database, 0);
}

int memory_drone_reconciled(
	struct plane_store *store, int64_t node_id, int64_t connection_id, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	struct memory_node *node = memory_node_by_id(database, node_id);
	(void)err;
	if (node && node->connection_id == connection_id)
		node->is_unreconciled = false;
	return memory_end(database, 0);
}

int memory_recovery_end(
	struct plane_store *store, int64_t since_ms, bool *is_over, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	struct memory_node *node, *next_node;
	struct memory_action *action, *next_action;
	(void)err;
	*is_over = true;
	HASH_ITER (hh, database->nodes, node, next_node)
		if (node->is_lease_granted && node->is_unreconciled)
			*is_over = false;
	if (!*is_over || database->recovering_since != since_ms)
		return memory_end(database, 0);
	database->recovering_since = 0;
	HASH_ITER (hh, database->actions, action, next_action)
		action->must_wait = false;
	return memory_end(database, 0);
}

int memory_lease_break(struct plane_store *store, const struct plane_store_lease *lease,
	bool *is_broken, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	struct memory_node *node = memory_node_by_id(database, lease->drone_id);
	bool is_same = node && node->is_lease_granted && node->lease_epoch == lease->epoch &&
		       (node->lease_renewals == lease->renewals ||
			       database->fault == MEMORY_FAULT_BREAK_RENEWED);
	(void)err;
	if (is_same) {
		node->lease_epoch++;
		node->is_lease_granted = false;
		node->heartbeat_at = 0;
		node->has_broken = true;
	}
	*is_broken = is_same;
	return memory_end(database, 0);
}
