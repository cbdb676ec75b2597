/* controller/hub.c and controller/strand.c, on a loop of their own. */
#include "../cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "controller/hub.h"
#include "controller/strand.h"

struct fixture {
	uv_loop_t loop;
	struct plane_hub *hub;
	struct plane_http_pool *workers;
	struct plane_hub_subscription first, second;
	char seen[256];
};

static int set_up(void **state)
{
	struct fixture *fixture = PLANE_NEW(struct fixture);
	struct plane_error err;
	assert_int_equal(uv_loop_init(&fixture->loop), 0);
	fixture->hub = plane_hub_create(&fixture->loop, &err);
	assert_non_null(fixture->hub);
	fixture->workers = plane_http_pool_create(&fixture->loop, 2, &err);
	assert_non_null(fixture->workers);
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;
	plane_hub_unsubscribe(fixture->hub, &fixture->first);
	plane_hub_unsubscribe(fixture->hub, &fixture->second);
	plane_http_pool_close(fixture->workers, NULL, NULL);
	plane_hub_close(fixture->hub, NULL, NULL);
	uv_run(&fixture->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&fixture->loop), 0);
	free(fixture);
	return 0;
}

static void note(struct fixture *fixture, const char *who, const struct plane_hub_event *event)
{
	size_t used = strlen(fixture->seen);
	const char *what = "missed";
	if (event->kind == PLANE_HUB_STATE)
		what = plane_backend_status_text(event->state.status);
	else if (event->kind != PLANE_HUB_MISSED)
		what = event->kind == PLANE_HUB_ACTION ? event->message : event->user;
	snprintf(fixture->seen + used, sizeof(fixture->seen) - used, "%s:%s:%s ", who,
		event->backend, what);
}

static void on_first(void *data, const struct plane_hub_event *event)
{
	note(data, "1", event);
}

static void on_second_once(void *data, const struct plane_hub_event *event)
{
	struct fixture *fixture = data;
	note(fixture, "2", event);
	plane_hub_unsubscribe(fixture->hub, &fixture->second);
	plane_hub_unsubscribe(fixture->hub, &fixture->first);
}

static void on_all(void *data, const struct plane_hub_event *event)
{
	note(data, "all", event);
}

static void publish(struct fixture *fixture, const char *backend, enum plane_backend_status status)
{
	struct plane_backend_state state = { .status = status };
	plane_hub_publish_state(fixture->hub, backend, &state, 1);
}

static void turn(struct fixture *fixture)
{
	uv_run(&fixture->loop, UV_RUN_NOWAIT);
	uv_run(&fixture->loop, UV_RUN_NOWAIT);
}

static void events_reach_the_subscriber_of_their_backend_in_order(void **state)
{
	struct fixture *fixture = *state;
	plane_hub_subscribe(fixture->hub, &fixture->first, "a", on_first, fixture);
	publish(fixture, "a", PLANE_LOADING);
	publish(fixture, "b", PLANE_LOADING);
	publish(fixture, "a", PLANE_READY);
	turn(fixture);
	assert_string_equal(fixture->seen, "1:a:loading 1:a:ready ");
}

static void the_receiver_gets_everything_actions_too(void **state)
{
	struct fixture *fixture = *state;
	plane_hub_set_receiver(fixture->hub, on_all, fixture);
	plane_hub_subscribe(fixture->hub, &fixture->first, "a", on_first, fixture);
	plane_hub_publish_action(fixture->hub, "a", "ak-1", 7, 1, plane_strdup("{}"));
	publish(fixture, "a", PLANE_TERMINATED);
	turn(fixture);
	assert_string_equal(fixture->seen, "all:a:{} all:a:terminated 1:a:terminated ");
}

static void subscribers_may_unsubscribe_each_other_during_a_delivery(void **state)
{
	struct fixture *fixture = *state;
	plane_hub_subscribe(fixture->hub, &fixture->first, "a", on_first, fixture);
	plane_hub_subscribe(fixture->hub, &fixture->second, "a", on_second_once, fixture);
	publish(fixture, "a", PLANE_LOADING);
	publish(fixture, "a", PLANE_READY);
	turn(fixture);
	assert_string_equal(fixture->seen, "2:a:loading ");
}

static void a_wait_sees_the_end_that_came_after_it_began(void **state)
{
	struct fixture *fixture = *state;
	struct plane_hub_waiter waiter;
	assert_true(plane_hub_wait_begin(fixture->hub, &waiter, "a"));
	publish(fixture, "b", PLANE_TERMINATED);
	assert_false(plane_hub_wait(fixture->hub, &waiter, 1));
	publish(fixture, "a", PLANE_TERMINATED);
	assert_true(plane_hub_wait(fixture->hub, &waiter, 60000));
	plane_hub_wait_end(fixture->hub, &waiter);
}

static void no_more_wait_than_allowed_and_none_while_stopping(void **state)
{
	struct fixture *fixture = *state;
	struct plane_hub_waiter one, two;
	assert_true(plane_hub_wait_begin(fixture->hub, &one, "a"));
	assert_false(plane_hub_wait_begin(fixture->hub, &two, "a"));
	plane_hub_stop_waiting(fixture->hub);
	assert_false(plane_hub_wait(fixture->hub, &one, 60000));
	plane_hub_wait_end(fixture->hub, &one);
	assert_false(plane_hub_wait_begin(fixture->hub, &two, "a"));
}

static void revocations_reach_the_receiver_only(void **state)
{
	struct fixture *fixture = *state;
	plane_hub_set_receiver(fixture->hub, on_all, fixture);
	plane_hub_subscribe(fixture->hub, &fixture->first, "a", on_first, fixture);
	plane_hub_publish_revocation(fixture->hub, "a", "ada");
	turn(fixture);
	assert_string_equal(fixture->seen, "all:a:ada ");
}

static void when_events_were_missed_all_subscribers_and_waiters_are_told(void **state)
{
	struct fixture *fixture = *state;
	struct plane_hub_waiter waiter;
	plane_hub_subscribe(fixture->hub, &fixture->first, "a", on_first, fixture);
	plane_hub_subscribe(fixture->hub, &fixture->second, "b", on_second_once, fixture);
	assert_true(plane_hub_wait_begin(fixture->hub, &waiter, "c"));
	plane_hub_relay(fixture->hub, &(struct plane_hub_event){ .kind = PLANE_HUB_MISSED });
	assert_true(plane_hub_wait(fixture->hub, &waiter, 60000));
	plane_hub_wait_end(fixture->hub, &waiter);
	turn(fixture); /* the second takes both away: the order is that of no list of ours */
	assert_non_null(strstr(fixture->seen, "2::missed "));
}

static void count_published(void *data)
{
	++*(int *)data;
}

static void only_what_is_done_here_goes_to_the_outlet(void **state)
{
	struct fixture *fixture = *state;
	int count = 0;
	plane_hub_set_outlet(fixture->hub, count_published, &count);
	publish(fixture, "a", PLANE_LOADING);
	plane_hub_publish_action(fixture->hub, "a", "ak-1", 7, 1, plane_strdup("{}"));
	plane_hub_publish_revocation(fixture->hub, "a", "ada");
	assert_int_equal(count, 3);
	plane_hub_relay(fixture->hub,
		&(struct plane_hub_event){ .backend = "a", .state = { .status = PLANE_READY } });
	assert_int_equal(count, 3);
	plane_hub_set_receiver(fixture->hub, on_all, fixture);
	turn(fixture);
	assert_string_equal(fixture->seen, "all:a:loading all:a:{} all:a:ada all:a:ready ");
}

struct noting_job {
	struct plane_job base;
	struct fixture *fixture;
	int failures_left;
	char letter;
};

static enum plane_job_result run_noting(struct plane_job *base)
{
	struct noting_job *job = (struct noting_job *)base;
	return job->failures_left-- > 0 ? PLANE_JOB_RETRY : PLANE_JOB_DONE;
}

static void after_noting(struct plane_job *base, bool is_cancelled)
{
	struct noting_job *job = (struct noting_job *)base;
	size_t used = strlen(job->fixture->seen);
	snprintf(job->fixture->seen + used, sizeof(job->fixture->seen) - used, "%c%s", job->letter,
		is_cancelled ? "-" : "");
	free(job);
}

static void submit_heavy(
	struct fixture *fixture, struct plane_strand *strand, char letter, size_t weight)
{
	struct noting_job *job = PLANE_NEW(struct noting_job);
	job->base.run = run_noting;
	job->base.done = after_noting;
	job->base.weight = weight;
	job->fixture = fixture;
	job->letter = letter;
	plane_strand_submit(strand, &job->base);
}

static void submit(
	struct fixture *fixture, struct plane_strand *strand, char letter, int failures_left)
{
	struct noting_job *job = PLANE_NEW(struct noting_job);
	job->base.run = run_noting;
	job->base.done = after_noting;
	job->fixture = fixture;
	job->letter = letter;
	job->failures_left = failures_left;
	plane_strand_submit(strand, &job->base);
}

static void turn_until_empty(struct fixture *fixture, struct plane_strand *strand)
{
	while (plane_strand_length(strand) > 0)
		uv_run(&fixture->loop, UV_RUN_ONCE);
}

static void jobs_of_a_strand_stay_in_order_even_when_one_is_retried(void **state)
{
	struct fixture *fixture = *state;
	struct plane_strand *strand = plane_strand_create(&fixture->loop, fixture->workers);
	submit(fixture, strand, 'a', 0);
	submit(fixture, strand, 'b', 1);
	submit(fixture, strand, 'c', 0);
	submit(fixture, strand, 'd', 0);
	turn_until_empty(fixture, strand);
	assert_string_equal(fixture->seen, "abcd");
	plane_strand_close(strand, NULL, NULL);
}

static void jobs_of_a_strand_are_bounded_by_what_they_hold(void **state)
{
	enum { MIB = 1 << 20 };
	struct fixture *fixture = *state;
	struct plane_strand *strand = plane_strand_create(&fixture->loop, fixture->workers);
	submit_heavy(fixture, strand, 'a', 10 * MIB);
	submit_heavy(fixture, strand, 'b', 6 * MIB);
	submit_heavy(fixture, strand, 'c', 1);
	submit_heavy(fixture, strand, 'd', 0);
	turn_until_empty(fixture, strand);
	submit_heavy(fixture, strand, 'e', 40 * MIB); /* one alone may be as large as it likes */
	submit_heavy(fixture, strand, 'f', 1);
	turn_until_empty(fixture, strand);
	submit_heavy(fixture, strand, 'g', 16 * MIB); /* what is done counts no more */
	turn_until_empty(fixture, strand);
	assert_string_equal(fixture->seen, "c-abdf-eg");
	plane_strand_close(strand, NULL, NULL);
}

static void closing_a_strand_cancels_what_has_not_begun(void **state)
{
	struct fixture *fixture = *state;
	struct plane_strand *strand = plane_strand_create(&fixture->loop, fixture->workers);
	submit(fixture, strand, 'a', 0);
	submit(fixture, strand, 'b', 0);
	plane_strand_close(strand, NULL, NULL);
	while (strlen(fixture->seen) < 3)
		uv_run(&fixture->loop, UV_RUN_ONCE);
	assert_string_equal(fixture->seen, "ab-");
}

int main(void)
{
#define WITH_HUB(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		WITH_HUB(events_reach_the_subscriber_of_their_backend_in_order),
		WITH_HUB(the_receiver_gets_everything_actions_too),
		WITH_HUB(subscribers_may_unsubscribe_each_other_during_a_delivery),
		WITH_HUB(a_wait_sees_the_end_that_came_after_it_began),
		WITH_HUB(no_more_wait_than_allowed_and_none_while_stopping),
		WITH_HUB(revocations_reach_the_receiver_only),
		WITH_HUB(when_events_were_missed_all_subscribers_and_waiters_are_told),
		WITH_HUB(only_what_is_done_here_goes_to_the_outlet),
		WITH_HUB(jobs_of_a_strand_stay_in_order_even_when_one_is_retried),
		WITH_HUB(jobs_of_a_strand_are_bounded_by_what_they_hold),
		WITH_HUB(closing_a_strand_cancels_what_has_not_begun),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
