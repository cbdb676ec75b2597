/* Heads of messages as they go on: what is removed, added and passed (reference 6.2). Pure. */
#ifndef PLANE_PROXY_HEADERS_H
#define PLANE_PROXY_HEADERS_H

#include <stdbool.h>

#include "base/buffer.h"
#include "net/http1.h"
#include "proxy/route.h"
#include "proxy/target.h"

/** The request for the backend. `client_ip` is text. An upgrade keeps its Upgrade field. */
void plane_headers_request(struct plane_buffer *out, const struct plane_http1_head *head,
	const struct plane_target *target, const struct plane_route *route, const char *client_ip);

struct plane_response_plan {
	const char *backend;
	bool is_chunked;  /* sent chunked to the client */
	bool closes;      /* the connection ends with this answer */
	bool is_http10;   /* the client speaks HTTP/1.0 */
	bool is_upgraded; /* 101: a tunnel follows */
	bool is_interim;  /* 1xx: another answer follows */
};

/** The answer for the client. */
void plane_headers_response(struct plane_buffer *out, const struct plane_http1_head *head,
	const struct plane_response_plan *plan);

/** A whole answer of the proxy's own. `backend` and `location` may be NULL. */
void plane_headers_own_answer(struct plane_buffer *out, int status, const char *text,
	const char *location, const char *backend, bool is_head_request, bool closes);

/** "Gone", ... for the statuses that the proxy uses. */
const char *plane_headers_reason(int status);

#endif
