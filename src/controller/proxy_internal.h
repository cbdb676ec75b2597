/* Shared by the files of a proxy's session: proxy_session.c, proxy_routes.c. */
#ifndef PLANE_CONTROLLER_PROXY_INTERNAL_H
#define PLANE_CONTROLLER_PROXY_INTERNAL_H

#include "controller/proxy_session.h"

struct plane_route_wait;

struct plane_proxy_session {
	struct plane_node_session base;
	struct plane_route_wait *waits; /* by token: asked for and not answered yet */
	int64_t last_wait_number;
};

/** Answers when the backend is ready, with nothing when it never will be. */
void plane_proxy_routes_ask(struct plane_proxy_session *proxy, const char *token);
/** Refuses what is of this user; what is not known yet is looked up once more. */
void plane_proxy_routes_revoked(
	struct plane_proxy_session *proxy, const char *backend, const char *user);
/** Gives up what has waited for too long. */
void plane_proxy_routes_tick(struct plane_proxy_session *proxy);
void plane_proxy_routes_finish(struct plane_proxy_session *proxy);

#endif
