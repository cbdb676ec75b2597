/* Connections between nodes and controllers, in place of channels and WebSockets. What goes one way
 * arrives in its order, or not at all from some moment on; each end learns of a break in its own
 * time, and the controller's may live on for long, with messages still on their way to it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "controller/drone_session.h"
#include "controller/proxy_session.h"
#include "net/channel.h"
#include "net/http_server.h"
#include "net/websocket.h"
#include "sim.h"

#define BACKOFF_FIRST_MS 50
#define PATIENCE_MIN_MS 500
#define PATIENCE_MAX_MS 10000
#define STEADY_AFTER (5 * SIM_SECOND)
#define CUTS_MAX 64

enum item_kind { ITEM_OPEN, ITEM_TEXT, ITEM_CLOSE };

struct item {
	enum item_kind kind;
	char *text;
	int64_t sent_at, due_at;
	struct item *next;
};

/* One way of a connection. */
struct way {
	struct link *link;
	struct item *first, *last;
	struct sim_event *event; /* the arrival of the first */
	struct sim_process *to;
	int from_machine, to_machine;
	bool is_to_server;
};

struct plane_ws {
	struct link *link;
	struct plane_ws_listener listener;
	bool is_listening;
	struct sim_event *closing;
};

struct link {
	struct plane_channel *channel; /* NULL: the client has given it up */
	struct plane_ws *ws;           /* NULL: not accepted yet, or closed */
	struct sim_process *client, *server;
	struct way to_server, to_client;
	bool is_broken; /* nothing more arrives than what is on its way */
	int uses;       /* by functions that are not done with it */
	struct link *prev, *next;
};

struct plane_channel {
	struct sim_process *process;
	struct plane_channel_listener listener;
	char cluster[128], pool[128], name[PLANE_NAME_SIZE], handshake[512];
	struct link *link;
	struct sim_event *timer; /* the next attempt, or the next look at the connection */
	bool is_connected, is_closed;
	int64_t heard_at, connected_at, lost_heard_at; /* virtual time */
	int64_t backoff_ms, patience_ms;
	void (*on_closed)(void *data);
	void *closed_data;
};

static struct {
	struct link *links;
	bool cuts[CUTS_MAX][CUTS_MAX]; /* of the first machines; the database's are the last */
	bool is_slow;
} network;

/* CUTS_MAX for a machine that is never cut off. */
static int cut_index(int machine)
{
	if (machine == SIM_DATABASE)
		return CUTS_MAX - 1;
	return machine < CUTS_MAX - 1 ? machine : CUTS_MAX;
}

void sim_network_cut(int from, int to, bool is_cut)
{
	from = cut_index(from);
	to = cut_index(to);
	if (from == CUTS_MAX || to == CUTS_MAX)
		abort();
	network.cuts[from][to] = is_cut;
}

void sim_network_heal(void)
{
	memset(network.cuts, 0, sizeof(network.cuts));
}

bool sim_network_is_cut(int from, int to)
{
	from = cut_index(from);
	to = cut_index(to);
	return from < CUTS_MAX && to < CUTS_MAX && network.cuts[from][to];
}

void sim_network_set_slow(bool is_slow)
{
	network.is_slow = is_slow;
}

int64_t sim_network_latency(void)
{
	if (network.is_slow && sim_chance(300))
		return sim_between(SIM_MS, 3 * SIM_SECOND);
	return sim_between(100, 5 * SIM_MS);
}

/* ---- arrivals ---- */

static void arrive(void *data);

static void schedule(struct way *way)
{
	if (way->first && !way->event)
		way->event =
			sim_after(&way->to->owner, way->first->due_at - sim_now(), arrive, way);
}

static void put(struct way *way, enum item_kind kind, const char *text)
{
	struct item *item = PLANE_NEW(struct item);
	if (way->link->is_broken) {
		free(item);
		return;
	}
	item->kind = kind;
	item->text = plane_strdup(text);
	item->sent_at = sim_now();
	item->due_at = sim_now() + sim_network_latency();
	if (way->last && way->last->due_at > item->due_at)
		item->due_at = way->last->due_at;
	if (way->first)
		way->last->next = item;
	else
		way->first = item;
	way->last = item;
	schedule(way);
}

static void drop_items(struct way *way)
{
	while (way->first) {
		struct item *item = way->first;
		way->first = item->next;
		free(item->text);
		free(item);
	}
	way->last = NULL;
	sim_cancel(way->event);
	way->event = NULL;
}

static void free_link_if_done(struct link *link)
{
	if (link->uses || link->channel || link->ws || link->to_server.first ||
		link->to_client.first || link->to_server.event || link->to_client.event)
		return;
	DL_DELETE(network.links, link);
	free(link);
}

static void serve_item(struct link *link, const struct item *item);
static void client_item(struct link *link, const struct item *item);

static void arrive(void *data)
{
	struct way *way = data;
	struct link *link = way->link;
	struct item *item = way->first;
	way->event = NULL;
	if (!item)
		return;
	if (sim_network_is_cut(way->from_machine, way->to_machine)) {
		item->due_at = sim_now() + sim_between(50 * SIM_MS, 300 * SIM_MS);
		schedule(way);
		return;
	}
	way->first = item->next;
	if (!way->first)
		way->last = NULL;
	schedule(way);
	link->uses++;
	if (way->is_to_server)
		serve_item(link, item);
	else
		client_item(link, item);
	free(item->text);
	free(item);
	link->uses--;
	free_link_if_done(link);
}

/* ---- the controller's side ---- */

struct plane_http_server {
	uv_loop_t *loop;
	void *controller;
	int calls; /* requests that are served now */
	void (*on_closed)(void *data);
	void *closed_data;
};

struct plane_http_server *plane_http_server_create(
	uv_loop_t *loop, const struct plane_http_server_config *config, struct plane_error *err)
{
	struct plane_http_server *server = PLANE_NEW(struct plane_http_server);
	(void)err;
	server->loop = loop;
	server->controller = config->server_data;
	loop->active_handles++;
	sim_current()->server = server;
	return server;
}

struct call {
	struct plane_http_server *server;
	void (*run)(void *controller, void *data);
	void *data;
};

static void run_call(void *data)
{
	struct call call = *(struct call *)data;
	free(data);
	call.server->calls++;
	call.run(call.server->controller, call.data);
	call.server->calls--;
}

bool sim_network_call(
	struct sim_process *process, void (*run)(void *controller, void *data), void *data)
{
	if (!sim_process_is_alive(process) || !process->server || process->owner.is_paused ||
		process->machine->owner.is_paused)
		return false;
	struct call *call = PLANE_NEW(struct call);
	*call = (struct call){ process->server, run, data };
	sim_fiber_start(process, run_call, call);
	return true;
}

const char *plane_http_server_address(const struct plane_http_server *server)
{
	(void)server;
	return "127.0.0.1:8080";
}

static void on_ws_closed(void *data)
{
	struct plane_ws *ws = data;
	struct link *link = ws->link;
	link->ws = NULL;
	if (ws->is_listening)
		ws->listener.on_closed(ws->listener.data);
	free(ws);
	free_link_if_done(link);
}

static void close_ws_in(struct plane_ws *ws, int64_t delay)
{
	if (!ws->closing)
		ws->closing = sim_after(&ws->link->server->owner, delay, on_ws_closed, ws);
}

static void on_server_closed(void *data)
{
	struct plane_http_server *server = data;
	uv_loop_t *loop = server->loop;
	if (server->calls) {
		(void)sim_after(&sim_current()->owner, 10 * SIM_MS, on_server_closed, server);
		return;
	}
	if (server->on_closed)
		server->on_closed(server->closed_data);
	free(server);
	loop->active_handles--;
}

void plane_http_server_close(
	struct plane_http_server *server, void (*on_closed)(void *data), void *data)
{
	struct link *link;
	server->on_closed = on_closed;
	server->closed_data = data;
	sim_current()->server = NULL;
	sim_streams_close(sim_current());
	DL_FOREACH (network.links, link)
		if (link->server == sim_current() && link->ws)
			plane_ws_close(link->ws);
	(void)sim_after(
		&sim_current()->owner, sim_between(1, 100 * SIM_MS), on_server_closed, server);
}

void plane_ws_listen(struct plane_ws *ws, const struct plane_ws_listener *listener)
{
	ws->listener = *listener;
	ws->is_listening = true;
}

bool plane_ws_send_text(struct plane_ws *ws, const char *text, size_t len)
{
	(void)len;
	if (!ws->closing)
		put(&ws->link->to_client, ITEM_TEXT, text);
	return true;
}

void plane_ws_close(struct plane_ws *ws)
{
	if (ws->closing)
		return;
	put(&ws->link->to_client, ITEM_CLOSE, NULL);
	close_ws_in(
		ws, sim_chance(200) ? sim_between(0, 5 * SIM_SECOND) : sim_between(0, 10 * SIM_MS));
}

void plane_ws_close_because(struct plane_ws *ws, int code, const char *reason)
{
	(void)code;
	(void)reason;
	plane_ws_close(ws);
}

static void accept_link(struct link *link, const char *text)
{
	struct plane_http_server *server = link->server->server;
	struct plane_node_session *session;
	/* what its backends' addresses are is the runtime's, which has no machines */
	struct plane_node_caller caller = { .peer_address = link->client->machine->name,
		.is_own_machine = true };
	_cleanup_free_ char *copy = plane_strdup(text);
	char *cluster = strtok(copy, "\n"), *pool = strtok(NULL, "\n");
	if (!server) {
		put(&link->to_client, ITEM_CLOSE, NULL);
		return;
	}
	link->ws = PLANE_NEW(struct plane_ws);
	link->ws->link = link;
	if (link->client->role == SIM_DRONE)
		session =
			plane_drone_session_create(server->controller, cluster, pool + 1, &caller);
	else
		session = plane_proxy_session_create(server->controller, cluster, &caller);
	plane_node_session_start(session, link->ws);
}

static void serve_item(struct link *link, const struct item *item)
{
	struct plane_ws *ws = link->ws;
	if (item->kind == ITEM_OPEN) {
		accept_link(link, item->text);
		return;
	}
	if (!ws)
		return;
	if (item->kind == ITEM_CLOSE)
		close_ws_in(ws, 0);
	else if (ws->is_listening && !ws->closing) {
		if (sim_is_tracing() && !strstr(item->text, "RenewLease"))
			sim_trace("%s <- %s: %.300s", link->server->name, link->client->name,
				item->text);
		ws->listener.on_text(ws->listener.data, item->text, strlen(item->text));
	}
}

/* ---- the node's side ---- */

static void attempt(void *data);
static void look(void *data);

static void set_timer(struct plane_channel *channel, int64_t delay, void (*run)(void *data))
{
	sim_cancel(channel->timer);
	channel->timer = sim_after(&channel->process->owner, delay, run, channel);
}

static void lose(struct plane_channel *channel, const char *why)
{
	struct link *link = STEAL(channel->link);
	bool was_connected = channel->is_connected;
	if (link) {
		link->channel = NULL;
		put(&link->to_server, ITEM_CLOSE, NULL);
		drop_items(&link->to_client);
		free_link_if_done(link);
	}
	channel->is_connected = false;
	if (was_connected)
		channel->lost_heard_at = channel->heard_at;
	if (was_connected && sim_now() - channel->connected_at >= STEADY_AFTER)
		channel->backoff_ms = BACKOFF_FIRST_MS;
	int64_t half = channel->backoff_ms / 2;
	set_timer(channel, sim_between(half, 2 * half) * SIM_MS, attempt);
	channel->backoff_ms += half;
	if (channel->backoff_ms > channel->patience_ms)
		channel->backoff_ms = channel->patience_ms;
	if (was_connected) {
		plane_warn("lost the controller: %s", why);
		channel->listener.on_disconnected(channel->listener.data);
	}
}

static struct link *new_link(struct plane_channel *channel, struct sim_process *server)
{
	struct link *link = PLANE_NEW(struct link);
	int here = channel->process->machine->index, there = server->machine->index;
	link->channel = channel;
	link->client = channel->process;
	link->server = server;
	link->to_server = (struct way){ .link = link,
		.to = server,
		.from_machine = here,
		.to_machine = there,
		.is_to_server = true };
	link->to_client = (struct way){
		.link = link, .to = channel->process, .from_machine = there, .to_machine = here
	};
	DL_APPEND(network.links, link);
	return link;
}

static void attempt(void *data)
{
	struct plane_channel *channel = data;
	struct sim_process *server = sim_cluster_pick_controller();
	char open[300];
	channel->timer = NULL;
	if (!server || !server->server || server->machine->is_off) {
		lose(channel, "refused");
		return;
	}
	channel->link = new_link(channel, server);
	channel->heard_at = sim_now();
	snprintf(open, sizeof(open), "%s\n.%s\n", channel->cluster, channel->pool);
	put(&channel->link->to_server, ITEM_OPEN, open);
	put(&channel->link->to_server, ITEM_TEXT, channel->handshake);
	set_timer(channel, channel->patience_ms * SIM_MS, look);
}

/* Pings: as long as both ways are open, something is heard. */
static void look(void *data)
{
	struct plane_channel *channel = data;
	struct link *link = channel->link;
	channel->timer = NULL;
	if (!channel->is_connected) {
		lose(channel, "it does not answer");
		return;
	}
	int here = channel->process->machine->index, there = link->server->machine->index;
	if (!link->is_broken && link->ws && sim_process_is_alive(link->server) &&
		!link->server->owner.is_paused && !link->server->machine->owner.is_paused &&
		!sim_network_is_cut(here, there) && !sim_network_is_cut(there, here))
		channel->heard_at = sim_now();
	if (sim_now() - channel->heard_at > 2 * channel->patience_ms * SIM_MS)
		lose(channel, "nothing is heard");
	else
		set_timer(channel, channel->patience_ms * SIM_MS / 2, look);
}

static void take_handshake(struct plane_channel *channel, const json_t *json)
{
	struct plane_handshake handshake = { 0 };
	struct plane_error err = { 0 };
	if (plane_handshake_read(json, &handshake, &err) < 0) {
		lose(channel, err.message);
		return;
	}
	channel->is_connected = true;
	channel->connected_at = sim_now();
	set_timer(channel, channel->patience_ms * SIM_MS / 2, look);
	channel->listener.on_connected(channel->listener.data, &handshake);
}

/* The variant that counts deadlines from the arrival of the answer. */
static void postpone(json_t *json, int64_t delay_ms)
{
	static const char *const names[] = { "renew_at", "soft_terminate_at", "hard_terminate_at" };
	json_t *deadlines = json_object_get(json_object_get(json, "LeaseResponse"), "deadlines");
	for (size_t i = 0; i < 3 && json_is_object(deadlines); i++) {
		json_t *at = json_object_get(deadlines, names[i]);
		(void)json_integer_set(at, json_integer_value(at) + delay_ms);
	}
}

static void client_item(struct link *link, const struct item *item)
{
	struct plane_channel *channel = link->channel;
	struct plane_error err = { 0 };
	if (!channel)
		return;
	channel->heard_at = sim_now();
	if (item->kind == ITEM_CLOSE) {
		lose(channel, "closed by the controller");
		return;
	}
	_cleanup_json_ json_t *json = plane_json_parse(item->text, strlen(item->text), &err);
	if (sim_is_tracing() && !strstr(item->text, "LeaseResponse"))
		sim_trace(
			"%s <- %s: %.300s", channel->process->name, link->server->name, item->text);
	if (sim_options.mutant == SIM_MUTANT_COUNTS_FROM_ANSWER)
		postpone(json, (sim_now() - item->sent_at) / SIM_MS + 2000);
	if (!channel->is_connected)
		take_handshake(channel, json);
	else
		channel->listener.on_message(channel->listener.data, json);
}

static void read_path(struct plane_channel *channel, const char *path)
{
	const char *begin = path + strlen("/ctrl/c/");
	const char *pool = strstr(path, "?pool=");
	snprintf(channel->cluster, sizeof(channel->cluster), "%.*s",
		(int)(strchr(begin, '/') - begin), begin);
	snprintf(channel->pool, sizeof(channel->pool), "%s", pool ? pool + 6 : "");
}

struct plane_channel *plane_channel_connect(uv_loop_t *loop, const char *controller_url,
	const struct plane_controller_credentials *credentials, const char *path, const char *name,
	const char *const *extensions, const struct plane_channel_listener *listener,
	struct plane_error *err)
{
	struct plane_channel *channel = PLANE_NEW(struct plane_channel);
	const struct sim_process *process = loop->data;
	_cleanup_json_ json_t *handshake =
		plane_handshake_write(name, process->is_original ? NULL : extensions);
	_cleanup_free_ char *text = plane_json_dump(handshake);
	(void)controller_url;
	(void)credentials;
	(void)err;
	channel->process = loop->data;
	channel->listener = *listener;
	channel->backoff_ms = BACKOFF_FIRST_MS;
	channel->patience_ms = PATIENCE_MAX_MS;
	channel->lost_heard_at = -1;
	read_path(channel, path);
	snprintf(channel->handshake, sizeof(channel->handshake), "%s", text);
	(void)plane_text_copy(channel->name, sizeof(channel->name), name);
	loop->active_handles++;
	set_timer(channel, 0, attempt);
	return channel;
}

bool plane_channel_send(struct plane_channel *channel, json_t *owned_message)
{
	_cleanup_json_ json_t *message = owned_message;
	_cleanup_free_ char *text = plane_json_dump(message);
	if (!channel->is_connected)
		return false;
	put(&channel->link->to_server, ITEM_TEXT, text);
	return true;
}

void plane_channel_tell(struct plane_channel *channel, const char *field, json_t *owned_value)
{
	_cleanup_json_ json_t *handshake = json_loads(channel->handshake, 0, NULL);
	json_object_set_new(handshake, field, owned_value);
	_cleanup_free_ char *text = plane_json_dump(handshake);
	(void)plane_text_copy(channel->handshake, sizeof(channel->handshake), text); /* room */
}

bool plane_channel_is_connected(const struct plane_channel *channel)
{
	return channel->is_connected;
}

int64_t plane_channel_silence_ms(const struct plane_channel *channel)
{
	return channel->lost_heard_at < 0 ? -1 : (sim_now() - channel->lost_heard_at) / SIM_MS;
}

void plane_channel_set_patience(struct plane_channel *channel, int64_t patience_ms)
{
	if (patience_ms < PATIENCE_MIN_MS)
		patience_ms = PATIENCE_MIN_MS;
	channel->patience_ms = patience_ms < PATIENCE_MAX_MS ? patience_ms : PATIENCE_MAX_MS;
}

void plane_channel_drop(struct plane_channel *channel, const char *why)
{
	if (channel->link)
		lose(channel, why);
}

static void finish_channel(void *data)
{
	struct plane_channel *channel = data;
	struct sim_process *process = channel->process;
	if (channel->on_closed)
		channel->on_closed(channel->closed_data);
	free(channel);
	if (--process->loop->active_handles == 0 && process->runner)
		sim_fiber_wake(process->runner);
}

void plane_channel_close(struct plane_channel *channel, void (*on_closed)(void *data), void *data)
{
	struct link *link = STEAL(channel->link);
	if (link) {
		put(&link->to_server, ITEM_CLOSE, NULL);
		link->channel = NULL;
		drop_items(&link->to_client);
	}
	channel->on_closed = on_closed;
	channel->closed_data = data;
	set_timer(channel, 0, finish_channel);
}

/* The first of its connections that is in use. */
bool sim_network_is_settled(const struct sim_process *client)
{
	const struct link *link;
	DL_FOREACH (network.links, link)
		if (link->client == client && link->channel && link->channel->is_connected)
			break;
	if (!link || link->is_broken || !link->ws || link->ws->closing || network.is_slow)
		return false;
	const struct sim_process *server = link->server;
	int here = client->machine->index, there = server->machine->index;
	return sim_process_is_alive(server) && !server->owner.is_paused &&
	       !server->machine->owner.is_paused && !sim_network_is_cut(here, there) &&
	       !sim_network_is_cut(there, here) && sim_database_is_settled(there);
}

/* ---- faults ---- */

/* From some message on nothing arrives. */
static void cut_off(struct way *way)
{
	struct item *item = way->first, *last = NULL;
	while (item && sim_chance(500)) {
		last = item;
		item = item->next;
	}
	if (!last) {
		drop_items(way);
		return;
	}
	while (last->next) {
		struct item *lost = last->next;
		last->next = lost->next;
		free(lost->text);
		free(lost);
	}
	way->last = last;
}

static void notice_break(void *data)
{
	struct plane_channel *channel = data;
	channel->timer = NULL;
	lose(channel, "it broke");
}

static int64_t soon_or_late(int64_t late)
{
	return sim_chance(600) ? sim_between(0, 50 * SIM_MS) : sim_between(0, late);
}

static void break_link(struct link *link)
{
	sim_trace("the connection of %s to %s breaks", link->client->name, link->server->name);
	cut_off(&link->to_server);
	cut_off(&link->to_client);
	link->is_broken = true;
	if (link->channel)
		set_timer(link->channel, soon_or_late(10 * SIM_SECOND), notice_break);
	if (link->ws)
		close_ws_in(link->ws, soon_or_late(60 * SIM_SECOND));
}

static bool may_break(const struct link *link, bool is_proxys)
{
	return !is_proxys || link->client->role == SIM_PROXY;
}

void sim_network_break_one(bool is_proxys)
{
	struct link *link;
	uint64_t count = 0;
	DL_FOREACH (network.links, link)
		count += may_break(link, is_proxys);
	if (count == 0)
		return;
	uint64_t index = sim_below(count);
	DL_FOREACH (network.links, link)
		if (may_break(link, is_proxys) && index-- == 0)
			break;
	if (link && !link->is_broken)
		break_link(link);
}

static void delay(struct way *way, int64_t time)
{
	for (struct item *item = way->first; item; item = item->next)
		item->due_at += time;
	sim_cancel(way->event);
	way->event = NULL;
	schedule(way);
}

void sim_network_lose_own(struct sim_process *client)
{
	struct link *link;
	DL_FOREACH (network.links, link) {
		if (link->client != client || link->is_broken || !link->channel)
			continue;
		sim_trace("%s loses its connection to %s, where its last words come late",
			link->client->name, link->server->name);
		int64_t late = sim_between(0, 8 * SIM_SECOND);
		delay(&link->to_server, late);
		drop_items(&link->to_client);
		link->is_broken = true;
		set_timer(link->channel, sim_between(0, 50 * SIM_MS), notice_break);
		if (link->ws)
			close_ws_in(link->ws, late + soon_or_late(60 * SIM_SECOND));
	}
}

/* `is_told`: its machine goes on, and tells the other side. */
void sim_network_process_died(struct sim_process *process, bool is_told)
{
	struct link *link, *next;
	int64_t late = is_told ? 50 * SIM_MS : 60 * SIM_SECOND;
	sim_streams_process_died(process);
	DL_FOREACH_SAFE (network.links, link, next) {
		if (link->server == process) {
			link->ws = NULL; /* nobody reads it any more */
			drop_items(&link->to_server);
			link->is_broken = true;
			if (link->channel && is_told)
				set_timer(link->channel, sim_between(0, late), notice_break);
			free_link_if_done(link);
		} else if (link->client == process) {
			link->channel = NULL;
			drop_items(&link->to_client);
			if (link->ws)
				close_ws_in(link->ws, sim_between(0, late));
			link->is_broken = true;
			free_link_if_done(link);
		}
	}
}
