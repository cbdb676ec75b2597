/* The table of routes. */
#include "proxy/routes.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <uthash.h>
#include <utlist.h>

#include "base/alloc.h"

#define ENTRIES_MAX 10000
#define NONE_KEPT_MS 1000

struct entry {
	char token[PLANE_PROXY_TOKEN_MAX + 1];
	bool is_pending;
	bool was_used;             /* since it was passed over for the last time */
	struct plane_route *route; /* NULL and not pending: leads nowhere */
	int64_t until_ms;          /* for those that lead nowhere */
	struct plane_route_waiter *waiters;
	struct entry *prev, *next; /* of the known */
	UT_hash_handle hh;
};

struct plane_routes {
	pthread_mutex_t mutex;
	struct entry *entries;
	struct entry *known; /* those that are not pending, in the order of coming */
	void (*ask)(void *data, const char *token);
	void *data;
};

struct plane_routes *plane_routes_create(void (*ask)(void *data, const char *token), void *data)
{
	struct plane_routes *routes = PLANE_NEW(struct plane_routes);
	pthread_mutex_init(&routes->mutex, NULL);
	routes->ask = ask;
	routes->data = data;
	return routes;
}

static void forget(struct plane_routes *routes, struct entry *entry)
{
	HASH_DEL(routes->entries, entry);
	if (!entry->is_pending)
		DL_DELETE(routes->known, entry);
	plane_route_unref(entry->route);
	free(entry);
}

void plane_routes_destroy(struct plane_routes *routes)
{
	struct entry *entry, *next;
	if (!routes)
		return;
	HASH_ITER (hh, routes->entries, entry, next)
		forget(routes, entry);
	pthread_mutex_destroy(&routes->mutex);
	free(routes);
}

/* Makes room; entries that somebody waits for stay. False when all are such. One that was used gets
 * a second chance: a use costs no more than a mark, and is paid back here once at most. */
static bool make_room(struct plane_routes *routes)
{
	if (HASH_COUNT(routes->entries) < ENTRIES_MAX)
		return true;
	while (routes->known && routes->known->was_used) {
		struct entry *entry = routes->known;
		entry->was_used = false;
		DL_DELETE(routes->known, entry);
		DL_APPEND(routes->known, entry);
	}
	if (!routes->known)
		return false;
	forget(routes, routes->known);
	return true;
}

static struct entry *add_pending(struct plane_routes *routes, struct plane_slice token)
{
	if (!make_room(routes))
		return NULL;
	struct entry *entry = PLANE_NEW(struct entry);
	memcpy(entry->token, token.data, token.len); /* zeroed behind */
	entry->is_pending = true;
	HASH_ADD_STR(routes->entries, token, entry);
	routes->ask(routes->data, entry->token);
	return entry;
}

static enum plane_routes_answer find(struct plane_routes *routes, struct plane_slice token,
	int64_t now_ms, struct plane_route_waiter *waiter, struct plane_route **route)
{
	struct entry *entry = NULL;
	HASH_FIND(hh, routes->entries, token.data, token.len, entry);
	if (entry && !entry->is_pending && !entry->route && now_ms >= entry->until_ms) {
		forget(routes, entry);
		entry = NULL;
	}
	if (!entry)
		entry = add_pending(routes, token);
	if (!entry)
		return PLANE_ROUTES_NONE;
	if (entry->is_pending) {
		waiter->state = PLANE_WAITER_WAITING;
		waiter->entry = entry;
		waiter->route = NULL;
		DL_APPEND(entry->waiters, waiter);
		return PLANE_ROUTES_WAIT;
	}
	if (!entry->route)
		return PLANE_ROUTES_NONE;
	entry->was_used = true;
	*route = plane_route_ref(entry->route);
	return PLANE_ROUTES_FOUND;
}

enum plane_routes_answer plane_routes_find(struct plane_routes *routes, struct plane_slice token,
	int64_t now_ms, struct plane_route_waiter *waiter, struct plane_route **route)
{
	if (token.len == 0 || token.len > PLANE_PROXY_TOKEN_MAX)
		return PLANE_ROUTES_NONE;
	pthread_mutex_lock(&routes->mutex);
	enum plane_routes_answer answer = find(routes, token, now_ms, waiter, route);
	pthread_mutex_unlock(&routes->mutex);
	return answer;
}

struct plane_route_waiter *plane_routes_take(
	struct plane_routes *routes, struct plane_route_inbox *inbox)
{
	pthread_mutex_lock(&routes->mutex);
	struct plane_route_waiter *waiter = inbox->answered;
	if (waiter) {
		DL_DELETE(inbox->answered, waiter);
		waiter->state = PLANE_WAITER_IDLE;
	}
	pthread_mutex_unlock(&routes->mutex);
	return waiter;
}

void plane_routes_cancel(struct plane_routes *routes, struct plane_route_waiter *waiter)
{
	if (!waiter->inbox)
		return;
	pthread_mutex_lock(&routes->mutex);
	if (waiter->state == PLANE_WAITER_WAITING)
		DL_DELETE(((struct entry *)waiter->entry)->waiters, waiter);
	if (waiter->state == PLANE_WAITER_ANSWERED) {
		DL_DELETE(waiter->inbox->answered, waiter);
		plane_route_unref(waiter->route);
		waiter->route = NULL;
	}
	waiter->state = PLANE_WAITER_IDLE;
	pthread_mutex_unlock(&routes->mutex);
}

static void wake_all(struct entry *entry)
{
	struct plane_route_waiter *waiter, *next;
	DL_FOREACH_SAFE (entry->waiters, waiter, next) {
		uint64_t one = 1;
		DL_DELETE(entry->waiters, waiter);
		waiter->state = PLANE_WAITER_ANSWERED;
		waiter->route = entry->route ? plane_route_ref(entry->route) : NULL;
		DL_APPEND(waiter->inbox->answered, waiter);
		(void)!write(waiter->inbox->event_fd, &one, sizeof(one)); /* or it is awake */
	}
}

void plane_routes_answer(struct plane_routes *routes, const char *token,
	struct plane_route *owned_route, int64_t now_ms)
{
	struct entry *entry = NULL;
	pthread_mutex_lock(&routes->mutex);
	HASH_FIND_STR(routes->entries, token, entry);
	if (entry && entry->is_pending) {
		entry->is_pending = false;
		DL_APPEND(routes->known, entry);
		entry->route = owned_route;
		entry->until_ms = now_ms + NONE_KEPT_MS;
		wake_all(entry);
		owned_route = NULL;
	}
	pthread_mutex_unlock(&routes->mutex);
	plane_route_unref(owned_route); /* nobody asked, or a second answer */
}

void plane_routes_remove(struct plane_routes *routes, const char *backend, const char *user)
{
	struct entry *entry, *next;
	pthread_mutex_lock(&routes->mutex);
	HASH_ITER (hh, routes->entries, entry, next) {
		const struct plane_route *route = entry->route;
		if (!route || strcmp(route->backend, backend) != 0)
			continue;
		if (!user || (route->user && strcmp(route->user, user) == 0))
			forget(routes, entry);
	}
	pthread_mutex_unlock(&routes->mutex);
}

void plane_routes_renew(struct plane_routes *routes)
{
	struct entry *entry, *next;
	pthread_mutex_lock(&routes->mutex);
	HASH_ITER (hh, routes->entries, entry, next) {
		if (entry->is_pending)
			routes->ask(routes->data, entry->token);
		else
			forget(routes, entry);
	}
	pthread_mutex_unlock(&routes->mutex);
}
