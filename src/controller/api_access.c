/* Tokens, certificates and origins of requests, and the refusals of RFC 6750 section 3. */
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "controller/api.h"
#include "controller/error_body.h"
#include "controller/origin.h"

static void refuse(struct plane_api_call *call, enum plane_api_error error, const char *message,
	const char *challenge)
{
	plane_api_fail(call->response, error, message);
	plane_buffer_addf(&call->response->extra_headers,
		"WWW-Authenticate: Bearer realm=\"plane\"%s\r\n", challenge);
	plane_debug("refused %s %s from %s: %s", call->request->method, call->request->path,
		call->request->peer_address, message);
}

/* What decided: the header does when there is one. */
static const char *credential_of(const struct plane_api_call *call)
{
	return plane_http_request_header(call->request, "authorization") ? "token" : "certificate";
}

static void refuse_scope(struct plane_api_call *call, unsigned scopes)
{
	const char *scope = plane_scope_text(scopes);
	char message[96], challenge[96];
	snprintf(message, sizeof(message), "The %s does not have the scope \"%s\"",
		credential_of(call), scope ? scope : "");
	snprintf(challenge, sizeof(challenge), ", error=\"insufficient_scope\", scope=\"%s\"",
		scope ? scope : "");
	refuse(call, PLANE_API_FORBIDDEN, message, challenge);
}

static void refuse_credential(struct plane_api_call *call, const char *why)
{
	char message[64];
	snprintf(message, sizeof(message), "The %s %s", credential_of(call), why);
	refuse(call, PLANE_API_UNAUTHORIZED, message, ", error=\"invalid_token\"");
}

/* What no browser sends unless a page that may do so tells it to; whoever judges requests has
 * judged it, or will. */
static bool has_token(const struct plane_api_call *call)
{
	static const char scheme[] = "Bearer ";
	const char *authorization = plane_http_request_header(call->request, "authorization");
	return (call->controller->access || call->controller->auth) && authorization &&
	       strncasecmp(authorization, scheme, strlen(scheme)) == 0;
}

static bool comes_from_us(struct plane_api_call *call)
{
	struct plane_controller *controller = call->controller;
	struct plane_origin_rules rules = { .public_url = controller->public_url,
		.is_host_checked = plane_guard_is_loopback_only(controller->config),
		.hosts = controller->config->allowed_hosts };
	const char *message = NULL;
	switch (plane_origin_of(call->request, &rules)) {
	case PLANE_ORIGIN_OWN:
		return true;
	case PLANE_ORIGIN_FOREIGN:
		message = "A web page of another origin may not ask for this without a token";
		break;
	case PLANE_ORIGIN_HOST:
		message = "The name in the Host header is not known: use an IP address, "
			  "\"localhost\", or start the controller with --allow-host NAME";
		break;
	}
	plane_api_fail(call->response, PLANE_API_FORBIDDEN, message);
	plane_debug("refused %s %s from %s: %s", call->request->method, call->request->path,
		call->request->peer_address, message);
	return false;
}

static bool is_credential_good(struct plane_api_call *call, unsigned scopes)
{
	struct plane_access *access = call->controller->access;
	if (!access)
		return true;
	struct plane_access_request request = {
		.authorization = plane_http_request_header(call->request, "authorization"),
		.common_name = call->request->peer_common_name,
		.scopes = scopes,
		.now_ms = plane_clock_realtime_ms(),
	};
	switch (plane_access_decide(access, &request, &call->response->ticket)) {
	case PLANE_ACCESS_ALLOWED:
		return true;
	case PLANE_ACCESS_NO_CREDENTIAL:
		refuse(call, PLANE_API_UNAUTHORIZED,
			"This needs a token: send it as `Authorization: Bearer TOKEN`, or show a "
			"client certificate",
			"");
		break;
	case PLANE_ACCESS_UNKNOWN:
		refuse_credential(call, "is not known");
		break;
	case PLANE_ACCESS_EXPIRED:
		refuse_credential(call, "has expired");
		break;
	case PLANE_ACCESS_LACKS_SCOPE:
		refuse_scope(call, scopes);
		break;
	}
	return false;
}

bool plane_api_allows(struct plane_api_call *call, unsigned scopes)
{
	if (scopes == PLANE_API_PUBLIC)
		return true;
	return is_credential_good(call, scopes) && (has_token(call) || comes_from_us(call));
}
