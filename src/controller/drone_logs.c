/* Logs of a backend, asked of its drone and passed on to a reader (extension "logs"). */
#include "controller/drone_internal.h"

#include <string.h>

#include <uthash.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"

#define FIRST_ANSWER_TIMEOUT_MS 30000
#define LOG_REQUESTS_MAX 256 /* open at once, per drone */

struct plane_log_request {
	int64_t id;
	struct plane_drone_session *drone;
	struct plane_http_stream *stream;
	int64_t asked_at_ms;
	bool is_answered;
	UT_hash_handle hh;
};

static void forget(struct plane_log_request *request)
{
	HASH_DEL(request->drone->logs, request);
	plane_metrics_add(&request->drone->base.controller->metrics, PLANE_METRIC_STREAMS, -1);
	free(request);
}

/* Detaches from the stream first: it may report its end from inside the call. */
static void end(struct plane_log_request *request)
{
	struct plane_http_stream *stream = request->stream;
	plane_http_stream_on_closed(stream, NULL, NULL);
	forget(request);
	plane_http_stream_end(stream);
}

static void on_reader_gone(void *data)
{
	struct plane_log_request *request = data;
	struct plane_drone_order order = { .kind = PLANE_ORDER_LOGS_CANCEL,
		.request_id = request->id };
	plane_node_session_send(&request->drone->base, plane_drone_order_write(&order));
	forget(request);
}

void plane_drone_session_stream_log(struct plane_controller *controller, int64_t drone_id,
	const char *backend, int64_t tail_lines, bool is_follow, struct plane_http_stream *stream)
{
	struct plane_drone_session *drone = plane_drone_session_find(controller, drone_id);
	if (!drone || HASH_COUNT(drone->logs) >= LOG_REQUESTS_MAX) {
		static const char refusal[] = "[plane] the log cannot be read now: try again\n";
		(void)plane_http_stream_write(stream, refusal, strlen(refusal)); /* it ends */
		plane_http_stream_end(stream);
		return;
	}
	struct plane_log_request *request = PLANE_NEW(struct plane_log_request);
	request->id = ++drone->last_log_request_id;
	request->drone = drone;
	request->stream = stream;
	request->asked_at_ms = plane_clock_boot_ms();
	HASH_ADD(hh, drone->logs, id, sizeof(request->id), request);
	plane_metrics_add(&controller->metrics, PLANE_METRIC_STREAMS, 1);
	plane_http_stream_on_closed(stream, on_reader_gone, request);
	struct plane_drone_order order = { .kind = PLANE_ORDER_LOGS_REQUEST,
		.request_id = request->id,
		.backend = backend,
		.tail_lines = tail_lines,
		.is_follow = is_follow };
	plane_node_session_send(&drone->base, plane_drone_order_write(&order));
}

static struct plane_log_request *find(struct plane_drone_session *drone, int64_t id)
{
	struct plane_log_request *request = NULL;
	HASH_FIND(hh, drone->logs, &id, sizeof(id), request);
	return request;
}

/* False when the request is gone: a stream closes itself when its reader is too slow. */
static bool write_text(struct plane_drone_session *drone, int64_t id, const char *text)
{
	struct plane_log_request *request = find(drone, id);
	if (request && text[0])
		(void)plane_http_stream_write(request->stream, text, strlen(text));
	return find(drone, id) != NULL;
}

void plane_drone_logs_on_chunk(
	struct plane_drone_session *drone, const struct plane_drone_message *message)
{
	struct plane_log_request *request = find(drone, message->request_id);
	if (!request)
		return; /* cancelled meanwhile */
	request->is_answered = true;
	if (!write_text(drone, message->request_id, message->data))
		return;
	if (message->error) {
		_cleanup_free_ char *line = plane_strdupf("[plane] %s\n", message->error);
		if (!write_text(drone, message->request_id, line))
			return;
	}
	if (message->is_end || message->error)
		end(request);
}

void plane_drone_logs_tick(struct plane_drone_session *drone)
{
	int64_t now_ms = plane_clock_boot_ms();
	struct plane_log_request *request, *next;
	HASH_ITER (hh, drone->logs, request, next) {
		if (!request->is_answered &&
			now_ms - request->asked_at_ms > FIRST_ANSWER_TIMEOUT_MS)
			end(request);
	}
}

void plane_drone_logs_finish(struct plane_drone_session *drone)
{
	while (drone->logs)
		end(drone->logs);
}
