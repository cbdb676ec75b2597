/* Requests that a web page made a browser send: a browser sends them to any address that its
 * machine reaches, and adds what it has of that address by itself (cookies, client certificates,
 * being on loopback). Pure: no I/O. Any thread. */
#ifndef PLANE_CONTROLLER_ORIGIN_H
#define PLANE_CONTROLLER_ORIGIN_H

#include "net/http_server.h"

struct plane_origin_rules {
	/** "http(s)://host[:port]" under which clients reach the controller; NULL: unknown. */
	const char *public_url;
	/** Nothing but the loopback address guards the API: a name that is not known to be its own
	 * may be one of an attacker's domain that he points to 127.0.0.1 (DNS rebinding). */
	bool is_host_checked;
	/** Names, with commas between, that may stand in Host besides; NULL: none. */
	const char *hosts;
};

enum plane_origin {
	PLANE_ORIGIN_OWN,     /* no page, or one of our own */
	PLANE_ORIGIN_FOREIGN, /* a page of another origin */
	PLANE_ORIGIN_HOST,    /* sent to a name that is not known */
};

/**
 * Where a request comes from, by Origin (RFC 6454 section 7), Sec-Fetch-Site (Fetch Metadata) and
 * Host. Own is an origin with the authority of Host, or that of `public_url`. Who is no browser
 * sends none of the first two. An IP address in Host, "localhost", the host of `public_url` and
 * those of `hosts` are known, whatever the port.
 */
enum plane_origin plane_origin_of(
	const struct plane_http_request *request, const struct plane_origin_rules *rules);

#endif
