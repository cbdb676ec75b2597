/* Routes about the controller itself. */
#include "controller/api.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/version.h"
#include "controller/error_body.h"

#define USAGE_WAIT_MS 500

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

static void write_store_metrics(struct plane_store *store, struct plane_buffer *text)
{
	struct plane_store_statistics counts;
	plane_store_statistics(store, &counts);
	const struct {
		const char *name, *help;
		int64_t value;
	} metrics[] = {
		{ "statements", "Statements sent to the store's server.", counts.statements },
		{ "round_trips", "Exchanges with the store's server, of one statement or several.",
			counts.round_trips },
		{ "connections", "Connections made to the store's server.", counts.connections },
		{ "failures", "Statements that the store's server refused, connections lost.",
			counts.failures },
	};
	for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++)
		plane_buffer_addf(text,
			"# HELP plane_store_%s_total %s\n# TYPE plane_store_%s_total counter\n"
			"plane_store_%s_total %" PRId64 "\n",
			metrics[i].name, metrics[i].help, metrics[i].name, metrics[i].name,
			metrics[i].value);
}

void plane_api_metrics(struct plane_api_call *call)
{
	call->response->content_type = "text/plain; version=0.0.4; charset=utf-8";
	plane_metrics_write(&call->controller->metrics, &call->response->body);
	write_store_metrics(call->controller->store, &call->response->body);
	plane_drone_registry_write(call->controller->drones, &call->response->body);
}

/* Drones are asked at once, and what they measure takes some milliseconds. */
void plane_api_want_usage(struct plane_controller *controller)
{
	if (plane_usage_want(controller->usage, plane_clock_boot_ms()))
		(void)uv_async_send(&controller->usage_wake); /* succeeds while it is open */
	plane_usage_wait(controller->usage, USAGE_WAIT_MS);
}

void plane_api_backend_metrics(struct plane_api_call *call)
{
	plane_api_want_usage(call->controller);
	call->response->content_type = "text/plain; version=0.0.4; charset=utf-8";
	plane_usage_write(call->controller->usage, plane_clock_boot_ms(), &call->response->body);
}
