/* Revocations: stored first, then told. */
#include "controller/revoke.h"

int plane_revoke(struct plane_controller *controller, const char *backend, const char *user,
	struct plane_error *err)
{
	int result = plane_store_token_revoke(controller->store, backend, user, err);
	if (result == 0)
		plane_hub_publish_revocation(controller->hub, backend, user);
	return result;
}
