/* Drones that start nothing: they take every order, and report at once what a drone would. So that
 * only what controllers and their store do is measured.
 *
 * usage: bench-drones CONTROLLER_URL CLUSTER COUNT PREFIX lease|keys [BACKENDS]
 *   lease: a lease for each drone, as our drones have it (extension "drone-lease")
 *   keys:  heartbeats, and each key renewed by itself, as the original's drones do
 *   BACKENDS: how many backends of each drone are there already, by the names that bench/scale.py
 *     gives: "<drone>-<number>"
 * Drones are named dr-<PREFIX>-<number from 1 on>. Prints "connected" when all are, and at the end,
 * on SIGTERM, how many orders to start were taken. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uv.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "model/names.h"
#include "model/resources.h"
#include "net/channel.h"

#define LEASE "drone-lease"
#define HEARTBEAT_MS 7000 /* the original's */
#define RENEW_KEY_MS 30000
#define TICK_MS 100 /* in which a share of the keys is renewed */

struct drone {
	struct plane_channel *channel;
	uv_timer_t timer;
	char name[PLANE_NAME_SIZE];
	int64_t epoch, last_event, heartbeat_at_ms, last_fencing_token;
	int next_key, running;
	bool has_lease; /* the controller knows of them too */
};

static struct {
	bool has_leases;
	int count, connected, backends;
	int64_t renew_ms;
	long long spawned;
	struct drone *drones;
	uv_signal_t signal;
} all = { .renew_ms = 2000 };

static void send_message(struct drone *drone, json_t *owned_message)
{
	(void)plane_channel_send(drone->channel, owned_message); /* again when it has reconnected */
}

static void send_state(struct drone *drone, const char *backend, json_t *owned_state)
{
	send_message(
		drone, json_pack("{s:{s:I,s:s,s:o,s:I}}", "BackendEvent", "event_id",
			       (json_int_t)++drone->last_event, "backend_id", backend, "state",
			       owned_state, "timestamp", (json_int_t)plane_clock_realtime_ms()));
}

static json_t *state(const char *status)
{
	return json_pack("{s:s}", "status", status);
}

static json_t *state_at(const char *status)
{
	return json_pack("{s:s,s:s}", "status", status, "address", "127.0.0.1:9");
}

static void take_order(struct drone *drone, const struct plane_drone_order *order)
{
	send_message(drone, json_pack("{s:{s:s}}", "AckAction", "action_id", order->action_id));
	if (order->kind == PLANE_ORDER_SPAWN) {
		all.spawned++;
		drone->running++;
		if (order->fencing_token > drone->last_fencing_token)
			drone->last_fencing_token = order->fencing_token;
		send_state(drone, order->backend, state("loading"));
		send_state(drone, order->backend, state("starting"));
		send_state(drone, order->backend, state_at("waiting"));
		send_state(drone, order->backend, state_at("ready"));
	} else {
		drone->running--;
		send_state(drone, order->backend,
			json_pack("{s:s,s:s,s:s,s:s,s:i}", "status", "terminated", "last_status",
				"ready", "termination", "soft", "reason", "external", "exit_code",
				0));
	}
}

static void on_message(void *data, const json_t *message)
{
	struct drone *drone = data;
	struct plane_drone_order order;
	struct plane_error err;
	const json_t *lease = json_object_get(message, "LeaseResponse");
	if (lease)
		drone->epoch = json_integer_value(json_object_get(lease, "epoch"));
	else if (plane_drone_order_read(message, &order, &err) == 0 && order.action_id)
		take_order(drone, &order);
}

/* ---- what an idle drone sends ---- */

/* Each has room for whatever is asked for. */
static json_t *resources(const struct drone *drone)
{
	const struct plane_resources much = { PLANE_MEMORY_BYTES_MAX, PLANE_CPU_MILLIS_MAX };
	struct plane_drone_resources report = { .total = much,
		.allocatable = much,
		.memory_available_bytes = PLANE_MEMORY_BYTES_MAX,
		.load_millis = -1,
		.backend_count = drone->running,
		.last_fencing_token = drone->last_fencing_token };
	return plane_drone_resources_write(&report);
}

static void renew_lease(struct drone *drone)
{
	send_message(drone,
		json_pack("{s:{s:o,s:I,s:s,s:I,s:o}}", "RenewLease", "epoch",
			drone->epoch ? json_integer(drone->epoch) : json_null(), "last_epoch",
			(json_int_t)drone->epoch, "journal", drone->name, "local_time",
			(json_int_t)plane_clock_boot_ms(), "resources", resources(drone)));
}

static void renew_keys(struct drone *drone)
{
	int64_t now_ms = plane_clock_boot_ms();
	if (now_ms >= drone->heartbeat_at_ms) {
		send_message(drone,
			json_pack("{s:{s:I}}", "Heartbeat", "local_time", (json_int_t)now_ms));
		drone->heartbeat_at_ms = now_ms + HEARTBEAT_MS;
	}
	/* spread over the interval, as backends that started at different times are */
	int ticks = RENEW_KEY_MS / TICK_MS;
	for (int i = drone->next_key++ % ticks; i < all.backends; i += ticks) {
		char backend[2 * PLANE_NAME_SIZE];
		snprintf(backend, sizeof(backend), "%s-%d", drone->name, i);
		send_message(drone, json_pack("{s:{s:s,s:I}}", "RenewKey", "backend", backend,
					    "local_time", (json_int_t)now_ms));
	}
}

static void on_timer(uv_timer_t *timer)
{
	struct drone *drone = timer->data;
	if (drone->has_lease)
		renew_lease(drone);
	else
		renew_keys(drone);
}

static void on_connected(void *data, const struct plane_handshake *peer)
{
	struct drone *drone = data;
	drone->has_lease = all.has_leases && plane_handshake_has(peer, LEASE);
	drone->heartbeat_at_ms = 0;
	on_timer(&drone->timer);
	uint64_t period_ms = (uint64_t)(drone->has_lease ? all.renew_ms : TICK_MS);
	(void)uv_timer_start(&drone->timer, on_timer, period_ms, period_ms); /* not closing */
	if (++all.connected == all.count) {
		puts("connected");
		(void)fflush(stdout); /* who does not hear of it waits in vain and says so */
	}
}

static void on_disconnected(void *data)
{
	struct drone *drone = data;
	fprintf(stderr, "%s: the controller has closed the connection\n", drone->name);
	all.connected--;
	(void)uv_timer_stop(&drone->timer);
}

static void on_signal(uv_signal_t *signal, int number)
{
	(void)number;
	for (int i = 0; i < all.count; i++) {
		uv_close((uv_handle_t *)&all.drones[i].timer, NULL);
		plane_channel_close(all.drones[i].channel, NULL, NULL);
	}
	uv_close((uv_handle_t *)signal, NULL);
}

static int start_drone(struct drone *drone, const char *url, const char *cluster,
	const char *prefix, int number, struct plane_error *err)
{
	static const char *const lease[] = { LEASE, "no-metrics", NULL };
	static const char *const none[] = { NULL };
	struct plane_channel_listener listener = { drone, on_connected, on_message,
		on_disconnected };
	_cleanup_free_ char *path = plane_strdupf("/ctrl/c/%s/drone-socket", cluster);
	snprintf(drone->name, sizeof(drone->name), "dr-%s-%d", prefix, number);
	(void)uv_timer_init(uv_default_loop(), &drone->timer); /* always succeeds */
	drone->timer.data = drone;
	drone->channel = plane_channel_connect(uv_default_loop(), url, NULL, path, drone->name,
		all.has_leases ? lease : none, &listener, err);
	return drone->channel ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct plane_error err = { 0 };
	if (argc < 6) {
		fprintf(stderr, "usage: bench-drones CONTROLLER_URL CLUSTER COUNT PREFIX "
				"lease|keys [BACKENDS]\n");
		return 2;
	}
	all.count = atoi(argv[3]);
	all.has_leases = strcmp(argv[5], "lease") == 0;
	all.backends = argc > 6 ? atoi(argv[6]) : 0;
	all.drones = plane_alloc_zero((size_t)all.count + 1, sizeof(*all.drones));
	for (int i = 0; i < all.count; i++) {
		all.drones[i].running = all.backends;
		if (start_drone(&all.drones[i], argv[1], argv[2], argv[4], i + 1, &err) < 0) {
			fprintf(stderr, "%s\n", err.message);
			return 1;
		}
	}
	(void)uv_signal_init(uv_default_loop(), &all.signal); /* both always succeed */
	(void)uv_signal_start(&all.signal, on_signal, SIGTERM);
	(void)uv_run(uv_default_loop(), UV_RUN_DEFAULT); /* returns when all is closed */
	printf("%lld\n", all.spawned);
	free(all.drones);
	return 0;
}
