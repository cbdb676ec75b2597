/* Routes about the controller itself. */
#include "controller/api.h"

#include "base/version.h"
#include "controller/error_body.h"

static bool is_healthy(struct plane_api_call *call)
{
	struct plane_error err = { 0 };
	bool is_reachable = plane_store_ping(call->controller->store, &err) == 0;
	if (!is_reachable)
		plane_api_fail_because(call->response, PLANE_API_UNHEALTHY, &err);
	return is_reachable;
}

void plane_api_health(struct plane_api_call *call)
{
	if (is_healthy(call))
		plane_api_answer(call->response, json_pack("{s:s}", "status", "ok"));
}

void plane_api_status(struct plane_api_call *call)
{
	if (is_healthy(call))
		plane_api_answer(
			call->response, json_pack("{s:s,s:s,s:s}", "status", "ok", "version",
						PLANE_VERSION, "hash", PLANE_GIT_HASH));
}

void plane_api_metrics(struct plane_api_call *call)
{
	call->response->content_type = "text/plain; version=0.0.4; charset=utf-8";
	plane_metrics_write(&call->controller->metrics, &call->response->body);
}
