/* Inventories: each is one job of its drone's session. */
#include "controller/inventory.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"

struct inventory_job {
	struct plane_job base; /* first: cast back */
	struct plane_drone_session *drone;
	json_t *json; /* the names are borrowed from it */
	struct plane_store_running *running;
	size_t count;
	bool has_more;
};

static bool is_all_known(const struct inventory_job *job)
{
	for (size_t i = 0; i < job->count; i++)
		if (!job->running[i].is_known)
			return false;
	return true;
}

/* After the last part: the store learns that it knows what the drone runs. When it does not, the
 * drone tells anew once that has ended. */
static int finish_check(struct inventory_job *job, struct plane_error *err)
{
	struct plane_node_session *session = &job->drone->base;
	bool has_unknown = job->drone->has_unknown || !is_all_known(job);
	int result = has_unknown || job->has_more
			     ? 0
			     : plane_store_drone_reconciled(session->controller->store,
				       session->node_id, session->connection_id, err);
	if (result == 0)
		job->drone->has_unknown = has_unknown && job->has_more;
	return result;
}

/* What was told is compared only as long as the drone has not come anew and told it again. */
static enum plane_job_result run_check(struct plane_job *base)
{
	struct inventory_job *job = (struct inventory_job *)base;
	struct plane_node_session *session = &job->drone->base;
	struct plane_error err = { 0 };
	if (atomic_load(&session->is_gone))
		return PLANE_JOB_DONE;
	if (plane_store_running_check(session->controller->store, session->node_id, job->running,
		    job->count, &err) == 0 &&
		finish_check(job, &err) == 0)
		return PLANE_JOB_DONE;
	plane_warn("inventory of %s: %s", session->name, err.message);
	return PLANE_JOB_RETRY;
}

static void end_unknown(const struct inventory_job *job)
{
	struct plane_node_session *session = &job->drone->base;
	_cleanup_json_ json_t *unknown = json_array();
	for (size_t i = 0; i < job->count; i++)
		if (!job->running[i].is_known)
			json_array_append_new(unknown, json_string(job->running[i].backend));
	size_t count = json_array_size(unknown);
	if (count == 0)
		return;
	plane_warn("%s runs %zu backends that are not its own or unknown here: they are ended",
		session->name, count);
	plane_metrics_add(&session->controller->metrics, PLANE_METRIC_DISOWNED, (int64_t)count);
	struct plane_drone_order order = { .kind = PLANE_ORDER_END_BACKENDS, .ended = unknown };
	plane_node_session_send(session, plane_drone_order_write(&order));
}

static void after_check(struct plane_job *base, bool is_cancelled)
{
	struct inventory_job *job = (struct inventory_job *)base;
	if (!is_cancelled && job->drone->base.phase == PLANE_SESSION_SERVING)
		end_unknown(job);
	json_decref(job->json);
	free(job->running);
	free(job);
}

void plane_inventory_take(struct plane_drone_session *drone, const json_t *json,
	const struct plane_drone_message *message)
{
	struct inventory_job *job = PLANE_NEW(struct inventory_job);
	const char *name;
	json_t *entry = NULL;
	job->base.run = run_check;
	job->base.done = after_check;
	job->drone = drone;
	job->json = json_incref((json_t *)json);
	job->has_more = message->has_more;
	job->running =
		plane_alloc_zero(json_object_size(message->inventory) + 1, sizeof(job->running[0]));
	json_object_foreach ((json_t *)message->inventory, name, entry)
		job->running[job->count++] = (struct plane_store_running){
			.backend = name, .epoch = plane_inventory_epoch(entry), .is_known = true
		};
	(void)plane_node_session_submit(&drone->base, &job->base); /* closes when it cannot */
}
