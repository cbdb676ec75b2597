/* Exposure of the control API, and the reload of what says who may use it. */
#include "controller/guard.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>

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

static bool is_guarded_by_more(const struct plane_controller_config *config)
{
	return has_token_files(config) || config->forward_auth || config->tls.client_authorities;
}

bool plane_guard_is_loopback_only(const struct plane_controller_config *config)
{
	return !is_guarded_by_more(config) && !config->is_insecure;
}

int plane_guard_check(const struct plane_controller_config *config, struct plane_error *err)
{
	struct sockaddr_storage address;
	bool is_guarded = is_guarded_by_more(config);
	if (plane_tls_server_files_check(&config->tls, err) < 0)
		return err->code;
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
		"(`plane token create` makes tokens), --tls-client-ca FILE or --forward-auth URL, "
		"or listen on 127.0.0.1. If something else guards the address: "
		"--insecure-no-auth",
		config->listen);
}

static void tell_certificate(struct plane_controller *controller, const SSL_CTX *context)
{
	char text[PLANE_TOKEN_TIME_SIZE];
	int64_t expires_at_ms = plane_tls_context_expires_at_s(context) * 1000;
	plane_token_time_write(expires_at_ms, text);
	plane_metrics_set(&controller->metrics, PLANE_METRIC_TLS_EXPIRES, expires_at_ms / 1000);
	if (expires_at_ms <= plane_clock_realtime_ms())
		plane_warn("the certificate in %s has expired at %s: nobody will trust it",
			controller->config->tls.certificate, text);
	else
		plane_info("TLS with the certificate in %s, good until %s",
			controller->config->tls.certificate, text);
}

static void tell_entries(struct plane_controller *controller, const char *why)
{
	if (has_token_files(controller->config))
		plane_info("%s%zu tokens and certificates may use the control API", why,
			plane_access_count(controller->access));
}

static int open_tls(struct plane_controller *controller, struct plane_error *err)
{
	struct plane_guard *guard = &controller->guard;
	if (!controller->config->tls.certificate)
		return 0;
	int result = plane_tls_server_context(
		&controller->config->tls, guard->tls_digest, &guard->tls_context, err);
	if (result < 0)
		return plane_error_prefix(err, "TLS");
	tell_certificate(controller, guard->tls_context);
	return 0;
}

/* Are the files for connections to other controllers of use? */
static int check_peers(const struct plane_controller_config *config, struct plane_error *err)
{
	SSL_CTX *context = plane_tls_client_context(&config->peer_tls, err);
	if (!context)
		return plane_error_prefix(err, "certificates for other controllers");
	plane_tls_context_free(context);
	return 0;
}

int plane_guard_open(struct plane_controller *controller, struct plane_error *err)
{
	const struct plane_controller_config *config = controller->config;
	struct plane_access_config access = { .token_files = config->api_token_files,
		.has_client_ca = config->tls.client_authorities };
	int result = check_peers(config, err);
	if (result == 0)
		result = open_tls(controller, err);
	if (result < 0 || (!has_token_files(config) && !access.has_client_ca))
		return result;
	controller->access = plane_access_create(&access, err);
	if (!controller->access)
		return err->code;
	tell_entries(controller, "");
	return 0;
}

SSL_CTX *plane_guard_tls(struct plane_controller *controller)
{
	return controller->guard.tls_context;
}

/* ---- reading again ---- */

static bool has_files(const struct plane_controller *controller)
{
	return controller->access || controller->config->tls.certificate;
}

static void run_reload(uv_work_t *work)
{
	struct plane_controller *controller = work->data;
	struct plane_guard *guard = &controller->guard;
	guard->tokens = guard->tls = (struct plane_guard_reload){ 0 };
	if (controller->access) /* a problem is told below */
		(void)plane_access_reload(
			controller->access, &guard->tokens.is_changed, &guard->tokens.problem);
	if (controller->config->tls.certificate)
		guard->tls.is_changed =
			plane_tls_server_context(&controller->config->tls, guard->tls_digest,
				&guard->tls_context, &guard->tls.problem) > 0;
}

static void start_reload(struct plane_controller *controller);

/* Certificate and key are two files: while only one of them is new, they do not fit. So a problem
 * is told when it is there the second time. */
static void tell_tls_problem(struct plane_guard *guard)
{
	bool is_same = strcmp(guard->tls.problem.message, guard->tls_seen.message) == 0;
	guard->was_tls_problem_told = guard->was_tls_problem_told && is_same;
	guard->tls_seen = guard->tls.problem;
	if (guard->tls.problem.code == 0 || !is_same || guard->was_tls_problem_told)
		return;
	guard->was_tls_problem_told = true;
	plane_error("TLS: what was read before stays in force: %s", guard->tls.problem.message);
}

static void take_tls(struct plane_controller *controller)
{
	SSL_CTX *context = controller->guard.tls_context;
	controller->guard.tls_context = NULL;
	tell_certificate(controller, context);
	plane_http_server_set_tls(controller->server, context);
}

static void after_reload(uv_work_t *work, int status)
{
	struct plane_controller *controller = work->data;
	struct plane_guard *guard = &controller->guard;
	(void)status; /* it is never cancelled */
	guard->is_reloading = false;
	if (guard->tokens.problem.code < 0)
		plane_error(
			"what was read before stays in force: %s", guard->tokens.problem.message);
	tell_tls_problem(guard);
	if (controller->is_stopping)
		return;
	if (guard->tokens.is_changed)
		tell_entries(controller, "token files have changed: ");
	if (guard->tls.is_changed)
		take_tls(controller);
	plane_http_server_recheck(controller->server); /* time passes too */
	if (guard->must_reload_again)
		start_reload(controller);
}

static void start_reload(struct plane_controller *controller)
{
	struct plane_guard *guard = &controller->guard;
	guard->must_reload_again = guard->is_reloading;
	if (guard->is_reloading || !has_files(controller))
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
	plane_info("SIGHUP: reading token files and certificates again");
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
	plane_tls_context_free(guard->tls_context); /* the server has it */
	guard->tls_context = NULL;
	if (has_files(controller))
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

void plane_guard_finish(struct plane_controller *controller)
{
	plane_tls_context_free(controller->guard.tls_context);
}
