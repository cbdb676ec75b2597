/* The routes with the scope that each needs, and CORS. */
#include "controller/api.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/text.h"
#include "controller/error_body.h"
#include "controller/log_relay.h"

/* Bodies of connect calls may be as long as the server takes. The others are short; and what
 * everybody may ask needs none: if one is sent, it is not read. */
#define BODY_MAX_BYTES ((size_t)64 << 10)

#define PUBLIC PLANE_API_PUBLIC
#define CONNECT PLANE_SCOPE_CONNECT
#define ADMIN PLANE_SCOPE_ADMIN
#define NODE PLANE_SCOPE_NODE
#define READ PLANE_SCOPE_READ

/* docs/api.md shows this table; the tests hold both against what is answered. */
static const struct plane_api_route routes[] = {
	{ "POST", "/ctrl/connect", CONNECT, plane_api_connect, 0, PLANE_API_LANE_CONNECT },
	{ "GET", "/pub/b/:/status", PUBLIC, plane_api_backend_status, 0 },
	{ "GET", "/pub/b/:/status-stream", PUBLIC, plane_api_backend_status_stream, 0 },
	{ "GET", "/pub/health", PUBLIC, plane_api_health, 0 },
	{ "GET", "/ctrl/status", READ, plane_api_status, 0 },
	{ "GET", "/ctrl/c/:/drone-socket", NODE, plane_api_drone_socket, 0 },
	{ "GET", "/ctrl/c/:/proxy-socket", NODE, plane_api_proxy_socket, 0 },
	{ "GET", "/ctrl/dns-socket", NODE, plane_api_dns_socket, 0 },
	{ "GET", "/ctrl/c/:/state", READ, plane_api_cluster_state, 0 },
	{ "GET", "/ctrl/c/:/d/:", READ, plane_api_drone, 0 },
	{ "POST", "/ctrl/c/:/d/:/drain", ADMIN, plane_api_drain, 0 },
	{ "POST", "/ctrl/c/:/d/:/undrain", ADMIN, plane_api_undrain, 0 },
	{ "POST", "/ctrl/b/revoke", ADMIN, plane_api_revoke, 0 },
	{ "POST", "/ctrl/revoke", ADMIN, plane_api_revoke, 0 },
	{ "POST", "/ctrl/b/:/soft-terminate", ADMIN, plane_api_soft_terminate, 0 },
	{ "POST", "/ctrl/b/:/hard-terminate", ADMIN, plane_api_hard_terminate, 0 },
	{ "GET", "/ctrl/b/:/logs", READ, plane_api_backend_logs, 0, PLANE_API_LANE_LOGS },
	{ "GET", "/ctrl/backends", READ, plane_api_backend_list, 0, PLANE_API_LANE_OTHERS },
	{ "GET", "/ctrl/keys", READ, plane_api_key_list, 0 },
	{ "GET", "/ctrl/drones", READ, plane_api_drone_list, 0 },
	{ "GET", "/ctrl/proxies", READ, plane_api_proxy_list, 0 },
	{ "GET", "/metrics", READ, plane_api_metrics, 0 },
	{ "GET", "/metrics/backends", READ, plane_api_backend_metrics, 0, PLANE_API_LANE_OTHERS },
	/* of older documentation */
	{ "POST", "/ctrl/c/:/b/:/soft-terminate", ADMIN, plane_api_soft_terminate, 1 },
	{ "POST", "/ctrl/c/:/b/:/hard-terminate", ADMIN, plane_api_hard_terminate, 1 },
	{ "GET", "/pub/c/:/b/:/status", PUBLIC, plane_api_backend_status, 1 },
	{ "GET", "/pub/c/:/b/:/status-stream", PUBLIC, plane_api_backend_status_stream, 1 },
};

static bool is_below(const char *path, const char *prefix)
{
	size_t len = strlen(prefix);
	return strncmp(path, prefix, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

static bool is_method(const struct plane_api_route *route, const char *method)
{
	return strcmp(route->method, method) == 0 ||
	       (strcmp(method, "HEAD") == 0 && strcmp(route->method, "GET") == 0);
}

static void drop_first_params(struct plane_route_params *params, int count)
{
	for (; count > 0 && params->count > 0; count--) {
		params->count--;
		memmove(params->values[0], params->values[1],
			params->count * sizeof(params->values[0]));
	}
}

const struct plane_api_route *plane_api_routes(size_t *count)
{
	*count = sizeof(routes) / sizeof(routes[0]);
	return routes;
}

/* NULL when there is none; `*other_method` is then what the path knows instead, or NULL. */
static const struct plane_api_route *find_route(
	struct plane_api_call *call, const char **other_method)
{
	const struct plane_http_request *request = call->request;
	*other_method = NULL;
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		if (!plane_route_match(routes[i].pattern, request->path, &call->params))
			continue;
		if (is_method(&routes[i], request->method))
			return &routes[i];
		*other_method = routes[i].method;
	}
	return NULL;
}

static void dispatch(
	struct plane_api_call *call, const struct plane_api_route *route, const char *other_method)
{
	if (route) {
		drop_first_params(&call->params, route->param_from);
		route->handle(call);
		return;
	}
	if (!other_method) {
		plane_api_fail(call->response, PLANE_API_NO_SUCH_PATH, NULL);
		return;
	}
	plane_api_fail(call->response, PLANE_API_METHOD_NOT_ALLOWED, NULL);
	plane_buffer_addf(&call->response->extra_headers, "Allow: %s\r\n",
		strcmp(other_method, "GET") == 0 ? "GET, HEAD" : other_method);
}

/* True when the request was one for CORS itself. */
static bool add_cors(struct plane_api_call *call)
{
	struct plane_buffer *headers = &call->response->extra_headers;
	plane_buffer_add_text(headers,
		"Access-Control-Allow-Origin: *\r\n"
		"Vary: origin, access-control-request-method, access-control-request-headers\r\n");
	if (strcmp(call->request->method, "OPTIONS") != 0)
		return false;
	plane_buffer_add_text(headers, "Access-Control-Allow-Methods: GET,POST\r\n"
				       "Access-Control-Allow-Headers: content-type\r\n");
	return true;
}

/* What a path that is no route needs: any scope, so that who has none learns nothing. */
static unsigned scopes_of(const struct plane_api_route *route, bool is_public_path)
{
	if (route)
		return route->scopes;
	return is_public_path ? PLANE_API_PUBLIC : PLANE_SCOPES_ALL;
}

int plane_api_lane(const struct plane_http_request *request)
{
	struct plane_controller *controller = request->server_data;
	struct plane_api_call call = { .controller = controller, .request = request };
	const char *other_method;
	const struct plane_api_route *route = find_route(&call, &other_method);
	enum plane_api_lane lane = route ? route->lane : PLANE_API_LANE_STORE;
	/* not passed on once more: else two controllers would wait for threads of each other */
	if (lane == PLANE_API_LANE_LOGS && plane_log_relay_is_relayed(request))
		lane = PLANE_API_LANE_STORE;
	bool is_public = scopes_of(route, is_below(request->path, "/pub")) == PLANE_API_PUBLIC;
	return controller->auth && !is_public && lane == PLANE_API_LANE_STORE
		       ? PLANE_API_LANE_OTHERS
		       : lane;
}

void plane_api_handle(
	const struct plane_http_request *request, struct plane_http_response *response)
{
	struct plane_controller *controller = request->server_data;
	struct plane_api_call call = {
		.controller = controller, .request = request, .response = response
	};
	const char *other_method;
	bool is_public_path = is_below(request->path, "/pub");
	plane_metrics_add(&controller->metrics, PLANE_METRIC_HTTP_REQUESTS, 1);
	response->status = 200;
	if (is_public_path && add_cors(&call))
		return;
	const struct plane_api_route *route = find_route(&call, &other_method);
	unsigned scopes = scopes_of(route, is_public_path);
	bool is_allowed = plane_api_allows(&call, scopes);
	if (is_allowed && controller->auth && scopes != PLANE_API_PUBLIC)
		is_allowed = plane_forward_auth_allows(controller->auth, request, response);
	if (is_allowed)
		dispatch(&call, route, other_method);
	else
		plane_metrics_add(&controller->metrics, PLANE_METRIC_AUTH_REFUSED, 1);
}

bool plane_api_takes_body(const struct plane_http_request *request, size_t *max_body_bytes,
	struct plane_http_response *response)
{
	struct plane_controller *controller = request->server_data;
	struct plane_api_call call = {
		.controller = controller, .request = request, .response = response
	};
	const char *other_method;
	const struct plane_api_route *route = find_route(&call, &other_method);
	unsigned scopes = scopes_of(route, is_below(request->path, "/pub"));
	if (!plane_api_allows(&call, scopes)) {
		plane_metrics_add(&controller->metrics, PLANE_METRIC_HTTP_REQUESTS, 1);
		plane_metrics_add(&controller->metrics, PLANE_METRIC_AUTH_REFUSED, 1);
		return false;
	}
	if (!route || route->handle != plane_api_connect)
		*max_body_bytes = scopes == PLANE_API_PUBLIC ? 0 : BODY_MAX_BYTES;
	return true;
}

/* "application/json" or "application/<anything>+json", parameters allowed (RFC 6839). */
static bool is_json_type(const char *type)
{
	if (!type)
		return false;
	size_t len = strcspn(type, ";");
	while (len > 0 && isspace((unsigned char)type[len - 1]))
		len--;
	static const char prefix[] = "application/", name[] = "json", suffix[] = "+json";
	size_t prefix_len = strlen(prefix);
	if (len <= prefix_len || strncasecmp(type, prefix, prefix_len) != 0)
		return false;
	const char *subtype = type + prefix_len;
	size_t subtype_len = len - prefix_len;
	if (subtype_len == strlen(name) && strncasecmp(subtype, name, subtype_len) == 0)
		return true;
	return subtype_len > strlen(suffix) &&
	       strncasecmp(subtype + subtype_len - strlen(suffix), suffix, strlen(suffix)) == 0;
}

json_t *plane_api_body(struct plane_api_call *call)
{
	const struct plane_http_request *request = call->request;
	if (!is_json_type(plane_http_request_header(request, "content-type"))) {
		plane_api_fail(call->response, PLANE_API_MEDIA_TYPE, NULL);
		return NULL;
	}
	struct plane_error err = { 0 };
	json_t *json = plane_json_parse_foreign(request->body, request->body_len, NULL, &err);
	if (!json) {
		(void)plane_error_prefix(&err, "Failed to parse the request body as JSON");
		plane_api_fail(call->response, PLANE_API_INVALID_JSON, err.message);
	}
	return json;
}
