/* The cleanup round: jobs of some batches each, so that nothing else waits for long. */
#include "controller/cleanup.h"

#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

#define JOB_MS 300
#define BATCH 1000 /* of tokens, revocations or nodes */
/* Nodes that are away for longer hold nothing that anybody waits for. */
#define NODE_KEPT_MS ((int64_t)86400 * 1000)

struct round {
	struct plane_job base;
	struct plane_controller *controller;
	int64_t ends_at_ms; /* boot clock */
	size_t step;
	int batch;
	int64_t removed; /* in this step */
	bool is_over;
};

static int remove_tokens(
	struct plane_controller *controller, int batch, int64_t *count, struct plane_error *err)
{
	return plane_store_cleanup_tokens(controller->store, batch, count, err);
}

static int remove_revocations(
	struct plane_controller *controller, int batch, int64_t *count, struct plane_error *err)
{
	return plane_store_cleanup_revocations(controller->store, batch, count, err);
}

static int remove_nodes(
	struct plane_controller *controller, int batch, int64_t *count, struct plane_error *err)
{
	return plane_store_cleanup_nodes(controller->store, NODE_KEPT_MS, batch, count, err);
}

static int remove_backends(
	struct plane_controller *controller, int batch, int64_t *count, struct plane_error *err)
{
	int min_age_days = controller->config->cleanup_min_age_days;
	if (min_age_days < 0)
		return 0; /* they are kept */
	return plane_store_cleanup_backends(controller->store, min_age_days, batch, count, err);
}

static const struct step {
	const char *what;
	int (*remove)(struct plane_controller *controller, int batch, int64_t *count,
		struct plane_error *err);
	bool is_told; /* to who does not debug */
} steps[] = {
	{ "expired tokens", remove_tokens, false },
	{ "old revocations", remove_revocations, false },
	{ "old backends", remove_backends, true },
	{ "nodes that have been away for a day", remove_nodes, true },
};
#define STEPS (sizeof(steps) / sizeof(steps[0]))

static void begin_step(struct round *round, size_t step)
{
	round->step = step;
	round->removed = 0;
	round->is_over = step == STEPS;
	if (!round->is_over)
		round->batch = steps[step].remove == remove_backends
				       ? round->controller->config->cleanup_batch_size
				       : BATCH;
}

static void end_step(struct round *round)
{
	const struct step *step = &steps[round->step];
	if (round->removed > 0 && step->is_told)
		plane_info("removed %lld %s", (long long)round->removed, step->what);
	else if (round->removed > 0)
		plane_debug("removed %lld %s", (long long)round->removed, step->what);
	begin_step(round, round->step + 1);
}

/* One batch; the step ends with one that is not full, or fails. One that takes too long for the
 * database is tried in smaller ones. */
static void run_step(struct round *round)
{
	const struct step *step = &steps[round->step];
	struct plane_error err = { 0 };
	int64_t count = 0;
	int result = step->remove(round->controller, round->batch, &count, &err);
	if (result == -ETIMEDOUT && round->batch > 1) {
		round->batch = round->batch / 8 ? round->batch / 8 : 1;
		return;
	}
	if (result < 0)
		plane_warn("remove %s: %s", step->what, err.message);
	round->removed += count;
	if (count < round->batch)
		end_step(round);
}

static enum plane_job_result run_some(struct plane_job *base)
{
	struct round *round = (struct round *)base;
	int64_t until_ms = plane_clock_boot_ms() + JOB_MS;
	do
		run_step(round);
	while (!round->is_over && plane_clock_boot_ms() < until_ms);
	return PLANE_JOB_DONE;
}

static void after_some(struct plane_job *base, bool is_cancelled)
{
	struct round *round = (struct round *)base;
	bool is_late = plane_clock_boot_ms() >= round->ends_at_ms;
	if (!round->is_over && !is_cancelled && !is_late) {
		(void)plane_strand_submit(round->controller->strand, base); /* else cancelled */
		return;
	}
	if (!round->is_over && is_late)
		plane_info("removed %lld %s so far: more in the next round",
			(long long)round->removed, steps[round->step].what);
	free(round);
}

void plane_cleanup_start(struct plane_controller *controller)
{
	struct round *round = PLANE_NEW(struct round);
	round->base.run = run_some;
	round->base.done = after_some;
	round->controller = controller;
	begin_step(round, 0);
	round->ends_at_ms = plane_clock_boot_ms() + PLANE_CLEANUP_ROUND_MS;
	(void)plane_strand_submit(controller->strand, &round->base); /* else cancelled */
}
