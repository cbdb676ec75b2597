/* Renewals of drones' leases: one store transaction for all that come within some milliseconds, one
 * at a time, so that each drone's answers have the order of its requests. */
#include "controller/lease_round.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"
#include "controller/drone_internal.h"

#define GATHER_MS 10
#define BATCH_MAX 1000

struct request {
	int64_t connection_id; /* of the session that is to answer */
	int64_t epoch;         /* as it was asked */
	char journal[PLANE_TEXT_MAX + 1];
	struct plane_store_renewal renewal;
};

struct requests {
	struct request *list;
	size_t count;
};

struct plane_lease_renewals {
	struct plane_http_job work; /* first: cast back; of the batch that is being stored */
	struct plane_controller *controller;
	struct requests waiting, storing;
	bool is_storing, is_failed;
};

/* A drone that asks twice in one batch gets both answers, of two batches. */
static bool is_among(const struct requests *requests, int64_t drone_id)
{
	for (size_t i = 0; i < requests->count; i++)
		if (requests->list[i].renewal.drone_id == drone_id)
			return true;
	return false;
}

static void add(struct requests *requests, const struct request *request)
{
	requests->list =
		plane_realloc(requests->list, (requests->count + 1) * sizeof(*requests->list));
	requests->list[requests->count++] = *request;
}

static void run_store(struct plane_http_job *work)
{
	struct plane_lease_renewals *renewals = (struct plane_lease_renewals *)work;
	struct requests *batch = &renewals->storing;
	struct plane_error err = { 0 };
	_cleanup_free_ struct plane_store_renewal *list =
		plane_alloc_zero(batch->count, sizeof(*list));
	for (size_t i = 0; i < batch->count; i++) {
		list[i] = batch->list[i].renewal;
		list[i].journal = batch->list[i].journal;
	}
	renewals->is_failed =
		plane_store_leases_renew(renewals->controller->store, list, batch->count, &err) < 0;
	if (renewals->is_failed)
		plane_warn("renew %zu leases of drones: %s", batch->count, err.message);
	for (size_t i = 0; i < batch->count; i++)
		batch->list[i].renewal = list[i];
}

static void start(struct plane_lease_renewals *renewals);

static void answer(struct plane_lease_renewals *renewals, const struct request *request)
{
	struct plane_controller *controller = renewals->controller;
	struct plane_drone_session *drone =
		plane_drone_session_find(controller, request->renewal.drone_id);
	/* on another connection by now, it has asked again */
	if (drone && drone->base.connection_id == request->connection_id)
		plane_drone_session_lease_answer(drone, request->epoch, &request->renewal);
}

static void after_store(struct plane_http_job *work)
{
	struct plane_lease_renewals *renewals = (struct plane_lease_renewals *)work;
	for (size_t i = 0; i < renewals->storing.count && !renewals->is_failed; i++)
		answer(renewals, &renewals->storing.list[i]);
	free(STEAL(renewals->storing.list));
	renewals->storing.count = 0;
	renewals->is_storing = false;
	if (renewals->waiting.count && !renewals->controller->is_stopping)
		start(renewals);
}

static void start(struct plane_lease_renewals *renewals)
{
	struct requests later = { 0 };
	for (size_t i = 0; i < renewals->waiting.count; i++) {
		const struct request *request = &renewals->waiting.list[i];
		bool is_now = renewals->storing.count < BATCH_MAX &&
			      !is_among(&later, request->renewal.drone_id) &&
			      !is_among(&renewals->storing, request->renewal.drone_id);
		add(is_now ? &renewals->storing : &later, request);
	}
	free(renewals->waiting.list);
	renewals->waiting = later;
	renewals->is_storing = true;
	renewals->work = (struct plane_http_job){ .run = run_store, .done = after_store };
	plane_http_pool_submit(renewals->controller->workers, &renewals->work);
}

static void on_gathered(uv_timer_t *timer)
{
	struct plane_lease_renewals *renewals = ((struct plane_controller *)timer->data)->renewals;
	if (!renewals->is_storing && renewals->waiting.count)
		start(renewals);
}

void plane_lease_renewals_add(struct plane_lease_renewals *renewals,
	const struct plane_drone_session *drone, const struct plane_drone_message *message)
{
	struct plane_controller *controller = renewals->controller;
	struct request request = { .connection_id = drone->base.connection_id,
		.epoch = message->epoch,
		.renewal = { .drone_id = drone->base.node_id,
			.epoch = message->epoch,
			.last_epoch = message->last_epoch,
			.local_time_ms = message->local_time_ms,
			.has_resources = message->has_resources,
			.resources = message->resources } };
	if (controller->is_stopping)
		return;
	(void)plane_text_copy(request.journal, sizeof(request.journal), message->journal);
	add(&renewals->waiting, &request);
	if (!renewals->is_storing && !uv_is_active((uv_handle_t *)&controller->renewals_timer))
		(void)uv_timer_start(
			&controller->renewals_timer, on_gathered, GATHER_MS, 0); /* succeeds */
}

struct plane_lease_renewals *plane_lease_renewals_create(struct plane_controller *controller)
{
	struct plane_lease_renewals *renewals = PLANE_NEW(struct plane_lease_renewals);
	renewals->controller = controller;
	return renewals;
}

void plane_lease_renewals_destroy(struct plane_lease_renewals *renewals)
{
	if (!renewals)
		return;
	free(renewals->waiting.list);
	free(renewals->storing.list);
	free(renewals);
}
