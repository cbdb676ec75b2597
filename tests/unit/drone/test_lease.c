/* When a lease is renewed, and when it ends a backend. */
#include "cmocka_all.h"

#include "drone/lease.h"

#define RETRY_MS 5000

static struct plane_lease granted(void)
{
	struct plane_lease lease = { 0 };
	plane_lease_grant(&lease, &(struct plane_deadlines){ 30000, 40000, 50000 });
	return lease;
}

static void steps_follow_the_deadlines(void **state)
{
	struct plane_lease lease = granted();
	(void)state;
	assert_int_equal(plane_lease_step(&lease, 29999, RETRY_MS), PLANE_LEASE_HOLD);
	assert_int_equal(plane_lease_step(&lease, 30000, RETRY_MS), PLANE_LEASE_RENEW);
	assert_int_equal(plane_lease_step(&lease, 34999, RETRY_MS), PLANE_LEASE_HOLD);
	assert_int_equal(plane_lease_step(&lease, 35000, RETRY_MS), PLANE_LEASE_RENEW);
	assert_int_equal(plane_lease_step(&lease, 40000, RETRY_MS), PLANE_LEASE_SOFT_STOP);
	assert_int_equal(plane_lease_step(&lease, 50000, RETRY_MS), PLANE_LEASE_HARD_STOP);
}

static void lease_stays_expired_if_the_clock_jumps_back(void **state)
{
	struct plane_lease lease = granted();
	(void)state;
	assert_int_equal(plane_lease_step(&lease, 50000, RETRY_MS), PLANE_LEASE_HARD_STOP);
	assert_int_equal(plane_lease_step(&lease, 10, RETRY_MS), PLANE_LEASE_HARD_STOP);
}

static void a_renewal_that_was_overtaken_shortens_nothing(void **state)
{
	struct plane_lease lease = granted();
	(void)state;
	assert_true(plane_lease_renew(&lease, &(struct plane_deadlines){ 60000, 70000, 80000 }));
	assert_false(plane_lease_renew(&lease, &(struct plane_deadlines){ 50000, 60000, 70000 }));
	assert_int_equal(plane_lease_step(&lease, 59999, RETRY_MS), PLANE_LEASE_HOLD);
}

static void a_new_connection_is_asked_at_once(void **state)
{
	struct plane_lease lease = granted();
	(void)state;
	assert_int_equal(plane_lease_step(&lease, 31000, RETRY_MS), PLANE_LEASE_RENEW);
	plane_lease_ask_again(&lease);
	assert_int_equal(plane_lease_step(&lease, 31001, RETRY_MS), PLANE_LEASE_RENEW);
}

/* ---- the drone's own ---- */

/* As the controller's constants make them: a lease of 10 s, asked for at `asked_ms`. */
static struct plane_deadlines after(int64_t asked_ms)
{
	return (struct plane_deadlines){ asked_ms + 2000, asked_ms + 6000, asked_ms + 8000 };
}

static enum plane_drone_lease_change grant(
	struct plane_drone_lease *lease, int64_t epoch, int64_t asked_ms)
{
	struct plane_deadlines deadlines = after(asked_ms);
	int64_t broken = 0;
	enum plane_drone_lease_change change =
		plane_drone_lease_answer(lease, epoch, asked_ms, &deadlines, &broken);
	assert_int_equal(broken, 0);
	return change;
}

static struct plane_drone_lease held(void)
{
	struct plane_drone_lease lease = { 0 };
	assert_true(plane_drone_lease_ask(&lease, 1000));
	assert_int_equal(grant(&lease, 5, 1000), PLANE_DRONE_LEASE_BEGUN);
	return lease;
}

static void a_drone_asks_as_often_as_the_controller_says(void **state)
{
	struct plane_drone_lease lease = { 0 };
	(void)state;
	assert_true(plane_drone_lease_ask(&lease, 1000));
	assert_false(plane_drone_lease_ask(&lease, 1999));
	assert_true(plane_drone_lease_ask(&lease, 2000)); /* no answer: again */
	assert_int_equal(grant(&lease, 5, 1000), PLANE_DRONE_LEASE_BEGUN);
	assert_int_equal(lease.interval_ms, 2000);
	assert_false(plane_drone_lease_ask(&lease, 3999));
	assert_true(plane_drone_lease_ask(&lease, 4000));
	plane_drone_lease_ask_again(&lease); /* a new connection */
	assert_true(plane_drone_lease_ask(&lease, 4001));
}

static void what_was_not_answered_is_counted_from_the_first_request(void **state)
{
	struct plane_drone_lease lease = held();
	(void)state;
	assert_int_equal(plane_drone_lease_waiting_ms(&lease, 2000), 0);
	assert_true(plane_drone_lease_ask(&lease, 3000));
	assert_true(plane_drone_lease_ask(&lease, 5000));
	assert_int_equal(plane_drone_lease_waiting_ms(&lease, 5500), 2500);
	assert_int_equal(grant(&lease, 5, 3000), PLANE_DRONE_LEASE_EXTENDED);
	assert_int_equal(lease.interval_ms, 2000);
	assert_int_equal(plane_drone_lease_waiting_ms(&lease, 5500), 0);
	assert_int_equal(grant(&lease, 5, 5000), PLANE_DRONE_LEASE_EXTENDED);
	assert_int_equal(lease.interval_ms, 2000);
}

static void an_unanswered_request_makes_later_ones_no_rarer(void **state)
{
	struct plane_drone_lease lease = held();
	(void)state;
	assert_true(plane_drone_lease_ask(&lease, 3000)); /* lost */
	assert_true(plane_drone_lease_ask(&lease, 5000));
	assert_int_equal(grant(&lease, 5, 5000), PLANE_DRONE_LEASE_EXTENDED);
	assert_int_equal(lease.interval_ms, 2000);
	/* two more may be lost before the soft stop, at 11000 */
	assert_true(plane_drone_lease_ask(&lease, 7000));
	assert_true(plane_drone_lease_ask(&lease, 9000));
	assert_int_equal(plane_drone_lease_step(&lease, 10999), PLANE_LEASE_HOLD);
}

static void backends_of_a_drone_stop_by_its_own_clock(void **state)
{
	struct plane_drone_lease lease = held();
	(void)state;
	assert_int_equal(plane_drone_lease_step(&lease, 6999), PLANE_LEASE_HOLD);
	assert_true(plane_drone_lease_may_start(&lease, 5, 6999));
	assert_false(plane_drone_lease_may_start(&lease, 4, 6999));
	assert_int_equal(plane_drone_lease_step(&lease, 7000), PLANE_LEASE_SOFT_STOP);
	assert_false(plane_drone_lease_may_start(&lease, 5, 7000));
	assert_int_equal(plane_drone_lease_step(&lease, 9000), PLANE_LEASE_HARD_STOP);
	assert_int_equal(plane_drone_lease_step(&lease, 10), PLANE_LEASE_HARD_STOP);
	/* it goes on asking, with the epoch that nobody may have broken yet */
	assert_true(plane_drone_lease_ask(&lease, 9000));
	assert_int_equal(lease.epoch, 5);
	assert_int_equal(grant(&lease, 5, 9000), PLANE_DRONE_LEASE_EXTENDED);
	assert_true(plane_drone_lease_may_start(&lease, 5, 9001));
}

static void an_answer_that_was_overtaken_shortens_nothing(void **state)
{
	struct plane_drone_lease lease = held();
	(void)state;
	assert_int_equal(grant(&lease, 5, 3000), PLANE_DRONE_LEASE_EXTENDED);
	assert_int_equal(grant(&lease, 5, 2000), PLANE_DRONE_LEASE_SAME);
	assert_int_equal(plane_drone_lease_step(&lease, 8999), PLANE_LEASE_HOLD);
}

/* The first answers are of a controller whose leases last six times as long. */
static void a_later_answer_counts_also_when_it_gives_less(void **state)
{
	struct plane_drone_lease lease = { 0 };
	struct plane_deadlines longer = { 13000, 37000, 49000 };
	int64_t broken = 0;
	(void)state;
	assert_int_equal(plane_drone_lease_hard_in_ms(&lease, 1000), 0);
	assert_int_equal(plane_drone_lease_answer(&lease, 5, 1000, &longer, &broken),
		PLANE_DRONE_LEASE_BEGUN);
	assert_int_equal(plane_drone_lease_hard_in_ms(&lease, 11000), 38000);
	assert_int_equal(grant(&lease, 5, 11000), PLANE_DRONE_LEASE_EXTENDED);
	assert_int_equal(plane_drone_lease_interval_ms(&lease), 2000);
	/* a shim may not have looked since */
	assert_int_equal(plane_drone_lease_hard_in_ms(&lease, 11000), 38000);
	assert_int_equal(grant(&lease, 5, 39000), PLANE_DRONE_LEASE_EXTENDED);
	assert_int_equal(plane_drone_lease_hard_in_ms(&lease, 41000), 8000);
	assert_int_equal(grant(&lease, 5, 42000), PLANE_DRONE_LEASE_EXTENDED);
	assert_int_equal(plane_drone_lease_hard_in_ms(&lease, 42000), 8000);
	assert_int_equal(plane_drone_lease_step(&lease, 50000), PLANE_LEASE_HARD_STOP);
	assert_int_equal(plane_drone_lease_hard_in_ms(&lease, 50000), 0);
	assert_int_equal(plane_drone_lease_answer(&lease, 5, 51000, NULL, &broken),
		PLANE_DRONE_LEASE_BROKEN);
	assert_int_equal(grant(&lease, 6, 52000), PLANE_DRONE_LEASE_BEGUN);
	assert_int_equal(plane_drone_lease_hard_in_ms(&lease, 52000), 8000);
}

static void a_broken_epoch_is_over_at_once_and_never_comes_back(void **state)
{
	struct plane_drone_lease lease = held();
	int64_t broken = 0;
	(void)state;
	assert_true(plane_drone_lease_ask(&lease, 3000));
	assert_int_equal(
		plane_drone_lease_answer(&lease, 5, 3000, NULL, &broken), PLANE_DRONE_LEASE_BROKEN);
	assert_int_equal(broken, 5);
	assert_int_equal(lease.epoch, 0);
	assert_int_equal(plane_drone_lease_step(&lease, 3001), PLANE_LEASE_HARD_STOP);
	assert_true(plane_drone_lease_ask(&lease, 3001)); /* for a new one, at once */
	/* late answers about the old one, and one that is no later than it */
	assert_int_equal(grant(&lease, 5, 3000), PLANE_DRONE_LEASE_SAME);
	assert_int_equal(grant(&lease, 4, 3001), PLANE_DRONE_LEASE_SAME);
	broken = 0;
	assert_int_equal(
		plane_drone_lease_answer(&lease, 5, 3000, NULL, &broken), PLANE_DRONE_LEASE_SAME);
	assert_int_equal(grant(&lease, 7, 3001), PLANE_DRONE_LEASE_BEGUN);
	assert_int_equal(
		plane_drone_lease_answer(&lease, 5, 3000, NULL, &broken), PLANE_DRONE_LEASE_SAME);
	assert_int_equal(broken, 0);
	assert_int_equal(lease.epoch, 7);
	assert_int_equal(plane_drone_lease_step(&lease, 3002), PLANE_LEASE_HOLD);
}

static void as_long_as_there_is_none_to_be_had_it_asks_on(void **state)
{
	struct plane_drone_lease lease = { 0 };
	int64_t broken = 0;
	(void)state;
	assert_true(plane_drone_lease_ask(&lease, 1000));
	assert_int_equal(
		plane_drone_lease_answer(&lease, 0, 3000, NULL, &broken), PLANE_DRONE_LEASE_SAME);
	assert_int_equal(plane_drone_lease_waiting_ms(&lease, 1500), 0);
	assert_int_equal(plane_drone_lease_step(&lease, 1500), PLANE_LEASE_HARD_STOP);
	assert_true(plane_drone_lease_ask(&lease, 2000));
	assert_int_equal(grant(&lease, 1, 2000), PLANE_DRONE_LEASE_BEGUN);
}

static void more_room_is_told_early_but_not_while_an_answer_is_awaited(void **state)
{
	struct plane_drone_lease lease = { 0 };
	(void)state;
	assert_true(plane_drone_lease_ask(&lease, 1000));
	plane_drone_lease_ask_early(&lease, 1500, 100); /* no answer yet */
	assert_false(plane_drone_lease_ask(&lease, 1500));
	assert_int_equal(grant(&lease, 1, 1000), PLANE_DRONE_LEASE_BEGUN);
	assert_false(plane_drone_lease_ask(&lease, 1500));
	plane_drone_lease_ask_early(&lease, 1500, 501); /* too soon */
	assert_false(plane_drone_lease_ask(&lease, 1500));
	plane_drone_lease_ask_early(&lease, 1501, 501);
	assert_true(plane_drone_lease_ask(&lease, 1501));
	assert_false(plane_drone_lease_ask(&lease, 1502));
}

static void a_restarted_drone_goes_on_with_its_epoch(void **state)
{
	struct plane_drone_lease lease;
	struct plane_deadlines deadlines = after(1000);
	(void)state;
	plane_drone_lease_resume(&lease, 5, 5, &deadlines);
	assert_int_equal(plane_drone_lease_step(&lease, 2000), PLANE_LEASE_HOLD);
	assert_true(plane_drone_lease_ask(&lease, 2000));
	assert_int_equal(grant(&lease, 5, 2000), PLANE_DRONE_LEASE_EXTENDED);
	/* after a reboot nobody knows until when: it is over until it is renewed */
	plane_drone_lease_resume(&lease, 5, 5, &(struct plane_deadlines){ 0 });
	assert_int_equal(plane_drone_lease_step(&lease, 10), PLANE_LEASE_HARD_STOP);
	assert_true(plane_drone_lease_ask(&lease, 10));
	assert_int_equal(grant(&lease, 5, 10), PLANE_DRONE_LEASE_EXTENDED);
	assert_int_equal(plane_drone_lease_step(&lease, 11), PLANE_LEASE_HOLD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(steps_follow_the_deadlines),
		cmocka_unit_test(lease_stays_expired_if_the_clock_jumps_back),
		cmocka_unit_test(a_renewal_that_was_overtaken_shortens_nothing),
		cmocka_unit_test(a_new_connection_is_asked_at_once),
		cmocka_unit_test(a_drone_asks_as_often_as_the_controller_says),
		cmocka_unit_test(what_was_not_answered_is_counted_from_the_first_request),
		cmocka_unit_test(an_unanswered_request_makes_later_ones_no_rarer),
		cmocka_unit_test(backends_of_a_drone_stop_by_its_own_clock),
		cmocka_unit_test(an_answer_that_was_overtaken_shortens_nothing),
		cmocka_unit_test(a_later_answer_counts_also_when_it_gives_less),
		cmocka_unit_test(a_broken_epoch_is_over_at_once_and_never_comes_back),
		cmocka_unit_test(as_long_as_there_is_none_to_be_had_it_asks_on),
		cmocka_unit_test(more_room_is_told_early_but_not_while_an_answer_is_awaited),
		cmocka_unit_test(a_restarted_drone_goes_on_with_its_epoch),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
