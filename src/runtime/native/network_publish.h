/* How proxies on other machines reach backends: a port of this machine for each sandbox. Reads what
 * the flags say; network.h and nft.h do the rest. */
#ifndef PLANE_RUNTIME_NATIVE_NETWORK_PUBLISH_H
#define PLANE_RUNTIME_NATIVE_NETWORK_PUBLISH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define PLANE_NETWORK_ALLOWED_MAX 64

struct plane_network_cidr {
	uint32_t address; /* host byte order, without bits behind the prefix */
	unsigned prefix;
};

struct plane_network_publish {
	uint32_t address; /* host byte order; as the controller tells proxies */
	uint16_t first_port, last_port;
	unsigned allowed_count;
	struct plane_network_cidr allowed[PLANE_NETWORK_ALLOWED_MAX]; /* where proxies are */
};

/** One port for each of 1023 sandboxes, below those that the kernel gives to connections. */
#define PLANE_NETWORK_PORTS_DEFAULT "20000-21022"

/**
 * `ip`: an IPv4 address or a name that is looked up, which blocks; `ports`: "FIRST-LAST", NULL for
 * the default; `allowed`: networks ("10.1.0.0/16", "10.1.2.3"), NULL-terminated, at most 64; none:
 * the private ones (RFC 1918, RFC 6598). *is_published is false when `ip` is NULL or loopback, and
 * then nothing else is read. -EINVAL for a mistake, -ENOENT for an unknown name.
 */
int plane_network_publish_read(const char *ip, const char *ports, const char *const *allowed,
	struct plane_network_publish *publish, bool *is_published, struct plane_error *err);

/** How many of `count` sandboxes have a port. Pure. */
unsigned plane_network_publish_count(const struct plane_network_publish *publish, unsigned count);

#endif
