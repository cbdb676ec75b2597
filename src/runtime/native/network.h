/* The private network of one Plane instance: a bridge, a /20 of 10.0.0.0/8 and the nftables table
 * `inet plane_<id>`. Backends are reached from the host, at a port of the host's each from other
 * machines when that is asked for, and, with egress, reach the world; they never reach each other
 * (of another machine's drone neither), the host's own ports or link-local addresses. Never touches
 * another table, bridge or link. Firewalls of others still apply: a table whose forward chain has
 * policy drop (Docker's) blocks egress until its owner accepts the bridge `pl-<id>`, because an
 * accept in one nftables table does not overrule a drop in another. */
#ifndef PLANE_RUNTIME_NATIVE_NETWORK_H
#define PLANE_RUNTIME_NATIVE_NETWORK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "runtime/native/network_publish.h"

enum plane_network_egress {
	PLANE_NETWORK_EGRESS_NONE, /* backends answer the host, nothing else leaves */
	PLANE_NETWORK_EGRESS_NAT   /* masqueraded behind the host's address */
};

/** Indexes are 0 .. this - 1: a Linux bridge has at most 1023 ports. */
#define PLANE_NETWORK_MAX_SANDBOXES 1023
/** "10.255.255.254" and a NUL. */
#define PLANE_NETWORK_ADDRESS_SIZE 16
/** "255.255.255.255:65535" and a NUL. */
#define PLANE_NETWORK_ENDPOINT_SIZE 22
/** Where a backend listens, inside. */
#define PLANE_NETWORK_BACKEND_PORT 8080

struct plane_network;

/**
 * Makes the instance's network, or takes over what a previous drone left: an existing bridge
 * keeps its subnet and ports (running backends keep their connections), the table is replaced in
 * one transaction. `instance_id` is 8 lower-case hex digits. Needs CAP_NET_ADMIN in the host's
 * network namespace. Switches IPv4 forwarding on for the bridge and, with NAT, for the interface
 * of the default route, with `publish` (borrowed; NULL: reached from this host only) for that of
 * its address; what it changed is noted in the bridge's alias, so that the destroy of a
 * later process restores it. Blocks some milliseconds.
 * Errors: -EINVAL (id), -EADDRNOTAVAIL (no free /20), else the kernel's. NULL on failure.
 */
struct plane_network *plane_network_create(const char *instance_id,
	enum plane_network_egress egress, const struct plane_network_publish *publish,
	struct plane_error *err);

/**
 * Gives the fresh namespace `netns_fd` (from plane_netns_create; borrowed) a link `eth0` to the
 * bridge, its address (written to `address`), a default route, static neighbour entries and `lo`.
 * The host's end is `pl<first 5 of id>-<index>`. Blocks about half a millisecond. On failure
 * nothing is left behind. -EEXIST: the index is in use (detach it first); -ERANGE: bad index.
 * The calling thread changes its network namespace for a moment, so any thread that is not
 * sharing its fs/namespaces by clone flags may call it; attach and detach may run at the same
 * time in different threads, calls of the same kind wait for each other.
 */
int plane_network_attach(struct plane_network *network, int netns_fd, unsigned index,
	char address[PLANE_NETWORK_ADDRESS_SIZE], struct plane_error *err);

/** The address that `index` has or would have; pure. -ERANGE for a bad index. */
int plane_network_address(const struct plane_network *network, unsigned index,
	char address[PLANE_NETWORK_ADDRESS_SIZE]);

/** How many sandboxes there can be: as many as have a port where they are published. Pure. */
unsigned plane_network_count(const struct plane_network *network);

/** "ip:port" of the backend in sandbox `index`: as this host reaches it, and as proxies do, which
 * is the same when nothing is published. Pure; the index is below plane_network_count. */
void plane_network_endpoint(const struct plane_network *network, unsigned index,
	char endpoint[PLANE_NETWORK_ENDPOINT_SIZE]);
void plane_network_published(const struct plane_network *network, unsigned index,
	char endpoint[PLANE_NETWORK_ENDPOINT_SIZE]);

/**
 * The namespace of `index` is ending: what the bridge knows of its address is forgotten. Its link
 * goes with it, in the kernel's background and many at a time, which is far cheaper than
 * plane_network_detach.
 */
void plane_network_release(struct plane_network *network, unsigned index);

/** Whether the link of `index` is still there. One system call or two; any thread. */
bool plane_network_has_link(const struct plane_network *network, unsigned index);

/**
 * Removes the link of `index` (and with it the peer inside the sandbox). Slow (the kernel waits
 * for a grace period, about 20 ms): call it on a background thread. A missing link is fine.
 * -EPERM when a link of that name exists but is no port of this network's bridge.
 */
int plane_network_detach(struct plane_network *network, unsigned index, struct plane_error *err);

/** Sets in_use[i] for each index whose link exists; for adoption and cleanup. Any thread. */
int plane_network_list(struct plane_network *network, bool in_use[PLANE_NETWORK_MAX_SANDBOXES],
	struct plane_error *err);

/** Lets go of the object (sockets, memory); bridge, links and table stay. NULL is fine. */
void plane_network_destroy(struct plane_network *network);
PLANE_DEFINE_CLEANUP(struct plane_network *, plane_network_destroy)

/**
 * Removes the instance's links, bridge and table from the host and restores forwarding where this
 * instance switched it on, unless another Plane instance lives (then that one inherits the duty).
 * Works without a plane_network; what is missing is fine. Blocks, 20 ms a link.
 */
int plane_network_remove(const char *instance_id, struct plane_error *err);

/**
 * A new network namespace for one sandbox: IPv6 off, unprivileged ports from 0 (the namespace
 * belongs to the host's user namespace, so backends could never bind port 80 otherwise). Returns
 * an owned descriptor (close-on-exec) that keeps it alive, or a negative code. Any thread, as
 * for attach; about a millisecond.
 */
int plane_netns_create(struct plane_error *err);

#endif
