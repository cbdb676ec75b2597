/* Routes about a cluster: draining, and the sockets of its nodes. */
#include "controller/api.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/text.h"
#include "controller/dns_session.h"
#include "controller/drone_session.h"
#include "controller/error_body.h"
#include "controller/proxy_session.h"
#include "net/address.h"

static void set_draining(struct plane_api_call *call, bool is_draining)
{
	bool is_updated = false;
	struct plane_error err = { 0 };
	int code = plane_store_drone_drain(call->controller->store, call->params.values[0],
		call->params.values[1], is_draining, &is_updated, &err);
	if (code == -ENOENT)
		plane_api_fail(call->response, PLANE_API_NO_SUCH_DRONE, NULL);
	else if (code < 0)
		plane_api_fail_because(call->response, PLANE_API_DATABASE, &err);
	else
		plane_api_answer(call->response, json_pack("{s:b}", "updated", is_updated));
}

void plane_api_drain(struct plane_api_call *call)
{
	set_draining(call, true);
}

void plane_api_undrain(struct plane_api_call *call)
{
	set_draining(call, false);
}

static bool has_token(const char *list, const char *token)
{
	size_t token_len = strlen(token);
	while (list && *list) {
		list += strspn(list, " \t,");
		size_t len = strcspn(list, " \t,");
		if (len == token_len && strncasecmp(list, token, len) == 0)
			return true;
		list += len;
	}
	return false;
}

/* The framework's checks of the reference come before the cluster's name. */
static bool is_upgrade(struct plane_api_call *call)
{
	const struct plane_http_request *request = call->request;
	const char *version = plane_http_request_header(request, "sec-websocket-version");
	bool is_one = strcmp(request->method, "GET") == 0 &&
		      has_token(plane_http_request_header(request, "connection"), "upgrade") &&
		      has_token(plane_http_request_header(request, "upgrade"), "websocket") &&
		      plane_http_request_header(request, "sec-websocket-key") && version &&
		      strcmp(version, "13") == 0;
	if (!is_one)
		plane_api_fail(call->response, PLANE_API_NOT_A_WEBSOCKET, NULL);
	return is_one;
}

static bool is_cluster(struct plane_api_call *call)
{
	struct plane_error err = { 0 };
	bool is_valid = plane_cluster_check(call->params.values[0], &err) == 0;
	if (!is_valid)
		plane_api_fail(call->response, PLANE_API_INVALID_CLUSTER_NAME, NULL);
	return is_valid;
}

static struct plane_node_caller caller_of(const struct plane_api_call *call)
{
	const char *peer = call->request->peer_address;
	return (struct plane_node_caller){ .peer_address = peer,
		.is_own_machine = plane_address_is_own(peer),
		.ticket = call->response->ticket };
}

static void start_session(void *data, struct plane_ws *ws)
{
	plane_node_session_start(data, ws);
}

static void accept_socket(struct plane_api_call *call, struct plane_node_session *owned_session)
{
	call->response->start_ws = start_session;
	call->response->start_data = owned_session;
}

void plane_api_drone_socket(struct plane_api_call *call)
{
	struct plane_error err = { 0 };
	if (!is_upgrade(call) || !is_cluster(call))
		return;
	_cleanup_free_ char *pool = plane_http_request_query(call->request, "pool");
	if (pool && plane_text_check(pool, "pool", &err) < 0) {
		plane_api_fail(call->response, PLANE_API_INVALID_QUERY, err.message);
		return;
	}
	struct plane_node_caller caller = caller_of(call);
	accept_socket(call, plane_drone_session_create(call->controller, call->params.values[0],
				    pool ? pool : "", &caller));
}

void plane_api_proxy_socket(struct plane_api_call *call)
{
	struct plane_node_caller caller = caller_of(call);
	if (is_upgrade(call) && is_cluster(call))
		accept_socket(call, plane_proxy_session_create(
					    call->controller, call->params.values[0], &caller));
}

void plane_api_dns_socket(struct plane_api_call *call)
{
	struct plane_node_caller caller = caller_of(call);
	if (is_upgrade(call))
		accept_socket(call, plane_dns_session_create(call->controller, &caller));
}
