/* Revoking the links of a user to a backend. */
#ifndef PLANE_CONTROLLER_REVOKE_H
#define PLANE_CONTROLLER_REVOKE_H

#include "controller/internal.h"

/**
 * Tokens that `user` has for `backend` lead nowhere any more, and what is open with them is cut:
 * stored when it returns, and told to the proxies of all controllers. An unknown pair is fine. Any
 * thread. Errors of the store.
 */
int plane_revoke(struct plane_controller *controller, const char *backend, const char *user,
	struct plane_error *err);

#endif
