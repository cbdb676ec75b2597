/* The socket of a proxy (reference section 5): routes, keep-alives, certificates. Loop thread. */
#ifndef PLANE_CONTROLLER_PROXY_SESSION_H
#define PLANE_CONTROLLER_PROXY_SESSION_H

#include "controller/node_session.h"

struct plane_node_session *plane_proxy_session_create(struct plane_controller *controller,
	const char *cluster, const struct plane_node_caller *caller);

/** Tells every connected proxy that the backend is gone. */
void plane_proxy_broadcast_removed(struct plane_controller *controller, const char *backend);

/** Tells every connected proxy with the "revoke" extension to drop the user's routes and tunnels;
 *  what is being looked up for it is not answered any more. */
void plane_proxy_broadcast_revoked(
	struct plane_controller *controller, const char *backend, const char *user);

/** Tells the proxies of the last revocations again. */
void plane_proxy_sessions_look(struct plane_controller *controller);

#endif
