/* What the control thread and the workers of a proxy share. Private to proxy/. */
#ifndef PLANE_PROXY_SHARED_H
#define PLANE_PROXY_SHARED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "proxy/activity.h"
#include "proxy/proxy.h"
#include "proxy/routes.h"

enum plane_proxy_count {
	PLANE_COUNT_REQUESTS,
	PLANE_COUNT_OWN_ANSWERS, /* errors and redirects of the proxy's own */
	PLANE_COUNT_UPSTREAM_ERRORS,
	PLANE_COUNT_CONNECTIONS, /* gauge */
	PLANE_COUNT_TUNNELS,     /* gauge */
	PLANE_COUNT_REFUSED,
	PLANE_COUNT_COUNT,
};

struct plane_control;

struct plane_proxy_shared {
	const struct plane_proxy_config *config;
	struct plane_routes *routes;
	struct plane_activity *activity;
	struct plane_control *control;
	_Atomic bool is_connected; /* to a controller */
	_Atomic int64_t counts[PLANE_COUNT_COUNT];
	int64_t max_connections;
};

static inline void plane_proxy_count(
	struct plane_proxy_shared *shared, enum plane_proxy_count count, int64_t more)
{
	atomic_fetch_add_explicit(&shared->counts[count], more, memory_order_relaxed);
}

/** A backend is seen in use for the first time: the controller is told soon. Any thread. */
void plane_control_first_use(struct plane_control *control, const char *backend);

#endif
