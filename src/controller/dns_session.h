/* The socket of an ACME DNS server (reference section 6): TXT values of clusters. Loop thread. */
#ifndef PLANE_CONTROLLER_DNS_SESSION_H
#define PLANE_CONTROLLER_DNS_SESSION_H

#include "controller/node_session.h"

struct plane_node_session *plane_dns_session_create(
	struct plane_controller *controller, const struct plane_node_caller *caller);

#endif
