/* The controller's side of the typed sockets: the first byte says which role connects (d: a drone,
 * p: a proxy, n: a DNS server; a capital one says its handshake itself), each line is a message.
 * What is sent back are messages that such a node can read; no message is tried for ever against
 * the store; and when the connection is gone nothing is left of it. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "controller/dns_session.h"
#include "controller/drone_session.h"
#include "controller/lease_round.h"
#include "controller/node_session.h"
#include "controller/proxy_session.h"
#include "controller_world.h"
#include "fuzz.h"
#include "model/messages.h"
#include "net/http_pool.h"
#include "net/websocket.h"

#define DRONE 'd'
#define PROXY 'p'
#define DNS 'n'

/* The far end, in place of a WebSocket. */
static struct {
	struct plane_ws_listener listener;
	char role;
	int sent;
	bool must_close, is_closed;
} node;

/* ---- what the linker hands over ---- */

void __wrap_plane_ws_listen(struct plane_ws *ws, const struct plane_ws_listener *listener);
bool __wrap_plane_ws_send_text(struct plane_ws *ws, const char *text, size_t len);
void __wrap_plane_ws_close(struct plane_ws *ws);
void __wrap_plane_ws_close_because(struct plane_ws *ws, int code, const char *reason);
void __wrap_plane_http_pool_submit(struct plane_http_pool *pool, struct plane_http_job *job);

void __wrap_plane_ws_listen(struct plane_ws *ws, const struct plane_ws_listener *listener)
{
	FUZZ_CHECK((void *)ws == (void *)&node);
	node.listener = *listener;
}

static void check_sent(const json_t *json)
{
	struct plane_handshake handshake;
	struct plane_drone_order order;
	struct plane_proxy_order proxy_order;
	struct plane_dns_order dns_order;
	struct plane_error err = { 0 };
	if (node.sent++ == 0)
		FUZZ_CHECK(plane_handshake_read(json, &handshake, &err) == 0);
	else if (node.role == DRONE)
		FUZZ_CHECK(plane_drone_order_read(json, &order, &err) == 0);
	else if (node.role == PROXY)
		FUZZ_CHECK(plane_proxy_order_read(json, &proxy_order, &err) == 0);
	else
		FUZZ_CHECK(plane_dns_order_read(json, &dns_order, &err) == 0);
}

bool __wrap_plane_ws_send_text(struct plane_ws *ws, const char *text, size_t len)
{
	struct plane_error err = { 0 };
	FUZZ_CHECK((void *)ws == (void *)&node && !node.is_closed);
	_cleanup_json_ json_t *json = plane_json_parse(text, len, &err);
	FUZZ_CHECK(json);
	check_sent(json);
	return true;
}

void __wrap_plane_ws_close(struct plane_ws *ws)
{
	FUZZ_CHECK((void *)ws == (void *)&node);
	node.must_close = true; /* its end is told when the loop turns */
}

void __wrap_plane_ws_close_because(struct plane_ws *ws, int code, const char *reason)
{
	FUZZ_CHECK(code == PLANE_WEBSOCKET_REFUSED && reason[0]);
	__wrap_plane_ws_close(ws);
}

/* Jobs run in this thread, one after another. */
static struct plane_http_job *jobs;

void __wrap_plane_http_pool_submit(struct plane_http_pool *pool, struct plane_http_job *job)
{
	struct plane_http_job **end = &jobs;
	FUZZ_CHECK(!pool); /* the controller's own, which is not there */
	while (*end)
		end = &(*end)->next;
	job->next = NULL;
	*end = job;
}

/* ---- a session ---- */

static void close_node(void)
{
	if (node.is_closed)
		return;
	node.is_closed = true;
	node.listener.on_closed(node.listener.data);
}

/* Until nothing is left to do but to wait; acknowledgements and renewals gather for no time here.
 */
static void settle(void)
{
	uv_timer_t *gathering[] = { &controller.acks_timer, &controller.renewals_timer };
	bool is_gathering;
	do {
		struct plane_http_job *job = jobs;
		if (job) {
			jobs = job->next;
			job->run(job);
			job->done(job);
		}
		if (node.must_close)
			close_node();
		is_gathering = false;
		for (size_t i = 0; i < 2; i++) {
			if (!uv_is_active((uv_handle_t *)gathering[i]))
				continue;
			is_gathering = true;
			(void)uv_timer_start(gathering[i], gathering[i]->timer_cb, 0, 0);
		}
		(void)uv_run(&controller.loop, UV_RUN_NOWAIT);
	} while (jobs || is_gathering);
}

static void on_hub_event(void *data, const struct plane_hub_event *event)
{
	(void)data;
	if (event->message)
		plane_drone_session_push(&controller, event);
	else if (event->state.status == PLANE_TERMINATED)
		plane_proxy_broadcast_removed(&controller, event->backend);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	controller_world_create(on_hub_event, NULL);
	(void)uv_timer_init(&controller.loop, &controller.acks_timer);
	(void)uv_timer_init(&controller.loop, &controller.renewals_timer);
	controller.acks_timer.data = controller.renewals_timer.data = &controller;
	controller.renewals = plane_lease_renewals_create(&controller);
	return 0;
}

static void say(const struct plane_node_session *session, const char *text, size_t len)
{
	if (node.is_closed)
		return;
	node.listener.on_text(node.listener.data, text, len);
	settle();
	/* what is tried again waits for a timer */
	if (!node.is_closed)
		FUZZ_CHECK(plane_strand_length(session->strand) == 0);
}

static struct plane_node_session *create(char role)
{
	struct plane_node_caller caller = { .peer_address = "192.0.2.1" };
	if (role == DRONE)
		return plane_drone_session_create(&controller, WORLD_CLUSTER, "", &caller);
	if (role == PROXY)
		return plane_proxy_session_create(&controller, WORLD_CLUSTER, &caller);
	return plane_dns_session_create(&controller, &caller);
}

static void greet(const struct plane_node_session *session)
{
	static const char *const extensions[] = { PLANE_EXTENSION_LOGS, PLANE_EXTENSION_REVOKE,
		PLANE_EXTENSION_LEASE, PLANE_EXTENSION_INVENTORY, PLANE_EXTENSION_REFUSE, NULL };
	const char *name = node.role == DRONE ? WORLD_DRONE : node.role == PROXY ? "px-a" : "ns-a";
	_cleanup_json_ json_t *json = plane_handshake_write(name, extensions);
	_cleanup_free_ char *text = plane_json_dump(json);
	say(session, text, strlen(text));
	FUZZ_CHECK(node.sent >= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct fuzz_input input = { bytes, len };
	uint8_t role = fuzz_byte(&input);
	memset(&node, 0, sizeof(node));
	node.role = (role | 0x20) == DRONE ? DRONE : (role | 0x20) == PROXY ? PROXY : DNS;
	struct plane_node_session *session = create(node.role);
	plane_node_session_start(session, (struct plane_ws *)&node);
	if (role & 0x20)
		greet(session);
	while (input.left && !node.is_closed) {
		const uint8_t *end = memchr(input.at, '\n', input.left);
		size_t line = end ? (size_t)(end - input.at) : input.left;
		say(session, (const char *)input.at, line);
		input.at += line + (end != NULL);
		input.left -= line + (end != NULL);
	}
	close_node();
	for (int turns = 0; controller.open_sessions > 0; turns++) {
		FUZZ_CHECK(turns < 100);
		settle();
	}
	controller_world_reset();
	return 0;
}
