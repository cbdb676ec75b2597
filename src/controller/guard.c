/* Exposure of the control API, and the reload of what says who may use it. */
#include "controller/guard.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>

#include "base/clock.h"
#include "base/log.h"
#include "controller/access.h"
#include "controller/internal.h"
#include "net/address.h"

#define RELOAD_MS 500

static bool has_token_files(const struct plane_controller_config *config)
{
	return config->api_token_files && config->api_token_files[0];
}

int plane_guard_check(const struct plane_controller_config *config, struct plane_error *err)
{
	struct sockaddr_storage address;
	bool is_guarded = has_token_files(config) || config->forward_auth;
	if (is_guarded && config->is_insecure)
		return plane_error_set(err, EINVAL,
			"--insecure-no-auth contradicts the other flags, which ask for "
			"authentication: leave it out");
	if (plane_address_parse(config->listen, &address, err) < 0)
		return err->code;
	if (is_guarded || config->is_insecure || plane_address_is_loopback(&address))
		return 0;
	return plane_error_set(err, EACCES,
		"the control API on %s would be open to everybody who reaches that address, and "
		"whoever uses it runs programs on the drones. Give it --api-token-file FILE "
		"(`plane token create` makes tokens) or --forward-auth URL, or listen on "
		"127.0.0.1. If something else guards the address: --insecure-no-auth",
		config->listen);
}

int plane_guard_open(struct plane_controller *controller, struct plane_error *err)
{
	const struct plane_controller_config *config = controller->config;
	struct plane_access_config access = { .token_files = config->api_token_files };
	if (!has_token_files(config))
		return 0;
	controller->access = plane_access_create(&access, err);
	if (!controller->access)
		return err->code;
	plane_info("%zu tokens may use the control API", plane_access_count(controller->access));
	return 0;
}

static void run_reload(uv_work_t *work)
{
	struct plane_controller *controller = work->data;
	struct plane_guard *guard = &controller->guard;
	guard->problem = (struct plane_error){ 0 };
	(void)plane_access_reload(
		controller->access, &guard->is_changed, &guard->problem); /* told below */
}

static void start_reload(struct plane_controller *controller);

static void after_reload(uv_work_t *work, int status)
{
	struct plane_controller *controller = work->data;
	struct plane_guard *guard = &controller->guard;
	(void)status; /* it is never cancelled */
	guard->is_reloading = false;
	if (guard->problem.code < 0)
		plane_error("what was read before stays in force: %s", guard->problem.message);
	if (controller->is_stopping)
		return;
	if (guard->is_changed)
		plane_info("token files have changed: %zu tokens may use the control API",
			plane_access_count(controller->access));
	plane_http_server_recheck(controller->server); /* time passes too */
	if (guard->must_reload_again)
		start_reload(controller);
}

static void start_reload(struct plane_controller *controller)
{
	struct plane_guard *guard = &controller->guard;
	guard->must_reload_again = guard->is_reloading;
	if (guard->is_reloading || !controller->access)
		return;
	guard->reload.data = controller;
	guard->is_reloading =
		uv_queue_work(&controller->loop, &guard->reload, run_reload, after_reload) == 0;
}

static void on_timer(uv_timer_t *timer)
{
	start_reload(timer->data);
}

static void on_hangup(uv_signal_t *signal, int number)
{
	(void)number;
	plane_info("SIGHUP: reading token files again");
	start_reload(signal->data);
}

void plane_guard_start(struct plane_controller *controller)
{
	struct plane_guard *guard = &controller->guard;
	/* all of these always succeed */
	(void)uv_timer_init(&controller->loop, &guard->timer);
	(void)uv_signal_init(&controller->loop, &guard->hangup);
	guard->timer.data = guard->hangup.data = controller;
	(void)uv_signal_start(&guard->hangup, on_hangup, SIGHUP);
	if (controller->access)
		(void)uv_timer_start(&guard->timer, on_timer, RELOAD_MS, RELOAD_MS);
}

void plane_guard_stop(struct plane_controller *controller)
{
	(void)uv_timer_stop(&controller->guard.timer);
	(void)uv_signal_stop(&controller->guard.hangup);
}

void plane_guard_close(struct plane_controller *controller)
{
	uv_close((uv_handle_t *)&controller->guard.timer, NULL);
	uv_close((uv_handle_t *)&controller->guard.hangup, NULL);
}
