/* The control channel of a proxy. */
#include "proxy/control.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "net/channel.h"
#include "net/wake.h"

#define LOOK_MS 7000
/* From a revocation to the controller's telling of it: one that does not reach the database tells
 * of none, and may be gone before it does. To be told twice is harmless. */
#define REVOCATION_DELAY_MS (10 * 60 * 1000)

struct errand {
	struct errand *next;
	enum plane_proxy_message_kind kind;
	char *text; /* a token or a backend */
};

struct plane_control {
	struct plane_proxy_shared *shared;
	struct plane_control_listener listener;
	uv_loop_t *loop;
	struct plane_channel *channel;
	struct plane_wake wake;
	uv_timer_t timer;
	bool was_connected;
	pthread_mutex_t mutex;
	struct errand *errands; /* newest first */
};

/* ---- what workers want ---- */

static void add_errand(
	struct plane_control *control, enum plane_proxy_message_kind kind, const char *text)
{
	struct errand *errand = PLANE_NEW(struct errand);
	errand->kind = kind;
	errand->text = plane_strdup(text);
	pthread_mutex_lock(&control->mutex);
	LL_PREPEND(control->errands, errand);
	pthread_mutex_unlock(&control->mutex);
	plane_wake_send(&control->wake);
}

void plane_control_ask(void *control, const char *token)
{
	add_errand(control, PLANE_PROXY_ROUTE_INFO_REQUEST, token);
}

void plane_control_first_use(struct plane_control *control, const char *backend)
{
	add_errand(control, PLANE_PROXY_KEEP_ALIVE, backend);
}

static void send_errand(
	struct plane_control *control, enum plane_proxy_message_kind kind, const char *text)
{
	struct plane_proxy_message message = { .kind = kind };
	if (kind == PLANE_PROXY_KEEP_ALIVE)
		message.backend = text;
	else
		message.token = text;
	/* unsent, routes are asked for again on the next connection, and use is told in 7 s */
	if (control->channel && plane_channel_is_connected(control->channel))
		(void)plane_channel_send(control->channel, plane_proxy_message_write(&message));
}

static void on_wake(struct plane_wake *wake)
{
	struct plane_control *control = wake->poll.data;
	pthread_mutex_lock(&control->mutex);
	struct errand *errand = STEAL(control->errands);
	pthread_mutex_unlock(&control->mutex);
	while (errand) {
		struct errand *next = errand->next;
		send_errand(control, errand->kind, errand->text);
		free(errand->text);
		free(errand);
		errand = next;
	}
}

static void tell_use(void *data, const char *backend)
{
	send_errand(data, PLANE_PROXY_KEEP_ALIVE, backend);
}

static void on_timer(uv_timer_t *timer)
{
	struct plane_control *control = timer->data;
	plane_activity_look(control->shared->activity, tell_use, control);
}

/* ---- what the controller says ---- */

static void on_route(struct plane_control *control, const struct plane_proxy_order *order)
{
	struct plane_error err = { 0 };
	struct plane_route *route = NULL;
	if (order->has_route) {
		route = plane_route_create(&order->route, &err);
		if (!route)
			plane_warn_backend(order->route.backend, "its route: %s", err.message);
	}
	plane_routes_answer(control->shared->routes, order->token, route, plane_clock_boot_ms());
}

static void on_message(void *data, const json_t *json)
{
	struct plane_control *control = data;
	struct plane_proxy_order order;
	struct plane_error err = { 0 };
	if (plane_proxy_order_read(json, &order, &err) < 0) {
		plane_warn("skipped a message of the controller: %s", err.message);
		return;
	}
	switch (order.kind) {
	case PLANE_ORDER_ROUTE_INFO:
		on_route(control, &order);
		break;
	case PLANE_ORDER_BACKEND_REMOVED:
		plane_routes_remove(control->shared->routes, order.backend, NULL);
		break;
	case PLANE_ORDER_REVOKE_TOKENS:
		plane_routes_remove(control->shared->routes, order.backend, order.user);
		control->listener.on_revoked(control->listener.data, order.backend, order.user);
		break;
	case PLANE_ORDER_CERT_LEASE_RESPONSE:
	case PLANE_ORDER_CERT_TXT_RESPONSE:
		plane_debug("skipped an answer about a certificate that was not asked for");
		break;
	}
}

/* Routes are asked for anew, but open tunnels may be of a user whose tokens were revoked while
 * nobody could tell it here. */
static void ask_revoked(struct plane_control *control, const struct plane_handshake *peer)
{
	int64_t silence_ms = plane_channel_silence_ms(control->channel);
	struct plane_proxy_message message = { .kind = PLANE_PROXY_REVOKED_SINCE,
		.since_ms = silence_ms + REVOCATION_DELAY_MS };
	if (silence_ms >= 0 && plane_handshake_has(peer, PLANE_EXTENSION_REVOKED_SINCE))
		(void)plane_channel_send(control->channel, plane_proxy_message_write(&message));
}

static void on_connected(void *data, const struct plane_handshake *peer)
{
	struct plane_control *control = data;
	plane_info("connected to controller %s", peer->name);
	atomic_store(&control->shared->is_connected, true);
	plane_routes_renew(control->shared->routes);
	ask_revoked(control, peer);
	if (!control->was_connected)
		control->listener.on_connected(control->listener.data);
	control->was_connected = true;
}

static void on_disconnected(void *data)
{
	struct plane_control *control = data;
	atomic_store(&control->shared->is_connected, false);
	plane_warn("the connection to the controller is gone; known links go on working");
}

/* ---- lifetime ---- */

struct plane_control *plane_control_create(uv_loop_t *loop, struct plane_proxy_shared *shared,
	const struct plane_control_listener *listener, struct plane_error *err)
{
	struct plane_control *control = PLANE_NEW(struct plane_control);
	control->shared = shared;
	control->listener = *listener;
	control->loop = loop;
	if (plane_wake_init(loop, &control->wake, on_wake, err) < 0) {
		free(control);
		return NULL;
	}
	pthread_mutex_init(&control->mutex, NULL);
	control->wake.poll.data = control;
	(void)uv_timer_init(loop, &control->timer); /* always succeeds */
	control->timer.data = control;
	return control;
}

int plane_control_start(struct plane_control *control, const char *name, struct plane_error *err)
{
	static const char *const extensions[] = { PLANE_EXTENSION_REVOKE, NULL };
	const struct plane_proxy_config *config = control->shared->config;
	struct plane_channel_listener listener = { control, on_connected, on_message,
		on_disconnected };
	_cleanup_free_ char *path = plane_strdupf("/ctrl/c/%s/proxy-socket", config->cluster);
	control->channel = plane_channel_connect(control->loop, config->controller_url,
		&config->credentials, path, name, extensions, &listener, err);
	if (!control->channel)
		return err->code;
	(void)uv_timer_start(&control->timer, on_timer, LOOK_MS, LOOK_MS); /* always succeeds */
	return 0;
}

void plane_control_close(struct plane_control *control)
{
	if (control->channel)
		plane_channel_close(control->channel, NULL, NULL);
	control->channel = NULL;
	plane_wake_close(&control->wake, NULL);
	uv_close((uv_handle_t *)&control->timer, NULL);
}

void plane_control_destroy(struct plane_control *control)
{
	if (!control)
		return;
	while (control->errands) {
		struct errand *errand = control->errands;
		control->errands = errand->next;
		free(errand->text);
		free(errand);
	}
	pthread_mutex_destroy(&control->mutex);
	free(control);
}
