/* Routes. */
#include "proxy/route.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/json.h"
#include "net/address.h"

struct plane_route *plane_route_create(const struct plane_route_info *info, struct plane_error *err)
{
	struct sockaddr_storage address;
	if (plane_address_parse(info->address, &address, err) < 0)
		return NULL;
	struct plane_route *route = PLANE_NEW(struct plane_route);
	atomic_init(&route->references, 1);
	route->backend = plane_strdup(info->backend);
	route->secret_token = plane_strdup(info->secret_token);
	route->cluster = plane_strdup(info->cluster);
	route->user = plane_strdup(info->user);
	route->user_data = info->user_data ? plane_json_dump(info->user_data) : NULL;
	route->subdomain = plane_strdup(info->subdomain);
	route->address = address;
	route->address_len = address.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
							   : sizeof(struct sockaddr_in);
	return route;
}

struct plane_route *plane_route_ref(struct plane_route *route)
{
	atomic_fetch_add_explicit(&route->references, 1, memory_order_relaxed);
	return route;
}

void plane_route_unref(struct plane_route *route)
{
	if (!route || atomic_fetch_sub_explicit(&route->references, 1, memory_order_acq_rel) > 1)
		return;
	free(route->backend);
	free(route->secret_token);
	free(route->cluster);
	free(route->user);
	free(route->user_data);
	free(route->subdomain);
	free(route);
}
