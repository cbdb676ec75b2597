/* Which state follows which. */
#include "cmocka_all.h"

#include <signal.h>
#include <string.h>

#include "drone/lifecycle.h"

static enum plane_life_effect advance(struct plane_life *life, struct plane_life_event event)
{
	enum plane_life_effect effect;
	(void)plane_life_advance(life, &event, &effect);
	return effect;
}

#define EVENT(...) ((struct plane_life_event){ __VA_ARGS__ })
#define TERMINATE(how)                                                                             \
	EVENT(.kind = PLANE_LIFE_TERMINATE, .termination = (how), .reason = PLANE_REASON_EXTERNAL)

static struct plane_life scheduled(void)
{
	return (struct plane_life){ .state = { .status = PLANE_SCHEDULED } };
}

static struct plane_life ready(void)
{
	struct plane_life life = scheduled();
	(void)advance(&life, EVENT(.kind = PLANE_LIFE_BEGIN));
	(void)advance(&life, EVENT(.kind = PLANE_LIFE_PREPARED));
	(void)advance(&life, EVENT(.kind = PLANE_LIFE_SPAWNED, .address = "10.0.0.2:8080"));
	(void)advance(&life, EVENT(.kind = PLANE_LIFE_READY));
	return life;
}

static void a_backend_goes_through_all_states(void **state)
{
	struct plane_life life = scheduled();
	(void)state;
	assert_int_equal(advance(&life, EVENT(.kind = PLANE_LIFE_BEGIN)), PLANE_EFFECT_PREPARE);
	assert_int_equal(life.state.status, PLANE_LOADING);
	assert_int_equal(advance(&life, EVENT(.kind = PLANE_LIFE_PREPARED)), PLANE_EFFECT_SPAWN);
	assert_int_equal(life.state.status, PLANE_STARTING);
	assert_int_equal(
		advance(&life, EVENT(.kind = PLANE_LIFE_SPAWNED, .address = "10.0.0.2:8080")),
		PLANE_EFFECT_WAIT_READY);
	assert_int_equal(life.state.status, PLANE_WAITING);
	(void)advance(&life, EVENT(.kind = PLANE_LIFE_READY));
	assert_int_equal(life.state.status, PLANE_READY);
	assert_string_equal(life.state.address, "10.0.0.2:8080");
	assert_int_equal(advance(&life, TERMINATE(PLANE_KIND_SOFT)), PLANE_EFFECT_SIGNAL);
	assert_int_equal(life.state.last_status, PLANE_READY);
	struct plane_runtime_exit exit = { .is_known = true, .exit_code = 3 };
	(void)advance(&life, EVENT(.kind = PLANE_LIFE_EXITED, .exit = &exit));
	assert_int_equal(life.state.status, PLANE_TERMINATED);
	assert_int_equal(life.state.termination, PLANE_KIND_SOFT);
	assert_int_equal(life.state.reason, PLANE_REASON_EXTERNAL);
	assert_int_equal(life.state.exit_code, 3);
}

static void a_termination_before_the_start_starts_nothing(void **state)
{
	struct plane_life life = scheduled();
	(void)state;
	(void)advance(&life, EVENT(.kind = PLANE_LIFE_BEGIN));
	assert_int_equal(advance(&life, TERMINATE(PLANE_KIND_SOFT)), PLANE_EFFECT_NONE);
	assert_int_equal(advance(&life, EVENT(.kind = PLANE_LIFE_PREPARED)), PLANE_EFFECT_NONE);
	assert_int_equal(life.state.status, PLANE_TERMINATED);
}

static void a_termination_while_starting_ends_it_once_it_runs(void **state)
{
	struct plane_life life = scheduled();
	(void)state;
	(void)advance(&life, EVENT(.kind = PLANE_LIFE_BEGIN));
	(void)advance(&life, EVENT(.kind = PLANE_LIFE_PREPARED));
	assert_int_equal(advance(&life, TERMINATE(PLANE_KIND_HARD)), PLANE_EFFECT_NONE);
	assert_int_equal(
		advance(&life, EVENT(.kind = PLANE_LIFE_SPAWNED, .address = "10.0.0.2:8080")),
		PLANE_EFFECT_KILL);
	assert_int_equal(life.state.status, PLANE_HARD_TERMINATING);
}

static void hard_follows_soft_but_soft_never_follows_hard(void **state)
{
	struct plane_life life = ready();
	(void)state;
	(void)advance(&life, TERMINATE(PLANE_KIND_SOFT));
	assert_int_equal(advance(&life, TERMINATE(PLANE_KIND_SOFT)), PLANE_EFFECT_NONE);
	assert_int_equal(advance(&life, TERMINATE(PLANE_KIND_HARD)), PLANE_EFFECT_KILL);
	assert_int_equal(life.state.last_status, PLANE_READY);
	assert_int_equal(advance(&life, TERMINATE(PLANE_KIND_SOFT)), PLANE_EFFECT_NONE);
	assert_int_equal(life.state.status, PLANE_HARD_TERMINATING);
}

static void grace_that_is_over_kills_and_stays_soft(void **state)
{
	struct plane_life life = ready();
	(void)state;
	(void)advance(&life, TERMINATE(PLANE_KIND_SOFT));
	assert_int_equal(advance(&life, EVENT(.kind = PLANE_LIFE_GRACE_OVER)), PLANE_EFFECT_KILL);
	assert_int_equal(life.state.status, PLANE_TERMINATING);
}

static void ends_are_told_apart(void **state)
{
	struct plane_life crashed = ready(), oom = ready(), expired = ready(), unseen = ready();
	struct plane_runtime_exit crash = { true, 128 + SIGSEGV, SIGSEGV, false, false };
	struct plane_runtime_exit memory = { true, 128 + SIGKILL, SIGKILL, true, false };
	struct plane_runtime_exit lease = { true, 128 + SIGKILL, SIGKILL, false, true };
	struct plane_runtime_exit nobody = { .is_known = false };
	(void)state;
	(void)advance(&crashed, EVENT(.kind = PLANE_LIFE_EXITED, .exit = &crash));
	assert_non_null(strstr(crashed.state.message, "signal 11"));
	assert_int_equal(crashed.state.exit_code, 139);
	(void)advance(&oom, EVENT(.kind = PLANE_LIFE_EXITED, .exit = &memory));
	assert_true(oom.state.was_oom_killed);
	assert_non_null(strstr(oom.state.message, "out of memory"));
	(void)advance(&expired, EVENT(.kind = PLANE_LIFE_EXITED, .exit = &lease));
	assert_int_equal(expired.state.reason, PLANE_REASON_KEY_EXPIRED);
	(void)advance(&unseen, EVENT(.kind = PLANE_LIFE_EXITED, .exit = &nobody));
	assert_false(unseen.state.has_exit_code);
}

static void a_backend_that_does_not_answer_is_killed_with_the_reason(void **state)
{
	struct plane_life life = scheduled();
	(void)state;
	(void)advance(&life, EVENT(.kind = PLANE_LIFE_BEGIN));
	(void)advance(&life, EVENT(.kind = PLANE_LIFE_PREPARED));
	(void)advance(&life, EVENT(.kind = PLANE_LIFE_SPAWNED, .address = "10.0.0.2:8080"));
	assert_int_equal(
		advance(&life, EVENT(.kind = PLANE_LIFE_NOT_READY, .message = "no answer")),
		PLANE_EFFECT_KILL);
	assert_int_equal(life.state.reason, PLANE_REASON_STARTUP_TIMEOUT);
	assert_string_equal(life.state.message, "no answer");
}

static void nothing_moves_a_terminated_backend(void **state)
{
	struct plane_life life = ready();
	struct plane_runtime_exit exit = { .is_known = true };
	(void)state;
	(void)advance(&life, EVENT(.kind = PLANE_LIFE_EXITED, .exit = &exit));
	for (int kind = PLANE_LIFE_BEGIN; kind <= PLANE_LIFE_EXITED; kind++) {
		struct plane_life_event event = { .kind = kind,
			.exit = &exit,
			.termination = PLANE_KIND_HARD,
			.address = "10.0.0.2:8080" };
		assert_int_equal(advance(&life, event), PLANE_EFFECT_NONE);
		assert_int_equal(life.state.status, PLANE_TERMINATED);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_backend_goes_through_all_states),
		cmocka_unit_test(a_termination_before_the_start_starts_nothing),
		cmocka_unit_test(a_termination_while_starting_ends_it_once_it_runs),
		cmocka_unit_test(hard_follows_soft_but_soft_never_follows_hard),
		cmocka_unit_test(grace_that_is_over_kills_and_stays_soft),
		cmocka_unit_test(ends_are_told_apart),
		cmocka_unit_test(a_backend_that_does_not_answer_is_killed_with_the_reason),
		cmocka_unit_test(nothing_moves_a_terminated_backend),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
