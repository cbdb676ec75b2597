/* The store in memory: lists, certificates, and the feed of other stores' doings. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "memory_internal.h"

/* ---- nodes ---- */

static bool passes(const char *filter, const char *value)
{
	return !filter || (value && strcmp(filter, value) == 0);
}

static bool is_listed(
	const struct plane_store_member_filter *filter, const struct memory_node *node)
{
	bool is_wanted = (node->kind == PLANE_NODE_DRONE && filter->are_drones) ||
			 (node->kind == PLANE_NODE_PROXY && filter->are_proxies);
	bool is_here = node->controller || filter->has_away ||
		       (filter->has_busy && node->backend_count > 0);
	return is_wanted && is_here && passes(filter->cluster, node->cluster) &&
	       passes(filter->pool, node->pool) && passes(filter->name, node->name);
}

static void read_member(struct memory_database *database, const struct memory_node *node,
	struct plane_store_member *member)
{
	int64_t now_ms = memory_now(database);
	struct memory_controller *controller = NULL;
	if (node->controller)
		HASH_FIND_STR(database->controllers, node->controller, controller);
	*member = (struct plane_store_member){ .kind = node->kind,
		.name = plane_strdup(node->name),
		.cluster = plane_strdup(node->cluster),
		.version = plane_strdup(node->version),
		.git_hash = plane_strdup(node->git_hash),
		.ip = plane_strdup(node->ip),
		.controller = plane_strdup(node->controller),
		.controller_heartbeat_age_ms = now_ms - (controller ? controller->heartbeat_at : 0),
		.pool = plane_strdup(node->pool),
		.is_ready = node->is_ready,
		.is_draining = node->is_draining,
		.heartbeat_age_ms = node->heartbeat_at ? now_ms - node->heartbeat_at : -1,
		.backend_count = node->backend_count,
		.has_lease = node->is_lease_granted,
		.has_resources = node->has_resources,
		.resources = node->resources };
}

static int compare_members(const void *one, const void *two)
{
	const struct plane_store_member *first = one, *second = two;
	int order = strcmp(first->cluster, second->cluster);
	return order ? order : strcmp(first->name, second->name);
}

int memory_member_list(struct plane_store *store, const struct plane_store_member_filter *filter,
	struct plane_store_members *members, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	struct memory_node *node, *next;
	(void)err;
	*members = (struct plane_store_members){ .entries = plane_alloc_zero(
							 HASH_COUNT(database->nodes) + 1,
							 sizeof(members->entries[0])) };
	HASH_ITER (hh, database->nodes, node, next)
		if (is_listed(filter, node))
			read_member(database, node, &members->entries[members->count++]);
	qsort(members->entries, members->count, sizeof(members->entries[0]), compare_members);
	return memory_end(database, 0);
}

/* ---- backends ---- */

static bool is_backend_listed(
	const struct plane_store_backend_filter *filter, const struct memory_backend *backend)
{
	enum plane_backend_status status = memory_status(backend);
	return passes(filter->cluster, backend->cluster) &&
	       passes(filter->drone, backend->drone->name) &&
	       (!filter->status || (int)status == filter->status) &&
	       (!filter->is_alive || status < PLANE_TERMINATED) &&
	       passes(filter->key_name, backend->key_name) &&
	       (!filter->after || strcmp(backend->name, filter->after) > 0);
}

static void read_backend(
	const struct memory_backend *backend, struct plane_store_listed_backend *listed)
{
	const struct memory_state *last = &backend->states[backend->state_count - 1];
	*listed = (struct plane_store_listed_backend){ .backend = plane_strdup(backend->name),
		.cluster = plane_strdup(backend->cluster),
		.drone = plane_strdup(backend->drone->name),
		.key_namespace = plane_strdup(backend->key_namespace),
		.key_name = plane_strdup(backend->key_name),
		.key_tag = plane_strdup(backend->key_tag),
		.state = memory_state(last),
		.state_time_ms = last->time_ms,
		.created_at_ms = backend->created_at };
}

static int compare_backends(const void *one, const void *two)
{
	const struct memory_backend *const *first = one, *const *second = two;
	return strcmp((*first)->name, (*second)->name);
}

int memory_backend_list(struct plane_store *store, const struct plane_store_backend_filter *filter,
	struct plane_store_backend_list *list, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	size_t count = 0, limit = (size_t)filter->limit;
	_cleanup_free_ struct memory_backend **found = plane_alloc_zero(
		HASH_COUNT(database->backends) + 1, sizeof(struct memory_backend *));
	struct memory_backend *backend, *next;
	(void)err;
	HASH_ITER (hh, database->backends, backend, next)
		if (is_backend_listed(filter, backend))
			found[count++] = backend;
	qsort(found, count, sizeof(struct memory_backend *), compare_backends);
	*list = (struct plane_store_backend_list){ .entries = plane_alloc_zero(
							   count + 1, sizeof(list->entries[0])) };
	for (; list->count < count && list->count < limit; list->count++)
		read_backend(found[list->count], &list->entries[list->count]);
	return memory_end(database, 0);
}

/* ---- keys ---- */

static int compare_paths(const char *first_namespace, const char *first_name,
	const char *second_namespace, const char *second_name)
{
	int order = strcmp(first_namespace, second_namespace);
	return order ? order : strcmp(first_name, second_name);
}

static int compare_keys(const void *one, const void *two)
{
	const struct memory_key *const *first = one, *const *second = two;
	return compare_paths((*first)->path, (*first)->name, (*second)->path, (*second)->name);
}

static bool is_key_listed(const struct plane_store_key_filter *filter, const struct memory_key *key)
{
	return passes(filter->cluster, key->backend->cluster) &&
	       passes(filter->key_namespace, key->path) && passes(filter->key_name, key->name) &&
	       (!filter->after_name || compare_paths(key->path, key->name, filter->after_namespace,
					       filter->after_name) > 0);
}

static void read_key(
	const struct memory_key *key, int64_t now_ms, struct plane_store_listed_key *listed)
{
	int64_t left_ms = key->expires_at > now_ms ? key->expires_at - now_ms : 0;
	*listed = (struct plane_store_listed_key){ .key_namespace = plane_strdup(key->path),
		.key_name = plane_strdup(key->name),
		.key_tag = plane_strdup(key->tag),
		.backend = plane_strdup(key->backend->name),
		.cluster = plane_strdup(key->backend->cluster),
		.drone = plane_strdup(key->drone->name),
		.status = memory_status(key->backend),
		.fencing_token = key->fencing_token,
		.is_live = memory_key_is_live(key, now_ms),
		.expires_in_ms = key->lease_epoch ? -1 : left_ms };
}

int memory_key_list(struct plane_store *store, const struct plane_store_key_filter *filter,
	struct plane_store_key_list *list, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	size_t count = 0, limit = (size_t)filter->limit;
	_cleanup_free_ struct memory_key **found =
		plane_alloc_zero(HASH_COUNT(database->keys) + 1, sizeof(struct memory_key *));
	struct memory_key *key, *next;
	(void)err;
	HASH_ITER (hh, database->keys, key, next)
		if (is_key_listed(filter, key))
			found[count++] = key;
	qsort(found, count, sizeof(struct memory_key *), compare_keys);
	*list = (struct plane_store_key_list){ .entries = plane_alloc_zero(
						       count + 1, sizeof(list->entries[0])) };
	for (; list->count < count && list->count < limit; list->count++)
		read_key(found[list->count], memory_now(database), &list->entries[list->count]);
	return memory_end(database, 0);
}

/* ---- certificates ---- */

static struct memory_certificate *find_certificate(
	struct memory_database *database, const char *cluster)
{
	struct memory_certificate *found = NULL;
	HASH_FIND_STR(database->certificates, cluster, found);
	return found;
}

int memory_cert_lease(struct plane_store *store, const char *cluster, int64_t node_id,
	int64_t lease_ms, bool *is_accepted, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	struct memory_certificate *found = find_certificate(database, cluster);
	(void)err;
	if (!found) {
		found = PLANE_NEW(struct memory_certificate);
		found->cluster = plane_strdup(cluster);
		HASH_ADD_KEYPTR(hh, database->certificates, found->cluster, strlen(cluster), found);
	}
	*is_accepted = !found->node_id || found->node_id == node_id ||
		       found->ends_at <= memory_now(database);
	if (*is_accepted) {
		found->node_id = node_id;
		found->ends_at = memory_now(database) + lease_ms;
	}
	return memory_end(database, 0);
}

int memory_cert_set_txt(struct plane_store *store, const char *cluster, int64_t node_id,
	const char *txt_value, bool *is_accepted, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	struct memory_certificate *found = find_certificate(database, cluster);
	(void)err;
	*is_accepted = found && found->node_id == node_id && found->ends_at > memory_now(database);
	if (*is_accepted) {
		free(found->txt_value);
		found->txt_value = plane_strdup(txt_value);
	}
	return memory_end(database, 0);
}

int memory_cert_release(
	struct plane_store *store, const char *cluster, int64_t node_id, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	struct memory_certificate *found = find_certificate(database, cluster);
	(void)err;
	if (found && found->node_id == node_id) {
		found->node_id = found->ends_at = 0;
		free(STEAL(found->txt_value));
	}
	return memory_end(database, 0);
}

int memory_cert_get_txt(
	struct plane_store *store, const char *cluster, char **txt_value, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	struct memory_certificate *found = find_certificate(database, cluster);
	(void)err;
	*txt_value = found ? plane_strdup(found->txt_value) : NULL;
	return memory_end(database, 0);
}

/* ---- feeds ---- */

struct memory_feed {
	struct plane_store_feed base;
	struct memory_store *store;
	char controller[PLANE_NAME_SIZE];
	int64_t last_number; /* of what was read */
	struct memory_feed *prev, *next;
};

static void free_event(struct memory_event *event)
{
	free(event->event.message);
	free(event->event.user);
	free(event);
}

void memory_free_events(struct memory_database *database)
{
	while (database->first_event) {
		struct memory_event *event = database->first_event;
		database->first_event = event->next;
		free_event(event);
	}
	database->last_event = NULL;
}

/* Those that all feeds have read. */
static void prune(struct memory_database *database)
{
	const struct memory_feed *feed;
	int64_t read = INT64_MAX;
	DL_FOREACH (database->feeds, feed)
		read = feed->last_number < read ? feed->last_number : read;
	while (database->first_event && database->first_event->number <= read) {
		struct memory_event *event = database->first_event;
		database->first_event = event->next;
		free_event(event);
	}
	if (!database->first_event)
		database->last_event = NULL;
}

void memory_tell(struct memory_store *store, const struct plane_store_event *event)
{
	struct memory_database *database = store->database;
	struct memory_event *told = PLANE_NEW(struct memory_event);
	told->event = *event;
	told->origin = store->origin;
	told->number = ++database->last_event_number;
	if (database->last_event)
		database->last_event->next = told;
	else
		database->first_event = told;
	database->last_event = told;
	if (!database->feeds)
		prune(database);
}

static bool is_for(const struct memory_feed *feed, const struct memory_event *event)
{
	struct memory_action *action = NULL;
	if (event->origin == feed->store->origin)
		return false;
	if (event->event.kind != PLANE_STORE_EVENT_ACTION)
		return true;
	HASH_FIND_STR(feed->store->database->actions, event->event.action_id, action);
	return action && action->drone->controller &&
	       strcmp(action->drone->controller, feed->controller) == 0;
}

static int feed_read(
	struct plane_store_feed *base, struct plane_store_events *events, struct plane_error *err)
{
	struct memory_feed *feed = (struct memory_feed *)base;
	struct memory_database *database = memory_begin(&feed->store->base);
	struct plane_store_events found = { 0 };
	(void)err;
	for (struct memory_event *event = database->first_event; event; event = event->next) {
		if (event->number <= feed->last_number)
			continue;
		feed->last_number = event->number;
		if (!is_for(feed, event))
			continue;
		found.entries =
			plane_realloc(found.entries, (found.count + 1) * sizeof(found.entries[0]));
		struct plane_store_event *copy = &found.entries[found.count++];
		*copy = event->event;
		copy->message = plane_strdup(event->event.message);
		copy->user = plane_strdup(event->event.user);
	}
	prune(database);
	*events = found;
	return memory_end(database, 0);
}

/* There are no notifications: feeds are read in their time. */
static int feed_wait(struct plane_store_feed *feed, int wake_fd, int timeout_ms, bool *is_notified,
	struct plane_error *err)
{
	(void)feed;
	(void)wake_fd;
	(void)timeout_ms;
	(void)err;
	*is_notified = false;
	return 0;
}

static int feed_notify(struct plane_store_feed *feed, struct plane_error *err)
{
	(void)feed;
	(void)err;
	return 0;
}

static void feed_close(struct plane_store_feed *base)
{
	struct memory_feed *feed = (struct memory_feed *)base;
	struct memory_database *database = memory_begin(&feed->store->base);
	DL_DELETE(database->feeds, feed);
	(void)memory_end(database, 0);
	free(feed);
}

static const struct plane_store_feed_impl feed_impl = {
	.close = feed_close, .wait = feed_wait, .read = feed_read, .notify = feed_notify
};

struct plane_store_feed *memory_feed_open(
	struct plane_store *store, const char *controller, struct plane_error *err)
{
	struct memory_database *database = memory_begin(store);
	struct memory_feed *feed = PLANE_NEW(struct memory_feed);
	(void)err;
	feed->base.impl = &feed_impl;
	feed->store = MEMORY_STORE(store);
	feed->last_number = database->last_event_number;
	(void)plane_text_copy(feed->controller, sizeof(feed->controller), controller); /* a name */
	DL_APPEND(database->feeds, feed);
	(void)memory_end(database, 0);
	return &feed->base;
}
