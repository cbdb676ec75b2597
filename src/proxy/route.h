/* Where a token leads. Immutable and shared by reference count. */
#ifndef PLANE_PROXY_ROUTE_H
#define PLANE_PROXY_ROUTE_H

#include <netinet/in.h>
#include <stdatomic.h>

#include "base/error.h"
#include "model/messages.h"

struct plane_route {
	_Atomic int references;
	char *backend, *secret_token, *cluster;
	char *user;      /* NULL for none */
	char *user_data; /* compact JSON; NULL for none */
	char *subdomain; /* NULL for any */
	struct sockaddr_storage address;
	socklen_t address_len;
};

/** A route with one reference, from the controller's answer. NULL for an unusable address. */
struct plane_route *plane_route_create(
	const struct plane_route_info *info, struct plane_error *err);
struct plane_route *plane_route_ref(struct plane_route *route);
/** NULL is fine. */
void plane_route_unref(struct plane_route *route);

#endif
