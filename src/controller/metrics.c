/* Counters and gauges in Prometheus' text exposition format, version 0.0.4. */
#include "controller/metrics.h"

#include <inttypes.h>
#include <string.h>

static const struct {
	const char *family;
	const char *labels; /* "" for none */
	const char *type;
	const char *help;
} descriptions[PLANE_METRIC_COUNT] = {
	[PLANE_METRIC_CONNECTS_SPAWNED] = { "plane_connects_total", "{result=\"spawned\"}",
		"counter", "Connect requests by result." },
	[PLANE_METRIC_CONNECTS_REUSED] = { "plane_connects_total", "{result=\"reused\"}", "counter",
		"" },
	[PLANE_METRIC_CONNECTS_FAILED] = { "plane_connects_total", "{result=\"failed\"}", "counter",
		"" },
	[PLANE_METRIC_CONNECTS_WAITING] = { "plane_connects_waiting", "", "gauge",
		"Connect requests that wait for the key's terminating backend." },
	[PLANE_METRIC_HTTP_REQUESTS] = { "plane_http_requests_total", "", "counter",
		"Requests to the HTTP API." },
	[PLANE_METRIC_AUTH_REFUSED] = { "plane_auth_refused_total", "", "counter",
		"Requests refused for want of a token or its scope, or by forward auth." },
	[PLANE_METRIC_DRONE_SESSIONS] = { "plane_node_sessions", "{kind=\"drone\"}", "gauge",
		"Nodes connected to this controller." },
	[PLANE_METRIC_PROXY_SESSIONS] = { "plane_node_sessions", "{kind=\"proxy\"}", "gauge", "" },
	[PLANE_METRIC_DNS_SESSIONS] = { "plane_node_sessions", "{kind=\"dns\"}", "gauge", "" },
	[PLANE_METRIC_STREAMS] = { "plane_streams", "", "gauge", "Open status and log streams." },
	[PLANE_METRIC_EVENTS] = { "plane_backend_events_total", "", "counter",
		"Backend events received from drones." },
	[PLANE_METRIC_RENEWALS] = { "plane_key_renewals_total", "{result=\"renewed\"}", "counter",
		"Key renewals asked for by drones." },
	[PLANE_METRIC_RENEWALS_REFUSED] = { "plane_key_renewals_total", "{result=\"refused\"}",
		"counter", "" },
	[PLANE_METRIC_LEASE_RENEWALS] = { "plane_lease_renewals_total", "{result=\"renewed\"}",
		"counter", "Requests of drones for their lease." },
	[PLANE_METRIC_LEASE_REFUSALS] = { "plane_lease_renewals_total", "{result=\"refused\"}",
		"counter", "" },
	[PLANE_METRIC_LEASES_BROKEN] = { "plane_leases_broken_total", "", "counter",
		"Leases of drones that this controller broke, since nobody renewed them." },
	[PLANE_METRIC_ROUTE_REQUESTS] = { "plane_route_requests_total", "", "counter",
		"Route lookups of proxies." },
	[PLANE_METRIC_ROUTES_WAITING] = { "plane_routes_waiting", "", "gauge",
		"Route lookups that wait for a backend to become ready." },
	[PLANE_METRIC_KEEP_ALIVES] = { "plane_keep_alives_total", "", "counter",
		"Keep-alives received from proxies." },
	[PLANE_METRIC_ACTIONS_SENT] = { "plane_actions_sent_total", "", "counter",
		"Actions sent to drones, repetitions included." },
	[PLANE_METRIC_SWEPT] = { "plane_backends_swept_total", "", "counter",
		"Terminations ordered for idleness or lifetime." },
	[PLANE_METRIC_LOST] = { "plane_backends_lost_total", "", "counter",
		"Backends given up because their drone is lost." },
	[PLANE_METRIC_DISOWNED] = { "plane_backends_disowned_total", "", "counter",
		"Backends that drones were told to end because the store does not know them." },
	[PLANE_METRIC_FEED_READS] = { "plane_feed_reads_total", "", "counter",
		"Looks at what other controllers did." },
	[PLANE_METRIC_FEED_EVENTS] = { "plane_feed_events_total", "", "counter",
		"What other controllers did and this one was to know." },
	[PLANE_METRIC_NOTIFICATIONS] = { "plane_notifications_total", "", "counter",
		"Notifications to other controllers." },
	[PLANE_METRIC_TLS_EXPIRES] = { "plane_tls_certificate_expires_timestamp_seconds", "",
		"gauge", "When the certificate of the API expires; 0 without TLS." },
	[PLANE_METRIC_REFUSED] = { "plane_backends_refused_total", "", "counter",
		"Orders to start a backend that a drone had no room for." },
	[PLANE_METRIC_MOVED] = { "plane_backends_moved_total", "", "counter",
		"Backends that were refused and went to another drone." },
	[PLANE_METRIC_UNPLACED] = { "plane_backends_unplaced_total", "", "counter",
		"Backends that no drone had room for." },
};

void plane_metrics_add(struct plane_metrics *metrics, enum plane_metric metric, int64_t count)
{
	atomic_fetch_add_explicit(&metrics->values[metric], count, memory_order_relaxed);
}

void plane_metrics_set(struct plane_metrics *metrics, enum plane_metric metric, int64_t value)
{
	atomic_store_explicit(&metrics->values[metric], value, memory_order_relaxed);
}

void plane_metrics_write(struct plane_metrics *metrics, struct plane_buffer *text)
{
	const char *family = "";
	for (int i = 0; i < PLANE_METRIC_COUNT; i++) {
		if (strcmp(family, descriptions[i].family) != 0) {
			family = descriptions[i].family;
			plane_buffer_addf(text, "# HELP %s %s\n# TYPE %s %s\n", family,
				descriptions[i].help, family, descriptions[i].type);
		}
		int64_t value = atomic_load_explicit(&metrics->values[i], memory_order_relaxed);
		plane_buffer_addf(
			text, "%s%s %" PRId64 "\n", family, descriptions[i].labels, value);
	}
}
