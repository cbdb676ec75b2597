/* Whether the connections that are served here are still those of their nodes. */
#include "controller/node_session.h"

#include <stdlib.h>

#include <utlist.h>

#include "base/alloc.h"
#include "base/log.h"

struct check_job {
	struct plane_job base;
	struct plane_controller *controller;
	struct plane_store_registration *registrations;
	size_t count;
	bool is_failed;
};

static enum plane_job_result run_check(struct plane_job *base)
{
	struct check_job *job = (struct check_job *)base;
	struct plane_error err = { 0 };
	job->is_failed = plane_store_registrations_check(
				 job->controller->store, job->registrations, job->count, &err) < 0;
	if (job->is_failed)
		plane_warn("check which nodes are connected here: %s", err.message);
	return PLANE_JOB_DONE; /* the next check is near */
}

static void close_stale(
	struct plane_controller *controller, const struct plane_store_registration *registration)
{
	struct plane_node_session *session;
	DL_FOREACH (controller->sessions, session) {
		if (session->phase == PLANE_SESSION_SERVING &&
			session->node_id == registration->node_id &&
			session->connection_id == registration->connection_id) {
			plane_info("%s is registered with another connection: this one is closed",
				session->name);
			plane_node_session_retire(session);
			return;
		}
	}
}

static void after_check(struct plane_job *base, bool is_cancelled)
{
	struct check_job *job = (struct check_job *)base;
	job->controller->is_checking_registrations = false;
	for (size_t i = 0; i < job->count && !job->is_failed && !is_cancelled; i++)
		if (!job->registrations[i].is_current)
			close_stale(job->controller, &job->registrations[i]);
	free(job->registrations);
	free(job);
}

void plane_node_sessions_check(struct plane_controller *controller)
{
	struct plane_node_session *session;
	if (controller->is_checking_registrations || controller->open_sessions == 0)
		return;
	struct check_job *job = PLANE_NEW(struct check_job);
	job->base.run = run_check;
	job->base.done = after_check;
	job->controller = controller;
	job->registrations =
		plane_alloc_zero((size_t)controller->open_sessions, sizeof(job->registrations[0]));
	DL_FOREACH (controller->sessions, session) {
		if (session->phase == PLANE_SESSION_SERVING)
			job->registrations[job->count++] =
				(struct plane_store_registration){ .node_id = session->node_id,
					.connection_id = session->connection_id };
	}
	controller->is_checking_registrations = true;
	(void)plane_strand_submit(controller->strand, &job->base); /* far from its limit */
}
