/* The agent: messages of the drone's socket. */
#include "drone/agent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "drone/inventory.h"
#include "drone/log_reader.h"
#include "model/names.h"
#include "net/channel.h"

#define HEARTBEAT_MS 7000
#define ANSWER_MIN_MS 500
#define ANSWER_MAX_MS 10000
#define METRICS_MS 10000
#define METRICS_SLICE 250 /* backends measured in one go: some 20 ms */
#define METRICS_PAUSE_MS 20
#define SETTLE_MS 50 /* from an order until it is synced: starting backends go first */
#define EVENTS_IN_FLIGHT_MAX 256
#define EVENTS_BATCH 32
#define LOG_READERS_MAX 64
#define ACKS_MAX 4096

struct ack {
	char action_id[PLANE_NAME_SIZE];
	char *refusal; /* owned; NULL: it was taken */
};

struct acks {
	struct ack *list;
	size_t count;
};

struct plane_agent {
	struct plane_agent_config config;
	struct plane_channel *channel;
	uv_timer_t heartbeat_timer, metrics_timer, report_timer, settle_timer;
	bool was_connected, refuses_orders, is_closing;
	bool is_report_begun;
	bool has_lease, may_refuse, sends_metrics; /* the controller's extensions */
	int64_t answer_took_ms;                    /* the last one for the lease */
	unsigned unanswered_count; /* connections given up since then, for want of one */
	int64_t metrics_until_ms;  /* boot clock: reports were asked for until then */
	/* events: sent up to last_sent_id, of which in_flight were not acknowledged */
	int64_t last_sent_id;
	int in_flight;
	bool has_more; /* the journal may hold events after last_sent_id */
	/* acknowledged events, forgotten together a moment later: nobody waits for that */
	int64_t done[EVENTS_IN_FLIGHT_MAX];
	size_t done_count;
	/* acknowledgements: waiting for the next sync, and for the one that goes on */
	struct acks waiting, syncing;
	uv_work_t sync;
	bool is_syncing;
	int sync_error; /* written by the pool thread */
	struct plane_inventory inventory;
	struct plane_log_reader *logs[LOG_READERS_MAX];
	void (*on_closed)(void *data);
	void *closed_data;
	int open_handles;
};

static bool send_message(struct plane_agent *agent, const struct plane_drone_message *message)
{
	return plane_channel_send(agent->channel, plane_drone_message_write(message));
}

/* ---- events ---- */

static bool send_event(struct plane_agent *agent, int64_t id, const char *backend,
	const struct plane_backend_state *state, int64_t timestamp_ms)
{
	struct plane_drone_message message = { .kind = PLANE_DRONE_BACKEND_EVENT,
		.backend = backend,
		.event_id = id,
		.timestamp_ms = timestamp_ms,
		.state = *state };
	if (!send_message(agent, &message))
		return false;
	agent->last_sent_id = id;
	agent->in_flight++;
	return true;
}

/* Sends what the journal holds, oldest first, as far as the limit allows. */
static void flush_events(struct plane_agent *agent)
{
	struct plane_journal_event events[EVENTS_BATCH];
	struct plane_error err = { 0 };
	while (agent->has_more && agent->in_flight < EVENTS_IN_FLIGHT_MAX &&
		plane_channel_is_connected(agent->channel)) {
		int count = plane_journal_events(
			agent->config.journal, agent->last_sent_id, events, EVENTS_BATCH, &err);
		if (count < 0) {
			plane_error("read events from the journal: %s", err.message);
			return;
		}
		bool is_sent = true;
		for (int i = 0; i < count; i++) {
			is_sent = is_sent && send_event(agent, events[i].id, events[i].backend,
						     &events[i].state, events[i].timestamp_ms);
			free(events[i].backend);
		}
		agent->has_more = !is_sent || count == EVENTS_BATCH;
		if (!is_sent)
			return; /* an acknowledgement or a new connection goes on */
	}
}

void plane_agent_event(struct plane_agent *agent, int64_t id, const char *backend,
	const struct plane_backend_state *state, int64_t timestamp_ms)
{
	bool is_next = !agent->has_more && agent->in_flight < EVENTS_IN_FLIGHT_MAX &&
		       plane_channel_is_connected(agent->channel);
	if (!is_next || !send_event(agent, id, backend, state, timestamp_ms))
		agent->has_more = true;
	plane_inventory_update(&agent->inventory);
}

static void settle_soon(struct plane_agent *agent);

static void forget_done(struct plane_agent *agent)
{
	struct plane_error err = { 0 };
	if (agent->done_count && plane_journal_events_done(agent->config.journal, agent->done,
					 agent->done_count, &err) < 0)
		plane_warn("forget reported events: %s", err.message); /* they are sent again */
	agent->done_count = 0;
}

static void event_done(struct plane_agent *agent, int64_t id)
{
	agent->done[agent->done_count++] = id;
	settle_soon(agent);
	if (agent->done_count == EVENTS_IN_FLIGHT_MAX)
		forget_done(agent);
	if (agent->in_flight > 0)
		agent->in_flight--;
	flush_events(agent);
}

/* ---- acknowledgements, once the journal is durable ---- */

static void start_sync(struct plane_agent *agent);

static void run_sync(uv_work_t *work)
{
	struct plane_agent *agent = work->data;
	int fd = plane_journal_sync_fd(agent->config.journal);
	agent->sync_error = fdatasync(fd) < 0 ? errno : 0;
}

static void acknowledge(struct plane_agent *agent, const struct ack *ack)
{
	struct plane_drone_message message = { .kind = ack->refusal ? PLANE_DRONE_REFUSE_ACTION
								    : PLANE_DRONE_ACK_ACTION,
		.action_id = ack->action_id,
		.reason = ack->refusal };
	(void)send_message(agent, &message); /* unsent, the order is repeated */
}

static void acks_finish(struct acks *acks)
{
	for (size_t i = 0; i < acks->count; i++)
		free(acks->list[i].refusal);
	free(acks->list);
	*acks = (struct acks){ 0 };
}

static void finish_close(struct plane_agent *agent);

static void after_sync(uv_work_t *work, int status)
{
	struct plane_agent *agent = work->data;
	(void)status; /* never cancelled */
	agent->is_syncing = false;
	if (agent->sync_error)
		plane_error("make the journal durable: %s", strerror(agent->sync_error));
	for (size_t i = 0; i < agent->syncing.count && !agent->sync_error && !agent->is_closing;
		i++)
		acknowledge(agent, &agent->syncing.list[i]);
	acks_finish(&agent->syncing);
	if (agent->is_closing)
		finish_close(agent);
	else if (agent->waiting.count)
		start_sync(agent);
}

static void start_sync(struct plane_agent *agent)
{
	agent->syncing = agent->waiting;
	agent->waiting = (struct acks){ 0 };
	agent->is_syncing = true;
	agent->sync.data = agent;
	(void)uv_queue_work(agent->config.loop, &agent->sync, run_sync, after_sync);
}

static void on_settle(uv_timer_t *timer)
{
	struct plane_agent *agent = timer->data;
	forget_done(agent);
	if (agent->waiting.count && !agent->is_syncing)
		start_sync(agent);
}

static void settle_soon(struct plane_agent *agent)
{
	if (!uv_is_active((uv_handle_t *)&agent->settle_timer))
		(void)uv_timer_start(&agent->settle_timer, on_settle, SETTLE_MS, 0); /* succeeds */
}

/* `refusal` NULL: it was taken. */
static void acknowledge_later(struct plane_agent *agent, const char *action_id, const char *refusal)
{
	struct acks *acks = &agent->waiting;
	if (acks->count == ACKS_MAX)
		return; /* the order is repeated */
	acks->list = plane_realloc(acks->list, (acks->count + 1) * sizeof(*acks->list));
	struct ack *ack = &acks->list[acks->count];
	if (plane_text_copy(ack->action_id, PLANE_NAME_SIZE, action_id)) {
		ack->refusal = plane_strdup(refusal);
		acks->count++;
	}
	settle_soon(agent);
}

/* ---- logs ---- */

static int log_index(const struct plane_agent *agent, int64_t request_id)
{
	for (int i = 0; i < LOG_READERS_MAX; i++)
		if (agent->logs[i] && plane_log_reader_request_id(agent->logs[i]) == request_id)
			return i;
	return -1;
}

static bool send_log(struct plane_agent *agent, int64_t request_id, const char *text, bool is_end,
	const char *error)
{
	struct plane_drone_message message = { .kind = PLANE_DRONE_LOGS_CHUNK,
		.request_id = request_id,
		.data = text,
		.is_end = is_end,
		.error = error };
	return send_message(agent, &message);
}

static bool on_log_text(void *data, int64_t request_id, const char *text)
{
	return send_log(data, request_id, text, false, NULL);
}

static void on_log_end(void *data, int64_t request_id, const char *error)
{
	struct plane_agent *agent = data;
	for (int i = 0; i < LOG_READERS_MAX; i++)
		if (agent->logs[i] && plane_log_reader_request_id(agent->logs[i]) == request_id)
			agent->logs[i] = NULL;
	(void)send_log(agent, request_id, "", true, error);
}

static bool is_log_ended(void *data, const char *backend)
{
	struct plane_agent *agent = data;
	return !plane_supervisor_has(agent->config.supervisor, backend);
}

static void start_log(struct plane_agent *agent, const struct plane_drone_order *order)
{
	struct plane_runtime *runtime = agent->config.runtime;
	struct plane_error err = { 0 };
	char path[4096];
	int slot = 0;
	while (slot < LOG_READERS_MAX && agent->logs[slot])
		slot++;
	if (slot == LOG_READERS_MAX) {
		(void)send_log(agent, order->request_id, "", true,
			"too many logs are read from this drone at once");
		return;
	}
	if (plane_name_check(order->backend, NULL, &err) < 0 ||
		!runtime->impl->log_path(runtime, order->backend, path, sizeof(path))) {
		(void)send_log(agent, order->request_id, "", true, "there is no such log");
		return;
	}
	struct plane_log_reader_listener listener = { agent, on_log_text, on_log_end,
		is_log_ended };
	agent->logs[slot] = plane_log_reader_create(agent->config.loop, path, order->backend,
		order->request_id, order->tail_lines, order->is_follow, &listener);
}

static void stop_log(struct plane_agent *agent, int slot)
{
	if (slot >= 0)
		plane_log_reader_destroy(STEAL(agent->logs[slot]));
}

static void stop_logs(struct plane_agent *agent)
{
	for (int i = 0; i < LOG_READERS_MAX; i++)
		stop_log(agent, i);
}

/* ---- orders ---- */

static void take_action(struct plane_agent *agent, const struct plane_drone_order *order)
{
	struct plane_error err = { 0 };
	if (agent->refuses_orders)
		return;
	int result = order->kind == PLANE_ORDER_SPAWN
			     ? plane_supervisor_spawn(
				       agent->config.supervisor, order, agent->may_refuse, &err)
			     : plane_supervisor_terminate(agent->config.supervisor, order, &err);
	if (result == -ENOSPC)
		plane_warn_backend(order->backend, "refused: %s", err.message);
	else if (result < 0)
		plane_error_backend(order->backend, "take an order: %s", err.message);
	if (result == 0 || result == -ENOSPC)
		acknowledge_later(agent, order->action_id, result ? err.message : NULL);
}

/* `deadlines` NULL: refused. */
static void take_renewal(
	struct plane_agent *agent, const char *backend, const struct plane_deadlines *deadlines)
{
	if (deadlines)
		plane_supervisor_renewed(agent->config.supervisor, backend, deadlines);
	else
		plane_warn_backend(backend, "its key was not renewed");
}

static void ask_lease(struct plane_agent *agent);
static void take_metrics_request(struct plane_agent *agent, const struct plane_drone_order *order);

static void take_lease(struct plane_agent *agent, const struct plane_drone_order *order)
{
	agent->answer_took_ms = plane_supervisor_lease_waiting_ms(agent->config.supervisor);
	agent->unanswered_count = 0;
	plane_supervisor_lease_answered(agent->config.supervisor, order);
	plane_channel_set_patience(
		agent->channel, plane_supervisor_lease_interval_ms(agent->config.supervisor));
	ask_lease(agent); /* a new one is asked for at once when it was broken */
}

static void on_message(void *data, const json_t *json)
{
	struct plane_agent *agent = data;
	struct plane_drone_order order;
	struct plane_error err = { 0 };
	if (plane_drone_order_read(json, &order, &err) < 0) {
		plane_warn("skipped a message of the controller: %s", err.message);
		return;
	}
	switch (order.kind) {
	case PLANE_ORDER_SPAWN:
	case PLANE_ORDER_TERMINATE:
		take_action(agent, &order);
		break;
	case PLANE_ORDER_ACK_EVENT:
		event_done(agent, order.event_id);
		break;
	case PLANE_ORDER_RENEW_KEY_RESPONSE:
		take_renewal(agent, order.backend, order.has_deadlines ? &order.deadlines : NULL);
		break;
	case PLANE_ORDER_LEASE_RESPONSE:
		take_lease(agent, &order);
		break;
	case PLANE_ORDER_END_BACKENDS:
		plane_inventory_end(&agent->inventory, &order);
		break;
	case PLANE_ORDER_METRICS_REQUEST:
		take_metrics_request(agent, &order);
		break;
	case PLANE_ORDER_LOGS_REQUEST:
		start_log(agent, &order);
		break;
	case PLANE_ORDER_LOGS_CANCEL:
		stop_log(agent, log_index(agent, order.request_id));
		break;
	}
}

/* ---- connection and time ---- */

static void beat(struct plane_agent *agent)
{
	struct plane_drone_message message = { .kind = PLANE_DRONE_HEARTBEAT,
		.local_time_ms = plane_local_clock_now_ms(agent->config.clock) };
	(void)send_message(agent, &message); /* not connected: nobody to tell */
}

static void on_heartbeat(uv_timer_t *timer)
{
	struct plane_agent *agent = timer->data;
	if (plane_channel_is_connected(agent->channel) && !agent->has_lease)
		beat(agent);
}

/* Which is the heartbeat, too. */
static void ask_lease(struct plane_agent *agent)
{
	struct plane_drone_message message;
	if (agent->has_lease && plane_channel_is_connected(agent->channel) &&
		plane_supervisor_ask_lease(agent->config.supervisor, &message))
		(void)send_message(agent, &message); /* asked again on the next connection */
}

/* On a slow way answers take as long as the last one did, and whoever gave up too early waits for
 * longer the next time. */
static int64_t answer_limit_ms(const struct plane_agent *agent)
{
	int64_t limit_ms = plane_supervisor_lease_interval_ms(agent->config.supervisor);
	if (limit_ms < 2 * agent->answer_took_ms)
		limit_ms = 2 * agent->answer_took_ms;
	if (limit_ms < ANSWER_MIN_MS)
		limit_ms = ANSWER_MIN_MS;
	for (unsigned i = 0; i < agent->unanswered_count && limit_ms < ANSWER_MAX_MS; i++)
		limit_ms *= 2;
	return limit_ms < ANSWER_MAX_MS ? limit_ms : ANSWER_MAX_MS;
}

/* Another controller may answer; or this one on another connection. There is time for that before
 * backends must stop. */
static void give_up_unanswered(struct plane_agent *agent)
{
	if (!agent->has_lease || !plane_channel_is_connected(agent->channel) ||
		plane_supervisor_lease_waiting_ms(agent->config.supervisor) <=
			answer_limit_ms(agent))
		return;
	agent->unanswered_count++;
	plane_channel_drop(agent->channel, "it does not answer for the lease");
}

void plane_agent_tick(struct plane_agent *agent)
{
	give_up_unanswered(agent);
	ask_lease(agent);
}

static void send_metrics(
	void *data, const char *backend, const struct plane_backend_metrics *metrics)
{
	struct plane_drone_message message = {
		.kind = PLANE_DRONE_BACKEND_METRICS, .backend = backend, .metrics = *metrics
	};
	(void)send_message(data, &message); /* the next ones will do */
}

static void add_use(void *data, const char *backend, const struct plane_backend_use *use)
{
	(void)json_object_set_new(data, backend, plane_backend_use_write(use));
}

/* Some now, and those that are left when the loop has turned. */
static void on_report(uv_timer_t *timer)
{
	struct plane_agent *agent = timer->data;
	_cleanup_json_ json_t *backends = json_object();
	size_t count =
		plane_supervisor_uses(agent->config.supervisor, METRICS_SLICE, add_use, backends);
	struct plane_drone_message message = { .kind = PLANE_DRONE_METRICS_REPORT,
		.backends = backends };
	bool is_wanted = count || agent->is_report_begun; /* that there are none is told too */
	agent->is_report_begun = false;
	if (is_wanted && send_message(agent, &message) && count == METRICS_SLICE)
		(void)uv_timer_start(timer, on_report, METRICS_PAUSE_MS, 0); /* succeeds */
}

static void report_uses(struct plane_agent *agent)
{
	plane_supervisor_uses_begin(agent->config.supervisor);
	agent->is_report_begun = true;
	(void)uv_timer_start(&agent->report_timer, on_report, 0, 0); /* succeeds */
}

static void on_metrics(uv_timer_t *timer)
{
	struct plane_agent *agent = timer->data;
	if (!plane_channel_is_connected(agent->channel))
		return;
	if (agent->sends_metrics)
		plane_supervisor_metrics(agent->config.supervisor, send_metrics, agent);
	else if (plane_clock_boot_ms() < agent->metrics_until_ms)
		report_uses(agent);
	else
		(void)uv_timer_stop(timer);
}

/* 0: not now. */
static void start_metrics(struct plane_agent *agent, int64_t interval_ms)
{
	(void)uv_timer_stop(&agent->metrics_timer);
	if (interval_ms) /* both succeed */
		(void)uv_timer_start(&agent->metrics_timer, on_metrics, (uint64_t)interval_ms,
			(uint64_t)interval_ms);
}

static void take_metrics_request(struct plane_agent *agent, const struct plane_drone_order *order)
{
	agent->metrics_until_ms = plane_clock_boot_ms() + order->duration_ms;
	start_metrics(agent, order->interval_ms);
	report_uses(agent);
}

static void on_connected(void *data, const struct plane_handshake *peer)
{
	struct plane_agent *agent = data;
	plane_info("connected to controller %s", peer->name);
	agent->has_lease = plane_handshake_has(peer, PLANE_EXTENSION_LEASE);
	agent->may_refuse = plane_handshake_has(peer, PLANE_EXTENSION_REFUSE);
	agent->sends_metrics = !plane_handshake_has(peer, PLANE_EXTENSION_METRICS);
	start_metrics(agent, agent->sends_metrics ? METRICS_MS : 0);
	forget_done(agent);
	plane_supervisor_ask_again(agent->config.supervisor);
	/* first: nothing is placed on a drone whose clock is not known */
	if (agent->has_lease)
		ask_lease(agent);
	else
		beat(agent);
	if (plane_handshake_has(peer, PLANE_EXTENSION_INVENTORY))
		plane_inventory_send(&agent->inventory);
	agent->last_sent_id = 0;
	agent->in_flight = 0;
	agent->has_more = true;
	flush_events(agent);
	plane_supervisor_tick(agent->config.supervisor);
	if (!agent->was_connected)
		agent->config.on_connected(agent->config.data);
	agent->was_connected = true;
}

static void on_disconnected(void *data)
{
	struct plane_agent *agent = data;
	plane_warn("the connection to the controller is gone; backends run on");
	agent->has_more = true;
	plane_inventory_finish(&agent->inventory);
	stop_logs(agent);
}

bool plane_agent_is_connected(const struct plane_agent *agent)
{
	return plane_channel_is_connected(agent->channel);
}

void plane_agent_renew(struct plane_agent *agent, const char *backend)
{
	struct plane_drone_message message = { .kind = PLANE_DRONE_RENEW_KEY,
		.backend = backend,
		.local_time_ms = plane_local_clock_now_ms(agent->config.clock) };
	(void)send_message(agent, &message); /* asked again on the next connection */
}

/* ---- lifetime ---- */

static void init_timer(struct plane_agent *agent, uv_timer_t *timer)
{
	(void)uv_timer_init(agent->config.loop, timer); /* always succeeds */
	timer->data = agent;
}

static void start_timer(
	struct plane_agent *agent, uv_timer_t *timer, uv_timer_cb callback, uint64_t period_ms)
{
	init_timer(agent, timer);
	(void)uv_timer_start(timer, callback, period_ms, period_ms); /* always succeeds */
}

/* Pool names are any text: what is not unreserved (RFC 3986) is percent-encoded. */
static char *socket_path(const struct plane_agent_config *config)
{
	struct plane_buffer path = { 0 };
	plane_buffer_addf(&path, "/ctrl/c/%s/drone-socket", config->cluster);
	if (config->pool[0])
		plane_buffer_add_text(&path, "?pool=");
	for (const char *c = config->pool; *c; c++) {
		bool is_plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
				(*c >= '0' && *c <= '9') || strchr("-._~", *c);
		plane_buffer_addf(&path, is_plain ? "%c" : "%%%02X", (unsigned char)*c);
	}
	return plane_buffer_steal(&path);
}

struct plane_agent *plane_agent_create(
	const struct plane_agent_config *config, struct plane_error *err)
{
	static const char *const extensions[] = { PLANE_EXTENSION_LOGS, PLANE_EXTENSION_LEASE,
		PLANE_EXTENSION_INVENTORY, PLANE_EXTENSION_METRICS, NULL };
	_cleanup_free_ char *path = socket_path(config);
	struct plane_agent *agent = PLANE_NEW(struct plane_agent);
	struct plane_channel_listener listener = { agent, on_connected, on_message,
		on_disconnected };
	agent->config = *config;
	agent->channel = plane_channel_connect(config->loop, config->controller_url,
		config->credentials, path, config->name, extensions, &listener, err);
	if (!agent->channel) {
		free(agent);
		return NULL;
	}
	agent->inventory = (struct plane_inventory){ .supervisor = config->supervisor,
		.channel = agent->channel };
	if (config->backends.is_told)
		plane_channel_tell(
			agent->channel, "backends", plane_backend_place_write(&config->backends));
	start_timer(agent, &agent->heartbeat_timer, on_heartbeat, HEARTBEAT_MS);
	init_timer(agent, &agent->metrics_timer);
	init_timer(agent, &agent->report_timer);
	init_timer(agent, &agent->settle_timer);
	return agent;
}

static void finish_close(struct plane_agent *agent)
{
	if (agent->open_handles > 0 || agent->is_syncing)
		return;
	void (*on_closed)(void *data) = agent->on_closed;
	void *data = agent->closed_data;
	acks_finish(&agent->waiting);
	plane_inventory_finish(&agent->inventory);
	free(agent);
	if (on_closed)
		on_closed(data);
}

static void on_timer_closed(uv_handle_t *handle)
{
	struct plane_agent *agent = handle->data;
	agent->open_handles--;
	finish_close(agent);
}

static void on_channel_closed(void *data)
{
	struct plane_agent *agent = data;
	agent->open_handles--;
	finish_close(agent);
}

void plane_agent_refuse_orders(struct plane_agent *agent)
{
	agent->refuses_orders = true;
}

void plane_agent_close(struct plane_agent *agent, void (*on_closed)(void *data), void *data)
{
	agent->is_closing = true;
	agent->on_closed = on_closed;
	agent->closed_data = data;
	agent->open_handles = 5;
	forget_done(agent);
	stop_logs(agent);
	plane_channel_close(agent->channel, on_channel_closed, agent);
	uv_close((uv_handle_t *)&agent->heartbeat_timer, on_timer_closed);
	uv_close((uv_handle_t *)&agent->metrics_timer, on_timer_closed);
	uv_close((uv_handle_t *)&agent->report_timer, on_timer_closed);
	uv_close((uv_handle_t *)&agent->settle_timer, on_timer_closed);
}
