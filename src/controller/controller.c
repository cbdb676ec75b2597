/* The controller's run: opens its parts in order, serves, closes them in the opposite order. */
#include "controller/controller.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include <utlist.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/ready.h"
#include "base/text.h"
#include "controller/api.h"
#include "controller/cleanup.h"
#include "controller/drone_session.h"
#include "controller/follower.h"
#include "controller/lease_round.h"
#include "controller/lease_watch.h"
#include "controller/node_session.h"
#include "controller/proxy_session.h"
#include "controller/public_url.h"
#include "controller/run.h"
#include "controller/sweep.h"

#define POOL_THREADS 80
#define WORKERS 4       /* nodes' and status streams' work on the store, each in its own order */
#define LEASE_WORKERS 2 /* renewals; the lease round and the heartbeat */
#define WAITING_CONNECTS_MAX 24 /* further connects have threads, too */
#define MAX_BODY_BYTES (2u << 20)
#define MAX_HELD_BYTES (64u << 20) /* of all bodies together */
#define MAX_CONNECTIONS 4096
/* Files that are no connections of the server: of the store, connections to other servers, what is
 * read again while it runs. */
#define FILES_OF_OUR_OWN 256
#define LOST_CHECK_MS 10000

const struct plane_controller_config plane_controller_config_defaults = {
	.listen = "127.0.0.1:8080",
	.cleanup_min_age_days = -1,
	.cleanup_batch_size = 100,
	.best_of = 2,
	.ready_fd = -1,
	.lease = { .renew_ms = 30000,
		.soft_terminate_ms = 40000,
		.hard_terminate_ms = 50000,
		.expire_ms = 60000 },
	.drone_lease = { .renew_ms = 2000,
		.soft_terminate_ms = 6000,
		.hard_terminate_ms = 8000,
		.expire_ms = 10000 },
	.heartbeat_ms = 7000,
	.unhealthy_ms = 45000,
	.termination_grace_ms = 30000,
	.assume_lost_ms = 120000,
	.action_tick_ms = 5000,
	.feed_poll_ms = 500,
	.registrations_check_ms = 1000,
};

static int check_times(const struct plane_controller_config *config, struct plane_error *err)
{
	if (plane_lease_constants_check(&config->lease, "key lease", err) < 0 ||
		plane_lease_constants_check(&config->drone_lease, "drone lease", err) < 0)
		return err->code;
	if (config->termination_grace_ms < 0)
		return plane_error_set(err, EINVAL, "grace: expected at least 0");
	if (config->assume_lost_ms < config->lease.expire_ms)
		return plane_error_set(err, EINVAL,
			"assume lost (%d ms) must not come before the expiry of key leases (%lld "
			"ms)",
			config->assume_lost_ms, (long long)config->lease.expire_ms);
	if (config->heartbeat_ms <= 0 || config->unhealthy_ms <= config->heartbeat_ms)
		return plane_error_set(err, EINVAL,
			"unhealthy (%d ms) must come after the heartbeat (%d ms)",
			config->unhealthy_ms, config->heartbeat_ms);
	return 0;
}

static int check_config(const struct plane_controller_config *config, struct plane_error *err)
{
	if (!config->db_url || !config->listen)
		return plane_error_set(err, EINVAL, "controller: no store or no address given");
	if (config->id && plane_name_check(config->id, "co", err) < 0)
		return plane_error_prefix(err, "controller id");
	if (config->default_cluster && plane_cluster_check(config->default_cluster, err) < 0)
		return plane_error_prefix(err, "default cluster");
	if (config->best_of < 1)
		return plane_error_set(err, EINVAL, "best-of: expected at least 1");
	if (config->cleanup_min_age_days < -1 || config->cleanup_batch_size < 1)
		return plane_error_set(err, EINVAL,
			"cleanup: expected an age of at least 0 days "
			"and a batch of at least 1");
	if (check_times(config, err) < 0)
		return err->code;
	return plane_guard_check(config, err);
}

static void on_hub_event(void *data, const struct plane_hub_event *event)
{
	struct plane_controller *controller = data;
	switch (event->kind) {
	case PLANE_HUB_STATE:
		if (event->state.status == PLANE_TERMINATED)
			plane_proxy_broadcast_removed(controller, event->backend);
		break;
	case PLANE_HUB_ACTION:
		plane_drone_session_push(controller, event);
		break;
	case PLANE_HUB_REVOCATION:
		plane_proxy_broadcast_revoked(controller, event->backend, event->user);
		break;
	case PLANE_HUB_MISSED:
		plane_drone_sessions_look(controller);
		plane_proxy_sessions_look(controller);
		break;
	}
}

/* ---- stopping ---- */

static void on_hub_closed(void *data)
{
	((struct plane_controller *)data)->hub = NULL;
}

static void on_workers_closed(void *data)
{
	struct plane_controller *controller = data;
	plane_follower_destroy(STEAL(controller->follower));
	plane_hub_close(controller->hub, on_hub_closed, controller);
}

static void on_lease_workers_closed(void *data)
{
	struct plane_controller *controller = data;
	/* the hub after them: a job that still runs may publish */
	plane_http_pool_close(STEAL(controller->workers), on_workers_closed, controller);
}

static void finish_if_idle(struct plane_controller *controller)
{
	if (!controller->is_server_closed || controller->open_sessions > 0 ||
		controller->is_finishing)
		return;
	controller->is_finishing = true;
	for (int i = 0; i < 2; i++)
		uv_close((uv_handle_t *)&controller->signals[i], NULL);
	uv_close((uv_handle_t *)&controller->heartbeat_timer, NULL);
	uv_close((uv_handle_t *)&controller->cleanup_timer, NULL);
	uv_close((uv_handle_t *)&controller->lost_timer, NULL);
	uv_close((uv_handle_t *)&controller->lease_timer, NULL);
	uv_close((uv_handle_t *)&controller->renewals_timer, NULL);
	uv_close((uv_handle_t *)&controller->registrations_timer, NULL);
	uv_close((uv_handle_t *)&controller->acks_timer, NULL);
	uv_close((uv_handle_t *)&controller->usage_wake, NULL);
	plane_guard_close(controller);
	plane_strand_close(controller->strand, NULL, NULL);
	plane_strand_close(controller->lease_strand, NULL, NULL);
	plane_http_pool_close(
		STEAL(controller->lease_workers), on_lease_workers_closed, controller);
}

void plane_controller_session_freed(struct plane_controller *controller)
{
	controller->open_sessions--;
	finish_if_idle(controller);
}

static void on_server_closed(void *data)
{
	struct plane_controller *controller = data;
	controller->is_server_closed = true;
	finish_if_idle(controller);
}

static void on_signal(uv_signal_t *signal, int number)
{
	struct plane_controller *controller = signal->data;
	if (controller->is_stopping)
		return;
	controller->is_stopping = true;
	plane_info("stopping: %s", number == SIGTERM ? "SIGTERM" : "SIGINT");
	(void)uv_timer_stop(&controller->heartbeat_timer);
	(void)uv_timer_stop(&controller->cleanup_timer);
	(void)uv_timer_stop(&controller->lost_timer);
	(void)uv_timer_stop(&controller->lease_timer);
	(void)uv_timer_stop(&controller->renewals_timer);
	(void)uv_timer_stop(&controller->registrations_timer);
	(void)uv_timer_stop(&controller->acks_timer);
	plane_guard_stop(controller);
	plane_hub_stop_waiting(controller->hub);
	plane_http_server_close(controller->server, on_server_closed, controller);
}

/* ---- background work ---- */

struct background_job {
	struct plane_job base;
	struct plane_controller *controller;
	void (*work)(struct plane_controller *controller);
};

static enum plane_job_result run_background(struct plane_job *base)
{
	struct background_job *job = (struct background_job *)base;
	job->work(job->controller);
	return PLANE_JOB_DONE;
}

static void give_up_broken(struct plane_controller *controller);

static void after_background(struct plane_job *base, bool is_cancelled)
{
	struct plane_controller *controller = ((struct background_job *)base)->controller;
	free(base);
	if (!is_cancelled && atomic_exchange(&controller->has_broken_leases, false))
		give_up_broken(controller);
	if (!atomic_exchange(&controller->is_store_changed, false))
		return;
	plane_warn("the database was started anew, or another one has taken over: drones say again "
		   "what they run");
	plane_drone_sessions_renew(controller);
}

static void start_background(struct plane_controller *controller, struct plane_strand *strand,
	void (*work)(struct plane_controller *controller))
{
	if (controller->is_stopping)
		return; /* strands close one after the other */
	if (plane_strand_length(strand) > 8)
		return; /* the store is slow: what waits already will do */
	struct background_job *job = PLANE_NEW(struct background_job);
	job->base.run = run_background;
	job->base.done = after_background;
	job->controller = controller;
	job->work = work;
	(void)plane_strand_submit(strand, &job->base); /* far from its limit */
}

/* A batch at a time: there may be many, and what else the controller does is in between. */
static void give_up_broken(struct plane_controller *controller)
{
	start_background(controller, controller->strand, plane_lease_mark_broken);
}

static int beat(struct plane_controller *controller, struct plane_error *err)
{
	return plane_store_controller_heartbeat(controller->store, controller->name, err);
}

static void work_heartbeat(struct plane_controller *controller)
{
	struct plane_error err = { 0 };
	if (beat(controller, &err) < 0)
		plane_warn("controller heartbeat: %s", err.message);
}

static void on_heartbeat(uv_timer_t *timer)
{
	struct plane_controller *controller = timer->data;
	start_background(controller, controller->lease_strand, work_heartbeat);
}

static void on_cleanup(uv_timer_t *timer)
{
	plane_cleanup_start(timer->data);
}

static void on_lost_check(uv_timer_t *timer)
{
	struct plane_controller *controller = timer->data;
	start_background(controller, controller->strand, plane_sweep_lost);
	give_up_broken(controller); /* of other controllers, too */
}

static void on_lease_round(uv_timer_t *timer)
{
	struct plane_controller *controller = timer->data;
	start_background(controller, controller->lease_strand, plane_lease_round);
}

static void on_registrations_check(uv_timer_t *timer)
{
	plane_node_sessions_check(timer->data);
}

static void start_timer(struct plane_controller *controller, uv_timer_t *timer,
	uv_timer_cb callback, uint64_t first_ms, uint64_t period_ms)
{
	(void)uv_timer_init(&controller->loop, timer); /* both always succeed */
	timer->data = controller;
	(void)uv_timer_start(timer, callback, first_ms, period_ms);
}

/* ---- starting ---- */

static void start_signal(struct plane_controller *controller, int index, int number)
{
	(void)uv_signal_init(&controller->loop, &controller->signals[index]);
	controller->signals[index].data = controller;
	(void)uv_signal_start(&controller->signals[index], on_signal, number);
}

static int open_store(struct plane_controller *controller, struct plane_error *err)
{
	controller->store = plane_store_open(controller->config->db_url, err);
	if (!controller->store)
		return err->code;
	if (controller->config->are_standbys_synchronous)
		plane_store_trust_standbys(controller->store);
	int result = plane_store_migrate(controller->store, err);
	return result < 0 ? result : beat(controller, err);
}

static bool is_ticket_valid(void *data, uint64_t ticket)
{
	struct plane_controller *controller = data;
	return !controller->access ||
	       plane_access_is_valid(controller->access, ticket, plane_clock_realtime_ms());
}

/* Whoever opens connections must not take the files away that the rest needs. */
static int max_connections(void)
{
	int64_t files = plane_file_raise_limit();
	int64_t possible = files > 2 * FILES_OF_OUR_OWN ? files - FILES_OF_OUR_OWN : files / 2;
	if (possible >= MAX_CONNECTIONS)
		return MAX_CONNECTIONS;
	plane_warn("no more than %d connections at a time, as this process may open %lld files: "
		   "raise its limit (ulimit -n, LimitNOFILE=)",
		(int)possible, (long long)files);
	return (int)possible;
}

static int open_server(struct plane_controller *controller, struct plane_error *err)
{
	const struct plane_controller_config *config = controller->config;
	struct plane_http_server_config server = { .listen = config->listen,
		.handler = plane_api_handle,
		.server_data = controller,
		.ticket_is_valid = is_ticket_valid,
		.pool_threads = POOL_THREADS,
		.lane_of = plane_api_lane,
		/* 8 threads remain for what waits for the store only, whatever the others do */
		.lane_limits = { [PLANE_API_LANE_CONNECT] = WAITING_CONNECTS_MAX + 8,
			[PLANE_API_LANE_LOGS] = 8,
			[PLANE_API_LANE_OTHERS] = 32 },
		.max_body_bytes = MAX_BODY_BYTES,
		.max_held_bytes = MAX_HELD_BYTES,
		.takes_body = plane_api_takes_body,
		.max_connections = max_connections(),
		.tls = plane_guard_tls(controller) };
	if (config->controller_url)
		controller->public_url = plane_public_url(config->controller_url, err);
	if (config->controller_url && !controller->public_url)
		return err->code;
	if (config->advertise_url)
		controller->advertise_url = plane_public_url(config->advertise_url, err);
	if (config->advertise_url && !controller->advertise_url)
		return err->code;
	controller->server = plane_http_server_create(&controller->loop, &server, err);
	if (!controller->server)
		return err->code;
	if (!controller->public_url)
		controller->public_url =
			plane_strdupf("%s://%s", config->tls.certificate ? "https" : "http",
				plane_http_server_address(controller->server));
	return 0;
}

static void tell_ready(struct plane_controller *controller)
{
	const char *address = plane_http_server_address(controller->server);
	plane_info("controller %s serves on %s", controller->name, address);
	plane_ready_tell(controller->config->ready_fd, address);
}

static void on_usage_wanted(uv_async_t *wake)
{
	plane_drone_sessions_ask_usage(wake->data);
}

static void serve(struct plane_controller *controller)
{
	plane_hub_set_receiver(controller->hub, on_hub_event, controller);
	plane_hub_set_wait_limit(controller->hub, WAITING_CONNECTS_MAX);
	controller->strand = plane_strand_create(&controller->loop, controller->workers);
	controller->lease_strand =
		plane_strand_create(&controller->loop, controller->lease_workers);
	start_signal(controller, 0, SIGTERM);
	start_signal(controller, 1, SIGINT);
	plane_guard_start(controller);
	uint64_t heartbeat_ms = (uint64_t)controller->config->heartbeat_ms;
	uint64_t round_ms =
		(uint64_t)plane_lease_watch_period_ms(controller->config->drone_lease.expire_ms);
	controller->renewals = plane_lease_renewals_create(controller);
	start_timer(
		controller, &controller->heartbeat_timer, on_heartbeat, heartbeat_ms, heartbeat_ms);
	start_timer(controller, &controller->lease_timer, on_lease_round, 0, round_ms);
	/* several controllers start together: they do not clean up together */
	start_timer(controller, &controller->cleanup_timer, on_cleanup,
		plane_random_below(PLANE_CLEANUP_PERIOD_MS), PLANE_CLEANUP_PERIOD_MS);
	start_timer(
		controller, &controller->lost_timer, on_lost_check, LOST_CHECK_MS, LOST_CHECK_MS);
	uint64_t check_ms = (uint64_t)controller->config->registrations_check_ms;
	start_timer(controller, &controller->registrations_timer, on_registrations_check, check_ms,
		check_ms);
	(void)uv_timer_init(&controller->loop, &controller->acks_timer); /* both always succeed */
	(void)uv_timer_init(&controller->loop, &controller->renewals_timer);
	(void)uv_async_init(&controller->loop, &controller->usage_wake, on_usage_wanted);
	controller->usage_wake.data = controller;
	controller->acks_timer.data = controller->renewals_timer.data = controller;
	tell_ready(controller);
	(void)uv_run(&controller->loop, UV_RUN_DEFAULT); /* returns when all is closed */
}

static void go_offline(struct plane_controller *controller)
{
	struct plane_error err = { 0 };
	if (plane_store_controller_offline(controller->store, controller->name, &err) < 0)
		plane_warn("mark the controller as stopped: %s", err.message);
}

/* Before anything is served: what is read from the store later is then followed without a hole. */
static int start_follower(struct plane_controller *controller, struct plane_error *err)
{
	if (!plane_store_is_shared(controller->store))
		return 0;
	controller->follower = plane_follower_create(controller->store, controller->name,
		controller->config->feed_poll_ms, controller->hub, &controller->metrics, err);
	return controller->follower ? 0 : err->code;
}

static int start_and_serve(struct plane_controller *controller, struct plane_error *err)
{
	const char *auth = controller->config->forward_auth;
	int result = open_store(controller, err);
	if (result < 0)
		return result;
	controller->auth =
		auth ? plane_forward_auth_create(auth, &controller->config->forward_auth_tls, err)
		     : NULL;
	if (auth && !controller->auth)
		return err->code;
	result = plane_guard_open(controller, err);
	if (result < 0)
		return result;
	controller->hub = plane_hub_create(&controller->loop, err);
	if (!controller->hub)
		return err->code;
	result = start_follower(controller, err);
	if (result < 0)
		return result;
	controller->workers = plane_http_pool_create(&controller->loop, WORKERS, err);
	if (!controller->workers)
		return err->code;
	controller->lease_workers = plane_http_pool_create(&controller->loop, LEASE_WORKERS, err);
	if (!controller->lease_workers)
		return err->code;
	result = open_server(controller, err);
	if (result < 0)
		return result;
	serve(controller);
	go_offline(controller);
	return 0;
}

static void release(struct plane_controller *controller)
{
	/* only after a start that failed: */
	if (controller->server && !controller->is_server_closed)
		plane_http_server_close(controller->server, NULL, NULL);
	if (controller->workers)
		plane_http_pool_close(controller->workers, NULL, NULL);
	if (controller->lease_workers)
		plane_http_pool_close(controller->lease_workers, NULL, NULL);
	plane_follower_destroy(controller->follower);
	if (controller->hub)
		plane_hub_close(controller->hub, NULL, NULL);
	(void)uv_run(&controller->loop, UV_RUN_DEFAULT);
	int left = uv_loop_close(&controller->loop);
	if (left < 0)
		plane_error("the controller's loop did not end clean: %s", uv_strerror(left));
	plane_forward_auth_destroy(controller->auth);
	plane_access_destroy(controller->access);
	plane_guard_finish(controller);
	plane_drone_registry_destroy(controller->drones);
	plane_placements_destroy(controller->placements);
	plane_usage_destroy(controller->usage);
	plane_lease_renewals_destroy(controller->renewals);
	plane_lease_watch_destroy(controller->watch);
	plane_store_close(controller->store);
	free(controller->public_url);
	free(controller->advertise_url);
	free(controller);
}

int plane_controller_run(const struct plane_controller_config *config, struct plane_error *err)
{
	struct plane_error unused;
	if (!err)
		err = &unused;
	int result = check_config(config, err);
	if (result < 0)
		return result;
	struct plane_controller *controller = PLANE_NEW(struct plane_controller);
	controller->config = config;
	if (config->id)
		(void)plane_text_copy(controller->name, sizeof(controller->name), config->id);
	else
		plane_name_random(plane_node_prefix(PLANE_NODE_CONTROLLER), controller->name);
	result = uv_loop_init(&controller->loop);
	if (result < 0) {
		free(controller);
		return plane_error_set(err, result, "start the loop: %s", uv_strerror(result));
	}
	(void)signal(SIGPIPE, SIG_IGN); /* a peer that is gone is an error of a write */
	controller->drones = plane_drone_registry_create();
	controller->placements = plane_placements_create(
		2 * config->drone_lease.expire_ms, config->drone_lease.renew_ms * 3 / 2);
	controller->usage = plane_usage_create();
	controller->watch = plane_lease_watch_create();
	result = start_and_serve(controller, err);
	release(controller);
	return result;
}
