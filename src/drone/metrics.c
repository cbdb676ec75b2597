/* The drone's metrics: set on the loop, read by the server's thread. */
#include "drone/metrics.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "net/http_server.h"

struct plane_drone_metrics {
	struct plane_http_server *server;
	_Atomic int64_t events, running, ending, is_connected;
};

static void add_metric(struct plane_buffer *text, const char *name, const char *type,
	const char *help, int64_t value)
{
	plane_buffer_addf(text, "# HELP %s %s\n# TYPE %s %s\n%s %" PRId64 "\n", name, help, name,
		type, name, value);
}

static void handle(const struct plane_http_request *request, struct plane_http_response *response)
{
	struct plane_drone_metrics *metrics = request->server_data;
	if (strcmp(request->path, "/metrics") != 0) {
		response->status = 404;
		return;
	}
	if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0) {
		response->status = 405;
		return;
	}
	struct plane_buffer *text = &response->body;
	response->status = 200;
	response->content_type = "text/plain; version=0.0.4; charset=utf-8";
	add_metric(text, "plane_drone_backends_running", "gauge",
		"Backends that are starting, waiting or ready.", atomic_load(&metrics->running));
	add_metric(text, "plane_drone_backends_ending", "gauge",
		"Backends that are being terminated.", atomic_load(&metrics->ending));
	add_metric(text, "plane_drone_events_total", "counter", "States of backends recorded.",
		atomic_load(&metrics->events));
	add_metric(text, "plane_drone_connected", "gauge",
		"1 while there is a connection to a controller.",
		atomic_load(&metrics->is_connected));
}

int plane_drone_metrics_open(struct plane_drone_metrics **metrics, uv_loop_t *loop,
	const char *listen, struct plane_error *err)
{
	struct plane_drone_metrics *new = PLANE_NEW(struct plane_drone_metrics);
	struct plane_http_server_config config = { .listen = listen,
		.handler = handle,
		.server_data = new,
		.pool_threads = 1,
		.max_body_bytes = 0,
		.max_connections = 16 };
	if (listen) {
		new->server = plane_http_server_create(loop, &config, err);
		if (!new->server) {
			free(new);
			return plane_error_prefix(err, "serve metrics");
		}
		plane_info("metrics at http://%s/metrics", plane_http_server_address(new->server));
	}
	*metrics = new;
	return 0;
}

void plane_drone_metrics_close(struct plane_drone_metrics *metrics)
{
	if (!metrics || !metrics->server)
		return;
	plane_http_server_close(metrics->server, NULL, NULL);
	metrics->server = NULL;
}

void plane_drone_metrics_destroy(struct plane_drone_metrics *metrics)
{
	free(metrics);
}

void plane_drone_metrics_event(struct plane_drone_metrics *metrics)
{
	atomic_fetch_add(&metrics->events, 1);
}

void plane_drone_metrics_set(struct plane_drone_metrics *metrics,
	struct plane_supervisor_counts counts, bool is_connected)
{
	atomic_store(&metrics->running, counts.running);
	atomic_store(&metrics->ending, counts.ending);
	atomic_store(&metrics->is_connected, is_connected);
}
