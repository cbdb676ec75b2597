/* controller/cleanup.c against a store that has as much to remove as the test wants. */
#include "../cmocka_all.h"

#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "controller/cleanup.h"
#include "store/store_impl.h"

struct old_store {
	struct plane_store base;
	int64_t tokens, revocations, backends, nodes; /* that are old */
	int calls, batch_max, min_age_days;
	int pause_ms;     /* of each call */
	int timeout_from; /* so many at a time take too long; 0: none do */
	bool is_away;     /* tokens cannot be removed */
	bool is_other;    /* something else was done since the first call */
	int calls_before_other;
};

struct fixture {
	struct plane_controller controller;
	struct plane_controller_config config;
	struct old_store store;
};

static int remove_some(struct old_store *store, int64_t *left, int batch, int64_t *removed,
	struct plane_error *err)
{
	int64_t until_ms = plane_clock_boot_ms() + store->pause_ms;
	if (store->timeout_from && batch >= store->timeout_from)
		return plane_error_set(err, -ETIMEDOUT, "it took too long");
	while (plane_clock_boot_ms() < until_ms)
		;
	store->calls++;
	store->batch_max = batch > store->batch_max ? batch : store->batch_max;
	*removed = *left < batch ? *left : batch;
	*left -= *removed;
	return 0;
}

static int cleanup_tokens(
	struct plane_store *base, int batch, int64_t *removed, struct plane_error *err)
{
	struct old_store *store = (struct old_store *)base;
	if (store->is_away)
		return plane_error_set(err, -EAGAIN, "the database is away");
	return remove_some(store, &store->tokens, batch, removed, err);
}

static int cleanup_revocations(
	struct plane_store *base, int batch, int64_t *removed, struct plane_error *err)
{
	struct old_store *store = (struct old_store *)base;
	return remove_some(store, &store->revocations, batch, removed, err);
}

static int cleanup_backends(struct plane_store *base, int min_age_days, int batch, int64_t *removed,
	struct plane_error *err)
{
	struct old_store *store = (struct old_store *)base;
	store->min_age_days = min_age_days;
	return remove_some(store, &store->backends, batch, removed, err);
}

static int cleanup_nodes(struct plane_store *base, int64_t min_age_ms, int batch, int64_t *removed,
	struct plane_error *err)
{
	struct old_store *store = (struct old_store *)base;
	(void)min_age_ms;
	return remove_some(store, &store->nodes, batch, removed, err);
}

static const struct plane_store_impl old_impl = { .cleanup_tokens = cleanup_tokens,
	.cleanup_revocations = cleanup_revocations,
	.cleanup_backends = cleanup_backends,
	.cleanup_nodes = cleanup_nodes };

static int set_up(void **state)
{
	struct fixture *fixture = PLANE_NEW(struct fixture);
	struct plane_controller *controller = &fixture->controller;
	struct plane_error err;
	fixture->store = (struct old_store){ .base.impl = &old_impl,
		.tokens = 100500,
		.revocations = 2500,
		.backends = 730,
		.nodes = 3100 };
	fixture->config = (struct plane_controller_config){ .cleanup_min_age_days = 3,
		.cleanup_batch_size = 7 };
	assert_int_equal(uv_loop_init(&controller->loop), 0);
	controller->workers = plane_http_pool_create(&controller->loop, 1, &err);
	assert_non_null(controller->workers);
	controller->strand = plane_strand_create(&controller->loop, controller->workers);
	controller->store = &fixture->store.base;
	controller->config = &fixture->config;
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;
	struct plane_controller *controller = &fixture->controller;
	plane_strand_close(controller->strand, NULL, NULL);
	plane_http_pool_close(controller->workers, NULL, NULL);
	uv_run(&controller->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&controller->loop), 0);
	free(fixture);
	return 0;
}

static void run_round(struct fixture *fixture)
{
	plane_cleanup_start(&fixture->controller);
	while (plane_strand_length(fixture->controller.strand) > 0)
		uv_run(&fixture->controller.loop, UV_RUN_ONCE);
}

static void a_round_removes_all_that_is_old_in_batches(void **state)
{
	struct fixture *fixture = *state;
	struct old_store *store = &fixture->store;
	run_round(fixture);
	assert_int_equal(store->tokens, 0);
	assert_int_equal(store->revocations, 0);
	assert_int_equal(store->backends, 0);
	assert_int_equal(store->nodes, 0);
	assert_int_equal(store->min_age_days, 3);
	assert_true(store->batch_max <= 1000);
	assert_true(store->calls >= 730 / 7 + 100 + 3);
}

static void backends_are_kept_unless_an_age_is_set(void **state)
{
	struct fixture *fixture = *state;
	fixture->config.cleanup_min_age_days = -1;
	run_round(fixture);
	assert_int_equal(fixture->store.tokens, 0);
	assert_int_equal(fixture->store.backends, 730);
}

static void what_cannot_be_removed_does_not_keep_the_rest(void **state)
{
	struct fixture *fixture = *state;
	fixture->store.is_away = true;
	run_round(fixture);
	assert_int_equal(fixture->store.tokens, 100500);
	assert_int_equal(fixture->store.revocations, 0);
	assert_int_equal(fixture->store.backends, 0);
}

static void batches_that_take_too_long_become_smaller(void **state)
{
	struct fixture *fixture = *state;
	fixture->store.timeout_from = 5;
	run_round(fixture);
	assert_int_equal(fixture->store.tokens, 0);
	assert_int_equal(fixture->store.backends, 0);
	fixture->store.tokens = 10;
	fixture->store.timeout_from = 1; /* not even one: the round ends all the same */
	run_round(fixture);
	assert_int_equal(fixture->store.tokens, 10);
}

struct other {
	struct plane_job base;
	struct old_store *store;
};

static enum plane_job_result run_other(struct plane_job *base)
{
	struct old_store *store = ((struct other *)base)->store;
	store->is_other = true;
	store->calls_before_other = store->calls;
	return PLANE_JOB_DONE;
}

static void after_other(struct plane_job *base, bool is_cancelled)
{
	(void)is_cancelled;
	free(base);
}

/* Four calls fill a job. */
static void other_work_does_not_wait_for_the_whole_round(void **state)
{
	struct fixture *fixture = *state;
	struct other *other = PLANE_NEW(struct other);
	fixture->store.pause_ms = 80;
	fixture->store.tokens = 12000;
	fixture->store.revocations = fixture->store.backends = fixture->store.nodes = 0;
	*other = (struct other){ { run_other, after_other, NULL }, &fixture->store };
	plane_cleanup_start(&fixture->controller);
	assert_true(plane_strand_submit(fixture->controller.strand, &other->base));
	while (plane_strand_length(fixture->controller.strand) > 0)
		uv_run(&fixture->controller.loop, UV_RUN_ONCE);
	assert_true(fixture->store.is_other);
	assert_true(fixture->store.calls_before_other <= 4);
	assert_int_equal(fixture->store.tokens, 0);
}

static void a_controller_that_stops_ends_the_round(void **state)
{
	struct fixture *fixture = *state;
	fixture->store.pause_ms = 80;
	plane_cleanup_start(&fixture->controller);
	uv_run(&fixture->controller.loop, UV_RUN_NOWAIT);
	/* the strand is closed after this, while the first job runs: nothing follows */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_round_removes_all_that_is_old_in_batches),
		TEST(backends_are_kept_unless_an_age_is_set),
		TEST(what_cannot_be_removed_does_not_keep_the_rest),
		TEST(batches_that_take_too_long_become_smaller),
		TEST(other_work_does_not_wait_for_the_whole_round),
		TEST(a_controller_that_stops_ends_the_round),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
