/* Asks another server whether a request that is not public may proceed (reference: --forward-auth).
 */
#ifndef PLANE_CONTROLLER_FORWARD_AUTH_H
#define PLANE_CONTROLLER_FORWARD_AUTH_H

#include <stdbool.h>

#include "net/http_server.h"
#include "net/tls_context.h"

#define PLANE_FORWARD_AUTH_ASKS_MAX 24 /* at once */

struct plane_forward_auth;

/** Only http and https URLs; `tls` says whom to trust, and is borrowed as long as it lives. Called
 * at start, before threads; NULL with `err` when not usable. */
struct plane_forward_auth *plane_forward_auth_create(
	const char *url, const struct plane_tls_client_files *tls, struct plane_error *err);
void plane_forward_auth_destroy(struct plane_forward_auth *auth);

/**
 * True: go on. False: `response` is filled (401 for any answer but 2xx, 502 when the server could
 * not be asked within ten seconds, 503 when it has PLANE_FORWARD_AUTH_ASKS_MAX questions and has
 * not answered one for a second). Sends method and headers (bearer token included), no body, the
 * host as `x-forwarded-host`, and `x-original-path`: the path, after /ctrl if it is below that.
 * Connections are kept. Any thread; blocks.
 */
bool plane_forward_auth_allows(struct plane_forward_auth *auth,
	const struct plane_http_request *request, struct plane_http_response *response);

#endif
