/* Renewals of drones' leases: one store transaction for all that come within some milliseconds, one
 * at a time, so that each drone's answers have the order of its requests. */
#include "controller/lease_round.h"

#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"
#include "controller/drone_internal.h"

#define GATHER_MS 10
#define BATCH_MAX 1000

struct plane_lease_request {
	struct plane_drone_session *drone; /* that is to answer; not used once it is stored */
	int64_t connection_id;             /* of that session */
	int64_t epoch;                     /* as it was asked */
	char journal[PLANE_TEXT_MAX + 1];
	struct plane_store_renewal renewal;
	struct plane_lease_request *prev, *next; /* of those that wait */
};

struct plane_lease_renewals {
	struct plane_http_job work; /* first: cast back; of the batch that is being stored */
	struct plane_controller *controller;
	struct plane_lease_request *waiting; /* at most one a session: each drone is there once */
	size_t waiting_count;
	struct plane_lease_request *storing; /* an array */
	size_t storing_count;
	bool is_storing, is_failed;
};

static void run_store(struct plane_http_job *work)
{
	struct plane_lease_renewals *renewals = (struct plane_lease_renewals *)work;
	struct plane_lease_request *batch = renewals->storing;
	size_t count = renewals->storing_count;
	struct plane_error err = { 0 };
	_cleanup_free_ struct plane_store_renewal *list = plane_alloc_zero(count, sizeof(*list));
	for (size_t i = 0; i < count; i++) {
		list[i] = batch[i].renewal;
		list[i].journal = batch[i].journal;
	}
	renewals->is_failed =
		plane_store_leases_renew(renewals->controller->store, list, count, &err) < 0;
	if (renewals->is_failed)
		plane_warn("renew %zu leases of drones: %s", count, err.message);
	for (size_t i = 0; i < count; i++)
		batch[i].renewal = list[i];
}

static void answer(struct plane_lease_renewals *renewals, const struct plane_lease_request *request)
{
	struct plane_controller *controller = renewals->controller;
	struct plane_drone_session *drone =
		plane_drone_session_find(controller, request->renewal.drone_id);
	/* on another connection by now, it has asked again */
	if (drone && drone->base.connection_id == request->connection_id)
		plane_drone_session_lease_answer(drone, request->epoch, &request->renewal);
}

static void start_soon(struct plane_lease_renewals *renewals);

static void after_store(struct plane_http_job *work)
{
	struct plane_lease_renewals *renewals = (struct plane_lease_renewals *)work;
	for (size_t i = 0; i < renewals->storing_count && !renewals->is_failed; i++)
		answer(renewals, &renewals->storing[i]);
	free(STEAL(renewals->storing));
	renewals->storing_count = 0;
	renewals->is_storing = false;
	start_soon(renewals);
}

static void take_out(struct plane_lease_renewals *renewals, struct plane_lease_request *request)
{
	DL_DELETE(renewals->waiting, request);
	renewals->waiting_count--;
	request->drone->lease_request = NULL;
}

static void start(struct plane_lease_renewals *renewals)
{
	size_t count = renewals->waiting_count < BATCH_MAX ? renewals->waiting_count : BATCH_MAX;
	renewals->storing = plane_alloc_zero(count, sizeof(*renewals->storing));
	while (renewals->storing_count < count) {
		_cleanup_free_ struct plane_lease_request *request = renewals->waiting;
		take_out(renewals, request);
		renewals->storing[renewals->storing_count++] = *request;
	}
	renewals->is_storing = true;
	renewals->work = (struct plane_http_job){ .run = run_store, .done = after_store };
	plane_http_pool_submit(renewals->controller->lease_workers, &renewals->work);
}

static void on_gathered(uv_timer_t *timer)
{
	struct plane_lease_renewals *renewals = ((struct plane_controller *)timer->data)->renewals;
	if (!renewals->is_storing && renewals->waiting)
		start(renewals);
}

/* Also between one batch and the next: a drone that asks without end does not keep the store busy
 * with it. */
static void start_soon(struct plane_lease_renewals *renewals)
{
	struct plane_controller *controller = renewals->controller;
	if (!renewals->waiting || renewals->is_storing || controller->is_stopping)
		return;
	if (renewals->waiting_count >= BATCH_MAX)
		start(renewals);
	else if (!uv_is_active((uv_handle_t *)&controller->renewals_timer))
		(void)uv_timer_start(
			&controller->renewals_timer, on_gathered, GATHER_MS, 0); /* succeeds */
}

/* The one that is filled in: what waits already is replaced where it stands. */
static struct plane_lease_request *waiting_request(
	struct plane_lease_renewals *renewals, struct plane_drone_session *drone)
{
	if (drone->lease_request)
		return drone->lease_request;
	struct plane_lease_request *request = PLANE_NEW(struct plane_lease_request);
	request->drone = drone;
	request->connection_id = drone->base.connection_id;
	DL_APPEND(renewals->waiting, request);
	renewals->waiting_count++;
	drone->lease_request = request;
	return request;
}

void plane_lease_renewals_add(struct plane_lease_renewals *renewals,
	struct plane_drone_session *drone, const struct plane_drone_message *message)
{
	if (renewals->controller->is_stopping)
		return;
	struct plane_lease_request *request = waiting_request(renewals, drone);
	request->epoch = message->epoch;
	request->renewal = (struct plane_store_renewal){ .drone_id = drone->base.node_id,
		.epoch = message->epoch,
		.last_epoch = message->last_epoch,
		.local_time_ms = message->local_time_ms,
		.expire_ms = plane_lease_expiry_after(
			&renewals->controller->config->drone_lease, message->hard_in_ms),
		.has_resources = message->has_resources,
		.resources = message->resources };
	(void)plane_text_copy(request->journal, sizeof(request->journal), message->journal);
	start_soon(renewals);
}

void plane_lease_renewals_forget(
	struct plane_lease_renewals *renewals, struct plane_drone_session *drone)
{
	struct plane_lease_request *request = drone->lease_request;
	if (!request)
		return;
	take_out(renewals, request);
	free(request);
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
	struct plane_lease_request *request, *next;
	DL_FOREACH_SAFE (renewals->waiting, request, next)
		free(request);
	free(renewals->storing);
	free(renewals);
}
