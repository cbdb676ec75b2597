/* In-process events: a backend changed its state, an action waits for a drone, a user's tokens were
 * revoked. Published from any thread after the store has committed, by who did it or by the
 * follower of other controllers (follower.h); delivered on the loop thread in the order of
 * publishing. Of one backend's states an earlier one may come after a later one, or twice. Pool
 * threads may wait for the end of a backend. The store is the truth: who misses an event finds it
 * there. */
#ifndef PLANE_CONTROLLER_HUB_H
#define PLANE_CONTROLLER_HUB_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "base/error.h"
#include "model/backend_state.h"
#include "model/names.h"

struct plane_hub;

enum plane_hub_event_kind {
	PLANE_HUB_STATE,
	PLANE_HUB_ACTION,
	PLANE_HUB_REVOCATION,
	PLANE_HUB_MISSED, /* events may have been missed: whoever waits looks into the store again
			   */
};

struct plane_hub_event {
	enum plane_hub_event_kind kind;
	char backend[PLANE_NAME_SIZE]; /* "" for MISSED */
	/* state: */
	struct plane_backend_state state;
	int64_t time_ms; /* the store's time of the change */
	/* action: */
	char action_id[PLANE_NAME_SIZE];
	int64_t drone_id;
	int64_t asked_at_ms; /* boot clock; when the store was asked, for its storing or for it */
	char *message;       /* the JSON to send; freed after delivery */
	/* revocation: */
	char *user; /* freed after delivery */
};

/** A member of its owner; zeroed is not subscribed. Fields are the hub's. */
struct plane_hub_subscription {
	void (*on_event)(void *data, const struct plane_hub_event *event);
	void *data;
	char backend[PLANE_NAME_SIZE];
	bool is_subscribed;
	struct plane_hub_subscription *prev, *next;
};

/** NULL with `err` when the loop has no handle to give. */
struct plane_hub *plane_hub_create(uv_loop_t *loop, struct plane_error *err);
/** Loop thread; the loop must turn until `on_closed`. Frees the hub. */
void plane_hub_close(struct plane_hub *hub, void (*on_closed)(void *data), void *data);

/* Any thread: what this controller did. */
void plane_hub_publish_state(struct plane_hub *hub, const char *backend,
	const struct plane_backend_state *state, int64_t time_ms);
/** `asked_at_ms` (boot clock): before the store was asked to store it. */
void plane_hub_publish_action(struct plane_hub *hub, const char *backend, const char *action_id,
	int64_t drone_id, int64_t asked_at_ms, char *owned_message);
void plane_hub_publish_revocation(struct plane_hub *hub, const char *backend, const char *user);
/** What another controller did. Takes `message` and `user`. Any thread. */
void plane_hub_relay(struct plane_hub *hub, const struct plane_hub_event *owned_event);
/** Called after each publishing of what this controller did, on its thread; NULL: nobody. Set it
 *  before there are other threads. */
void plane_hub_set_outlet(struct plane_hub *hub, void (*on_published)(void *data), void *data);

/* Loop thread. */
/** State changes of one backend, and MISSED. */
void plane_hub_subscribe(struct plane_hub *hub, struct plane_hub_subscription *subscription,
	const char *backend, void (*on_event)(void *data, const struct plane_hub_event *event),
	void *data);
/** Fine when not subscribed, and during a delivery. */
void plane_hub_unsubscribe(struct plane_hub *hub, struct plane_hub_subscription *subscription);
/** The one receiver of all events, called before the subscriptions. */
void plane_hub_set_receiver(struct plane_hub *hub,
	void (*on_event)(void *data, const struct plane_hub_event *event), void *data);

/* Pool threads: waiting for `terminated`. Begin, then look into the store, then wait: an end that
 * is published after begin is never missed. After MISSED it counts as ended: look again. */
struct plane_hub_waiter {
	char backend[PLANE_NAME_SIZE];
	bool has_ended;
	struct plane_hub_waiter *prev, *next;
};
/** False (and nothing begun) when too many threads wait already or the hub stops. */
bool plane_hub_wait_begin(
	struct plane_hub *hub, struct plane_hub_waiter *waiter, const char *backend);
/** True when the backend ended; false after `timeout_ms` or when the hub stops. */
bool plane_hub_wait(struct plane_hub *hub, struct plane_hub_waiter *waiter, int64_t timeout_ms);
void plane_hub_wait_end(struct plane_hub *hub, struct plane_hub_waiter *waiter);
/** How many may wait at once; they hold threads of the HTTP server's pool. */
void plane_hub_set_wait_limit(struct plane_hub *hub, int limit);
/** Wakes all waiting threads and lets no other wait. Any thread. */
void plane_hub_stop_waiting(struct plane_hub *hub);

#endif
