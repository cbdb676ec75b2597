/* Termination orders: stored first, then pushed. */
#include "controller/terminate.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

int plane_terminate(struct plane_controller *controller, const char *backend,
	enum plane_termination_kind kind, enum plane_termination_reason reason,
	struct plane_error *err)
{
	char action_id[PLANE_NAME_SIZE];
	_cleanup_free_ char *message = NULL;
	int64_t drone_id = 0;
	plane_name_random("ak", action_id);
	int64_t asked_at_ms = plane_clock_boot_ms();
	int result = plane_store_terminate(
		controller->store, backend, action_id, kind, reason, &drone_id, &message, err);
	if (result < 0 || !message)
		return result;
	plane_info_backend(backend, "%s termination ordered (%s)",
		plane_termination_kind_text(kind), plane_termination_reason_text(reason));
	plane_hub_publish_action(
		controller->hub, backend, action_id, drone_id, asked_at_ms, STEAL(message));
	return 0;
}
