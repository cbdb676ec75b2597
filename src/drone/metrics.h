/* What a drone counts about itself, and GET /metrics (Prometheus' text format) on an address of its
 * own. */
#ifndef PLANE_DRONE_METRICS_H
#define PLANE_DRONE_METRICS_H

#include <uv.h>

#include "drone/supervisor.h"

struct plane_drone_metrics;

/** `listen` NULL: it counts, and serves nothing. */
int plane_drone_metrics_open(struct plane_drone_metrics **metrics, uv_loop_t *loop,
	const char *listen, struct plane_error *err);
/** Stops serving; the loop must run on until that is done. NULL is fine, as for destroy. */
void plane_drone_metrics_close(struct plane_drone_metrics *metrics);
void plane_drone_metrics_destroy(struct plane_drone_metrics *metrics);

void plane_drone_metrics_event(struct plane_drone_metrics *metrics);
void plane_drone_metrics_set(struct plane_drone_metrics *metrics,
	struct plane_supervisor_counts counts, bool is_connected);

#endif
