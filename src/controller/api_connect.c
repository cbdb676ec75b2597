/* POST /ctrl/connect. */
#include "controller/api.h"
#include "controller/connect.h"
#include "controller/error_body.h"

#include "base/alloc.h"
#include "base/json.h"
#include "base/text.h"

static json_t *null_if_empty(const char *text)
{
	return text[0] ? json_string(text) : json_null();
}

/* Reference 3.5. */
static char *backend_url(const struct plane_connect_result *result)
{
	return plane_strdupf("%s://%s%s%s/%s/",
		plane_cluster_is_https(result->cluster) ? "https" : "http", result->subdomain,
		result->subdomain[0] ? "." : "", result->cluster, result->token);
}

static json_t *write_result(
	const struct plane_controller *controller, const struct plane_connect_result *result)
{
	_cleanup_free_ char *url = backend_url(result);
	_cleanup_free_ char *status_url =
		plane_strdupf("%s/pub/b/%s/status", controller->public_url, result->backend);
	return json_pack("{s:s,s:b,s:s,s:s,s:s,s:o,s:o,s:s,s:o}", "backend_id", result->backend,
		"spawned", result->is_spawned, "status", plane_backend_status_text(result->status),
		"token", result->token, "url", url, "subdomain", null_if_empty(result->subdomain),
		"secret_token", null_if_empty(result->secret_token), "status_url", status_url,
		"drone", null_if_empty(result->drone));
}

void plane_api_connect(struct plane_api_call *call)
{
	struct plane_controller *controller = call->controller;
	_cleanup_json_ json_t *body = plane_api_body(call);
	if (!body)
		return;
	struct plane_connect_request request;
	struct plane_error err = { 0 };
	if (plane_connect_request_read(body, &request, &err) < 0) {
		plane_api_fail(call->response, PLANE_API_INVALID_TYPE, err.message);
		return;
	}
	struct plane_connect_result result = { 0 };
	struct plane_connect_failure failure;
	if (plane_connect(controller, &request, &result, &failure)) {
		plane_metrics_add(&controller->metrics,
			result.is_spawned ? PLANE_METRIC_CONNECTS_SPAWNED
					  : PLANE_METRIC_CONNECTS_REUSED,
			1);
		plane_api_answer(call->response, write_result(controller, &result));
		return;
	}
	plane_metrics_add(&controller->metrics, PLANE_METRIC_CONNECTS_FAILED, 1);
	if (failure.retry_after_seconds)
		plane_buffer_addf(&call->response->extra_headers, "Retry-After: %lld\r\n",
			(long long)failure.retry_after_seconds);
	if (failure.cause.code != 0)
		plane_api_fail_because(call->response, failure.error, &failure.cause);
	else
		plane_api_fail(call->response, failure.error, failure.message);
}
