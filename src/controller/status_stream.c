/* One stream of status entries. Subscribes first and reads the history then, so that nothing
 * between is missed; what is not later than the last one sent is dropped. An event that may not be
 * the next one (another controller stored those before it) sends the stream to the history too. */
#include "controller/status_stream.h"

#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"

#define KEEP_ALIVE_MS 15000

struct status_stream {
	struct plane_controller *controller;
	char backend[PLANE_NAME_SIZE];
	int last_status;                  /* the last one sent; 0: none */
	struct plane_http_stream *stream; /* NULL once closed */
	struct plane_strand *strand;
	uv_timer_t keep_alive_timer;
	struct plane_hub_subscription subscription;
	bool is_reading; /* the history */
	bool is_behind;  /* something came meanwhile: read it once more */
};

struct history_job {
	struct plane_job base;
	struct status_stream *status;
	struct plane_store_history history;
};

static void on_strand_closed(void *data)
{
	struct status_stream *status = data;
	plane_metrics_add(&status->controller->metrics, PLANE_METRIC_STREAMS, -1);
	free(status);
}

static void on_timer_closed(uv_handle_t *handle)
{
	struct status_stream *status = handle->data;
	plane_strand_close(status->strand, on_strand_closed, status);
}

static void on_stream_closed(void *data)
{
	struct status_stream *status = data;
	status->stream = NULL;
	plane_hub_unsubscribe(status->controller->hub, &status->subscription);
	uv_close((uv_handle_t *)&status->keep_alive_timer, on_timer_closed);
}

static void on_keep_alive(uv_timer_t *timer)
{
	struct status_stream *status = timer->data;
	if (status->stream)
		(void)plane_http_stream_write(status->stream, ":\n\n", 3); /* false: it closes */
}

static void write_entry(
	struct status_stream *status, const struct plane_backend_state *state, int64_t time_ms)
{
	if (!status->stream || (int)state->status <= status->last_status)
		return;
	_cleanup_json_ json_t *entry = plane_backend_status_entry(state, time_ms);
	_cleanup_free_ char *data = plane_json_dump(entry);
	_cleanup_free_ char *event = plane_strdupf("data: %s\nid: %s\n\n", data ? data : "{}",
		plane_backend_status_text(state->status));
	status->last_status = (int)state->status;
	(void)uv_timer_again(&status->keep_alive_timer); /* it runs */
	if (plane_http_stream_write(status->stream, event, strlen(event)) && status->stream &&
		state->status == PLANE_TERMINATED)
		plane_http_stream_end(status->stream);
}

static void read_history(struct status_stream *status);

static void on_event(void *data, const struct plane_hub_event *event)
{
	struct status_stream *status = data;
	int next = (int)plane_backend_status_next((enum plane_backend_status)status->last_status);
	if (event->kind == PLANE_HUB_STATE && (int)event->state.status <= status->last_status)
		return;
	if (event->kind == PLANE_HUB_STATE && !status->is_reading &&
		(int)event->state.status == next)
		write_entry(status, &event->state, event->time_ms);
	else
		read_history(status);
}

static enum plane_job_result run_history(struct plane_job *base)
{
	struct history_job *job = (struct history_job *)base;
	struct plane_error err = { 0 };
	if (plane_store_backend_history(job->status->controller->store, job->status->backend,
		    &job->history, &err) < 0) {
		plane_warn("history of %s: %s", job->status->backend, err.message);
		return PLANE_JOB_RETRY;
	}
	return PLANE_JOB_DONE;
}

static void after_history(struct plane_job *base, bool is_cancelled)
{
	struct history_job *job = (struct history_job *)base;
	struct status_stream *status = job->status;
	bool is_behind = status->is_behind;
	status->is_reading = status->is_behind = false;
	if (!is_cancelled) {
		/* resumed after the end: nothing will ever come */
		if (status->stream && status->last_status >= PLANE_TERMINATED)
			plane_http_stream_end(status->stream);
		for (size_t i = 0; i < job->history.count; i++)
			write_entry(status, &job->history.entries[i].state,
				job->history.entries[i].time_ms);
		if (is_behind && status->stream)
			read_history(status);
	}
	plane_store_history_finish(&job->history);
	free(job);
}

static void read_history(struct status_stream *status)
{
	if (status->is_reading) {
		status->is_behind = true;
		return;
	}
	status->is_reading = true;
	struct history_job *job = PLANE_NEW(struct history_job);
	job->base.run = run_history;
	job->base.done = after_history;
	job->status = status;
	(void)plane_strand_submit(status->strand, &job->base); /* it is the only one */
}

static void on_start(void *data, struct plane_http_stream *stream)
{
	struct status_stream *status = data;
	struct plane_controller *controller = status->controller;
	status->stream = stream;
	status->strand = plane_strand_create(&controller->loop, controller->workers);
	plane_metrics_add(&controller->metrics, PLANE_METRIC_STREAMS, 1);
	(void)uv_timer_init(&controller->loop, &status->keep_alive_timer); /* always succeeds */
	status->keep_alive_timer.data = status;
	(void)uv_timer_start(
		&status->keep_alive_timer, on_keep_alive, KEEP_ALIVE_MS, KEEP_ALIVE_MS);
	plane_http_stream_on_closed(stream, on_stream_closed, status);
	plane_hub_subscribe(
		controller->hub, &status->subscription, status->backend, on_event, status);
	read_history(status);
}

void plane_status_stream_answer(struct plane_controller *controller, const char *backend,
	int after_status, struct plane_http_response *response)
{
	struct status_stream *status = PLANE_NEW(struct status_stream);
	status->controller = controller;
	(void)plane_text_copy(status->backend, sizeof(status->backend), backend); /* it exists */
	status->last_status = after_status;
	response->content_type = "text/event-stream";
	plane_buffer_add_text(&response->extra_headers, "Cache-Control: no-cache\r\n");
	response->start_stream = on_start;
	response->start_data = status;
}
