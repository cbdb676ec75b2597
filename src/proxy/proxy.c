/* The proxy's run: workers, the control channel, metrics, signals. */
#include "proxy/proxy.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <uv.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/ready.h"
#include "base/text.h"
#include "model/names.h"
#include "net/address.h"
#include "net/http_server.h"
#include "proxy/control.h"
#include "proxy/worker.h"

#define WORKERS_MAX 64
#define FILES_OF_OUR_OWN 128 /* that are no connections */

const struct plane_proxy_config plane_proxy_config_defaults = {
	.listen = "0.0.0.0:9090",
	.max_connections = 100000,
	.header_timeout_ms = 30000,
	.stall_timeout_ms = 60000,
	.connect_timeout_ms = 10000,
	.ready_timeout_ms = 300000,
	.grace_ms = 10000,
	.ready_fd = -1,
};

struct proxy {
	const struct plane_proxy_config *config;
	struct plane_proxy_shared shared;
	uv_loop_t loop;
	uv_signal_t signals[2];
	struct plane_worker *workers[WORKERS_MAX];
	int worker_count, started;
	struct plane_http_server *metrics;
	char name[PLANE_NAME_SIZE];
	char *address;
	bool is_stopping;
};

/* ---- what the parts tell ---- */

static void on_connected(void *data)
{
	struct proxy *proxy = data;
	plane_info("proxy %s serves cluster %s on %s", proxy->name, proxy->config->cluster,
		proxy->address);
	plane_ready_tell(proxy->config->ready_fd, proxy->address);
}

static void on_revoked(void *data, const char *backend, const char *user)
{
	struct proxy *proxy = data;
	for (int i = 0; i < proxy->worker_count; i++)
		plane_worker_revoke(proxy->workers[i], backend, user);
}

static void on_signal(uv_signal_t *signal, int number)
{
	struct proxy *proxy = signal->data;
	(void)number;
	if (proxy->is_stopping)
		return;
	proxy->is_stopping = true;
	plane_info("stopping: open requests get %d s", proxy->config->grace_ms / 1000);
	for (int i = 0; i < proxy->worker_count; i++)
		plane_worker_stop(proxy->workers[i]);
	uv_stop(&proxy->loop);
}

/* ---- metrics ---- */

static void serve_metrics(
	const struct plane_http_request *request, struct plane_http_response *response)
{
	static const struct {
		const char *name, *type, *help;
	} descriptions[PLANE_COUNT_COUNT] = {
		{ "plane_proxy_requests_total", "counter", "Requests of clients." },
		{ "plane_proxy_own_answers_total", "counter",
			"Answers that came from no backend: errors, redirects, readiness." },
		{ "plane_proxy_upstream_errors_total", "counter",
			"Requests that a backend did not answer." },
		{ "plane_proxy_connections", "gauge", "Open connections of clients." },
		{ "plane_proxy_tunnels", "gauge", "Open WebSockets and other upgrades." },
		{ "plane_proxy_refused_total", "counter", "Connections refused for want of room." },
	};
	struct proxy *proxy = request->server_data;
	if (strcmp(request->path, "/metrics") != 0) {
		response->status = 404;
		return;
	}
	response->status = 200;
	response->content_type = "text/plain; version=0.0.4; charset=utf-8";
	for (int i = 0; i < PLANE_COUNT_COUNT; i++)
		plane_buffer_addf(&response->body, "# HELP %s %s\n# TYPE %s %s\n%s %" PRId64 "\n",
			descriptions[i].name, descriptions[i].help, descriptions[i].name,
			descriptions[i].type, descriptions[i].name,
			atomic_load(&proxy->shared.counts[i]));
}

static int open_metrics(struct proxy *proxy, struct plane_error *err)
{
	struct plane_http_server_config config = { .listen = proxy->config->metrics_listen,
		.handler = serve_metrics,
		.server_data = proxy,
		.pool_threads = 1,
		.max_connections = 16 };
	if (!config.listen)
		return 0;
	proxy->metrics = plane_http_server_create(&proxy->loop, &config, err);
	if (!proxy->metrics)
		return plane_error_prefix(err, "serve metrics");
	plane_info("metrics at http://%s/metrics", plane_http_server_address(proxy->metrics));
	return 0;
}

/* ---- starting ---- */

static int check_config(const struct plane_proxy_config *config, struct plane_error *err)
{
	if (!config->controller_url || !config->cluster || !config->listen)
		return plane_error_set(
			err, EINVAL, "proxy: controller URL, cluster and address are needed");
	if (config->name && plane_name_check(config->name, "px", err) < 0)
		return plane_error_prefix(err, "proxy name");
	if (plane_cluster_check(config->cluster, err) < 0)
		return plane_error_prefix(err, "cluster");
	if (config->workers < 0 || config->workers > WORKERS_MAX)
		return plane_error_set(
			err, EINVAL, "workers: expected a number up to %d", WORKERS_MAX);
	return 0;
}

/* As many files as the system lets us have; each connection may need two. */
static void limit_connections(struct proxy *proxy)
{
	int64_t possible = (plane_file_raise_limit() - FILES_OF_OUR_OWN) / 2;
	proxy->shared.max_connections = proxy->config->max_connections;
	if (possible < proxy->shared.max_connections)
		proxy->shared.max_connections = possible;
}

/* A socket with SO_REUSEPORT takes an address from nobody but others that have it too. */
static int check_address_free(const struct sockaddr_storage *address, struct plane_error *err)
{
	int one = 1;
	socklen_t len = address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
						       : sizeof(struct sockaddr_in);
	_cleanup_close_ int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
		bind(fd, (const struct sockaddr *)address, len) < 0)
		return plane_error_errno(err, "listen");
	return 0;
}

static int open_workers(struct proxy *proxy, struct plane_error *err)
{
	struct sockaddr_storage address;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int count = proxy->config->workers ? proxy->config->workers : (int)(cpus > 0 ? cpus : 1);
	if (plane_address_parse(proxy->config->listen, &address, err) < 0)
		return err->code;
	if (check_address_free(&address, err) < 0)
		return err->code;
	for (int i = 0; i < count && i < WORKERS_MAX; i++) {
		proxy->workers[i] = plane_worker_create(&proxy->shared, &address, err);
		if (!proxy->workers[i])
			return err->code;
		proxy->worker_count++;
		plane_worker_address(proxy->workers[0], &address); /* the others take its port */
	}
	proxy->address = plane_address_format(&address);
	return 0;
}

static int start_workers(struct proxy *proxy, struct plane_error *err)
{
	sigset_t all, old;
	int result = 0;
	sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the main thread's */
	for (; result == 0 && proxy->started < proxy->worker_count;) {
		result = plane_worker_start(proxy->workers[proxy->started], err);
		if (result == 0)
			proxy->started++;
	}
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return result;
}

static void start_signal(struct proxy *proxy, int index, int number)
{
	(void)uv_signal_init(&proxy->loop, &proxy->signals[index]);
	proxy->signals[index].data = proxy;
	(void)uv_signal_start(&proxy->signals[index], on_signal, number);
}

static int start(struct proxy *proxy, struct plane_error *err)
{
	int result = open_workers(proxy, err);
	if (result < 0)
		return plane_error_prefix(err, "proxy on %s", proxy->config->listen);
	result = open_metrics(proxy, err);
	if (result == 0)
		result = plane_control_start(proxy->shared.control, proxy->name, err);
	if (result == 0)
		result = start_workers(proxy, err);
	return result;
}

/* The control channel stays until the workers are done: it tells what is in use. */
static void finish(struct proxy *proxy)
{
	for (int i = 0; i < proxy->started; i++) {
		plane_worker_stop(proxy->workers[i]);
		plane_worker_join(proxy->workers[i]);
	}
	plane_control_close(proxy->shared.control);
	if (proxy->metrics)
		plane_http_server_close(proxy->metrics, NULL, NULL);
	for (int i = 0; i < 2; i++)
		uv_close((uv_handle_t *)&proxy->signals[i], NULL);
	(void)uv_run(&proxy->loop, UV_RUN_DEFAULT); /* until all is closed */
	int left = uv_loop_close(&proxy->loop);
	if (left < 0)
		plane_error("the proxy's loop did not end clean: %s", uv_strerror(left));
	for (int i = 0; i < proxy->worker_count; i++)
		plane_worker_destroy(proxy->workers[i]);
	plane_routes_destroy(proxy->shared.routes);
	plane_activity_destroy(proxy->shared.activity);
	plane_control_destroy(proxy->shared.control);
	free(proxy->address);
	free(proxy);
}

int plane_proxy_run(const struct plane_proxy_config *config, struct plane_error *err)
{
	struct plane_error unused;
	if (!err)
		err = &unused;
	int result = check_config(config, err);
	if (result < 0)
		return result;
	struct proxy *proxy = PLANE_NEW(struct proxy);
	struct plane_control_listener listener = { proxy, on_connected, on_revoked };
	proxy->config = config;
	result = uv_loop_init(&proxy->loop);
	if (result < 0) {
		free(proxy);
		return plane_error_set(err, result, "start the loop: %s", uv_strerror(result));
	}
	(void)signal(SIGPIPE, SIG_IGN); /* a peer that is gone is an error of a write */
	if (config->name)
		(void)plane_text_copy(proxy->name, sizeof(proxy->name), config->name);
	else
		plane_name_random(plane_node_prefix(PLANE_NODE_PROXY), proxy->name);
	limit_connections(proxy);
	proxy->shared.config = config;
	proxy->shared.control = plane_control_create(&proxy->loop, &proxy->shared, &listener, err);
	if (!proxy->shared.control) {
		(void)uv_loop_close(&proxy->loop); /* nothing is on it yet */
		free(proxy);
		return err->code;
	}
	proxy->shared.routes = plane_routes_create(plane_control_ask, proxy->shared.control);
	proxy->shared.activity = plane_activity_create();
	start_signal(proxy, 0, SIGTERM);
	start_signal(proxy, 1, SIGINT);
	result = start(proxy, err);
	if (result == 0)
		(void)uv_run(&proxy->loop, UV_RUN_DEFAULT); /* until a signal */
	finish(proxy);
	return result;
}
