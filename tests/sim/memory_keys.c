/* The store in memory: keys, tokens, and what makes a backend. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"
#include "memory_internal.h"

/* The caller frees it: both texts and a NUL between. */
static char *key_path(const char *key_namespace, const char *name, unsigned *length)
{
	size_t first = strlen(key_namespace) + 1, second = strlen(name) + 1;
	char *path = plane_alloc(first + second);
	memcpy(path, key_namespace, first);
	memcpy(path + first, name, second);
	*length = (unsigned)(first + second - 1);
	return path;
}

static struct memory_key *find_key(
	struct memory_database *database, const char *key_namespace, const char *name)
{
	unsigned length;
	struct memory_key *key = NULL;
	_cleanup_free_ char *path = key_path(key_namespace, name, &length);
	HASH_FIND(hh, database->keys, path, length, key);
	return key;
}

static void read_key(
	const struct memory_key *key, int64_t now_ms, struct plane_store_held_key *held)
{
	const struct memory_backend *backend = key->backend;
	*held = (struct plane_store_held_key){ .is_found = true,
		.is_live = memory_key_is_live(key, now_ms),
		.status = memory_status(backend) };
	(void)plane_text_copy(held->tag, sizeof(held->tag), key->tag);
	(void)plane_text_copy(held->backend, sizeof(held->backend), backend->name);
	(void)plane_text_copy(held->cluster, sizeof(held->cluster), backend->cluster);
	(void)plane_text_copy(held->subdomain, sizeof(held->subdomain),
		backend->subdomain ? backend->subdomain : "");
	(void)plane_text_copy(held->static_token, sizeof(held->static_token),
		backend->static_token ? backend->static_token : "");
}

int memory_connect(struct plane_store *store, const struct plane_store_connect *request,
	struct plane_store_connection *connection, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	struct plane_store_connection found = { 0 };
	struct plane_store_held_key *held = &found.key;
	struct memory_key *key =
		request->key_name ? find_key(database, request->key_namespace, request->key_name)
				  : NULL;
	if (key)
		read_key(key, memory_now(database), held);
	if (held->is_live && request->token && strcmp(held->tag, request->key_tag) == 0 &&
		held->status < PLANE_TERMINATING && !held->static_token[0]) {
		struct plane_store_token token = *request->token;
		token.backend = held->backend;
		int result = memory_add_token(database, &token, err);
		if (result < 0)
			return memory_end(database, result);
		found.has_token = true;
	}
	found.is_recovering = !held->is_live && database->recovering_since;
	if (!held->is_live && request->cluster)
		memory_drones_eligible(database, request, &found.drones);
	*connection = found;
	return memory_end(database, 0);
}

int memory_keys_renew(struct plane_store *store, const char *const *backends, size_t count,
	int64_t node_id, int64_t lease_ms, bool *is_renewed, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	(void)err;
	for (size_t i = 0; i < count; i++) {
		struct memory_backend *backend = memory_backend_by_name(database, backends[i]);
		struct memory_key *key = backend ? backend->key : NULL;
		is_renewed[i] = key && key->lease_epoch == 0 && key->drone->id == node_id;
		if (is_renewed[i])
			key->expires_at = memory_now(database) + lease_ms;
	}
	return memory_end(database, 0);
}

/* ---- tokens ---- */

int memory_add_token(struct memory_database *database, const struct plane_store_token *token,
	struct plane_error *err)
{
	struct memory_backend *backend = memory_backend_by_name(database, token->backend);
	struct memory_token *made = NULL;
	HASH_FIND_STR(database->tokens, token->token, made);
	if (!backend)
		return plane_error_set(err, -ENOENT, "there is no backend %s", token->backend);
	if (made)
		return plane_error_set(err, -EEXIST, "there is such a token");
	made = PLANE_NEW(struct memory_token);
	(void)plane_text_copy(made->token, sizeof(made->token), token->token); /* checked */
	made->secret = plane_strdup(token->secret_token);
	made->user = plane_strdup(token->user);
	made->auth = plane_json_dump(token->auth);
	made->expires_at = memory_now(database) + token->lifetime_ms;
	made->backend = backend;
	DL_APPEND(backend->tokens, made);
	HASH_ADD_STR(database->tokens, token, made);
	return 0;
}

int memory_token_create(
	struct plane_store *store, const struct plane_store_token *token, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	return memory_end(database, memory_add_token(database, token, err));
}

int memory_token_revoke(
	struct plane_store *store, const char *backend, const char *user, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	struct memory_backend *known = memory_backend_by_name(database, backend);
	struct memory_token *token, *next;
	(void)err;
	DL_FOREACH_SAFE (known ? known->tokens : NULL, token, next)
		if (token->user && strcmp(token->user, user) == 0 &&
			database->fault != MEMORY_FAULT_KEEP_REVOKED)
			memory_forget_token(database, token);
	struct memory_revocation *revocation = PLANE_NEW(struct memory_revocation);
	struct plane_store_event event = { .kind = PLANE_STORE_EVENT_REVOCATION,
		.user = plane_strdup(user) };
	revocation->user = plane_strdup(user);
	revocation->time_ms = memory_now(database);
	(void)plane_text_copy(revocation->backend, sizeof(revocation->backend), backend);
	(void)plane_text_copy(event.backend, sizeof(event.backend), backend);
	DL_APPEND(database->revocations, revocation);
	memory_tell(MEMORY_STORE(store), &event);
	return memory_end(database, 0);
}

int memory_revocations(struct plane_store *store, int64_t since_ms,
	struct plane_store_revocations *revocations, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	struct memory_revocation *revocation;
	struct plane_store_revocations found = { 0 };
	int64_t from_ms = memory_now(database) - since_ms;
	(void)err;
	DL_FOREACH (database->revocations, revocation) {
		if (revocation->time_ms < from_ms ||
			database->fault == MEMORY_FAULT_UNTOLD_REVOCATIONS)
			continue;
		found.entries =
			plane_realloc(found.entries, (found.count + 1) * sizeof(found.entries[0]));
		found.entries[found.count++] =
			(struct plane_store_revocation){ plane_strdup(revocation->backend),
				plane_strdup(revocation->user) };
	}
	*revocations = found;
	return memory_end(database, 0);
}

static int compare_expiries(const void *left, const void *right)
{
	const struct memory_token *a = *(struct memory_token *const *)left;
	const struct memory_token *b = *(struct memory_token *const *)right;
	return (a->expires_at > b->expires_at) - (a->expires_at < b->expires_at);
}

int memory_cleanup_tokens(
	struct plane_store *store, int batch, int64_t *removed, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	struct memory_token *token, *next;
	int64_t now_ms = memory_now(database);
	size_t count = 0;
	_cleanup_free_ struct memory_token **old =
		plane_alloc_zero(HASH_COUNT(database->tokens) + 1, sizeof(struct memory_token *));
	(void)err;
	HASH_ITER (hh, database->tokens, token, next)
		if (token->expires_at <= now_ms)
			old[count++] = token;
	qsort(old, count, sizeof(struct memory_token *), compare_expiries);
	for (*removed = 0; *removed < (int64_t)count && *removed < batch; ++*removed)
		memory_forget_token(database, old[*removed]);
	return memory_end(database, 0);
}

int memory_cleanup_revocations(
	struct plane_store *store, int batch, int64_t *removed, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	int64_t before_ms = memory_now(database) - PLANE_STORE_REVOCATIONS_KEPT_MS;
	struct memory_revocation *oldest;
	(void)err;
	*removed = 0;
	while ((oldest = database->revocations) && oldest->time_ms < before_ms &&
		*removed < batch) {
		DL_DELETE(database->revocations, oldest);
		free(oldest->user);
		free(oldest);
		++*removed;
	}
	return memory_end(database, 0);
}

static struct memory_backend *backend_of_token(
	struct memory_database *database, const char *name, const struct memory_token **token)
{
	struct memory_token *found = NULL;
	struct memory_backend *backend = NULL;
	*token = NULL;
	if (plane_token_is_static(name, strlen(name))) {
		HASH_FIND(hh_token, database->backends_by_token, name, strlen(name), backend);
		return backend;
	}
	HASH_FIND_STR(database->tokens, name, found);
	if (!found || found->expires_at <= memory_now(database))
		return NULL;
	*token = found;
	backend = found->backend;
	if (database->fault == MEMORY_FAULT_KEEP_TOKENS) {
		struct memory_key *key, *next;
		HASH_ITER (hh, database->keys, key, next)
			if (memory_status(backend) == PLANE_TERMINATED)
				return key->backend;
	}
	return backend;
}

int memory_route_find(struct plane_store *store, const char *token, bool *is_found,
	struct plane_store_route *route, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	const struct memory_token *found;
	const struct memory_backend *backend = backend_of_token(database, token, &found);
	*is_found = backend != NULL;
	if (!backend)
		return memory_end(database, 0);
	*route = (struct plane_store_route){
		.state = memory_state(&backend->states[backend->state_count - 1]),
		.backend = plane_strdup(backend->name),
		.cluster = plane_strdup(backend->cluster),
		.subdomain = plane_strdup(backend->subdomain),
	};
	if (found) {
		route->secret_token = plane_strdup(found->secret);
		route->user = plane_strdup(found->user);
		route->auth = plane_json_parse(found->auth, strlen(found->auth), err);
	}
	return memory_end(database, 0);
}

/* ---- making a backend ---- */

static int check_drone(const struct memory_database *database, const struct memory_node *drone,
	int64_t epoch, struct plane_error *err)
{
	int64_t held = drone && drone->is_lease_granted ? drone->lease_epoch : 0;
	bool is_draining =
		drone && drone->is_draining && database->fault != MEMORY_FAULT_IGNORE_DRAIN;
	if (!drone || is_draining || held != epoch)
		return plane_error_set(
			err, -ESTALE, "the drone drains, or its lease is another one");
	return 0;
}

static int check_spawn(struct memory_database *database, const struct plane_store_spawn *spawn,
	struct plane_error *err)
{
	struct memory_key *key = find_key(database, spawn->key_namespace, spawn->key_name);
	if (check_drone(database, memory_node_by_id(database, spawn->drone_id), spawn->lease_epoch,
		    err) < 0)
		return err->code;
	if (database->recovering_since && !spawn->is_key_new)
		return plane_error_set(err, -EINPROGRESS, "the store recovers");
	if (memory_backend_by_name(database, spawn->backend))
		return plane_error_set(err, -EEXIST, "there is a backend of this name");
	if (key && memory_key_is_live(key, memory_now(database)) &&
		database->fault != MEMORY_FAULT_STEAL_KEY)
		return plane_error_set(err, -EEXIST, "the key is held");
	return 0;
}

static void add_key(struct memory_database *database, struct memory_backend *backend,
	const struct plane_store_spawn *spawn)
{
	struct memory_key *former = find_key(database, spawn->key_namespace, spawn->key_name);
	if (former)
		memory_release_key(database, former);
	struct memory_key *key = PLANE_NEW(struct memory_key);
	key->path = key_path(spawn->key_namespace, spawn->key_name, &key->path_length);
	key->name = key->path + strlen(key->path) + 1;
	key->tag = plane_strdup(spawn->key_tag);
	key->backend = backend;
	key->drone = backend->drone;
	key->expires_at = backend->created_at + spawn->lease_ms;
	key->fencing_token = backend->fencing_token;
	key->lease_epoch = spawn->lease_epoch;
	backend->key = key;
	HASH_ADD_KEYPTR(hh, database->keys, key->path, key->path_length, key);
}

static int64_t next_fencing_token(struct memory_database *database)
{
	int64_t now_ms = memory_now(database);
	if (database->fault == MEMORY_FAULT_SAME_TOKEN && database->last_fencing_token)
		return database->last_fencing_token;
	database->last_fencing_token =
		now_ms > database->last_fencing_token ? now_ms : database->last_fencing_token + 1;
	return database->last_fencing_token;
}

static struct memory_backend *add_backend(
	struct memory_database *database, const struct plane_store_spawn *spawn)
{
	struct memory_backend *backend = PLANE_NEW(struct memory_backend);
	int64_t now_ms = memory_now(database);
	(void)plane_text_copy(backend->name, sizeof(backend->name), spawn->backend); /* checked */
	backend->drone = memory_node_by_id(database, spawn->drone_id);
	backend->cluster = plane_strdup(spawn->cluster);
	backend->key_namespace = plane_strdup(spawn->key_namespace);
	backend->key_name = plane_strdup(spawn->key_name);
	backend->key_tag = plane_strdup(spawn->key_tag);
	backend->subdomain = plane_strdup(spawn->subdomain);
	backend->static_token = plane_strdup(spawn->static_token);
	backend->lease_epoch = spawn->lease_epoch;
	backend->fencing_token = next_fencing_token(database);
	backend->created_at = now_ms;
	backend->lifetime_ends_at = spawn->lifetime_limit_seconds < 0
					    ? -1
					    : now_ms + spawn->lifetime_limit_seconds * 1000;
	backend->max_idle_ms = spawn->max_idle_seconds < 0 ? -1 : spawn->max_idle_seconds * 1000;
	DL_APPEND(backend->drone->backends, backend);
	backend->drone->backend_count++;
	backend->drone->limited += memory_is_limited(backend);
	backend->drone->own_leases += backend->lease_epoch == 0;
	HASH_ADD_STR(database->backends, name, backend);
	if (backend->static_token)
		HASH_ADD_KEYPTR(hh_token, database->backends_by_token, backend->static_token,
			strlen(backend->static_token), backend);
	return backend;
}

/* Stores the order to start it on the drone that it is on, and gives it out. */
static void order_start(struct memory_store *store, struct memory_backend *backend,
	struct plane_drone_order order, struct plane_store_spawned *spawned)
{
	order.fencing_token = backend->fencing_token;
	spawned->message = plane_store_order_text(&order);
	spawned->fencing_token = backend->fencing_token;
	spawned->time_ms = memory_now(store->database);
	backend->tried = plane_realloc(
		backend->tried, (backend->tried_count + 1) * sizeof(backend->tried[0]));
	backend->tried[backend->tried_count++] = backend->drone->id;
	memory_add_action(store, backend, order.action_id, "spawn", plane_strdup(spawned->message));
}

int memory_spawn(struct plane_store *store, const struct plane_store_spawn *spawn,
	struct plane_store_spawned *spawned, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	struct plane_backend_state scheduled = { .status = PLANE_SCHEDULED };
	int result = check_spawn(database, spawn, err);
	if (result < 0)
		return memory_end(database, result);
	struct memory_backend *backend = add_backend(database, spawn);
	add_key(database, backend, spawn);
	memory_put_state(MEMORY_STORE(store), backend, &scheduled);
	order_start(MEMORY_STORE(store), backend, plane_store_spawn_order(spawn), spawned);
	if (spawn->token)
		result = memory_add_token(database, spawn->token, err);
	return memory_end(database, result);
}

/* ---- moving one that was refused ---- */

/* The refused order, or NULL. */
static struct memory_action *find_refused(
	struct memory_database *database, int64_t drone_id, const char *action_id)
{
	struct memory_action *action = NULL;
	HASH_FIND_STR(database->actions, action_id, action);
	if (!action || action->drone->id != drone_id || action->backend->drone != action->drone ||
		strcmp(action->kind, "spawn") != 0 ||
		memory_status(action->backend) != PLANE_SCHEDULED || !action->backend->key ||
		action->backend->is_end_ordered || action->must_wait ||
		!memory_key_is_live(action->backend->key, memory_now(database)))
		return NULL;
	return action;
}

static bool is_among(const int64_t *ids, size_t count, int64_t id)
{
	for (size_t i = 0; i < count; i++)
		if (ids[i] == id)
			return true;
	return false;
}

int memory_refused_find(struct plane_store *store, int64_t drone_id, const char *action_id,
	struct plane_store_refused *refused, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	const struct memory_action *action = find_refused(database, drone_id, action_id);
	if (!action)
		return memory_end(database, plane_error_set(err, -ENOENT,
						    "the order %s is not to be moved", action_id));
	const struct memory_backend *backend = action->backend;
	*refused = (struct plane_store_refused){ .cluster = plane_strdup(backend->cluster),
		.pool = plane_strdup(backend->drone->pool),
		.message = plane_strdup(action->message),
		.tried = plane_alloc_zero(backend->tried_count, sizeof(refused->tried[0])) };
	for (size_t i = 0; i < backend->tried_count; i++)
		if (!is_among(refused->tried, refused->tried_count, backend->tried[i]))
			refused->tried[refused->tried_count++] = backend->tried[i];
	return memory_end(database, 0);
}

static void move_to(struct memory_database *database, struct memory_backend *backend,
	int64_t drone_id, int64_t epoch)
{
	struct memory_node *from = backend->drone, *to = memory_node_by_id(database, drone_id);
	DL_DELETE(from->backends, backend);
	DL_APPEND(to->backends, backend);
	from->backend_count--;
	to->backend_count++;
	from->own_leases -= backend->lease_epoch == 0;
	to->own_leases += epoch == 0;
	from->limited -= memory_is_limited(backend);
	to->limited += memory_is_limited(backend);
	backend->drone = backend->key->drone = to;
	backend->lease_epoch = backend->key->lease_epoch = epoch;
	backend->fencing_token = backend->key->fencing_token = next_fencing_token(database);
}

int memory_move(struct plane_store *store, const struct plane_store_move *move,
	struct plane_store_spawned *spawned, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	const struct plane_drone_order *order = move->order;
	struct memory_action *action =
		find_refused(database, move->refused_by, move->refused_action_id);
	if (!action)
		return memory_end(
			database, plane_error_set(err, -ENOENT, "the order %s is not to be moved",
					  move->refused_action_id));
	int result = check_drone(
		database, memory_node_by_id(database, order->drone_id), order->epoch, err);
	if (result < 0)
		return memory_end(database, result);
	struct memory_backend *backend = action->backend;
	memory_forget_action(database, action);
	move_to(database, backend, order->drone_id, order->epoch);
	backend->key->expires_at = memory_now(database) + move->lease_ms;
	order_start(MEMORY_STORE(store), backend, *order, spawned);
	return memory_end(database, 0);
}
