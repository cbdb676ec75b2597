/* The bridge of an instance: making and finding it, its subnet, IPv4 forwarding. Used by
 * network.c only. */
#ifndef PLANE_RUNTIME_NATIVE_NETWORK_BRIDGE_H
#define PLANE_RUNTIME_NATIVE_NETWORK_BRIDGE_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "runtime/native/netlink.h"

#define PLANE_NETWORK_PREFIX 20
/** As long as the kernel takes (IFALIASZ). */
#define PLANE_NETWORK_ALIAS_SIZE 256

struct plane_network_bridge {
	/* set by the caller */
	char name[IFNAMSIZ];
	bool has_egress;    /* backends reach the world */
	uint32_t published; /* the host's address at which backends are reached; 0: none */
	/* found */
	char uplink[IFNAMSIZ]; /* interface of the default route; "" without one */
	int index;
	uint32_t subnet;     /* host byte order, as all addresses; gateway is subnet + 1 */
	bool is_own;         /* `published` is an address of this host, at: */
	char home[IFNAMSIZ]; /* "" when it is not, or of no real interface */
};

/** One link, as asked of the kernel. */
struct plane_network_link {
	int index;
	int master; /* 0: none */
	bool is_bridge;
	char alias[PLANE_NETWORK_ALIAS_SIZE];
};

bool plane_network_id_is_valid(const char *instance_id);

/** -ENODEV when there is none of that name. */
int plane_network_find_link(struct plane_netlink *netlink, const char *name,
	struct plane_network_link *link, struct plane_error *err);

/** "02:50:" and the address: unique on the bridge, and checkable by the firewall. */
void plane_network_mac(uint32_t address, unsigned char mac[6]);

/** Makes or finds the bridge. */
int plane_network_bridge_ensure(struct plane_netlink *netlink, struct plane_network_bridge *bridge,
	struct plane_error *err);

/** Removes it and restores forwarding. Missing is fine. */
int plane_network_bridge_remove(
	struct plane_netlink *netlink, const char *name, struct plane_error *err);

#endif
