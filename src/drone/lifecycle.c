/* The state machine of a backend. */
#include "drone/lifecycle.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

static bool is_ending(const struct plane_life *life)
{
	return life->state.status >= PLANE_TERMINATING;
}

static enum plane_backend_status status_before_end(const struct plane_life *life)
{
	return is_ending(life) ? life->state.last_status : life->state.status;
}

static void set_message(struct plane_backend_state *state, const char *message)
{
	if (message)
		snprintf(state->message, sizeof(state->message), "%s", message); /* cut is fine */
}

static bool move(struct plane_life *life, enum plane_backend_status status, const char *address)
{
	if (life->state.status >= status)
		return false;
	life->state = (struct plane_backend_state){ .status = status };
	if (address)
		(void)plane_text_copy(life->state.address, sizeof(life->state.address), address);
	return true;
}

static bool begin_end(struct plane_life *life, enum plane_termination_kind kind,
	enum plane_termination_reason reason, const char *message)
{
	enum plane_backend_status status =
		kind == PLANE_KIND_SOFT ? PLANE_TERMINATING : PLANE_HARD_TERMINATING;
	if (life->state.status >= status)
		return false;
	struct plane_backend_state next = { .status = status,
		.last_status = status_before_end(life),
		.termination = kind,
		.reason = reason };
	set_message(&next, message);
	life->state = next;
	return true;
}

/* Terminated, with what the state before says about why. */
static bool end(struct plane_life *life, const char *message)
{
	struct plane_backend_state next = { .status = PLANE_TERMINATED,
		.last_status = status_before_end(life) };
	if (is_ending(life)) {
		next.reason = life->state.reason;
		next.termination = life->state.status == PLANE_HARD_TERMINATING ? PLANE_KIND_HARD
										: PLANE_KIND_SOFT;
		set_message(&next, life->state.message);
	}
	set_message(&next, message);
	life->state = next;
	return true;
}

static void explain_exit(struct plane_backend_state *state, const struct plane_runtime_exit *exit)
{
	if (state->message[0])
		return;
	if (exit->was_disk_hog)
		set_message(state, "ended: the drone's disk was nearly full, and it held the most");
	else if (exit->was_oom_killed)
		set_message(state, "killed by the kernel: out of memory");
	else if (!exit->is_known)
		set_message(state, "its end was not seen");
	else if (exit->signal && state->termination == PLANE_KIND_NONE)
		snprintf(state->message, sizeof(state->message), "ended by signal %d (%s)",
			exit->signal, strsignal(exit->signal));
}

static bool end_by_exit(struct plane_life *life, const struct plane_runtime_exit *exit)
{
	bool was_ending = is_ending(life);
	(void)end(life, NULL);
	struct plane_backend_state *state = &life->state;
	state->has_exit_code = exit->is_known;
	state->exit_code = exit->is_known ? exit->exit_code : 0;
	state->signal = exit->signal;
	state->was_oom_killed = exit->was_oom_killed;
	if (exit->was_lease_expired && !was_ending) {
		state->reason = PLANE_REASON_KEY_EXPIRED;
		state->termination = PLANE_KIND_HARD;
	}
	explain_exit(state, exit);
	return true;
}

static enum plane_life_effect end_effect(const struct plane_life *life)
{
	if (!life->is_running)
		return PLANE_EFFECT_NONE;
	return life->state.status == PLANE_TERMINATING ? PLANE_EFFECT_SIGNAL : PLANE_EFFECT_KILL;
}

static bool prepared(struct plane_life *life, enum plane_life_effect *effect)
{
	if (is_ending(life))
		return end(life, NULL);
	*effect = PLANE_EFFECT_SPAWN;
	return move(life, PLANE_STARTING, NULL);
}

static bool spawned(struct plane_life *life, const char *address, enum plane_life_effect *effect)
{
	life->is_running = true;
	if (is_ending(life)) {
		*effect = end_effect(life);
		return false;
	}
	*effect = PLANE_EFFECT_WAIT_READY;
	return move(life, PLANE_WAITING, address);
}

static bool ready(struct plane_life *life)
{
	char address[PLANE_ADDRESS_SIZE];
	if (life->state.status != PLANE_WAITING)
		return false;
	(void)plane_text_copy(address, sizeof(address), life->state.address);
	return move(life, PLANE_READY, address);
}

static bool terminate(struct plane_life *life, enum plane_termination_kind kind,
	enum plane_termination_reason reason, const char *message, enum plane_life_effect *effect)
{
	bool is_changed = begin_end(life, kind, reason, message);
	if (is_changed)
		*effect = end_effect(life);
	return is_changed;
}

bool plane_life_advance(struct plane_life *life, const struct plane_life_event *event,
	enum plane_life_effect *effect)
{
	*effect = PLANE_EFFECT_NONE;
	if (life->state.status == PLANE_TERMINATED)
		return false;
	switch (event->kind) {
	case PLANE_LIFE_BEGIN:
		*effect = PLANE_EFFECT_PREPARE;
		return move(life, PLANE_LOADING, NULL);
	case PLANE_LIFE_PREPARED:
		return prepared(life, effect);
	case PLANE_LIFE_SPAWNED:
		return spawned(life, event->address, effect);
	case PLANE_LIFE_FAILED:
		return end(life, event->message);
	case PLANE_LIFE_READY:
		return ready(life);
	case PLANE_LIFE_NOT_READY:
		return terminate(life, PLANE_KIND_HARD, PLANE_REASON_STARTUP_TIMEOUT,
			event->message, effect);
	case PLANE_LIFE_PROBE_BROKE:
		return terminate(
			life, PLANE_KIND_HARD, PLANE_REASON_INTERNAL_ERROR, event->message, effect);
	case PLANE_LIFE_TERMINATE:
		return terminate(life, event->termination, event->reason, event->message, effect);
	case PLANE_LIFE_GRACE_OVER:
		if (life->state.status == PLANE_TERMINATING && life->is_running)
			*effect = PLANE_EFFECT_KILL;
		return false;
	case PLANE_LIFE_EXITED:
		life->is_running = false;
		return end_by_exit(life, event->exit);
	}
	return false;
}

enum plane_life_effect plane_life_resume(const struct plane_backend_state *state)
{
	switch (state->status) {
	case PLANE_WAITING:
		return PLANE_EFFECT_WAIT_READY;
	case PLANE_TERMINATING:
		return PLANE_EFFECT_SIGNAL; /* the old drone may have died before it did */
	case PLANE_HARD_TERMINATING:
		return PLANE_EFFECT_KILL;
	default:
		return PLANE_EFFECT_NONE;
	}
}
