/* controller/lease_renewals.c against a store that is as slow as the test wants. */
#include "../cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "controller/drone_internal.h"
#include "controller/lease_round.h"
#include "store/store_impl.h"

#define BATCHES_MAX 8

struct batch {
	size_t count;
	int64_t drones[8], times_ms[8]; /* of the first ones */
};

struct slow_store {
	struct plane_store base;
	uv_sem_t is_asked, may_answer;
	struct batch batches[BATCHES_MAX];
	size_t count;
};

struct fixture {
	struct plane_controller controller;
	struct slow_store store;
};

static int renew_slowly(struct plane_store *base, struct plane_store_renewal *renewals,
	size_t count, struct plane_error *err)
{
	struct slow_store *store = (struct slow_store *)base;
	struct batch *batch = &store->batches[store->count++];
	(void)err;
	uv_sem_post(&store->is_asked);
	uv_sem_wait(&store->may_answer);
	batch->count = count;
	for (size_t i = 0; i < count && i < 8; i++) {
		batch->drones[i] = renewals[i].drone_id;
		batch->times_ms[i] = renewals[i].local_time_ms;
	}
	return 0;
}

static const struct plane_store_impl slow_impl = { .leases_renew = renew_slowly };

static int set_up(void **state)
{
	struct fixture *fixture = PLANE_NEW(struct fixture);
	struct plane_controller *controller = &fixture->controller;
	struct plane_error err;
	fixture->store.base.impl = &slow_impl;
	assert_int_equal(uv_sem_init(&fixture->store.is_asked, 0), 0);
	assert_int_equal(uv_sem_init(&fixture->store.may_answer, 0), 0);
	assert_int_equal(uv_loop_init(&controller->loop), 0);
	controller->lease_workers = plane_http_pool_create(&controller->loop, 1, &err);
	assert_non_null(controller->lease_workers);
	controller->config = &plane_controller_config_defaults;
	controller->store = &fixture->store.base;
	controller->renewals = plane_lease_renewals_create(controller);
	uv_timer_init(&controller->loop, &controller->renewals_timer);
	controller->renewals_timer.data = controller;
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;
	struct plane_controller *controller = &fixture->controller;
	uv_close((uv_handle_t *)&controller->renewals_timer, NULL);
	plane_http_pool_close(controller->lease_workers, NULL, NULL);
	uv_run(&controller->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&controller->loop), 0);
	plane_lease_renewals_destroy(controller->renewals);
	uv_sem_destroy(&fixture->store.is_asked);
	uv_sem_destroy(&fixture->store.may_answer);
	free(fixture);
	return 0;
}

/* Nobody is found under its id, so nothing is answered. */
static struct plane_drone_session new_drone(struct fixture *fixture, int64_t id)
{
	struct plane_drone_session drone = { 0 };
	drone.base.controller = &fixture->controller;
	drone.base.node_id = id;
	drone.base.connection_id = id;
	return drone;
}

static void ask(struct plane_drone_session *drone, int64_t local_time_ms)
{
	struct plane_drone_message message = { .kind = PLANE_DRONE_RENEW_LEASE,
		.journal = "journal",
		.local_time_ms = local_time_ms };
	plane_lease_renewals_add(drone->base.controller->renewals, drone, &message);
}

/* Until the store is asked for the next batch, and has not answered. */
static void run_until_asked(struct fixture *fixture)
{
	struct plane_controller *controller = &fixture->controller;
	while (uv_is_active((uv_handle_t *)&controller->renewals_timer))
		uv_run(&controller->loop, UV_RUN_NOWAIT); /* the other would wait after it */
	uv_sem_wait(&fixture->store.is_asked);
}

struct marker {
	struct plane_http_job job;
	bool is_done;
};

static void pass(struct plane_http_job *job)
{
	(void)job;
}

static void mark(struct plane_http_job *job)
{
	((struct marker *)job)->is_done = true;
}

/* The store answers, and its answers are handled: the only thread comes to the marker after it. */
static void let_answer(struct fixture *fixture)
{
	struct plane_controller *controller = &fixture->controller;
	struct marker marker = { .job = { .run = pass, .done = mark } };
	plane_http_pool_submit(controller->lease_workers, &marker.job);
	uv_sem_post(&fixture->store.may_answer);
	while (!marker.is_done)
		uv_run(&controller->loop, UV_RUN_ONCE);
}

static bool is_more_to_come(const struct fixture *fixture)
{
	return uv_is_active((const uv_handle_t *)&fixture->controller.renewals_timer);
}

static void a_drone_that_asks_without_end_has_one_request_waiting(void **state)
{
	struct fixture *fixture = *state;
	const struct slow_store *store = &fixture->store;
	struct plane_drone_session flood = new_drone(fixture, 1), other = new_drone(fixture, 2);
	ask(&flood, 1);
	run_until_asked(fixture);
	for (int64_t time_ms = 2; time_ms <= 100000; time_ms++)
		ask(&flood, time_ms);
	ask(&other, 7);
	ask(&flood, 100001);
	let_answer(fixture);
	run_until_asked(fixture);
	let_answer(fixture);
	assert_false(is_more_to_come(fixture));
	assert_int_equal(store->count, 2);
	assert_int_equal(store->batches[0].count, 1);
	assert_int_equal(store->batches[1].count, 2);
	assert_int_equal(store->batches[1].drones[0], 1);
	assert_int_equal(store->batches[1].times_ms[0], 100001); /* the newest counts */
	assert_int_equal(store->batches[1].drones[1], 2);
	assert_int_equal(store->batches[1].times_ms[1], 7);
}

static void what_a_closed_session_has_asked_is_forgotten(void **state)
{
	struct fixture *fixture = *state;
	const struct slow_store *store = &fixture->store;
	struct plane_drone_session gone = new_drone(fixture, 1), other = new_drone(fixture, 2);
	ask(&other, 1);
	run_until_asked(fixture);
	ask(&gone, 2);
	plane_lease_renewals_forget(fixture->controller.renewals, &gone);
	plane_lease_renewals_forget(fixture->controller.renewals, &gone);
	let_answer(fixture);
	assert_false(is_more_to_come(fixture));
	ask(&other, 3);
	run_until_asked(fixture);
	let_answer(fixture);
	assert_int_equal(store->count, 2);
	assert_int_equal(store->batches[1].count, 1);
	assert_int_equal(store->batches[1].drones[0], 2);
}

static void more_drones_than_one_batch_holds_are_all_renewed(void **state)
{
	enum { DRONES = 2500 };
	struct fixture *fixture = *state;
	const struct slow_store *store = &fixture->store;
	struct plane_drone_session *drones = plane_alloc_zero(DRONES, sizeof(*drones));
	size_t renewed = 0;
	for (int64_t i = 0; i < DRONES; i++) {
		drones[i] = new_drone(fixture, i + 1);
		ask(&drones[i], i);
	}
	for (size_t i = 0; i < 3; i++) {
		run_until_asked(fixture);
		let_answer(fixture);
		renewed += store->batches[i].count;
	}
	assert_false(is_more_to_come(fixture));
	assert_int_equal(renewed, DRONES);
	free(drones);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_drone_that_asks_without_end_has_one_request_waiting, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			what_a_closed_session_has_asked_is_forgotten, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			more_drones_than_one_batch_holds_are_all_renewed, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
