/* The cleanup round. */
#include "controller/cleanup.h"

#include "base/log.h"

/* Nodes that are away for longer hold nothing that anybody waits for. */
#define NODE_KEPT_MS ((int64_t)86400 * 1000)
#define NODES_BATCH 1000

static void forget_nodes(struct plane_controller *controller)
{
	struct plane_error err = { 0 };
	int64_t count = 0;
	if (plane_store_cleanup_nodes(controller->store, NODE_KEPT_MS, NODES_BATCH, &count, &err) <
		0)
		plane_warn("remove nodes that are gone: %s", err.message);
	else if (count > 0)
		plane_info("removed %lld nodes that have been away for a day", (long long)count);
}

void plane_cleanup_run(struct plane_controller *controller)
{
	struct plane_error err = { 0 };
	int64_t count = 0;
	if (plane_store_cleanup_tokens(controller->store, &count, &err) < 0)
		plane_warn("remove expired tokens: %s", err.message);
	else if (count > 0)
		plane_debug("removed %lld expired tokens", (long long)count);
	forget_nodes(controller);
	if (controller->config->cleanup_min_age_days < 0)
		return;
	if (plane_store_cleanup_backends(controller->store,
		    controller->config->cleanup_min_age_days,
		    controller->config->cleanup_batch_size, &count, &err) < 0)
		plane_warn("remove old backends: %s", err.message);
	else if (count > 0)
		plane_info("removed %lld old backends", (long long)count);
}
