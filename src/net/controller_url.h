/* The URL under which nodes and clients reach a controller: http, https, ws or wss; its user part
 * is the bearer token; a path is dropped (reference: bearer auth from URL). */
#ifndef PLANE_NET_CONTROLLER_URL_H
#define PLANE_NET_CONTROLLER_URL_H

#include <stdbool.h>

#include "base/error.h"

struct plane_controller_url {
	char *host;      /* without brackets */
	char *authority; /* for the Host header: host[:port] */
	char *bearer;    /* NULL for none; never log it */
	int port;
	bool is_tls;
};

/** -EINVAL for what is no such URL. The message does not repeat the token. */
int plane_controller_url_parse(
	const char *text, struct plane_controller_url *url, struct plane_error *err);
void plane_controller_url_finish(struct plane_controller_url *url);

#endif
