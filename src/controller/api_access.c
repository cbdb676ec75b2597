/* Tokens and certificates of requests, and the refusals of RFC 6750 section 3. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "controller/api.h"
#include "controller/error_body.h"

static void refuse(struct plane_api_call *call, enum plane_api_error error, const char *message,
	const char *challenge)
{
	plane_api_fail(call->response, error, message);
	plane_buffer_addf(&call->response->extra_headers,
		"WWW-Authenticate: Bearer realm=\"plane\"%s\r\n", challenge);
	plane_debug("refused %s %s from %s: %s", call->request->method, call->request->path,
		call->request->peer_address, message);
}

static void refuse_scope(struct plane_api_call *call, unsigned scopes)
{
	const char *scope = plane_scope_text(scopes);
	char message[96], challenge[96];
	snprintf(message, sizeof(message), "The token does not have the scope \"%s\"",
		scope ? scope : "");
	snprintf(challenge, sizeof(challenge), ", error=\"insufficient_scope\", scope=\"%s\"",
		scope ? scope : "");
	refuse(call, PLANE_API_FORBIDDEN, message, challenge);
}

bool plane_api_allows(struct plane_api_call *call, unsigned scopes)
{
	struct plane_access *access = call->controller->access;
	if (scopes == PLANE_API_PUBLIC || !access)
		return true;
	struct plane_access_request request = {
		.authorization = plane_http_request_header(call->request, "authorization"),
		.scopes = scopes,
		.now_ms = plane_clock_realtime_ms(),
	};
	switch (plane_access_decide(access, &request, &call->response->ticket)) {
	case PLANE_ACCESS_ALLOWED:
		return true;
	case PLANE_ACCESS_NO_CREDENTIAL:
		refuse(call, PLANE_API_UNAUTHORIZED,
			"This needs a token: send it as `Authorization: Bearer TOKEN`", "");
		break;
	case PLANE_ACCESS_UNKNOWN:
		refuse(call, PLANE_API_UNAUTHORIZED, "The token is not known",
			", error=\"invalid_token\"");
		break;
	case PLANE_ACCESS_EXPIRED:
		refuse(call, PLANE_API_UNAUTHORIZED, "The token has expired",
			", error=\"invalid_token\"");
		break;
	case PLANE_ACCESS_LACKS_SCOPE:
		refuse_scope(call, scopes);
		break;
	}
	return false;
}
