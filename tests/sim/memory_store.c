/* The store in memory: opening it, its clock, and what all of it is made of. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/alloc.h"
#include "base/text.h"
#include "memory_internal.h"

struct memory_database *memory_begin(struct plane_store *store)
{
	struct memory_database *database = MEMORY_STORE(store)->database;
	pthread_mutex_lock(&database->mutex);
	return database;
}

int memory_end(struct memory_database *database, int result)
{
	pthread_mutex_unlock(&database->mutex);
	return result;
}

int64_t memory_now(struct memory_database *database)
{
	int64_t now_ms = database->clock.now_ms(database->clock.data);
	if (now_ms > database->last_ms)
		database->last_ms = now_ms;
	return database->last_ms;
}

struct memory_node *memory_node_by_id(struct memory_database *database, int64_t id)
{
	struct memory_node *node = NULL;
	HASH_FIND(hh_id, database->nodes_by_id, &id, sizeof(id), node);
	return node;
}

struct memory_backend *memory_backend_by_name(struct memory_database *database, const char *name)
{
	struct memory_backend *backend = NULL;
	HASH_FIND_STR(database->backends, name, backend);
	return backend;
}

enum plane_backend_status memory_status(const struct memory_backend *backend)
{
	return backend->states[backend->state_count - 1].status;
}

bool memory_is_limited(const struct memory_backend *backend)
{
	return backend->lifetime_ends_at >= 0 || backend->max_idle_ms >= 0;
}

struct plane_backend_state memory_state(const struct memory_state *state)
{
	struct plane_backend_state plain = { .status = state->status };
	return state->rare ? *state->rare : plain;
}

bool memory_key_is_live(const struct memory_key *key, int64_t now_ms)
{
	if (key->lease_epoch == 0)
		return key->expires_at > now_ms;
	return key->lease_epoch >= key->drone->lease_epoch;
}

/* ---- states ---- */

static bool is_plain(const struct plane_backend_state *state)
{
	return !state->address[0] && !state->last_status && !state->termination && !state->reason &&
	       !state->has_exit_code && !state->signal && !state->was_oom_killed &&
	       !state->message[0];
}

static void add_state(
	struct memory_backend *backend, const struct plane_backend_state *state, int64_t now_ms)
{
	backend->states = plane_realloc(
		backend->states, (backend->state_count + 1) * sizeof(backend->states[0]));
	struct memory_state *added = &backend->states[backend->state_count++];
	*added = (struct memory_state){ .time_ms = now_ms, .status = state->status };
	if (!is_plain(state)) {
		added->rare = PLANE_NEW(struct plane_backend_state);
		*added->rare = *state;
	}
}

static void end_backend(struct memory_database *database, struct memory_backend *backend)
{
	struct memory_token *token, *next;
	if (backend->key)
		memory_release_key(database, backend->key);
	DL_FOREACH_SAFE (backend->tokens, token, next)
		if (database->fault != MEMORY_FAULT_KEEP_TOKENS)
			memory_forget_token(database, token);
	while (backend->actions)
		memory_forget_action(database, backend->actions);
	DL_DELETE(backend->drone->backends, backend);
	backend->drone->backend_count--;
	backend->drone->own_leases -= backend->lease_epoch == 0;
	backend->drone->limited -= memory_is_limited(backend);
}

void memory_put_state(struct memory_store *store, struct memory_backend *backend,
	const struct plane_backend_state *state)
{
	struct memory_database *database = store->database;
	int64_t now_ms = memory_now(database);
	bool was_ended = backend->state_count && memory_status(backend) == PLANE_TERMINATED;
	struct plane_store_event event = {
		.kind = PLANE_STORE_EVENT_STATE, .state = *state, .time_ms = now_ms
	};
	backend->drone->terminating -=
		backend->state_count && memory_status(backend) == PLANE_TERMINATING;
	add_state(backend, state, now_ms);
	backend->drone->terminating += state->status == PLANE_TERMINATING;
	if (state->status <= PLANE_READY)
		backend->keepalive_at = now_ms;
	if (state->status == PLANE_TERMINATED && !was_ended)
		end_backend(database, backend);
	memcpy(event.backend, backend->name, sizeof(event.backend));
	memory_tell(store, &event);
}

/* ---- what is let go ---- */

void memory_release_key(struct memory_database *database, struct memory_key *key)
{
	key->backend->key = NULL;
	HASH_DEL(database->keys, key);
	free(key->path);
	free(key->tag);
	free(key);
}

void memory_forget_token(struct memory_database *database, struct memory_token *token)
{
	DL_DELETE(token->backend->tokens, token);
	HASH_DEL(database->tokens, token);
	free(token->secret);
	free(token->user);
	free(token->auth);
	free(token);
}

void memory_forget_action(struct memory_database *database, struct memory_action *action)
{
	DL_DELETE(action->drone->actions, action);
	DL_DELETE2(action->backend->actions, action, of_backend_prev, of_backend_next);
	HASH_DEL(database->actions, action);
	free(action->message);
	free(action);
}

void memory_free_backend(struct memory_database *database, struct memory_backend *backend)
{
	if (memory_status(backend) != PLANE_TERMINATED)
		end_backend(database, backend);
	while (backend->tokens)
		memory_forget_token(database, backend->tokens);
	HASH_DEL(database->backends, backend);
	if (backend->static_token)
		HASH_DELETE(hh_token, database->backends_by_token, backend);
	for (size_t i = 0; i < backend->state_count; i++)
		free(backend->states[i].rare);
	free(backend->states);
	free(backend->tried);
	free(backend->cluster);
	free(backend->key_namespace);
	free(backend->key_name);
	free(backend->key_tag);
	free(backend->subdomain);
	free(backend->static_token);
	free(backend);
}

void memory_free_node(struct memory_database *database, struct memory_node *node)
{
	HASH_DEL(database->nodes, node);
	HASH_DELETE(hh_id, database->nodes_by_id, node);
	free(node->name);
	free(node->cluster);
	free(node->controller);
	free(node->controller_url);
	free(node->version);
	free(node->git_hash);
	free(node->ip);
	free(node->backend_ip);
	free(node->path);
	free(node->pool);
	free(node->journal);
	free(node);
}

static void free_certificate(struct memory_database *database, struct memory_certificate *one)
{
	HASH_DEL(database->certificates, one);
	free(one->cluster);
	free(one->txt_value);
	free(one);
}

void memory_database_destroy(struct memory_database *database)
{
	struct memory_backend *backend, *next_backend;
	struct memory_node *node, *next_node;
	struct memory_controller *controller, *next_controller;
	struct memory_revocation *revocation, *next_revocation;
	struct memory_certificate *certificate, *next_certificate;
	if (!database)
		return;
	HASH_ITER (hh, database->backends, backend, next_backend)
		memory_free_backend(database, backend);
	HASH_ITER (hh, database->nodes, node, next_node)
		memory_free_node(database, node);
	HASH_ITER (hh, database->controllers, controller, next_controller) {
		HASH_DEL(database->controllers, controller);
		free(controller);
	}
	DL_FOREACH_SAFE (database->revocations, revocation, next_revocation) {
		free(revocation->user);
		free(revocation);
	}
	HASH_ITER (hh, database->certificates, certificate, next_certificate)
		free_certificate(database, certificate);
	memory_free_events(database);
	pthread_mutex_destroy(&database->mutex);
	free(database);
}

struct memory_database *memory_database_create(const struct memory_clock *clock)
{
	struct memory_database *database = PLANE_NEW(struct memory_database);
	pthread_mutex_init(&database->mutex, NULL);
	database->clock = *clock;
	database->incarnation = 1;
	return database;
}

/* One that ends is known by its order to end, which came later. */
static void forget(
	struct memory_database *database, int64_t since_ms, memory_forgotten_fn forgotten)
{
	struct memory_backend *backend, *next;
	HASH_ITER (hh, database->backends, backend, next) {
		if (backend->created_at < since_ms || memory_status(backend) >= PLANE_TERMINATING ||
			backend->is_end_ordered)
			continue;
		if (forgotten)
			forgotten(backend->name);
		memory_free_backend(database, backend);
	}
}

void memory_database_fail_over(
	struct memory_database *database, int64_t forget_ms, memory_forgotten_fn forgotten)
{
	struct memory_node *node, *next_node;
	struct memory_action *action, *next_action;
	pthread_mutex_lock(&database->mutex);
	database->incarnation++;
	if (forget_ms)
		forget(database, memory_now(database) - forget_ms, forgotten);
	database->recovering_since =
		database->fault == MEMORY_FAULT_NO_RECOVERY ? 0 : memory_now(database);
	HASH_ITER (hh, database->nodes, node, next_node) {
		if (!node->is_drone)
			continue;
		node->is_unreconciled = true;
		node->connection_id = 0;
	}
	HASH_ITER (hh, database->actions, action, next_action)
		action->must_wait = database->recovering_since != 0;
	pthread_mutex_unlock(&database->mutex);
}

void memory_database_set_fault(struct memory_database *database, enum memory_fault fault)
{
	database->fault = fault;
}

/* ---- for invariants ---- */

static struct memory_seen_backend see(const struct memory_backend *backend)
{
	struct memory_seen_backend seen = { .name = backend->name,
		.key = backend->key_name,
		.status = memory_status(backend),
		.lease_epoch = backend->lease_epoch,
		.fencing_token = backend->key ? backend->key->fencing_token : 0,
		.drone = backend->drone->name };
	const struct memory_action *action;
	for (action = backend->actions; action; action = action->of_backend_next)
		seen.pending_orders++;
	for (size_t i = 0; i < backend->state_count; i++)
		seen.states |= 1U << (backend->states[i].status / 5);
	return seen;
}

void memory_database_each(struct memory_database *database,
	void (*each)(void *data, const struct memory_seen_backend *backend), void *data)
{
	struct memory_backend *backend, *next;
	HASH_ITER (hh, database->backends, backend, next) {
		struct memory_seen_backend seen = see(backend);
		each(data, &seen);
	}
}

bool memory_database_find(
	struct memory_database *database, const char *name, struct memory_seen_backend *backend)
{
	const struct memory_backend *found = memory_backend_by_name(database, name);
	if (found)
		*backend = see(found);
	return found != NULL;
}

/* ---- the store ---- */

static void close_store(struct plane_store *store)
{
	free(store);
}

static int succeed(struct plane_store *store, struct plane_error *err)
{
	(void)store;
	(void)err;
	return 0;
}

static void no_statistics(struct plane_store *store, struct plane_store_statistics *statistics)
{
	(void)store;
	*statistics = (struct plane_store_statistics){ 0 };
}

static const struct plane_store_impl implementation = {
	.close = close_store,
	.migrate = succeed,
	.ping = succeed,
	.sync = succeed,
	.statistics = no_statistics,
	.controller_heartbeat = memory_controller_heartbeat,
	.controller_offline = memory_controller_offline,
	.node_connected = memory_node_connected,
	.node_disconnected = memory_node_disconnected,
	.registrations_check = memory_registrations_check,
	.node_controller = memory_node_controller,
	.address_owner = memory_address_owner,
	.drone_heartbeat = memory_drone_heartbeat,
	.drone_drain = memory_drone_drain,
	.member_list = memory_member_list,
	.leases_find = memory_leases_find,
	.recovery_end = memory_recovery_end,
	.drone_reconciled = memory_drone_reconciled,
	.leases_renew = memory_leases_renew,
	.lease_break = memory_lease_break,
	.connect = memory_connect,
	.keys_renew = memory_keys_renew,
	.token_create = memory_token_create,
	.token_revoke = memory_token_revoke,
	.revocations = memory_revocations,
	.spawn = memory_spawn,
	.refused_find = memory_refused_find,
	.move = memory_move,
	.backend_find = memory_backend_find,
	.backend_update = memory_backend_update,
	.running_check = memory_running_check,
	.backends_keep_alive = memory_backends_keep_alive,
	.backend_history = memory_backend_history,
	.route_find = memory_route_find,
	.backend_list = memory_backend_list,
	.key_list = memory_key_list,
	.actions_pending = memory_actions_pending,
	.actions_ack = memory_actions_ack,
	.terminate = memory_terminate,
	.sweep_candidates = memory_sweep_candidates,
	.mark_lost = memory_mark_lost,
	.mark_broken = memory_mark_broken,
	.feed_open = memory_feed_open,
	.cleanup_nodes = memory_cleanup_nodes,
	.cleanup_tokens = memory_cleanup_tokens,
	.cleanup_revocations = memory_cleanup_revocations,
	.cleanup_backends = memory_cleanup_backends,
	.cert_lease = memory_cert_lease,
	.cert_set_txt = memory_cert_set_txt,
	.cert_release = memory_cert_release,
	.cert_get_txt = memory_cert_get_txt,
};

struct plane_store *memory_store_open(struct memory_database *database)
{
	struct memory_store *store = PLANE_NEW(struct memory_store);
	store->base.impl = &implementation;
	store->database = database;
	pthread_mutex_lock(&database->mutex);
	store->origin = ++database->last_origin;
	store->opened_at = memory_now(database);
	pthread_mutex_unlock(&database->mutex);
	return &store->base;
}
