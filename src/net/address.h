/* Socket addresses as text: "1.2.3.4:80", "[::1]:80". Host names are not looked up. */
#ifndef PLANE_NET_ADDRESS_H
#define PLANE_NET_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

#include "base/error.h"

/** -EINVAL for anything else than an IP address and a port. */
int plane_address_parse(
	const char *text, struct sockaddr_storage *address, struct plane_error *err);
/** 127.0.0.0/8 or ::1, also as an IPv4 address in an IPv6 one: nobody else reaches it. */
bool plane_address_is_loopback(const struct sockaddr_storage *address);
/** The caller frees it. */
char *plane_address_format(const struct sockaddr_storage *address);

#endif
