/* The hub: a queue from any thread to the loop, subscriptions on the loop, waiters on the pool. */
#include "controller/hub.h"

#include <string.h>

#include <uthash.h>
#include <utlist.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "net/wake.h"

struct queued_event {
	struct plane_hub_event event;
	struct queued_event *next;
};

/* All subscriptions of one backend. */
struct topic {
	char backend[PLANE_NAME_SIZE];
	struct plane_hub_subscription *subscriptions;
	UT_hash_handle hh;
};

struct plane_hub {
	struct plane_wake wake;
	uv_mutex_t mutex; /* guards queue and waiters */
	uv_cond_t waiters_changed;
	struct queued_event *queue_first, *queue_last;
	struct plane_hub_waiter *waiters;
	int waiter_count, waiter_limit;
	bool is_stopping;
	void (*on_published)(void *data);
	void *published_data;

	/* loop thread only: */
	struct topic *topics;
	struct plane_hub_subscription *delivery_next; /* moved on when it is unsubscribed */
	void (*on_event)(void *data, const struct plane_hub_event *event);
	void *data;
	void (*on_closed)(void *data);
	void *closed_data;
};

static void deliver_to_topic(
	struct plane_hub *hub, const char *backend, const struct plane_hub_event *event)
{
	struct topic *topic = NULL;
	HASH_FIND_STR(hub->topics, backend, topic);
	hub->delivery_next = topic ? topic->subscriptions : NULL;
	while (hub->delivery_next) {
		struct plane_hub_subscription *subscription = hub->delivery_next;
		hub->delivery_next = subscription->next;
		subscription->on_event(subscription->data, event);
	}
}

/* Subscribers may leave meanwhile, and take their topic with them. */
static void deliver_to_all(struct plane_hub *hub, const struct plane_hub_event *event)
{
	size_t count = 0, total = HASH_COUNT(hub->topics);
	_cleanup_free_ char *backends = plane_alloc_zero(total + 1, PLANE_NAME_SIZE);
	struct topic *topic, *next;
	HASH_ITER (hh, hub->topics, topic, next)
		memcpy(backends + PLANE_NAME_SIZE * count++, topic->backend, PLANE_NAME_SIZE);
	for (size_t i = 0; i < total; i++)
		deliver_to_topic(hub, backends + PLANE_NAME_SIZE * i, event);
}

static struct queued_event *take_queue(struct plane_hub *hub)
{
	uv_mutex_lock(&hub->mutex);
	struct queued_event *first = hub->queue_first;
	hub->queue_first = hub->queue_last = NULL;
	uv_mutex_unlock(&hub->mutex);
	return first;
}

static void deliver_queue(struct plane_hub *hub, bool is_delivered)
{
	struct queued_event *queued = take_queue(hub);
	while (queued) {
		struct queued_event *next = queued->next;
		const struct plane_hub_event *event = &queued->event;
		if (is_delivered && hub->on_event)
			hub->on_event(hub->data, event);
		if (is_delivered && event->kind == PLANE_HUB_STATE)
			deliver_to_topic(hub, event->backend, event);
		if (is_delivered && event->kind == PLANE_HUB_MISSED)
			deliver_to_all(hub, event);
		free(queued->event.message);
		free(queued->event.user);
		free(queued);
		queued = next;
	}
}

static void on_wake(struct plane_wake *wake)
{
	deliver_queue(wake->poll.data, true);
}

struct plane_hub *plane_hub_create(uv_loop_t *loop, struct plane_error *err)
{
	struct plane_hub *hub = PLANE_NEW(struct plane_hub);
	if (plane_wake_init(loop, &hub->wake, on_wake, err) < 0) {
		(void)plane_error_prefix(err, "make the hub's wake-up");
		free(hub);
		return NULL;
	}
	hub->wake.poll.data = hub;
	hub->waiter_limit = 1;
	if (uv_mutex_init(&hub->mutex) < 0 || uv_cond_init(&hub->waiters_changed) < 0)
		abort(); /* only without memory */
	return hub;
}

static void on_wake_closed(uv_handle_t *handle)
{
	struct plane_hub *hub = handle->data;
	void (*on_closed)(void *data) = hub->on_closed;
	void *data = hub->closed_data;
	deliver_queue(hub, false);
	struct topic *topic, *next;
	HASH_ITER (hh, hub->topics, topic, next) {
		HASH_DEL(hub->topics, topic);
		free(topic);
	}
	uv_cond_destroy(&hub->waiters_changed);
	uv_mutex_destroy(&hub->mutex);
	free(hub);
	if (on_closed)
		on_closed(data);
}

void plane_hub_close(struct plane_hub *hub, void (*on_closed)(void *data), void *data)
{
	hub->on_closed = on_closed;
	hub->closed_data = data;
	plane_wake_close(&hub->wake, on_wake_closed);
}

/* With the mutex held. */
static void wake_waiters(struct plane_hub *hub, const struct plane_hub_event *event)
{
	bool wakes = false;
	struct plane_hub_waiter *waiter;
	bool is_end = event->kind == PLANE_HUB_STATE && event->state.status == PLANE_TERMINATED;
	DL_FOREACH (hub->waiters, waiter) {
		if (event->kind == PLANE_HUB_MISSED ||
			(is_end && strcmp(waiter->backend, event->backend) == 0))
			waiter->has_ended = wakes = true;
	}
	if (wakes)
		uv_cond_broadcast(&hub->waiters_changed);
}

void plane_hub_relay(struct plane_hub *hub, const struct plane_hub_event *owned_event)
{
	struct queued_event *queued = PLANE_NEW(struct queued_event);
	queued->event = *owned_event;
	uv_mutex_lock(&hub->mutex);
	if (hub->queue_last)
		hub->queue_last->next = queued;
	else
		hub->queue_first = queued;
	hub->queue_last = queued;
	wake_waiters(hub, &queued->event);
	uv_mutex_unlock(&hub->mutex);
	plane_wake_send(&hub->wake);
}

static void publish(struct plane_hub *hub, const char *backend, struct plane_hub_event *owned_event)
{
	(void)plane_text_copy(owned_event->backend, PLANE_NAME_SIZE, backend); /* it exists */
	plane_hub_relay(hub, owned_event);
	if (hub->on_published)
		hub->on_published(hub->published_data);
}

void plane_hub_publish_state(struct plane_hub *hub, const char *backend,
	const struct plane_backend_state *state, int64_t time_ms)
{
	struct plane_hub_event event = {
		.kind = PLANE_HUB_STATE, .state = *state, .time_ms = time_ms
	};
	publish(hub, backend, &event);
}

void plane_hub_publish_action(struct plane_hub *hub, const char *backend, const char *action_id,
	int64_t drone_id, int64_t asked_at_ms, char *owned_message)
{
	struct plane_hub_event event = { .kind = PLANE_HUB_ACTION,
		.drone_id = drone_id,
		.asked_at_ms = asked_at_ms,
		.message = owned_message };
	(void)plane_text_copy(event.action_id, PLANE_NAME_SIZE, action_id); /* a name of ours */
	publish(hub, backend, &event);
}

void plane_hub_publish_revocation(struct plane_hub *hub, const char *backend, const char *user)
{
	struct plane_hub_event event = { .kind = PLANE_HUB_REVOCATION, .user = plane_strdup(user) };
	publish(hub, backend, &event);
}

void plane_hub_set_outlet(struct plane_hub *hub, void (*on_published)(void *data), void *data)
{
	hub->on_published = on_published;
	hub->published_data = data;
}

void plane_hub_subscribe(struct plane_hub *hub, struct plane_hub_subscription *subscription,
	const char *backend, void (*on_event)(void *data, const struct plane_hub_event *event),
	void *data)
{
	struct topic *topic = NULL;
	HASH_FIND_STR(hub->topics, backend, topic);
	if (!topic) {
		topic = PLANE_NEW(struct topic);
		(void)plane_text_copy(topic->backend, sizeof(topic->backend), backend);
		HASH_ADD_STR(hub->topics, backend, topic);
	}
	(void)plane_text_copy(subscription->backend, PLANE_NAME_SIZE, topic->backend);
	subscription->on_event = on_event;
	subscription->data = data;
	subscription->is_subscribed = true;
	DL_PREPEND(topic->subscriptions, subscription);
}

void plane_hub_unsubscribe(struct plane_hub *hub, struct plane_hub_subscription *subscription)
{
	if (!subscription->is_subscribed)
		return;
	subscription->is_subscribed = false;
	if (hub->delivery_next == subscription)
		hub->delivery_next = subscription->next;
	struct topic *topic = NULL;
	HASH_FIND_STR(hub->topics, subscription->backend, topic);
	if (!topic)
		return;
	DL_DELETE(topic->subscriptions, subscription);
	if (!topic->subscriptions) {
		HASH_DEL(hub->topics, topic);
		free(topic);
	}
}

void plane_hub_set_receiver(struct plane_hub *hub,
	void (*on_event)(void *data, const struct plane_hub_event *event), void *data)
{
	hub->on_event = on_event;
	hub->data = data;
}

bool plane_hub_wait_begin(
	struct plane_hub *hub, struct plane_hub_waiter *waiter, const char *backend)
{
	waiter->has_ended = false;
	if (!plane_text_copy(waiter->backend, sizeof(waiter->backend), backend))
		return false;
	uv_mutex_lock(&hub->mutex);
	bool is_allowed = !hub->is_stopping && hub->waiter_count < hub->waiter_limit;
	if (is_allowed) {
		hub->waiter_count++;
		DL_APPEND(hub->waiters, waiter);
	}
	uv_mutex_unlock(&hub->mutex);
	return is_allowed;
}

bool plane_hub_wait(struct plane_hub *hub, struct plane_hub_waiter *waiter, int64_t timeout_ms)
{
	uint64_t deadline_ns = uv_hrtime() + (uint64_t)timeout_ms * 1000000;
	uv_mutex_lock(&hub->mutex);
	while (!waiter->has_ended && !hub->is_stopping) {
		uint64_t now_ns = uv_hrtime();
		if (now_ns >= deadline_ns)
			break;
		(void)uv_cond_timedwait(&hub->waiters_changed, &hub->mutex, deadline_ns - now_ns);
	}
	bool has_ended = waiter->has_ended;
	uv_mutex_unlock(&hub->mutex);
	return has_ended;
}

void plane_hub_wait_end(struct plane_hub *hub, struct plane_hub_waiter *waiter)
{
	uv_mutex_lock(&hub->mutex);
	hub->waiter_count--;
	DL_DELETE(hub->waiters, waiter);
	uv_mutex_unlock(&hub->mutex);
}

void plane_hub_set_wait_limit(struct plane_hub *hub, int limit)
{
	uv_mutex_lock(&hub->mutex);
	hub->waiter_limit = limit;
	uv_mutex_unlock(&hub->mutex);
}

void plane_hub_stop_waiting(struct plane_hub *hub)
{
	uv_mutex_lock(&hub->mutex);
	hub->is_stopping = true;
	uv_cond_broadcast(&hub->waiters_changed);
	uv_mutex_unlock(&hub->mutex);
}
