/* Acknowledgements of a drone's events: many are made durable by one sync of the store, beside the
 * handling of what comes next. */
#include "controller/drone_internal.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"

/* Nobody waits for an acknowledgement, but a starting backend waits for the disk. */
#define SYNC_AFTER_MS 20
#define RETRY_AFTER_MS 1000

struct sync_job {
	struct plane_http_job work; /* first: cast back */
	struct plane_controller *controller;
	int64_t node_id;
	int64_t *events;
	size_t count;
	bool is_failed;
};

static void sync_after(struct plane_controller *controller, uint64_t delay_ms);

static void run_sync(struct plane_http_job *work)
{
	struct sync_job *job = (struct sync_job *)work;
	struct plane_error err = { 0 };
	job->is_failed = plane_store_sync(job->controller->store, &err) < 0;
	if (job->is_failed)
		plane_error("acknowledge events: %s", err.message);
}

static void acknowledge(struct plane_drone_session *drone, int64_t event_id)
{
	struct plane_drone_order order = { .kind = PLANE_ORDER_ACK_EVENT, .event_id = event_id };
	plane_node_session_send(&drone->base, plane_drone_order_write(&order));
}

static void keep(struct plane_drone_session *drone, int64_t event_id)
{
	drone->unacked_events = plane_realloc(
		drone->unacked_events, (drone->unacked_count + 1) * sizeof(*drone->unacked_events));
	drone->unacked_events[drone->unacked_count++] = event_id;
}

/* A drone that has connected anew meanwhile may hear of events of before: they are stored. */
static void after_sync(struct plane_http_job *work)
{
	struct sync_job *job = (struct sync_job *)work;
	struct plane_drone_session *drone = plane_drone_session_find(job->controller, job->node_id);
	if (drone) {
		drone->is_syncing = false;
		/* a drone sends no more than so many that are not acknowledged: none is left out */
		for (size_t i = 0; i < job->count; i++)
			if (job->is_failed)
				keep(drone, job->events[i]);
			else
				acknowledge(drone, job->events[i]);
		if (drone->unacked_count)
			sync_after(
				job->controller, job->is_failed ? RETRY_AFTER_MS : SYNC_AFTER_MS);
	}
	free(job->events);
	free(job);
}

static void start_sync(struct plane_drone_session *drone)
{
	struct sync_job *job = PLANE_NEW(struct sync_job);
	job->work = (struct plane_http_job){ .run = run_sync, .done = after_sync };
	job->controller = drone->base.controller;
	job->node_id = drone->base.node_id;
	job->events = STEAL(drone->unacked_events);
	job->count = drone->unacked_count;
	drone->unacked_count = 0;
	drone->is_syncing = true;
	plane_http_pool_submit(job->controller->workers, &job->work);
}

static void on_timer(uv_timer_t *timer)
{
	struct plane_controller *controller = timer->data;
	struct plane_drone_session *drone, *next;
	HASH_ITER (hh, controller->drone_sessions, drone, next)
		if (drone->base.phase == PLANE_SESSION_SERVING && drone->unacked_count &&
			!drone->is_syncing)
			start_sync(drone);
}

static void sync_after(struct plane_controller *controller, uint64_t delay_ms)
{
	if (!controller->is_stopping && !uv_is_active((uv_handle_t *)&controller->acks_timer))
		(void)uv_timer_start(&controller->acks_timer, on_timer, delay_ms, 0); /* succeeds */
}

void plane_drone_acks_add(struct plane_drone_session *drone, int64_t event_id)
{
	keep(drone, event_id);
	if (!drone->is_syncing)
		sync_after(drone->base.controller, SYNC_AFTER_MS);
}

void plane_drone_acks_finish(struct plane_drone_session *drone)
{
	free(STEAL(drone->unacked_events));
	drone->unacked_count = 0;
}
