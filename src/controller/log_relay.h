/* Logs of a backend whose drone is connected to another controller: asked of that one, with the
 * caller's credentials, and passed on as they come. */
#ifndef PLANE_CONTROLLER_LOG_RELAY_H
#define PLANE_CONTROLLER_LOG_RELAY_H

#include "controller/api.h"

/**
 * Answers the call with what controller `name` answers to the same request at `url`, or with an
 * error within seconds. Pool threads. What is streamed counts as an open session of the controller.
 */
void plane_log_relay_answer(struct plane_api_call *call, const char *name, const char *url);

/** Does the request come from another controller's relay? It is not passed on once more. */
bool plane_log_relay_is_relayed(const struct plane_http_request *request);

#endif
