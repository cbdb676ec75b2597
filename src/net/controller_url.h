/* The URL under which nodes and clients reach a controller: http, https, ws or wss; its user part
 * is the bearer token; a path is dropped (reference: bearer auth from URL). */
#ifndef PLANE_NET_CONTROLLER_URL_H
#define PLANE_NET_CONTROLLER_URL_H

#include <stdbool.h>

#include "base/error.h"
#include "net/tls_context.h"

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

/** What a node or client shows a controller besides what stands in the URL. All may be NULL. */
struct plane_controller_credentials {
	const char *token;      /* the bearer token */
	const char *token_file; /* a file, or "fd:N", that holds it; used before `token` */
	struct plane_tls_client_files tls;
};

/** Can they be used with this URL? Reads the files and throws away what it read. */
int plane_controller_credentials_check(const struct plane_controller_url *url,
	const struct plane_controller_credentials *credentials, struct plane_error *err);

/**
 * The bearer token to send: that of the URL, else of the file, which is read now, else `token`.
 * `*bearer` is NULL when there is none; the caller frees it. An error for a file that cannot be
 * read or is open to others, for what could not stand in a header, and for a URL with a token
 * beside a file. The token is in no message.
 */
int plane_controller_bearer(const struct plane_controller_url *url,
	const struct plane_controller_credentials *credentials, char **bearer,
	struct plane_error *err);

#endif
