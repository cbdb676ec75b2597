/* The cleanup round. */
#include "controller/cleanup.h"

#include "base/log.h"

void plane_cleanup_run(struct plane_controller *controller)
{
	struct plane_error err = { 0 };
	int64_t count = 0;
	if (plane_store_cleanup_tokens(controller->store, &count, &err) < 0)
		plane_warn("remove expired tokens: %s", err.message);
	else if (count > 0)
		plane_debug("removed %lld expired tokens", (long long)count);
	if (controller->config->cleanup_min_age_days < 0)
		return;
	if (plane_store_cleanup_backends(controller->store,
		    controller->config->cleanup_min_age_days,
		    controller->config->cleanup_batch_size, &count, &err) < 0)
		plane_warn("remove old backends: %s", err.message);
	else if (count > 0)
		plane_info("removed %lld old backends", (long long)count);
}
