/* What a controller counts about itself, and the text of GET /metrics. */
#ifndef PLANE_CONTROLLER_METRICS_H
#define PLANE_CONTROLLER_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/buffer.h"

enum plane_metric {
	PLANE_METRIC_CONNECTS_SPAWNED,
	PLANE_METRIC_CONNECTS_REUSED,
	PLANE_METRIC_CONNECTS_FAILED,
	PLANE_METRIC_CONNECTS_WAITING, /* gauge */
	PLANE_METRIC_HTTP_REQUESTS,
	PLANE_METRIC_AUTH_REFUSED,
	PLANE_METRIC_DRONE_SESSIONS, /* gauge */
	PLANE_METRIC_PROXY_SESSIONS, /* gauge */
	PLANE_METRIC_DNS_SESSIONS,   /* gauge */
	PLANE_METRIC_STREAMS,        /* gauge */
	PLANE_METRIC_EVENTS,
	PLANE_METRIC_RENEWALS,
	PLANE_METRIC_RENEWALS_REFUSED,
	PLANE_METRIC_LEASE_RENEWALS,
	PLANE_METRIC_LEASE_REFUSALS,
	PLANE_METRIC_LEASES_BROKEN,
	PLANE_METRIC_ROUTE_REQUESTS,
	PLANE_METRIC_ROUTES_WAITING, /* gauge */
	PLANE_METRIC_KEEP_ALIVES,
	PLANE_METRIC_ACTIONS_SENT,
	PLANE_METRIC_SWEPT,
	PLANE_METRIC_LOST,
	PLANE_METRIC_DISOWNED,
	PLANE_METRIC_FEED_READS,
	PLANE_METRIC_FEED_EVENTS,
	PLANE_METRIC_NOTIFICATIONS,
	PLANE_METRIC_TLS_EXPIRES, /* gauge */
	PLANE_METRIC_REFUSED,
	PLANE_METRIC_MOVED,
	PLANE_METRIC_UNPLACED,
	PLANE_METRIC_COUNT,
};

/** Zeroed is empty. Any thread. */
struct plane_metrics {
	_Atomic int64_t values[PLANE_METRIC_COUNT];
};

void plane_metrics_add(struct plane_metrics *metrics, enum plane_metric metric, int64_t count);
/** For gauges that are no sums. */
void plane_metrics_set(struct plane_metrics *metrics, enum plane_metric metric, int64_t value);
/** Appends all of them in Prometheus' text format. */
void plane_metrics_write(struct plane_metrics *metrics, struct plane_buffer *text);

#endif
