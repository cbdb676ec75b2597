/* Socket addresses as text: "1.2.3.4:80", "[::1]:80". Host names are not looked up. */
#ifndef PLANE_NET_ADDRESS_H
#define PLANE_NET_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

#include "base/error.h"

/** -EINVAL for anything else than an IP address and a port. */
int plane_address_parse(
	const char *text, struct sockaddr_storage *address, struct plane_error *err);
/** The same for "ip" alone, without brackets; the port is 0. */
int plane_address_parse_ip(
	const char *ip, struct sockaddr_storage *address, struct plane_error *err);
/** 127.0.0.0/8 or ::1, also as an IPv4 address in an IPv6 one: nobody else reaches it. */
bool plane_address_is_loopback(const struct sockaddr_storage *address);
/** Is "ip" (no port) an address of this machine? Asks the kernel. */
bool plane_address_is_own(const char *ip);
/** Nobody's own: unspecified, link-local (cloud metadata), multicast, broadcast, reserved; an IPv4
 *  address in an IPv6 one counts as such. */
bool plane_address_is_special(const struct sockaddr_storage *address);
/** Are the IP addresses the same, whatever the ports and however they are written? */
bool plane_address_is_same_ip(const struct sockaddr_storage *a, const struct sockaddr_storage *b);
/** 0 for what is no IP address and port. */
int plane_address_port(const struct sockaddr_storage *address);
/** Without port and brackets, an IPv4 address always as such. The caller frees it. */
char *plane_address_format_ip(const struct sockaddr_storage *address);
/** The caller frees it. */
char *plane_address_format(const struct sockaddr_storage *address);

#endif
