/* Actions of a drone: pushed at once, sent again with every tick (five seconds) until they are
 * acked, and never twice in quick succession. */
#include "controller/drone_internal.h"

#include <string.h>

#include <uthash.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "controller/sweep.h"

/* A little less than the tick, so that jitter of the timer does not make it ten seconds. */
#define SEND_AGAIN_AFTER_MS 4500
/* Looked at in each round; many more than a healthy drone leaves unacked. */
#define PENDING_MAX 1000

struct plane_sent_action {
	char action_id[PLANE_NAME_SIZE];
	int64_t sent_at_ms;
	bool is_pending; /* seen in the store in this round */
	UT_hash_handle hh;
};

static struct plane_sent_action *find_sent(struct plane_drone_session *drone, const char *action_id)
{
	struct plane_sent_action *sent = NULL;
	HASH_FIND_STR(drone->sent, action_id, sent);
	return sent;
}

static void send_action(
	struct plane_drone_session *drone, const char *action_id, const char *message)
{
	int64_t now_ms = plane_clock_boot_ms();
	if (!plane_drone_session_has_lease(drone))
		return; /* sent when it has */
	struct plane_sent_action *sent = find_sent(drone, action_id);
	if (!sent) {
		sent = PLANE_NEW(struct plane_sent_action);
		(void)plane_text_copy(sent->action_id, sizeof(sent->action_id), action_id);
		HASH_ADD_STR(drone->sent, action_id, sent);
	} else if (now_ms - sent->sent_at_ms < SEND_AGAIN_AFTER_MS) {
		sent->is_pending = true;
		return;
	}
	sent->sent_at_ms = now_ms;
	sent->is_pending = true;
	plane_metrics_add(&drone->base.controller->metrics, PLANE_METRIC_ACTIONS_SENT, 1);
	plane_node_session_send_text(&drone->base, message);
}

/* What was stored before the drone's registration was may be forgotten by the store that took the
 * registration, when that is another one now; and the drone has said already what it runs. */
static bool may_be_forgotten(
	const struct plane_drone_session *drone, const struct plane_hub_event *event)
{
	return event->asked_at_ms <= drone->base.registered_at_ms;
}

void plane_drone_session_push(
	struct plane_controller *controller, const struct plane_hub_event *event)
{
	struct plane_drone_session *drone = plane_drone_session_find(controller, event->drone_id);
	if (!drone)
		return;
	if (!may_be_forgotten(drone, event)) {
		send_action(drone, event->action_id, event->message);
	} else if (drone->is_tick_running) {
		drone->is_tick_wanted = true;
	} else {
		plane_drone_actions_tick(drone);
	}
}

void plane_drone_actions_ack(struct plane_drone_session *drone, const char *action_id)
{
	struct plane_sent_action *sent = find_sent(drone, action_id);
	if (sent) {
		HASH_DEL(drone->sent, sent);
		free(sent);
	}
}

static void forget_settled(struct plane_drone_session *drone, int64_t before_ms)
{
	struct plane_sent_action *sent, *next;
	HASH_ITER (hh, drone->sent, sent, next) {
		if (!sent->is_pending && sent->sent_at_ms < before_ms) {
			HASH_DEL(drone->sent, sent);
			free(sent);
		}
	}
}

void plane_drone_actions_finish(struct plane_drone_session *drone)
{
	struct plane_sent_action *sent, *next;
	HASH_ITER (hh, drone->sent, sent, next) {
		HASH_DEL(drone->sent, sent);
		free(sent);
	}
}

struct tick_job {
	struct plane_job base;
	struct plane_drone_session *drone;
	int64_t started_at_ms;
	bool has_more_to_sweep, is_failed;
	struct plane_store_actions pending;
};

static enum plane_job_result run_tick(struct plane_job *base)
{
	struct tick_job *job = (struct tick_job *)base;
	struct plane_node_session *session = &job->drone->base;
	struct plane_error err = { 0 };
	if (atomic_load(&session->is_gone))
		return PLANE_JOB_DONE;
	job->has_more_to_sweep = plane_sweep_drone(session->controller, session->node_id);
	if (job->has_more_to_sweep)
		return PLANE_JOB_DONE; /* what was ordered just now is on its way */
	job->is_failed = plane_store_actions_pending(session->controller->store, session->node_id,
				 PENDING_MAX, &job->pending, &err) < 0;
	if (job->is_failed)
		plane_warn("pending actions of %s: %s", session->name, err.message);
	return PLANE_JOB_DONE; /* the next tick tries again */
}

static void send_pending(struct plane_drone_session *drone, const struct tick_job *job)
{
	struct plane_sent_action *sent, *next;
	HASH_ITER (hh, drone->sent, sent, next)
		sent->is_pending = false;
	for (size_t i = 0; i < job->pending.count; i++)
		send_action(
			drone, job->pending.entries[i].action_id, job->pending.entries[i].message);
	if (job->pending.count < PENDING_MAX)
		forget_settled(drone, job->started_at_ms);
}

static void after_tick(struct plane_job *base, bool is_cancelled)
{
	struct tick_job *job = (struct tick_job *)base;
	struct plane_drone_session *drone = job->drone;
	drone->is_tick_running = false;
	bool is_serving = !is_cancelled && drone->base.phase == PLANE_SESSION_SERVING;
	if (is_serving && !job->has_more_to_sweep && !job->is_failed)
		send_pending(drone, job);
	if (is_serving && (job->has_more_to_sweep || drone->is_tick_wanted))
		plane_drone_actions_tick(drone); /* behind what came meanwhile */
	plane_store_actions_finish(&job->pending);
	free(job);
}

void plane_drone_actions_tick(struct plane_drone_session *drone)
{
	if (drone->is_tick_running)
		return; /* the store is slow; or the next tick is near */
	struct tick_job *job = PLANE_NEW(struct tick_job);
	job->base.run = run_tick;
	job->base.done = after_tick;
	job->drone = drone;
	job->started_at_ms = plane_clock_boot_ms();
	drone->is_tick_running = true;
	drone->is_tick_wanted = false;
	(void)plane_node_session_submit(&drone->base, &job->base); /* closes when it cannot */
}
