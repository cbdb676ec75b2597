/* The table of routes, and what counts as use of a backend. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proxy/activity.h"
#include "proxy/routes.h"

static int asked;
static char last_asked[PLANE_PROXY_TOKEN_MAX + 1];

static void on_ask(void *data, const char *token)
{
	(void)data;
	asked++;
	snprintf(last_asked, sizeof(last_asked), "%s", token);
}

static struct plane_slice slice(const char *text)
{
	return (struct plane_slice){ text, strlen(text) };
}

static struct plane_route *route_of(const char *backend, const char *user)
{
	struct plane_route_info info = { .backend = backend,
		.address = "10.0.0.2:8080",
		.secret_token = "s",
		.cluster = "c",
		.user = user };
	return plane_route_create(&info, NULL);
}

static void all_who_wait_get_one_answer(void **state)
{
	struct plane_routes *routes = plane_routes_create(on_ask, NULL);
	struct plane_route_inbox inbox = { .event_fd = eventfd(0, EFD_NONBLOCK) };
	struct plane_route_waiter waiters[3] = { { .inbox = &inbox }, { .inbox = &inbox },
		{ .inbox = &inbox } };
	struct plane_route *route = NULL, *other = NULL;
	(void)state;
	asked = 0;
	for (int i = 0; i < 3; i++)
		assert_int_equal(plane_routes_find(routes, slice("token"), 0, &waiters[i], &route),
			PLANE_ROUTES_WAIT);
	assert_int_equal(asked, 1);
	assert_string_equal(last_asked, "token");
	plane_routes_cancel(routes, &waiters[1]);
	plane_routes_answer(routes, "token", route_of("b", NULL), 0);
	assert_ptr_equal(plane_routes_take(routes, &inbox), &waiters[0]);
	assert_string_equal(waiters[0].route->backend, "b");
	plane_route_unref(waiters[0].route);
	plane_routes_cancel(routes, &waiters[2]); /* answered, and gone before it looked */
	assert_null(plane_routes_take(routes, &inbox));
	assert_int_equal(plane_routes_find(routes, slice("token"), 0, &waiters[0], &other),
		PLANE_ROUTES_FOUND);
	plane_route_unref(other);
	assert_int_equal(asked, 1);
	plane_routes_destroy(routes);
	close(inbox.event_fd);
}

static void an_answer_of_nothing_is_kept_for_a_second(void **state)
{
	struct plane_routes *routes = plane_routes_create(on_ask, NULL);
	struct plane_route_inbox inbox = { .event_fd = eventfd(0, EFD_NONBLOCK) };
	struct plane_route_waiter waiter = { .inbox = &inbox };
	struct plane_route *route = NULL;
	(void)state;
	asked = 0;
	assert_int_equal(
		plane_routes_find(routes, slice("t"), 0, &waiter, &route), PLANE_ROUTES_WAIT);
	plane_routes_answer(routes, "t", NULL, 0);
	assert_ptr_equal(plane_routes_take(routes, &inbox), &waiter);
	assert_null(waiter.route);
	assert_int_equal(
		plane_routes_find(routes, slice("t"), 999, &waiter, &route), PLANE_ROUTES_NONE);
	assert_int_equal(
		plane_routes_find(routes, slice("t"), 1000, &waiter, &route), PLANE_ROUTES_WAIT);
	assert_int_equal(asked, 2);
	plane_routes_renew(routes); /* what is waited for is asked again */
	assert_int_equal(asked, 3);
	plane_routes_cancel(routes, &waiter);
	plane_routes_destroy(routes);
	close(inbox.event_fd);
}

static void revoking_forgets_that_user_only(void **state)
{
	struct plane_routes *routes = plane_routes_create(on_ask, NULL);
	struct plane_route_inbox inbox = { .event_fd = eventfd(0, EFD_NONBLOCK) };
	static const char *const users[] = { "alice", "bob" };
	struct plane_route_waiter waiter = { .inbox = &inbox };
	struct plane_route *route = NULL;
	(void)state;
	for (int i = 0; i < 2; i++) {
		(void)plane_routes_find(routes, slice(users[i]), 0, &waiter, &route);
		plane_routes_answer(routes, users[i], route_of("b", users[i]), 0);
		plane_route_unref(plane_routes_take(routes, &inbox)->route);
	}
	plane_routes_remove(routes, "b", "alice");
	assert_int_equal(
		plane_routes_find(routes, slice("bob"), 0, &waiter, &route), PLANE_ROUTES_FOUND);
	plane_route_unref(route);
	plane_routes_remove(routes, "other", NULL);
	assert_int_equal(
		plane_routes_find(routes, slice("alice"), 0, &waiter, &route), PLANE_ROUTES_WAIT);
	plane_routes_cancel(routes, &waiter);
	plane_routes_destroy(routes);
	close(inbox.event_fd);
}

static void the_table_is_bounded_and_forgets_the_oldest(void **state)
{
	struct plane_routes *routes = plane_routes_create(on_ask, NULL);
	struct plane_route_inbox inbox = { .event_fd = eventfd(0, EFD_NONBLOCK) };
	struct plane_route_waiter waiter = { .inbox = &inbox };
	struct plane_route *route = NULL;
	char token[32];
	(void)state;
	for (int i = 0; i < 10001; i++) {
		snprintf(token, sizeof(token), "token-%d", i);
		(void)plane_routes_find(routes, slice(token), 0, &waiter, &route);
		plane_routes_answer(routes, token, route_of("b", NULL), 0);
		plane_route_unref(plane_routes_take(routes, &inbox)->route);
	}
	assert_int_equal(plane_routes_find(routes, slice("token-1"), 0, &waiter, &route),
		PLANE_ROUTES_FOUND);
	plane_route_unref(route);
	assert_int_equal(
		plane_routes_find(routes, slice("token-0"), 0, &waiter, &route), PLANE_ROUTES_WAIT);
	plane_routes_cancel(routes, &waiter);
	plane_routes_destroy(routes);
	close(inbox.event_fd);
}

static void count_use(void *data, const char *backend)
{
	(void)backend;
	++*(int *)data;
}

static void use_lasts_as_long_as_something_is_open(void **state)
{
	struct plane_activity *activity = plane_activity_create();
	int seen = 0;
	(void)state;
	assert_true(plane_activity_begin(activity, "b"));
	assert_false(plane_activity_begin(activity, "b"));
	plane_activity_end(activity, "b");
	for (int i = 0; i < 3; i++)
		plane_activity_look(activity, count_use, &seen);
	assert_int_equal(seen, 3);
	plane_activity_end(activity, "b");
	plane_activity_end(activity, "b"); /* one too many does no harm */
	plane_activity_look(activity, count_use, &seen);
	plane_activity_look(activity, count_use, &seen);
	assert_int_equal(seen, 3);
	assert_true(plane_activity_begin(activity, "b"));
	plane_activity_destroy(activity);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_who_wait_get_one_answer),
		cmocka_unit_test(an_answer_of_nothing_is_kept_for_a_second),
		cmocka_unit_test(revoking_forgets_that_user_only),
		cmocka_unit_test(the_table_is_bounded_and_forgets_the_oldest),
		cmocka_unit_test(use_lasts_as_long_as_something_is_open),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
