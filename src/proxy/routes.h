/* The table of routes: what the controller said about tokens, least recently used ones forgotten.
 * Workers look up and wait, the control thread fills in. Any thread; one mutex inside. */
#ifndef PLANE_PROXY_ROUTES_H
#define PLANE_PROXY_ROUTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/route.h"
#include "proxy/target.h"

struct plane_routes;

/** Where answers for the waiters of one worker arrive; `event_fd` is written then. */
struct plane_route_inbox {
	int event_fd;
	struct plane_route_waiter *answered;
};

enum plane_waiter_state { PLANE_WAITER_IDLE, PLANE_WAITER_WAITING, PLANE_WAITER_ANSWERED };

/** A request that waits; a member of its owner. Zeroed is idle. */
struct plane_route_waiter {
	struct plane_route_waiter *prev, *next;
	struct plane_route_inbox *inbox;
	enum plane_waiter_state state;
	void *entry;
	struct plane_route *route; /* of the answer, owned by the waiter; NULL: there is none */
};

/** `ask` is called (any thread, inside the table's lock) for a token to ask the controller about.
 */
struct plane_routes *plane_routes_create(void (*ask)(void *data, const char *token), void *data);
void plane_routes_destroy(struct plane_routes *routes);

enum plane_routes_answer { PLANE_ROUTES_FOUND, PLANE_ROUTES_NONE, PLANE_ROUTES_WAIT };

/** FOUND gives a reference. WAIT enlists `waiter`, to be taken from its inbox or cancelled. */
enum plane_routes_answer plane_routes_find(struct plane_routes *routes, struct plane_slice token,
	int64_t now_ms, struct plane_route_waiter *waiter, struct plane_route **route);
/** The next answered waiter of the inbox, idle now, or NULL; its route is the caller's. */
struct plane_route_waiter *plane_routes_take(
	struct plane_routes *routes, struct plane_route_inbox *inbox);
/** Idle afterwards, whatever it was. */
void plane_routes_cancel(struct plane_routes *routes, struct plane_route_waiter *waiter);

/* Control thread. */
/** The controller's answer; `owned_route` NULL: the token leads nowhere (for a second). */
void plane_routes_answer(struct plane_routes *routes, const char *token,
	struct plane_route *owned_route, int64_t now_ms);
/** Forgets routes to a backend; of one user only when `user` is not NULL. */
void plane_routes_remove(struct plane_routes *routes, const char *backend, const char *user);
/** The connection to the controller is new: what was known may be outdated and is forgotten; what
 *  is waited for is asked again. */
void plane_routes_renew(struct plane_routes *routes);

#endif
