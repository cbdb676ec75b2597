/* What a request's target asks for: the proxy's own pages, or a token and the path behind it.
 * Pure. Source: the proxy's table of answers. */
#ifndef PLANE_PROXY_TARGET_H
#define PLANE_PROXY_TARGET_H

#include <stdbool.h>

#include "net/http1.h"

#define PLANE_PROXY_TOKEN_MIN 16 /* shorter ones cannot exist: 410 without asking */
#define PLANE_PROXY_TOKEN_MAX 256

enum plane_target_kind {
	PLANE_TARGET_BAD,   /* not a path, or an empty token: 400 */
	PLANE_TARGET_ROOT,  /* "/": redirect or 400 */
	PLANE_TARGET_READY, /* "/ready" */
	PLANE_TARGET_GONE,  /* no token can look like this: 410 */
	PLANE_TARGET_TOKEN, /* ask for the route of `token` */
};

struct plane_target {
	enum plane_target_kind kind;
	struct plane_slice token;
	struct plane_slice original_path; /* without the query: x-verified-path */
	struct plane_slice forwarded;     /* path and query behind a dynamic token; may lack '/' */
	bool needs_slash;                 /* put '/' in front of `forwarded` */
};

/** Reads `target` as it stood in the request line; slices point into it. */
struct plane_target plane_target_read(struct plane_slice target);

/**
 * May a request with this Host (a trailing ":443" is ignored on both sides) reach a route of
 * `cluster` and `subdomain` (NULL: any)? 0, 400 without Host, 403 when it may not.
 */
int plane_target_check_host(struct plane_slice host, const char *cluster, const char *subdomain);

#endif
