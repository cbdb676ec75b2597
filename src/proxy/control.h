/* The proxy's channel to the controller: asks for routes, tells which backends are in use, hears
 * what is over (reference 2.4). It runs on the loop of the process's main thread. */
#ifndef PLANE_PROXY_CONTROL_H
#define PLANE_PROXY_CONTROL_H

#include <uv.h>

#include "proxy/shared.h"
#include "proxy/worker.h"

struct plane_control_listener {
	void *data;
	/** The first connection is there. */
	void (*on_connected)(void *data);
	/** Open connections of a user to a backend are to be cut. */
	void (*on_revoked)(void *data, const char *backend, const char *user);
};

/** Makes the queue; nothing is sent before plane_control_start. NULL when the process has no
 * descriptor left. */
struct plane_control *plane_control_create(uv_loop_t *loop, struct plane_proxy_shared *shared,
	const struct plane_control_listener *listener, struct plane_error *err);
int plane_control_start(struct plane_control *control, const char *name, struct plane_error *err);

/** For plane_routes_create: a route is to be asked for. Any thread. */
void plane_control_ask(void *control, const char *token);

/** Closes its handles on the loop; the memory goes with plane_control_destroy, afterwards. */
void plane_control_close(struct plane_control *control);
void plane_control_destroy(struct plane_control *control);

#endif
