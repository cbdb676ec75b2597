/* Supervises backends: the lifecycle's decisions, carried out. */
#include "drone/supervisor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "drone/environment.h"
#include "drone/supervisor_internal.h"
#include "model/names.h"

#define RENEW_RETRY_MS 5000
static struct backend *find(struct plane_supervisor *supervisor, const char *name)
{
	struct backend *backend = NULL;
	HASH_FIND_STR(supervisor->backends, name, backend);
	return backend;
}

/* What it asks for is reserved from here on until it has ended. */
static struct backend *add(struct plane_supervisor *supervisor, const char *name,
	const struct plane_resources *resources, int64_t fencing_token)
{
	struct backend *backend = PLANE_NEW(struct backend);
	backend->supervisor = supervisor;
	(void)plane_text_copy(backend->name, sizeof(backend->name), name); /* checked before */
	backend->life.state.status = PLANE_SCHEDULED;
	backend->resources = *resources;
	plane_capacity_take(&supervisor->capacity, resources, fencing_token);
	HASH_ADD_STR(supervisor->backends, name, backend);
	plane_supervisor_mark_restless(backend);
	return backend;
}

static void forget_plan(struct backend *backend)
{
	plane_executable_finish(&backend->executable);
	plane_environment_free(STEAL(backend->environment));
	free(STEAL(backend->key_name));
	memset(&backend->executable, 0, sizeof(backend->executable));
}

static void destroy(struct backend *backend)
{
	HASH_DEL(backend->supervisor->backends, backend);
	plane_supervisor_mark_calm(backend);
	forget_plan(backend);
	free(backend);
}

/* A backend that ended is let go once that is on record and nobody will call back. */
static void reap(struct backend *backend)
{
	struct plane_runtime *runtime = backend->supervisor->runtime;
	if (backend->life.state.status != PLANE_TERMINATED || backend->is_unrecorded)
		return;
	runtime->impl->forget(runtime, backend->name);
	if (backend->pending == 0)
		destroy(backend);
}

static void log_state(const struct backend *backend)
{
	const struct plane_backend_state *state = &backend->life.state;
	const char *reason = plane_termination_reason_text(state->reason);
	char exit_code[32] = "";
	if (state->has_exit_code)
		snprintf(exit_code, sizeof(exit_code), " exit code %d", state->exit_code);
	plane_info_backend(backend->name, "%s%s%s%s%s%s", plane_backend_status_text(state->status),
		reason ? " " : "", reason ? reason : "", exit_code, state->message[0] ? ": " : "",
		state->message);
}

static void mark_unrecorded(
	struct plane_supervisor *supervisor, const char *name, const struct plane_error *err)
{
	struct backend *backend = find(supervisor, name);
	if (!backend)
		return;
	if (!backend->is_unrecorded)
		plane_error_backend(name, "record its state: %s", err->message);
	backend->is_unrecorded = true;
	plane_supervisor_mark_restless(backend);
}

void plane_supervisor_settle(struct plane_supervisor *supervisor)
{
	const struct plane_supervisor_listener *listener = &supervisor->config.listener;
	struct plane_journal_record *records = supervisor->gathered;
	struct plane_error err = { 0 };
	size_t count = supervisor->gathered_count;
	supervisor->gathered_count = 0;
	if (count == 0)
		return;
	int result = plane_journal_record(supervisor->config.journal, records, count, &err);
	for (size_t i = 0; i < count; i++) {
		if (result < 0)
			mark_unrecorded(supervisor, records[i].backend, &err);
		else
			listener->on_event(listener->data, records[i].event_id, records[i].backend,
				&records[i].state, records[i].timestamp_ms);
	}
}

static void record(struct backend *backend)
{
	struct plane_supervisor *supervisor = backend->supervisor;
	const struct plane_supervisor_listener *listener = &supervisor->config.listener;
	struct plane_journal_record *last = &supervisor->gathered[supervisor->gathered_count++];
	*last = (struct plane_journal_record){ .state = backend->life.state,
		.timestamp_ms = plane_local_clock_now_ms(supervisor->config.clock) };
	memcpy(last->backend, backend->name, sizeof(last->backend));
	backend->is_unrecorded = false;
	if (backend->life.state.status >= PLANE_READY ||
		supervisor->gathered_count == PLANE_GATHERED_MAX)
		plane_supervisor_settle(supervisor);
	else if (supervisor->gathered_count == 1)
		listener->on_gathered(listener->data);
}

static void step(struct backend *backend, const struct plane_life_event *event);

static void fail(struct backend *backend, const struct plane_error *err)
{
	step(backend,
		&(struct plane_life_event){ .kind = PLANE_LIFE_FAILED, .message = err->message });
}

static void on_prepared(void *data, const struct plane_error *err)
{
	struct backend *backend = data;
	backend->pending--;
	if (err)
		fail(backend, err);
	else
		step(backend, &(struct plane_life_event){ .kind = PLANE_LIFE_PREPARED });
}

static void on_spawned(void *data, const char *address, const struct plane_error *err)
{
	struct backend *backend = data;
	backend->pending--;
	forget_plan(backend);
	if (err)
		fail(backend, err);
	else
		step(backend, &(struct plane_life_event){
				      .kind = PLANE_LIFE_SPAWNED, .address = address });
}

static void on_ready(void *data, const struct plane_error *err)
{
	struct backend *backend = data;
	struct plane_life_event event = { .kind = PLANE_LIFE_READY };
	backend->pending--;
	if (err && err->code == -ECANCELED) { /* it ended: on_exit tells */
		reap(backend);
		return;
	}
	if (err) {
		event.kind =
			err->code == -ETIMEDOUT ? PLANE_LIFE_NOT_READY : PLANE_LIFE_PROBE_BROKE;
		event.message = err->message;
	}
	step(backend, &event);
}

static int64_t to_boot_ms(const struct plane_supervisor *supervisor, int64_t local_ms)
{
	return local_ms - supervisor->config.clock->offset_ms;
}

static void spawn_now(struct backend *backend)
{
	struct plane_supervisor *supervisor = backend->supervisor;
	struct plane_runtime_spawn spawn = { .backend = backend->name,
		.key_name = backend->key_name,
		.executable = &backend->executable,
		.env = (const char *const *)backend->environment,
		.lease = backend->epoch,
		.hard_deadline_boot_ms =
			to_boot_ms(supervisor, backend->lease.deadlines.hard_terminate_at_ms) };
	backend->pending++;
	supervisor->runtime->impl->spawn(supervisor->runtime, &spawn, on_spawned, backend);
}

static void carry_out(struct backend *backend, enum plane_life_effect effect)
{
	struct plane_supervisor *supervisor = backend->supervisor;
	struct plane_runtime *runtime = supervisor->runtime;
	switch (effect) {
	case PLANE_EFFECT_NONE:
		break;
	case PLANE_EFFECT_PREPARE:
		backend->pending++;
		runtime->impl->prepare(runtime, &backend->executable, on_prepared, backend);
		break;
	case PLANE_EFFECT_SPAWN:
		spawn_now(backend);
		break;
	case PLANE_EFFECT_WAIT_READY:
		backend->pending++;
		runtime->impl->wait_ready(runtime, backend->name,
			supervisor->config.startup_timeout_ms, on_ready, backend);
		break;
	case PLANE_EFFECT_SIGNAL:
		backend->kill_at_ms = plane_clock_boot_ms() + supervisor->config.grace_ms;
		(void)runtime->impl->terminate(runtime, backend->name, false); /* or it just ends */
		break;
	case PLANE_EFFECT_KILL:
		/* again until it is gone */
		backend->kill_at_ms = plane_clock_boot_ms() + supervisor->config.grace_ms;
		(void)runtime->impl->terminate(runtime, backend->name, true);
		break;
	}
}

static void release(struct backend *backend)
{
	struct plane_supervisor *supervisor = backend->supervisor;
	plane_capacity_give(&supervisor->capacity, &backend->resources);
	if (plane_resources_any(&backend->resources))
		supervisor->has_more_room = true;
}

static void step(struct backend *backend, const struct plane_life_event *event)
{
	enum plane_life_effect effect;
	bool is_changed = plane_life_advance(&backend->life, event, &effect);
	plane_supervisor_mark_restless(backend);
	carry_out(backend, effect); /* first: a start does not wait for the disk */
	if (is_changed && backend->life.state.status == PLANE_TERMINATED)
		release(backend);
	if (is_changed) {
		record(backend);
		log_state(backend);
	}
	reap(backend);
}

/* ---- orders ---- */

static int plan(
	struct backend *backend, const struct plane_drone_order *order, struct plane_error *err)
{
	struct plane_session session = { .backend = backend->name,
		.fencing_token = order->fencing_token,
		.key_name = order->key_name,
		.static_token = order->static_token };
	int result = plane_executable_read(order->executable, &backend->executable, err);
	if (result < 0)
		return plane_error_prefix(err, "executable");
	backend->environment = plane_environment_create(&backend->executable, &session);
	backend->key_name = plane_strdup(order->key_name);
	return 0;
}

/* Its lease is over, or soon is; or it is under an epoch that was broken: it is void. */
static bool is_too_late(struct plane_supervisor *supervisor, const struct plane_drone_order *order)
{
	int64_t now_ms = plane_local_clock_now_ms(supervisor->config.clock);
	return order->epoch ? !plane_drone_lease_may_start(
				      &supervisor->keeper.lease, order->epoch, now_ms)
			    : now_ms >= order->deadlines.soft_terminate_at_ms;
}

/* The answer that grants it has not come yet: the order comes again. */
static bool is_too_early(
	const struct plane_supervisor *supervisor, const struct plane_drone_order *order)
{
	return order->epoch > supervisor->keeper.lease.known_epoch;
}

/* `obstacle` NULL: it may begin. */
static void begin(struct backend *backend, const struct plane_drone_order *order,
	const struct plane_error *obstacle)
{
	struct plane_error err = { 0 };
	backend->epoch = order->epoch;
	plane_lease_grant(&backend->lease, &order->deadlines);
	if (is_too_late(backend->supervisor, order)) {
		step(backend, &(struct plane_life_event){ .kind = PLANE_LIFE_TERMINATE,
				      .termination = PLANE_KIND_HARD,
				      .reason = PLANE_REASON_KEY_EXPIRED });
		plane_error_set(&err, -ETIMEDOUT, "the order to start it came after its lease");
		fail(backend, &err);
	} else if (obstacle) {
		fail(backend, obstacle);
	} else if (plan(backend, order, &err) < 0) {
		fail(backend, &err);
	} else {
		step(backend, &(struct plane_life_event){ .kind = PLANE_LIFE_BEGIN });
	}
}

/* -ENOSPC when there is no room for it, or when that was said of this order before. */
static int check_room(struct plane_supervisor *supervisor, const struct plane_drone_order *order,
	struct plane_error *err)
{
	struct plane_journal *journal = supervisor->config.journal;
	char reason[sizeof(err->message)];
	bool is_refused = false;
	int result = plane_journal_has_refused(
		journal, order->action_id, reason, sizeof(reason), &is_refused, err);
	if (result < 0)
		return result;
	if (!is_refused && plane_capacity_has_room(&supervisor->capacity, &order->resources, reason,
				   sizeof(reason)))
		return 0;
	return plane_error_set(err, -ENOSPC, "%s", reason);
}

static int take_spawn(struct plane_supervisor *supervisor, const struct plane_drone_order *order,
	const struct plane_error *obstacle, struct plane_error *err)
{
	const struct plane_resources none = { 0 };
	int result = plane_journal_add(supervisor->config.journal, order, err);
	if (result == 0)
		begin(add(supervisor, order->backend, obstacle ? &none : &order->resources,
			      order->fencing_token),
			order, obstacle);
	return result;
}

/* A controller of the original does not say what the backend asks for: what its limits are. One of
 * ours always does, unless it is nothing. */
static struct plane_drone_order with_resources(const struct plane_drone_order *given)
{
	struct plane_drone_order order = *given;
	struct plane_executable limited = { 0 };
	if (order.has_resources || order.epoch)
		return order;
	/* one that cannot be read fails when it is started, with the reason */
	if (plane_executable_read(order.executable, &limited, NULL) == 0)
		order.resources = plane_resources_of_limits(&limited.limits);
	plane_executable_finish(&limited);
	return order;
}

static int refuse(struct plane_supervisor *supervisor, const struct plane_drone_order *order,
	const struct plane_error *obstacle, struct plane_error *err)
{
	int result = plane_journal_refuse(supervisor->config.journal, order->action_id,
		obstacle->message, plane_local_clock_now_ms(supervisor->config.clock), err);
	if (result < 0)
		return result;
	*err = *obstacle;
	return -ENOSPC;
}

int plane_supervisor_spawn(struct plane_supervisor *supervisor,
	const struct plane_drone_order *given, bool may_refuse, struct plane_error *err)
{
	bool is_known = false;
	struct plane_error obstacle = { 0 };
	int result = plane_name_check(given->backend, NULL, err);
	if (result < 0) {
		plane_warn("refused a backend: %s", err->message);
		return result;
	}
	if (find(supervisor, given->backend))
		return 0;
	result = plane_journal_knows(supervisor->config.journal, given->backend, &is_known, err);
	if (result < 0 || is_known)
		return result;
	if (is_too_early(supervisor, given))
		return plane_error_set(err, -EAGAIN,
			"it is under lease %lld, which is not known yet", (long long)given->epoch);
	struct plane_drone_order order = with_resources(given);
	result = check_room(supervisor, &order, &obstacle);
	if (result == 0)
		return take_spawn(supervisor, &order, NULL, err);
	if (result == -ENOSPC)
		return may_refuse ? refuse(supervisor, &order, &obstacle, err)
				  : take_spawn(supervisor, &order, &obstacle, err);
	*err = obstacle;
	return result;
}

/* A backend that is not here: the controller is told how it ended, once more when it was told that
 * before, for its store may have lost it; or that it is lost. */
static int report_absent(
	struct plane_supervisor *supervisor, const char *name, struct plane_error *err)
{
	bool is_known = false;
	const struct plane_supervisor_listener *listener = &supervisor->config.listener;
	struct plane_journal_record last = { .state = { .status = PLANE_TERMINATED,
						     .last_status = PLANE_READY,
						     .reason = PLANE_REASON_LOST },
		.timestamp_ms = plane_local_clock_now_ms(supervisor->config.clock) };
	int result =
		plane_journal_find(supervisor->config.journal, name, &is_known, &last.state, err);
	if (result < 0)
		return result;
	if (is_known && last.state.status != PLANE_TERMINATED)
		return 0; /* its end is being recorded */
	if (!plane_text_copy(last.backend, sizeof(last.backend), name))
		return plane_error_set(err, -EINVAL, "backend name too long");
	result = plane_journal_record(supervisor->config.journal, &last, 1, err);
	if (result == 0)
		listener->on_event(
			listener->data, last.event_id, name, &last.state, last.timestamp_ms);
	return result;
}

int plane_supervisor_terminate(struct plane_supervisor *supervisor,
	const struct plane_drone_order *order, struct plane_error *err)
{
	struct backend *backend = find(supervisor, order->backend);
	if (!backend)
		return report_absent(supervisor, order->backend, err);
	step(backend, &(struct plane_life_event){ .kind = PLANE_LIFE_TERMINATE,
			      .termination = order->termination,
			      .reason = order->reason });
	return 0;
}

void plane_supervisor_renewed(struct plane_supervisor *supervisor, const char *name,
	const struct plane_deadlines *deadlines)
{
	struct backend *backend = find(supervisor, name);
	struct plane_runtime *runtime = supervisor->runtime;
	if (backend && !backend->epoch && plane_lease_renew(&backend->lease, deadlines))
		runtime->impl->set_deadline(
			runtime, name, to_boot_ms(supervisor, deadlines->hard_terminate_at_ms));
}

bool plane_supervisor_has(struct plane_supervisor *supervisor, const char *name)
{
	const struct backend *backend = find(supervisor, name);
	return backend && backend->life.state.status != PLANE_TERMINATED;
}

void plane_supervisor_list(struct plane_supervisor *supervisor,
	void (*each)(void *data, const char *backend, int64_t epoch), void *data)
{
	struct backend *backend, *next;
	HASH_ITER (hh, supervisor->backends, backend, next)
		if (backend->life.state.status != PLANE_TERMINATED)
			each(data, backend->name, backend->epoch);
}

void plane_supervisor_disown(struct plane_supervisor *supervisor, const char *name)
{
	struct backend *backend = find(supervisor, name);
	if (!backend || backend->life.state.status == PLANE_TERMINATED)
		return;
	plane_warn_backend(name, "the controller does not know it any more: it is ended");
	step(backend, &(struct plane_life_event){ .kind = PLANE_LIFE_TERMINATE,
			      .termination = PLANE_KIND_HARD,
			      .reason = PLANE_REASON_LOST });
}

void plane_supervisor_ask_again(struct plane_supervisor *supervisor)
{
	struct backend *backend, *next;
	HASH_ITER (hh, supervisor->backends, backend, next)
		plane_lease_ask_again(&backend->lease);
	plane_drone_lease_ask_again(&supervisor->keeper.lease);
}

/* ---- time ---- */

static void expire(struct backend *backend, enum plane_termination_kind kind)
{
	step(backend, &(struct plane_life_event){ .kind = PLANE_LIFE_TERMINATE,
			      .termination = kind,
			      .reason = PLANE_REASON_KEY_EXPIRED });
}

static enum plane_lease_step lease_step(struct backend *backend, int64_t now_ms)
{
	struct plane_drone_lease *shared = &backend->supervisor->keeper.lease;
	if (!backend->epoch)
		return plane_lease_step(&backend->lease, now_ms, RENEW_RETRY_MS);
	return backend->epoch == shared->epoch ? plane_drone_lease_step(shared, now_ms)
					       : PLANE_LEASE_HARD_STOP;
}

static void check_lease(struct backend *backend, int64_t now_ms)
{
	const struct plane_supervisor_listener *listener = &backend->supervisor->config.listener;
	switch (lease_step(backend, now_ms)) {
	case PLANE_LEASE_HOLD:
		break;
	case PLANE_LEASE_RENEW:
		listener->on_renew(listener->data, backend->name);
		break;
	case PLANE_LEASE_SOFT_STOP:
		expire(backend, PLANE_KIND_SOFT);
		break;
	case PLANE_LEASE_HARD_STOP:
		expire(backend, PLANE_KIND_HARD);
		break;
	}
}

static void check_grace(struct backend *backend)
{
	if (!backend->kill_at_ms || plane_clock_boot_ms() < backend->kill_at_ms)
		return;
	if (backend->life.state.status == PLANE_TERMINATING)
		step(backend, &(struct plane_life_event){ .kind = PLANE_LIFE_GRACE_OVER });
	else if (backend->life.is_running)
		carry_out(backend, PLANE_EFFECT_KILL);
}

/* Nothing is to be done about it as time goes by, unless its lease ends, which is the drone's. */
static bool is_calm(const struct backend *backend)
{
	return backend->epoch && backend->epoch == backend->supervisor->keeper.lease.epoch &&
	       !backend->is_unrecorded && backend->life.state.status < PLANE_TERMINATING;
}

static void look_at(struct backend *backend, int64_t now_ms)
{
	if (backend->is_unrecorded) {
		record(backend);
		reap(backend);
	} else if (backend->life.state.status == PLANE_TERMINATED) {
		reap(backend);
	} else {
		check_grace(backend); /* neither frees it */
		check_lease(backend, now_ms);
	}
}

/* What a drone does four times a second must not grow with its backends. */
void plane_supervisor_tick(struct plane_supervisor *supervisor)
{
	struct backend *backend, *next;
	int64_t now_ms = plane_local_clock_now_ms(supervisor->config.clock);
	if (plane_drone_lease_step(&supervisor->keeper.lease, now_ms) != PLANE_LEASE_HOLD) {
		HASH_ITER (hh, supervisor->backends, backend, next)
			look_at(backend, now_ms);
		return;
	}
	for (backend = supervisor->restless; backend; backend = next) {
		next = backend->restless_next;
		if (is_calm(backend))
			plane_supervisor_mark_calm(backend);
		else
			look_at(backend, now_ms);
	}
}

void plane_supervisor_end_all(struct plane_supervisor *supervisor)
{
	struct backend *backend, *next;
	HASH_ITER (hh, supervisor->backends, backend, next)
		step(backend, &(struct plane_life_event){ .kind = PLANE_LIFE_TERMINATE,
				      .termination = PLANE_KIND_HARD,
				      .reason = PLANE_REASON_EXTERNAL,
				      .message = "its drone was stopped for good" });
}

void plane_supervisor_all_ended(struct plane_supervisor *supervisor)
{
	struct plane_runtime_exit killed = { .is_known = false };
	struct backend *backend, *next;
	HASH_ITER (hh, supervisor->backends, backend, next)
		step(backend,
			&(struct plane_life_event){ .kind = PLANE_LIFE_EXITED, .exit = &killed });
}

/* ---- what a former drone left ---- */

/* The journal has the lease as it was first granted; how long it is now, the runtime knows. */
static void resume_lease(struct backend *backend, int64_t hard_deadline_boot_ms)
{
	struct plane_deadlines *deadlines = &backend->lease.deadlines;
	int64_t hard_ms = hard_deadline_boot_ms + backend->supervisor->config.clock->offset_ms;
	int64_t margin_ms = deadlines->hard_terminate_at_ms - deadlines->soft_terminate_at_ms;
	deadlines->soft_terminate_at_ms = hard_ms - margin_ms;
	deadlines->hard_terminate_at_ms = hard_ms;
	deadlines->renew_at_ms = 0; /* at once: nobody knows what was asked */
}

static void resume(struct backend *backend, const struct plane_runtime_found *found)
{
	backend->life.is_running = true;
	if (!backend->epoch)
		resume_lease(backend, found->hard_deadline_boot_ms);
	if (backend->life.state.status < PLANE_WAITING) {
		step(backend, &(struct plane_life_event){
				      .kind = PLANE_LIFE_SPAWNED, .address = found->address });
		return;
	}
	plane_info_backend(backend->name, "adopted: %s at %s",
		plane_backend_status_text(backend->life.state.status), found->address);
	carry_out(backend, plane_life_resume(&backend->life.state));
}

static void on_found(void *data, const struct plane_runtime_found *found)
{
	struct plane_supervisor *supervisor = data;
	struct backend *backend = find(supervisor, found->backend);
	if (!backend) {
		/* without its lease it must not run; its end is reported as any other */
		plane_warn_backend(found->backend, "is not in the journal: it is ended");
		backend = add(supervisor, found->backend, &(struct plane_resources){ 0 }, 0);
		backend->life.state =
			(struct plane_backend_state){ .status = PLANE_HARD_TERMINATING,
				.last_status = PLANE_READY,
				.termination = PLANE_KIND_HARD,
				.reason = PLANE_REASON_LOST };
	}
	if (found->is_running)
		resume(backend, found);
	else
		step(backend, &(struct plane_life_event){
				      .kind = PLANE_LIFE_EXITED, .exit = &found->exit });
}

static int load_journal(struct plane_supervisor *supervisor, struct plane_error *err)
{
	struct plane_journal_backend *list = NULL;
	int count = 0;
	int result = plane_journal_backends(supervisor->config.journal, &list, &count, err);
	if (result < 0)
		return plane_error_prefix(err, "read the drone's journal");
	for (int i = 0; i < count; i++) {
		struct backend *backend =
			add(supervisor, list[i].name, &list[i].resources, list[i].fencing_token);
		backend->life.state = list[i].state;
		backend->epoch = list[i].epoch;
		plane_lease_grant(&backend->lease, &list[i].deadlines);
		free(list[i].name);
	}
	free(list);
	return 0;
}

/* In the journal, but not in the runtime: it was never started, or the machine was. */
static void end_missing(struct plane_supervisor *supervisor)
{
	struct plane_runtime_exit unseen = { .is_known = false };
	struct backend *backend, *next;
	HASH_ITER (hh, supervisor->backends, backend, next)
		if (!backend->life.is_running && backend->pending == 0)
			step(backend, &(struct plane_life_event){
					      .kind = PLANE_LIFE_EXITED, .exit = &unseen });
}

int plane_supervisor_start(
	struct plane_supervisor *supervisor, struct plane_runtime *runtime, struct plane_error *err)
{
	supervisor->runtime = runtime;
	plane_supervisor_measure(supervisor);
	int result = plane_lease_keeper_open(&supervisor->keeper, supervisor->config.journal,
		supervisor->config.clock, runtime, err);
	if (result == 0)
		result = load_journal(supervisor, err);
	if (result == 0)
		result = runtime->impl->adopt(runtime, on_found, supervisor, err);
	if (result == 0)
		end_missing(supervisor);
	return result;
}

static void on_backend_exit(void *data, const char *name, const struct plane_runtime_exit *exit)
{
	struct backend *backend = find(data, name);
	if (backend)
		step(backend,
			&(struct plane_life_event){ .kind = PLANE_LIFE_EXITED, .exit = exit });
}

struct plane_runtime_listener plane_supervisor_runtime_listener(struct plane_supervisor *supervisor)
{
	return (struct plane_runtime_listener){ .data = supervisor, .on_exit = on_backend_exit };
}

struct plane_supervisor *plane_supervisor_create(const struct plane_supervisor_config *config)
{
	struct plane_supervisor *supervisor = PLANE_NEW(struct plane_supervisor);
	supervisor->config = *config;
	supervisor->capacity.config = config->capacity;
	return supervisor;
}

void plane_supervisor_destroy(struct plane_supervisor *supervisor)
{
	struct backend *backend, *next;
	if (!supervisor)
		return;
	HASH_ITER (hh, supervisor->backends, backend, next)
		destroy(backend);
	free(supervisor);
}
