/* The store in memory: states of backends, orders to drones, sweeping, what is lost. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"
#include "memory_internal.h"

#define LOST_BATCH 200

/* ---- states ---- */

int memory_backend_find(struct plane_store *store, const char *backend,
	struct plane_store_backend *found, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	const struct memory_backend *known = memory_backend_by_name(database, backend);
	if (!known)
		return memory_end(
			database, plane_error_set(err, -ENOENT, "there is no backend %s", backend));
	const struct memory_state *last = &known->states[known->state_count - 1];
	*found = (struct plane_store_backend){ .state = memory_state(last),
		.state_time_ms = last->time_ms,
		.drone_id = known->drone->id };
	return memory_end(database, 0);
}

static void update_one(
	struct memory_store *store, int64_t node_id, struct plane_store_report *report)
{
	struct memory_database *database = store->database;
	struct memory_backend *backend = memory_backend_by_name(database, report->backend);
	enum plane_backend_status status = report->state->status;
	report->time_ms = memory_now(database);
	report->is_changed = backend && backend->drone->id == node_id &&
			     (memory_status(backend) < status ||
				     (database->fault == MEMORY_FAULT_ANY_STATE &&
					     memory_status(backend) != PLANE_TERMINATED));
	if (database->fault == MEMORY_FAULT_FORGET_ENDS && status == PLANE_TERMINATED)
		return;
	if (report->is_changed)
		memory_put_state(store, backend, report->state);
}

int memory_backend_update(struct plane_store *store, int64_t node_id,
	struct plane_store_report *reports, size_t count, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	(void)err;
	for (size_t i = 0; i < count; i++)
		update_one(MEMORY_STORE(store), node_id, &reports[i]);
	return memory_end(database, 0);
}

int memory_backends_keep_alive(struct plane_store *store, const char *const *backends, size_t count,
	bool *is_alive, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	(void)err;
	for (size_t i = 0; i < count; i++) {
		struct memory_backend *known = memory_backend_by_name(database, backends[i]);
		is_alive[i] = known && memory_status(known) < PLANE_TERMINATED;
		if (is_alive[i])
			known->keepalive_at = memory_now(database);
	}
	return memory_end(database, 0);
}

int memory_running_check(struct plane_store *store, int64_t node_id,
	struct plane_store_running *list, size_t count, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	(void)err;
	for (size_t i = 0; i < count; i++) {
		const struct memory_backend *known =
			memory_backend_by_name(database, list[i].backend);
		list[i].is_known = known && known->drone->id == node_id &&
				   known->lease_epoch == list[i].epoch &&
				   memory_status(known) < PLANE_TERMINATED;
	}
	return memory_end(database, 0);
}

int memory_backend_history(struct plane_store *store, const char *backend,
	struct plane_store_history *history, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	const struct memory_backend *known = memory_backend_by_name(database, backend);
	(void)err;
	*history = (struct plane_store_history){ 0 };
	if (!known)
		return memory_end(database, 0);
	size_t first = database->fault == MEMORY_FAULT_SHORT_HISTORY ? known->state_count - 1 : 0;
	history->entries = plane_alloc_zero(known->state_count, sizeof(history->entries[0]));
	for (size_t i = first; i < known->state_count; i++)
		history->entries[history->count++] =
			(struct plane_store_past_state){ memory_state(&known->states[i]),
				known->states[i].time_ms };
	return memory_end(database, 0);
}

static int compare_ends(const void *one, const void *two)
{
	const struct memory_backend *const *first = one, *const *second = two;
	int64_t a = (*first)->states[(*first)->state_count - 1].time_ms;
	int64_t b = (*second)->states[(*second)->state_count - 1].time_ms;
	return (a > b) - (a < b);
}

int memory_cleanup_backends(struct plane_store *store, int min_age_days, int batch,
	int64_t *removed, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	int64_t before_ms = memory_now(database) - (int64_t)min_age_days * 86400000;
	size_t count = 0;
	_cleanup_free_ struct memory_backend **old = plane_alloc_zero(
		HASH_COUNT(database->backends) + 1, sizeof(struct memory_backend *));
	struct memory_backend *backend, *next;
	(void)err;
	HASH_ITER (hh, database->backends, backend, next)
		if (memory_status(backend) == PLANE_TERMINATED &&
			backend->states[backend->state_count - 1].time_ms <= before_ms)
			old[count++] = backend;
	qsort(old, count, sizeof(struct memory_backend *), compare_ends);
	for (*removed = 0; *removed < (int64_t)count && *removed < batch; ++*removed)
		memory_free_backend(database, old[*removed]);
	return memory_end(database, 0);
}

/* ---- orders ---- */

struct memory_action *memory_add_action(struct memory_store *store, struct memory_backend *backend,
	const char *id, const char *kind, char *owned_message)
{
	struct memory_action *action = PLANE_NEW(struct memory_action);
	struct plane_store_event event = { .kind = PLANE_STORE_EVENT_ACTION,
		.drone_id = backend->drone->id,
		.message = plane_strdup(owned_message) };
	(void)plane_text_copy(action->id, sizeof(action->id), id); /* a name */
	memcpy(event.action_id, action->id, sizeof(event.action_id));
	memcpy(event.backend, backend->name, sizeof(event.backend));
	action->backend = backend;
	action->drone = backend->drone;
	action->kind = kind;
	action->message = owned_message;
	DL_APPEND(action->drone->actions, action);
	DL_APPEND2(backend->actions, action, of_backend_prev, of_backend_next);
	HASH_ADD_STR(store->database->actions, id, action);
	memory_tell(store, &event);
	if (store->database->fault == MEMORY_FAULT_DROP_ORDERS ||
		(store->database->fault == MEMORY_FAULT_DROP_ENDS && strcmp(kind, "spawn") != 0))
		memory_forget_action(store->database, action);
	return action;
}

int memory_actions_pending(struct plane_store *store, int64_t node_id, size_t limit,
	struct plane_store_actions *actions, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	const struct memory_node *node = memory_node_by_id(database, node_id);
	const struct memory_action *action;
	struct plane_store_actions found = { 0 };
	int64_t now_ms = memory_now(database);
	(void)err;
	DL_FOREACH (node ? node->actions : NULL, action) {
		const struct memory_key *key = action->backend->key;
		if (found.count == limit)
			break;
		if (strcmp(action->kind, "spawn") == 0 &&
			(action->must_wait || !(key && memory_key_is_live(key, now_ms))))
			continue;
		found.entries =
			plane_realloc(found.entries, (found.count + 1) * sizeof(found.entries[0]));
		struct plane_store_action *entry = &found.entries[found.count++];
		memcpy(entry->action_id, action->id, sizeof(entry->action_id));
		entry->message = plane_strdup(action->message);
	}
	*actions = found;
	return memory_end(database, 0);
}

int memory_actions_ack(struct plane_store *store, const char *const *action_ids, size_t count,
	int64_t node_id, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	(void)err;
	for (size_t i = 0; i < count; i++) {
		struct memory_action *action = NULL;
		HASH_FIND_STR(database->actions, action_ids[i], action);
		if (action && action->drone->id == node_id)
			memory_forget_action(database, action);
	}
	return memory_end(database, 0);
}

static bool has_pending(const struct memory_backend *backend, const char *kind)
{
	const struct memory_action *action;
	for (action = backend->actions; action; action = action->of_backend_next)
		if (strcmp(action->kind, kind) == 0)
			return true;
	return false;
}

int memory_terminate(struct plane_store *store, const char *backend, const char *action_id,
	enum plane_termination_kind kind, enum plane_termination_reason reason, int64_t *drone_id,
	char **message, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	struct memory_backend *known = memory_backend_by_name(database, backend);
	const char *kind_text = plane_termination_kind_text(kind);
	if (!known)
		return memory_end(
			database, plane_error_set(err, -ENOENT, "there is no backend %s", backend));
	*drone_id = known->drone->id;
	*message = NULL;
	if (memory_status(known) == PLANE_TERMINATED || has_pending(known, kind_text))
		return memory_end(database, 0);
	struct plane_drone_order order = { .kind = PLANE_ORDER_TERMINATE,
		.action_id = action_id,
		.backend = backend,
		.drone_id = known->drone->id,
		.termination = kind,
		.reason = reason };
	_cleanup_json_ json_t *json = plane_drone_order_write(&order);
	*message = plane_json_dump(json);
	known->is_end_ordered = true;
	memory_add_action(MEMORY_STORE(store), known, action_id, kind_text, plane_strdup(*message));
	return memory_end(database, 0);
}

/* ---- sweeping ---- */

static bool is_due(const struct memory_backend *backend, int64_t now_ms)
{
	int64_t idle_ms = backend->max_idle_ms > PLANE_STORE_IDLE_MIN_MS ? backend->max_idle_ms
									 : PLANE_STORE_IDLE_MIN_MS;
	bool is_too_old = backend->lifetime_ends_at >= 0 && backend->lifetime_ends_at <= now_ms;
	bool is_idle = backend->max_idle_ms >= 0 && memory_status(backend) == PLANE_READY &&
		       backend->keepalive_at + idle_ms <= now_ms;
	return is_too_old || is_idle;
}

int memory_sweep_candidates(struct plane_store *store, int64_t node_id,
	struct plane_store_sweep *sweep, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	const struct memory_node *node = memory_node_by_id(database, node_id);
	const struct memory_backend *backend;
	struct plane_store_sweep found = { 0 };
	int64_t now_ms = memory_now(database);
	bool is_any = node && (node->limited || node->terminating);
	(void)err;
	DL_FOREACH (is_any ? node->backends : NULL, backend) {
		const struct memory_state *last = &backend->states[backend->state_count - 1];
		bool is_backend_due = is_due(backend, now_ms);
		if (!is_backend_due && last->status != PLANE_TERMINATING)
			continue;
		found.entries =
			plane_realloc(found.entries, (found.count + 1) * sizeof(found.entries[0]));
		struct plane_store_sweep_entry *entry = &found.entries[found.count++];
		*entry = (struct plane_store_sweep_entry){ .status = last->status,
			.in_status_ms = now_ms - last->time_ms,
			.is_due = is_backend_due,
			.has_pending_soft = has_pending(backend, "soft"),
			.has_pending_hard = has_pending(backend, "hard") };
		memcpy(entry->backend, backend->name, sizeof(entry->backend));
	}
	*sweep = found;
	return memory_end(database, 0);
}

/* ---- what is lost ---- */

static void mark(
	struct memory_store *store, struct memory_backend *backend, struct plane_store_lost *lost)
{
	struct plane_backend_state state = { .status = PLANE_TERMINATED,
		.last_status = memory_status(backend),
		.reason = PLANE_REASON_LOST };
	lost->entries = plane_realloc(lost->entries, (lost->count + 1) * sizeof(lost->entries[0]));
	struct plane_store_lost_entry *entry = &lost->entries[lost->count++];
	*entry = (struct plane_store_lost_entry){ .state = state,
		.time_ms = memory_now(store->database) };
	memcpy(entry->backend, backend->name, sizeof(entry->backend));
	memory_put_state(store, backend, &state);
}

static bool is_lost(const struct memory_store *store, const struct memory_backend *backend,
	int64_t silent_since, int64_t now_ms)
{
	const struct memory_state *last = &backend->states[backend->state_count - 1];
	const struct memory_key *key = backend->key;
	if (backend->lease_epoch || (key && key->expires_at > now_ms))
		return false;
	bool is_forgotten = !key || key->expires_at <= silent_since;
	bool is_silent = store->opened_at < silent_since &&
			 (backend->drone->heartbeat_at < silent_since || is_forgotten);
	return is_silent || (last->status == PLANE_SCHEDULED && last->time_ms < silent_since);
}

int memory_mark_lost(struct plane_store *base, int64_t silent_ms, struct plane_store_lost *lost,
	struct plane_error *err)
{
	struct memory_database *database = memory_begin(base);
	struct memory_store *store = MEMORY_STORE(base);
	struct memory_node *node, *next_node;
	struct memory_backend *backend, *next;
	struct plane_store_lost found = { 0 };
	int64_t now_ms = memory_now(database);
	(void)err;
	HASH_ITER (hh, database->nodes, node, next_node)
		DL_FOREACH_SAFE (node->own_leases ? node->backends : NULL, backend, next)
			if (found.count < LOST_BATCH &&
				is_lost(store, backend, now_ms - silent_ms, now_ms))
				mark(store, backend, &found);
	*lost = found;
	return memory_end(database, 0);
}

int memory_mark_broken(
	struct plane_store *base, struct plane_store_lost *lost, struct plane_error *err)
{
	struct memory_database *database = memory_begin(base);
	struct memory_node *node, *next_node;
	struct memory_backend *backend, *next;
	struct plane_store_lost found = { 0 };
	(void)err;
	HASH_ITER (hh, database->nodes, node, next_node) {
		if (!node->has_broken)
			continue;
		DL_FOREACH_SAFE (node->backends, backend, next)
			if (found.count < LOST_BATCH && backend->lease_epoch &&
				backend->lease_epoch < node->lease_epoch)
				mark(MEMORY_STORE(base), backend, &found);
		node->has_broken = found.count == LOST_BATCH;
	}
	*lost = found;
	return memory_end(database, 0);
}
