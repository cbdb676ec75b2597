/* A DNS server's socket: one question, one answer. */
#include "controller/dns_session.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/text.h"

struct txt_job {
	struct plane_job base;
	struct plane_node_session *session;
	char cluster[PLANE_CLUSTER_SIZE];
	bool is_known;
	char *txt_value; /* owned; NULL for none */
};

static enum plane_job_result run_lookup(struct plane_job *base)
{
	struct txt_job *job = (struct txt_job *)base;
	struct plane_error err = { 0 };
	job->is_known = plane_store_cert_get_txt(job->session->controller->store, job->cluster,
				&job->txt_value, &err) == 0;
	if (!job->is_known)
		plane_warn("TXT value of %s: %s", job->cluster, err.message);
	return PLANE_JOB_DONE; /* no answer: the DNS server fails that query by itself */
}

static void after_lookup(struct plane_job *base, bool is_cancelled)
{
	struct txt_job *job = (struct txt_job *)base;
	if (job->is_known && !is_cancelled && job->session->phase == PLANE_SESSION_SERVING)
		plane_node_session_send(job->session,
			plane_dns_order_write(
				&(struct plane_dns_order){ job->cluster, job->txt_value }));
	free(job->txt_value);
	free(job);
}

static void on_message(struct plane_node_session *session, const json_t *json)
{
	struct plane_error err = { 0 };
	struct plane_dns_message message;
	if (plane_dns_message_read(json, &message, &err) < 0 ||
		plane_text_check(message.cluster, "cluster", &err) < 0) {
		plane_warn("skipping a message of %s: %s", session->name, err.message);
		return;
	}
	struct txt_job *job = PLANE_NEW(struct txt_job);
	job->base.run = run_lookup;
	job->base.done = after_lookup;
	job->session = session;
	(void)plane_text_copy(
		job->cluster, sizeof(job->cluster), message.cluster); /* length was checked */
	(void)plane_node_session_submit(session, &job->base);         /* closes when it cannot */
}

static void on_registered(struct plane_node_session *session)
{
	plane_metrics_add(&session->controller->metrics, PLANE_METRIC_DNS_SESSIONS, 1);
}

static void on_closed(struct plane_node_session *session)
{
	plane_metrics_add(&session->controller->metrics, PLANE_METRIC_DNS_SESSIONS, -1);
}

static void free_session(struct plane_node_session *session)
{
	free(session);
}

static const struct plane_node_role dns_role = {
	.kind = PLANE_NODE_DNS,
	.on_registered = on_registered,
	.on_message = on_message,
	.on_closed = on_closed,
	.free_session = free_session,
};

struct plane_node_session *plane_dns_session_create(
	struct plane_controller *controller, const struct plane_node_caller *caller)
{
	struct plane_node_session *session = PLANE_NEW(struct plane_node_session);
	plane_node_session_init(session, controller, &dns_role, "", caller);
	return session;
}
