/* A drone's socket: each message is handled in order, its store work off the loop thread. */
#include "controller/drone_internal.h"

#include <errno.h>
#include <string.h>

#include <uthash.h>
#include <utlist.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "controller/inventory.h"
#include "controller/lease_round.h"
#include "controller/refusal.h"

struct message_job {
	struct plane_job base;
	struct plane_drone_session *drone;
	json_t *json; /* the message borrows from it */
	struct plane_drone_message message;
	bool is_stored;  /* event or acknowledgement, together with one before it */
	bool is_refused; /* event: its address is another drone's */
	bool is_renewed; /* renewal */
};

#define TOGETHER_MAX 256 /* in one transaction */

static struct plane_controller *controller_of(const struct message_job *job)
{
	return job->drone->base.controller;
}

/* The store did not answer: again later, unless the drone is gone and will repeat it itself. */
static enum plane_job_result retry(
	const struct message_job *job, const char *what, const struct plane_error *err)
{
	const struct plane_node_session *session = &job->drone->base;
	plane_warn("%s of %s: %s", what, session->name, err->message);
	return atomic_load(&session->is_gone) ? PLANE_JOB_DONE : PLANE_JOB_RETRY;
}

static enum plane_job_result run_heartbeat(struct message_job *job)
{
	struct plane_error err = { 0 };
	if (plane_store_drone_heartbeat(controller_of(job)->store, job->drone->base.node_id,
		    job->message.local_time_ms, &err) < 0)
		plane_warn("heartbeat of %s: %s", job->drone->base.name, err.message);
	return PLANE_JOB_DONE; /* the next one is near */
}

/* This message and those of its kind that wait behind it. Between them may be what can as well be
 * done after them: no event depends on an acknowledgement or a heartbeat, nor the other way. */
static size_t gather(struct message_job *first, struct message_job *jobs[TOGETHER_MAX])
{
	size_t count = 0;
	struct plane_job *next = &first->base;
	for (; next && count < TOGETHER_MAX && next->run == first->base.run; next = next->next) {
		struct message_job *job = (struct message_job *)next;
		enum plane_drone_message_kind kind = job->message.kind;
		if (kind == first->message.kind && !job->is_stored)
			jobs[count++] = job;
		else if (kind != PLANE_DRONE_BACKEND_EVENT && kind != PLANE_DRONE_ACK_ACTION &&
			 kind != PLANE_DRONE_HEARTBEAT)
			break;
	}
	return count;
}

/* Takes out those whose address is another drone's; negative when the store is away. */
static int refuse_foreign(struct message_job **jobs, size_t *count, struct plane_error *err)
{
	size_t kept = 0;
	for (size_t i = 0; i < *count; i++) {
		struct message_job *job = jobs[i];
		int result = plane_drone_address_check(job->drone, job->message.state.address, err);
		if (result < 0 && result != -EADDRINUSE)
			return result;
		if (result == 0) {
			jobs[kept++] = job;
			continue;
		}
		plane_warn("skipping a message of %s: %s", job->drone->base.name, err->message);
		job->is_stored = job->is_refused = true;
	}
	*count = kept;
	return 0;
}

static enum plane_job_result run_event(struct message_job *job)
{
	struct message_job *jobs[TOGETHER_MAX];
	struct plane_store_report reports[TOGETHER_MAX];
	struct plane_controller *controller = controller_of(job);
	struct plane_error err = { 0 };
	if (job->is_stored)
		return PLANE_JOB_DONE;
	size_t count = gather(job, jobs);
	if (refuse_foreign(jobs, &count, &err) < 0)
		return retry(job, "addresses of backends", &err);
	if (count == 0)
		return PLANE_JOB_DONE;
	for (size_t i = 0; i < count; i++)
		reports[i] = (struct plane_store_report){ .backend = jobs[i]->message.backend,
			.state = &jobs[i]->message.state };
	if (plane_store_backend_update(
		    controller->store, job->drone->base.node_id, reports, count, &err) < 0)
		return retry(job, "backend events", &err);
	for (size_t i = 0; i < count; i++) {
		jobs[i]->is_stored = true;
		if (reports[i].is_changed)
			plane_hub_publish_state(controller->hub, reports[i].backend,
				reports[i].state, reports[i].time_ms);
	}
	for (size_t i = 0; i < count; i++)
		if (reports[i].is_changed)
			plane_info_backend(reports[i].backend, "%s",
				plane_backend_status_text(reports[i].state->status));
	return PLANE_JOB_DONE;
}

static enum plane_job_result run_ack(struct message_job *job)
{
	struct message_job *jobs[TOGETHER_MAX];
	const char *action_ids[TOGETHER_MAX] = { NULL };
	struct plane_error err = { 0 };
	if (job->is_stored)
		return PLANE_JOB_DONE;
	size_t count = gather(job, jobs);
	for (size_t i = 0; i < count; i++)
		action_ids[i] = jobs[i]->message.action_id;
	if (plane_store_actions_ack(controller_of(job)->store, action_ids, count,
		    job->drone->base.node_id, &err) < 0)
		return retry(job, "acknowledgements", &err);
	for (size_t i = 0; i < count; i++)
		jobs[i]->is_stored = true;
	return PLANE_JOB_DONE;
}

static enum plane_job_result run_renewal(struct message_job *job)
{
	struct plane_error err = { 0 };
	if (plane_store_keys_renew(controller_of(job)->store, &job->message.backend, 1,
		    job->drone->base.node_id, controller_of(job)->config->lease.expire_ms,
		    &job->is_renewed, &err) < 0)
		return retry(job, "renewal", &err);
	return PLANE_JOB_DONE;
}

static enum plane_job_result run_refusal(struct message_job *job)
{
	const struct plane_node_session *session = &job->drone->base;
	struct plane_error err = { 0 };
	if (plane_refusal_take(session->controller, session->node_id, session->name,
		    job->message.action_id, job->message.reason, &err) < 0)
		return retry(job, "refusal", &err); /* or it comes again, with the order */
	return PLANE_JOB_DONE;
}

static enum plane_job_result run_message(struct plane_job *base)
{
	struct message_job *job = (struct message_job *)base;
	switch (job->message.kind) {
	case PLANE_DRONE_HEARTBEAT:
		return run_heartbeat(job);
	case PLANE_DRONE_BACKEND_EVENT:
		return run_event(job);
	case PLANE_DRONE_ACK_ACTION:
		return run_ack(job);
	case PLANE_DRONE_RENEW_KEY:
		return run_renewal(job);
	case PLANE_DRONE_REFUSE_ACTION:
		return run_refusal(job);
	case PLANE_DRONE_RENEW_LEASE:
	case PLANE_DRONE_INVENTORY:
	case PLANE_DRONE_BACKEND_METRICS:
	case PLANE_DRONE_METRICS_REPORT:
	case PLANE_DRONE_LOGS_CHUNK:
		break; /* never submitted */
	}
	return PLANE_JOB_DONE;
}

/* ---- leases ---- */

static void answer_renewal(struct message_job *job)
{
	struct plane_controller *controller = controller_of(job);
	if (!job->is_renewed)
		plane_warn_backend(job->message.backend,
			"renewal refused: the key is not held by %s", job->drone->base.name);
	plane_metrics_add(&controller->metrics,
		job->is_renewed ? PLANE_METRIC_RENEWALS : PLANE_METRIC_RENEWALS_REFUSED, 1);
	struct plane_drone_order order = { .kind = PLANE_ORDER_RENEW_KEY_RESPONSE,
		.backend = job->message.backend,
		.has_deadlines = job->is_renewed,
		.deadlines = plane_deadlines_after(
			&controller->config->lease, job->message.local_time_ms) };
	plane_node_session_send(&job->drone->base, plane_drone_order_write(&order));
}

bool plane_drone_session_has_lease(const struct plane_drone_session *drone)
{
	return !drone->base.has_lease || drone->lease_epoch != 0;
}

static void log_refusal(struct plane_drone_session *drone, int64_t epoch)
{
	if (epoch)
		plane_warn("%s: its lease is broken, it must end what runs under it",
			drone->base.name);
	else if (!drone->is_waiting_logged)
		plane_warn("%s: another process of this name has its lease; it gets one when that "
			   "is over",
			drone->base.name);
	drone->is_waiting_logged = epoch == 0;
}

void plane_drone_session_lease_answer(
	struct plane_drone_session *drone, int64_t epoch, const struct plane_store_renewal *renewal)
{
	struct plane_controller *controller = drone->base.controller;
	bool is_granted = renewal->result == PLANE_RENEWAL_GRANTED;
	bool is_new = is_granted && drone->lease_epoch != renewal->epoch;
	struct plane_drone_order order = { .kind = PLANE_ORDER_LEASE_RESPONSE,
		.epoch = is_granted ? renewal->epoch : epoch,
		.local_time_ms = renewal->local_time_ms,
		.has_deadlines = is_granted,
		.deadlines = plane_deadlines_after(
			&controller->config->drone_lease, renewal->local_time_ms) };
	plane_node_session_send(&drone->base, plane_drone_order_write(&order));
	plane_metrics_add(&controller->metrics,
		is_granted ? PLANE_METRIC_LEASE_RENEWALS : PLANE_METRIC_LEASE_REFUSALS, 1);
	drone->lease_epoch = is_granted ? renewal->epoch : 0;
	if (!is_granted)
		log_refusal(drone, epoch);
	if (is_new)
		plane_drone_actions_tick(drone);
}

static void free_job(struct message_job *job)
{
	json_decref(job->json);
	free(job);
}

static void after_message(struct plane_job *base, bool is_cancelled)
{
	struct message_job *job = (struct message_job *)base;
	bool is_answered = !is_cancelled && job->drone->base.phase == PLANE_SESSION_SERVING;
	if (is_answered && job->message.kind == PLANE_DRONE_BACKEND_EVENT && !job->is_refused)
		plane_drone_acks_add(job->drone, job->message.event_id);
	if (is_answered && job->message.kind == PLANE_DRONE_RENEW_KEY)
		answer_renewal(job);
	if (is_answered && (job->message.kind == PLANE_DRONE_ACK_ACTION ||
				   job->message.kind == PLANE_DRONE_REFUSE_ACTION))
		plane_drone_actions_ack(job->drone, job->message.action_id);
	free_job(job);
}

static void on_heartbeat(struct plane_drone_session *drone, int64_t local_time_ms)
{
	struct plane_clock_report report = { .local_ms = local_time_ms,
		.arrived_ms = plane_clock_boot_ms() };
	plane_drone_registry_report(drone->base.controller->drones, drone->base.node_id, &report);
}

static int read_message(struct plane_drone_session *drone, const json_t *json,
	struct plane_drone_message *message, struct plane_error *err)
{
	int result = plane_drone_message_read(json, message, err);
	if (result == 0 && message->kind == PLANE_DRONE_BACKEND_EVENT && message->state.address[0])
		result = plane_drone_address_take(drone, message->state.address, err);
	return result;
}

static const struct plane_node_role drone_role;

/* ---- what backends use ---- */

/* False when it sends what it measures unasked, or cannot. */
static bool ask_usage(struct plane_drone_session *drone)
{
	struct plane_drone_order order = { .kind = PLANE_ORDER_METRICS_REQUEST,
		.interval_ms = PLANE_USAGE_INTERVAL_MS,
		.duration_ms = PLANE_USAGE_WANTED_MS };
	if (!drone->base.has_metrics)
		return false;
	plane_node_session_send(&drone->base, plane_drone_order_write(&order));
	return true;
}

void plane_drone_sessions_ask_usage(struct plane_controller *controller)
{
	struct plane_node_session *session, *next;
	int count = 0;
	DL_FOREACH_SAFE (controller->sessions, session, next) {
		struct plane_drone_session *drone = (struct plane_drone_session *)session;
		if (session->role != &drone_role || session->phase != PLANE_SESSION_SERVING)
			continue;
		drone->is_usage_asked = ask_usage(drone);
		count += drone->is_usage_asked;
	}
	plane_usage_asked(controller->usage, count);
}

static void on_usage(struct plane_drone_session *drone, const struct plane_drone_message *message)
{
	struct plane_usage *usage = drone->base.controller->usage;
	int64_t now_ms = plane_clock_boot_ms();
	const char *backend;
	json_t *entry = NULL;
	if (message->kind == PLANE_DRONE_BACKEND_METRICS) {
		if (plane_name_check(message->backend, NULL, NULL) == 0)
			plane_usage_add(usage, drone->base.name, message->backend,
				&message->metrics, now_ms);
		return;
	}
	json_object_foreach ((json_t *)message->backends, backend, entry) {
		struct plane_backend_use use = plane_backend_use_read(entry);
		plane_usage_put(usage, drone->base.name, backend, &use, now_ms);
	}
	if (drone->is_usage_asked)
		plane_usage_answered(usage);
	drone->is_usage_asked = false;
}

static void on_message(struct plane_node_session *session, const json_t *json)
{
	struct plane_drone_session *drone = (struct plane_drone_session *)session;
	struct plane_error err = { 0 };
	struct plane_drone_message message;
	if (read_message(drone, json, &message, &err) < 0) {
		plane_warn("skipping a message of %s: %s", session->name, err.message);
		return;
	}
	if (message.kind == PLANE_DRONE_LOGS_CHUNK) {
		plane_drone_logs_on_chunk(drone, &message);
		return;
	}
	if (message.kind == PLANE_DRONE_INVENTORY) {
		plane_inventory_take(drone, json, &message);
		return;
	}
	if (message.kind == PLANE_DRONE_BACKEND_METRICS ||
		message.kind == PLANE_DRONE_METRICS_REPORT) {
		on_usage(drone, &message);
		return;
	}
	if (message.kind == PLANE_DRONE_HEARTBEAT || message.kind == PLANE_DRONE_RENEW_LEASE)
		on_heartbeat(drone, message.local_time_ms);
	if (message.kind == PLANE_DRONE_RENEW_LEASE) {
		if (message.has_resources)
			plane_drone_registry_report_resources(
				session->controller->drones, session->node_id, &message.resources);
		if (session->has_lease)
			plane_lease_renewals_add(session->controller->renewals, drone, &message);
		else
			plane_warn("skipping a message of %s: RenewLease: not in its extensions",
				session->name);
		return;
	}
	if (message.kind == PLANE_DRONE_BACKEND_EVENT)
		plane_metrics_add(&session->controller->metrics, PLANE_METRIC_EVENTS, 1);
	if (message.kind == PLANE_DRONE_REFUSE_ACTION)
		plane_metrics_add(&session->controller->metrics, PLANE_METRIC_REFUSED, 1);
	struct message_job *job = PLANE_NEW(struct message_job);
	job->base.run = run_message;
	job->base.done = after_message;
	job->drone = drone;
	job->json = json_incref((json_t *)json);
	job->message = message;
	(void)plane_node_session_submit(session, &job->base); /* closes when it cannot */
}

static void on_tick(uv_timer_t *timer)
{
	struct plane_drone_session *drone = timer->data;
	plane_drone_logs_tick(drone);
	plane_drone_actions_tick(drone);
}

static void forget_if_known(struct plane_drone_session *drone)
{
	struct plane_controller *controller = drone->base.controller;
	struct plane_drone_session *known = NULL;
	HASH_FIND(hh, controller->drone_sessions, &drone->base.node_id, sizeof(drone->base.node_id),
		known);
	if (known == drone)
		HASH_DEL(controller->drone_sessions, drone);
}

static void on_registered(struct plane_node_session *session)
{
	struct plane_drone_session *drone = (struct plane_drone_session *)session;
	struct plane_drone_session *former = NULL;
	HASH_REPLACE(hh, session->controller->drone_sessions, base.node_id,
		sizeof(session->node_id), drone, former);
	plane_metrics_add(&session->controller->metrics, PLANE_METRIC_DRONE_SESSIONS, 1);
	struct plane_drone_entry entry = { .has_logs = session->has_logs };
	/* all as long as they may be */
	(void)plane_text_copy(entry.name, sizeof(entry.name), session->name);
	(void)plane_text_copy(entry.cluster, sizeof(entry.cluster), session->cluster);
	(void)plane_text_copy(entry.pool, sizeof(entry.pool), session->pool);
	plane_drone_registry_put(session->controller->drones, session->node_id, &entry);
	if (plane_usage_is_wanted(session->controller->usage, plane_clock_boot_ms()))
		(void)ask_usage((struct plane_drone_session *)session);
	uint64_t tick_ms = (uint64_t)session->controller->config->action_tick_ms;
	(void)uv_timer_start(&session->timer, on_tick, tick_ms, tick_ms);
	plane_drone_actions_tick((struct plane_drone_session *)session);
}

void plane_drone_sessions_look(struct plane_controller *controller)
{
	struct plane_node_session *session, *next;
	DL_FOREACH_SAFE (controller->sessions, session, next) {
		if (session->role == &drone_role && session->phase == PLANE_SESSION_SERVING)
			plane_drone_actions_tick((struct plane_drone_session *)session);
	}
}

void plane_drone_sessions_renew(struct plane_controller *controller)
{
	struct plane_node_session *session;
	DL_FOREACH (controller->sessions, session) {
		if (session->role == &drone_role && session->phase == PLANE_SESSION_SERVING)
			plane_node_session_close(session);
	}
}

static void on_closed(struct plane_node_session *session)
{
	struct plane_drone_session *drone = (struct plane_drone_session *)session;
	plane_metrics_add(&session->controller->metrics, PLANE_METRIC_DRONE_SESSIONS, -1);
	forget_if_known(drone);
	if (!plane_drone_session_find(session->controller, session->node_id))
		plane_drone_registry_remove(session->controller->drones, session->node_id);
	plane_lease_renewals_forget(session->controller->renewals, drone);
	plane_drone_logs_finish(drone);
	plane_drone_actions_finish(drone);
}

static void free_session(struct plane_node_session *session)
{
	free(((struct plane_drone_session *)session)->registered_ip);
	plane_drone_actions_finish((struct plane_drone_session *)session);
	plane_drone_acks_finish((struct plane_drone_session *)session);
	free(session);
}

static const char *const extensions[] = { PLANE_EXTENSION_LEASE, PLANE_EXTENSION_INVENTORY,
	PLANE_EXTENSION_REFUSE, PLANE_EXTENSION_METRICS, NULL };

static const struct plane_node_role drone_role = {
	.kind = PLANE_NODE_DRONE,
	.check = plane_drone_addresses_take,
	.describe = plane_drone_addresses_describe,
	.check_registered = plane_drone_addresses_check,
	.extensions = extensions,
	.on_registered = on_registered,
	.on_message = on_message,
	.on_closed = on_closed,
	.free_session = free_session,
};

struct plane_node_session *plane_drone_session_create(struct plane_controller *controller,
	const char *cluster, const char *pool, const struct plane_node_caller *caller)
{
	struct plane_drone_session *drone = PLANE_NEW(struct plane_drone_session);
	plane_node_session_init(&drone->base, controller, &drone_role, cluster, caller);
	(void)plane_text_copy(drone->base.pool, sizeof(drone->base.pool), pool); /* checked */
	return &drone->base;
}

struct plane_drone_session *plane_drone_session_find(
	struct plane_controller *controller, int64_t drone_id)
{
	struct plane_drone_session *drone = NULL;
	HASH_FIND(hh, controller->drone_sessions, &drone_id, sizeof(drone_id), drone);
	/* one whose place another connection has taken is closed at once */
	return drone && drone->base.phase == PLANE_SESSION_SERVING ? drone : NULL;
}
