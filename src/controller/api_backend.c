/* Routes about one backend, and the list of them. */
#include "controller/api.h"

#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"
#include "controller/drone_session.h"
#include "controller/error_body.h"
#include "controller/log_relay.h"
#include "controller/revoke.h"
#include "controller/status_stream.h"
#include "controller/terminate.h"

#define TAIL_MAX 1000000

/* False when it was answered with an error already. A malformed name is simply not known. */
static bool find_backend(struct plane_api_call *call, struct plane_store_backend *backend)
{
	const char *name = call->params.values[0];
	struct plane_error err = { 0 };
	if (plane_name_check(name, NULL, &err) < 0) {
		plane_api_fail(call->response, PLANE_API_NO_SUCH_BACKEND, NULL);
		return false;
	}
	int code = plane_store_backend_find(call->controller->store, name, backend, &err);
	if (code == -ENOENT)
		plane_api_fail(call->response, PLANE_API_NO_SUCH_BACKEND, NULL);
	else if (code < 0)
		plane_api_fail_because(call->response, PLANE_API_DATABASE, &err);
	return code == 0;
}

void plane_api_backend_status(struct plane_api_call *call)
{
	struct plane_store_backend backend;
	if (find_backend(call, &backend))
		plane_api_answer(call->response,
			plane_backend_status_entry(&backend.state, backend.state_time_ms));
}

void plane_api_backend_status_stream(struct plane_api_call *call)
{
	struct plane_store_backend backend;
	if (!find_backend(call, &backend))
		return;
	const char *last = plane_http_request_header(call->request, "last-event-id");
	enum plane_backend_status after = 0;
	while (last && *last == ' ')
		last++; /* the original's client keeps the space after the colon */
	if (!last || !plane_backend_status_parse(last, &after))
		after = 0;
	plane_status_stream_answer(
		call->controller, call->params.values[0], (int)after, call->response);
}

static void terminate(struct plane_api_call *call, enum plane_termination_kind kind)
{
	struct plane_store_backend backend;
	struct plane_error err = { 0 };
	if (!find_backend(call, &backend))
		return;
	int code = plane_terminate(
		call->controller, call->params.values[0], kind, PLANE_REASON_EXTERNAL, &err);
	if (code == -ENOENT)
		plane_api_fail(call->response, PLANE_API_NO_SUCH_BACKEND, NULL);
	else if (code < 0)
		plane_api_fail_because(call->response, PLANE_API_DATABASE, &err);
	else
		plane_api_answer(call->response, json_null());
}

void plane_api_soft_terminate(struct plane_api_call *call)
{
	terminate(call, PLANE_KIND_SOFT);
}

void plane_api_hard_terminate(struct plane_api_call *call)
{
	terminate(call, PLANE_KIND_HARD);
}

void plane_api_revoke(struct plane_api_call *call)
{
	_cleanup_json_ json_t *body = plane_api_body(call);
	if (!body)
		return;
	struct plane_error err = { 0 };
	const char *backend = NULL, *user = NULL;
	if (plane_json_get_text(body, "backend_id", PLANE_JSON_REQUIRED, &backend, &err) < 0 ||
		plane_json_get_text(body, "user", PLANE_JSON_REQUIRED, &user, &err) < 0) {
		plane_api_fail(call->response, PLANE_API_INVALID_TYPE, err.message);
		return;
	}
	/* names that are too long belong to nobody: nothing to revoke, as for any unknown pair */
	bool is_possible = strlen(backend) < PLANE_NAME_SIZE && strlen(user) <= PLANE_TEXT_MAX;
	if (is_possible && plane_revoke(call->controller, backend, user, &err) < 0) {
		plane_api_fail_because(call->response, PLANE_API_REVOKE_FAILED, &err);
		return;
	}
	plane_api_answer(call->response, json_string("Token revoked successfully"));
}

struct log_start {
	struct plane_controller *controller;
	char backend[PLANE_NAME_SIZE];
	int64_t drone_id;
	int64_t tail_lines;
	bool is_follow;
};

static void start_log(void *data, struct plane_http_stream *stream)
{
	struct log_start *start = data;
	plane_drone_session_stream_log(start->controller, start->drone_id, start->backend,
		start->tail_lines, start->is_follow, stream);
	free(start);
}

/* "true"/"1"/"" or "false"/"0"; absent is false. */
static bool read_flag(const struct plane_http_request *request, const char *name, bool *flag)
{
	_cleanup_free_ char *text = plane_http_request_query(request, name);
	*flag = text && (strcmp(text, "true") == 0 || strcmp(text, "1") == 0 || text[0] == '\0');
	return !text || *flag || strcmp(text, "false") == 0 || strcmp(text, "0") == 0;
}

static bool read_number(const struct plane_http_request *request, const char *name, int64_t min,
	int64_t max, int64_t *number)
{
	_cleanup_free_ char *text = plane_http_request_query(request, name);
	return !text || plane_text_parse_int(text, min, max, number);
}

/* The drone is not connected here: another controller may have it. */
static void answer_logs_of_another(struct plane_api_call *call, int64_t drone_id)
{
	_cleanup_free_ char *name = NULL, *url = NULL;
	_cleanup_free_ char *message = NULL;
	struct plane_error err = { 0 };
	if (plane_log_relay_is_relayed(call->request)) {
		plane_api_fail(call->response, PLANE_API_DRONE_NOT_CONNECTED, NULL);
		return;
	}
	if (plane_store_node_controller(call->controller->store, drone_id, &name, &url, &err) < 0) {
		plane_api_fail_because(call->response, PLANE_API_DATABASE, &err);
		return;
	}
	if (url && strcmp(name, call->controller->name) != 0) {
		plane_log_relay_answer(call, name, url);
		return;
	}
	if (name && strcmp(name, call->controller->name) != 0)
		message = plane_strdupf("The drone of this backend is connected to %s, which has "
					"no --advertise-url",
			name);
	plane_api_fail(call->response, PLANE_API_DRONE_NOT_CONNECTED, message);
}

void plane_api_backend_logs(struct plane_api_call *call)
{
	struct plane_store_backend backend;
	struct plane_drone_entry drone;
	struct log_start start = { .controller = call->controller, .tail_lines = -1 };
	if (!find_backend(call, &backend))
		return;
	if (!read_flag(call->request, "follow", &start.is_follow) ||
		!read_number(call->request, "tail", 0, TAIL_MAX, &start.tail_lines)) {
		plane_api_fail(call->response, PLANE_API_INVALID_QUERY,
			"follow: expected true or false; tail: expected a number of lines up to "
			"1000000");
		return;
	}
	if (!plane_drone_registry_find(call->controller->drones, backend.drone_id, &drone)) {
		answer_logs_of_another(call, backend.drone_id);
		return;
	}
	if (!drone.has_logs) {
		plane_api_fail(call->response, PLANE_API_NOT_SUPPORTED, NULL);
		return;
	}
	struct log_start *kept = PLANE_NEW(struct log_start);
	*kept = start;
	kept->drone_id = backend.drone_id;
	(void)plane_text_copy(kept->backend, sizeof(kept->backend), call->params.values[0]);
	call->response->content_type = "text/plain; charset=utf-8";
	call->response->start_stream = start_log;
	call->response->start_data = kept;
}
