/* Which nodes a token or certificate of the scope "node" is for. Pure. */
#ifndef PLANE_CONTROLLER_NODE_LIMITS_H
#define PLANE_CONTROLLER_NODE_LIMITS_H

#include "base/error.h"
#include "model/names.h"

#define PLANE_NODE_IP_SIZE 46 /* of an IPv6 address */

/** Which nodes an entry with the scope "node" is for; "" where it may be any. */
struct plane_node_limits {
	char kind[16]; /* drone, proxy, dns */
	char name[PLANE_NAME_SIZE];
	char cluster[PLANE_TEXT_MAX + 1]; /* nodes of no cluster are not of it */
	char ip[PLANE_NODE_IP_SIZE];      /* drones: where proxies may be sent for its backends */
};

/** What stands behind "node-kind:"; "" for a controller. */
const char *plane_node_limits_kind(enum plane_node_kind kind);
/** -EINVAL with the reason for what no node can be. "cluster" with the kind "dns" is that too. */
int plane_node_limits_check(const struct plane_node_limits *limits, struct plane_error *err);

#endif
