/* The drone's run: opens its parts in order, serves, closes them in the opposite order. */
#include "drone/drone.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/ready.h"
#include "base/text.h"
#include "drone/agent.h"
#include "drone/metrics.h"
#include "model/names.h"
#include "runtime/native/disk.h"

#define TICK_MS 250
#define SETTLE_MS 5  /* longer than a backend that starts at once needs until it is ready */
#define WORKERS "20" /* of libuv: sandboxes are made and removed on them, and both wait a lot */
#define PRUNE_TICKS (3600 * 1000 / TICK_MS)
#define KEEP_ENDED_MS (6 * 3600 * 1000)

const struct plane_drone_config plane_drone_config_defaults = {
	.pool = "",
	.egress = PLANE_NETWORK_EGRESS_NAT,
	.capacity = { .overcommit_memory_millis = 2000, .overcommit_cpu_millis = 8000 },
	.grace_ms = 30000,
	.startup_timeout_ms = 300000,
	.ready_fd = -1,
};

struct drone {
	const struct plane_drone_config *config;
	uv_loop_t loop;
	uv_signal_t signals[2];
	uv_timer_t tick, settle;
	char name[PLANE_NAME_SIZE];
	struct plane_journal *journal;
	struct plane_local_clock clock;
	struct plane_supervisor *supervisor;
	struct plane_runtime *runtime;
	struct plane_agent *agent;
	struct plane_drone_metrics *metrics;
	uint64_t ticks;
	bool is_warm, is_connected, is_ready, is_stopping;
	bool is_agent_open, is_runtime_open, is_removing;
};

/* ---- what the parts tell each other ---- */

static void on_event(void *data, int64_t id, const char *backend,
	const struct plane_backend_state *state, int64_t timestamp_ms)
{
	struct drone *drone = data;
	plane_drone_metrics_event(drone->metrics);
	if (drone->is_agent_open)
		plane_agent_event(drone->agent, id, backend, state, timestamp_ms);
}

static void on_settle(uv_timer_t *timer)
{
	struct drone *drone = timer->data;
	plane_supervisor_settle(drone->supervisor);
}

static void on_gathered(void *data)
{
	struct drone *drone = data;
	(void)uv_timer_start(&drone->settle, on_settle, SETTLE_MS, 0); /* succeeds */
}

static void on_renew(void *data, const char *backend)
{
	struct drone *drone = data;
	if (drone->is_agent_open)
		plane_agent_renew(drone->agent, backend);
}

static void tell_if_ready(struct drone *drone)
{
	if (drone->is_ready || !drone->is_warm || !drone->is_connected)
		return;
	drone->is_ready = true;
	plane_info("drone %s takes backends of cluster %s", drone->name, drone->config->cluster);
	plane_ready_tell(drone->config->ready_fd, drone->name);
}

static void on_connected(void *data)
{
	struct drone *drone = data;
	drone->is_connected = true;
	tell_if_ready(drone);
}

static void on_warm(void *data, const struct plane_error *err)
{
	struct drone *drone = data;
	if (err)
		plane_error("no sandbox can be prepared: %s", err->message);
	drone->is_warm = true; /* else it tries again for each backend, and says why it fails */
	tell_if_ready(drone);
}

static bool is_known(void *data, const char *backend)
{
	struct drone *drone = data;
	bool is_known = true; /* when in doubt */
	return plane_journal_knows(drone->journal, backend, &is_known, NULL) < 0 || is_known;
}

static void prune(struct drone *drone)
{
	_cleanup_free_ char *logs = plane_strdupf("%s/logs", drone->config->data_dir);
	struct plane_error err = { 0 };
	int64_t before_ms = plane_local_clock_now_ms(&drone->clock) - KEEP_ENDED_MS;
	if (plane_journal_prune(drone->journal, before_ms, &err) < 0)
		plane_warn("forget old backends: %s", err.message);
	else
		(void)plane_disk_remove_logs(logs, INT64_MAX, is_known, drone);
}

static void on_tick(uv_timer_t *timer)
{
	struct drone *drone = timer->data;
	plane_supervisor_tick(drone->supervisor);
	if (drone->is_agent_open)
		plane_agent_tick(drone->agent);
	plane_drone_metrics_set(drone->metrics, plane_supervisor_count(drone->supervisor),
		drone->is_agent_open && plane_agent_is_connected(drone->agent));
	if (++drone->ticks % PRUNE_TICKS == 0)
		prune(drone);
}

/* ---- stopping ---- */

static void close_handles(struct drone *drone)
{
	for (int i = 0; i < 2; i++)
		uv_close((uv_handle_t *)&drone->signals[i], NULL);
	uv_close((uv_handle_t *)&drone->tick, NULL);
	uv_close((uv_handle_t *)&drone->settle, NULL);
	plane_drone_metrics_close(drone->metrics);
}

static void on_agent_closed(void *data)
{
	close_handles(data);
}

static void on_runtime_closed(void *data, const struct plane_error *err)
{
	struct drone *drone = data;
	if (err)
		plane_error("end what runs: %s", err->message);
	else if (drone->is_removing)
		plane_supervisor_all_ended(drone->supervisor);
	plane_supervisor_settle(drone->supervisor);
	drone->is_runtime_open = false;
	drone->is_agent_open = false;
	plane_agent_close(drone->agent, on_agent_closed, drone);
}

static void on_signal(uv_signal_t *signal, int number)
{
	struct drone *drone = signal->data;
	const struct plane_runtime_impl *impl = drone->runtime->impl;
	bool ends_backends = number == SIGINT && drone->config->ends_backends_on_sigint;
	if (drone->is_stopping)
		return;
	drone->is_stopping = true;
	struct plane_supervisor_counts counts = plane_supervisor_count(drone->supervisor);
	plane_info("stopping: backends %s", ends_backends ? "are ended" : "run on");
	/* without any, nothing on the host is needed until the next start, which may never be */
	drone->is_removing = ends_backends || counts.running + counts.ending == 0;
	plane_agent_refuse_orders(drone->agent);
	if (ends_backends)
		plane_supervisor_end_all(drone->supervisor);
	if (drone->is_removing) {
		impl->remove_all(drone->runtime, on_runtime_closed, drone);
	} else {
		impl->close(drone->runtime, on_runtime_closed, drone);
	}
}

/* ---- starting ---- */

static void start_signal(struct drone *drone, int index, int number)
{
	(void)uv_signal_init(&drone->loop, &drone->signals[index]);
	drone->signals[index].data = drone;
	(void)uv_signal_start(&drone->signals[index], on_signal, number);
}

static int check_config(const struct plane_drone_config *config, struct plane_error *err)
{
	if (!config->controller_url || !config->cluster || !config->data_dir || !config->images_dir)
		return plane_error_set(err, EINVAL,
			"drone: controller URL, cluster, data and image directories are needed");
	if (config->name && plane_name_check(config->name, "dr", err) < 0)
		return plane_error_prefix(err, "drone name");
	if (plane_cluster_check(config->cluster, err) < 0)
		return plane_error_prefix(err, "cluster");
	if (plane_text_check(config->pool, "pool", err) < 0)
		return err->code;
	if (config->grace_ms < 0 || config->startup_timeout_ms <= 0)
		return plane_error_set(err, EINVAL, "drone: times must be positive");
	return 0;
}

/* The name stays with the data, so that a restarted drone gets its backends' orders again. */
static int choose_name(struct drone *drone, struct plane_error *err)
{
	if (drone->config->name) {
		(void)plane_text_copy(drone->name, sizeof(drone->name), drone->config->name);
		return 0;
	}
	int result = plane_journal_get(
		drone->journal, "drone_name", drone->name, sizeof(drone->name), err);
	if (result < 0 || drone->name[0])
		return result;
	plane_name_random(plane_node_prefix(PLANE_NODE_DRONE), drone->name);
	return plane_journal_set(drone->journal, "drone_name", drone->name, err);
}

static int open_journal(struct drone *drone, struct plane_error *err)
{
	const struct plane_drone_config *config = drone->config;
	_cleanup_free_ char *path = config->db_path
					    ? plane_strdup(config->db_path)
					    : plane_strdupf("%s/drone.db", config->data_dir);
	int result = plane_file_make_directories(config->data_dir, 0700, err);
	if (result < 0)
		return result;
	drone->journal = plane_journal_open(path, err);
	if (!drone->journal)
		return err->code;
	result = plane_local_clock_open(&drone->clock, drone->journal, err);
	return result < 0 ? result : choose_name(drone, err);
}

static int open_runtime(struct drone *drone, struct plane_error *err)
{
	const struct plane_drone_config *config = drone->config;
	struct plane_supervisor_config supervisor = { .journal = drone->journal,
		.clock = &drone->clock,
		.listener = { drone, on_event, on_gathered, on_renew },
		.capacity = config->capacity,
		.grace_ms = config->grace_ms,
		.startup_timeout_ms = config->startup_timeout_ms };
	struct plane_native_config native = { .data_dir = config->data_dir,
		.images_dir = config->images_dir,
		.mount_base = config->mount_base,
		.egress = config->egress,
		.publish = config->publish,
		.pool_size = config->pool_size };
	drone->supervisor = plane_supervisor_create(&supervisor);
	struct plane_runtime_listener listener =
		plane_supervisor_runtime_listener(drone->supervisor);
	drone->runtime = plane_native_create(&drone->loop, &native, &listener, err);
	if (!drone->runtime)
		return err->code;
	drone->is_runtime_open = true;
	return plane_supervisor_start(drone->supervisor, drone->runtime, err);
}

/* `ip` is room for its text. */
static struct plane_backend_place place_of(
	const struct plane_network_publish *publish, char ip[INET_ADDRSTRLEN])
{
	struct plane_backend_place place = { .is_told = true };
	if (!publish)
		return place;
	struct in_addr address = { .s_addr = htonl(publish->address) };
	place.ip = inet_ntop(AF_INET, &address, ip, INET_ADDRSTRLEN); /* there is room */
	place.first_port = publish->first_port;
	place.last_port = publish->last_port;
	return place;
}

static int open_agent(struct drone *drone, struct plane_error *err)
{
	const struct plane_drone_config *config = drone->config;
	char ip[INET_ADDRSTRLEN];
	struct plane_agent_config agent = { .loop = &drone->loop,
		.controller_url = config->controller_url,
		.credentials = &config->credentials,
		.cluster = config->cluster,
		.pool = config->pool,
		.name = drone->name,
		.journal = drone->journal,
		.clock = &drone->clock,
		.runtime = drone->runtime,
		.supervisor = drone->supervisor,
		.backends = place_of(config->publish, ip),
		.on_connected = on_connected,
		.data = drone };
	drone->agent = plane_agent_create(&agent, err);
	drone->is_agent_open = drone->agent != NULL;
	return drone->agent ? 0 : err->code;
}

static void on_failed_start_closed(void *data, const struct plane_error *err)
{
	(void)data;
	(void)err;
}

static int start_and_serve(struct drone *drone, struct plane_error *err)
{
	(void)uv_timer_init(&drone->loop, &drone->settle); /* always succeeds */
	drone->settle.data = drone;
	/* what comes while it starts is answered when it runs, with all that was made */
	start_signal(drone, 0, SIGTERM);
	start_signal(drone, 1, SIGINT);
	int result = open_journal(drone, err);
	if (result == 0)
		result = plane_drone_metrics_open(
			&drone->metrics, &drone->loop, drone->config->metrics_listen, err);
	if (result == 0)
		result = open_runtime(drone, err);
	if (result == 0)
		result = open_agent(drone, err);
	if (result < 0) {
		if (drone->is_runtime_open)
			drone->runtime->impl->close(drone->runtime, on_failed_start_closed, NULL);
		plane_drone_metrics_close(drone->metrics);
		uv_close((uv_handle_t *)&drone->settle, NULL);
		for (int i = 0; i < 2; i++)
			uv_close((uv_handle_t *)&drone->signals[i], NULL);
		(void)uv_run(&drone->loop, UV_RUN_DEFAULT);
		return result;
	}
	(void)uv_timer_init(&drone->loop, &drone->tick); /* both always succeed */
	drone->tick.data = drone;
	(void)uv_timer_start(&drone->tick, on_tick, TICK_MS, TICK_MS);
	prune(drone);
	drone->runtime->impl->when_warm(drone->runtime, on_warm, drone);
	(void)uv_run(&drone->loop, UV_RUN_DEFAULT); /* returns when all is closed */
	return 0;
}

static void release(struct drone *drone)
{
	plane_native_destroy(drone->runtime);
	plane_supervisor_destroy(drone->supervisor);
	plane_drone_metrics_destroy(drone->metrics);
	plane_journal_close(drone->journal);
	int left = uv_loop_close(&drone->loop);
	if (left < 0)
		plane_error("the drone's loop did not end clean: %s", uv_strerror(left));
	free(drone);
}

int plane_drone_run(const struct plane_drone_config *config, struct plane_error *err)
{
	struct plane_error unused;
	if (!err)
		err = &unused;
	int result = check_config(config, err);
	if (result < 0)
		return result;
	struct drone *drone = PLANE_NEW(struct drone);
	drone->config = config;
	(void)setenv("UV_THREADPOOL_SIZE", WORKERS, false); /* fewer are only slower */
	result = uv_loop_init(&drone->loop);
	if (result < 0) {
		free(drone);
		return plane_error_set(err, result, "start the loop: %s", uv_strerror(result));
	}
	(void)signal(SIGPIPE, SIG_IGN); /* a peer that is gone is an error of a write */
	result = start_and_serve(drone, err);
	release(drone);
	return result;
}
