/* GET /pub/b/:backend/status-stream: a backend's history, then what happens (reference 1.4). */
#ifndef PLANE_CONTROLLER_STATUS_STREAM_H
#define PLANE_CONTROLLER_STATUS_STREAM_H

#include "controller/internal.h"

/** Fills `response` so that it becomes the stream. Only statuses later than `after_status` (0: all)
 *  are sent. The backend must exist. Pool thread. */
void plane_status_stream_answer(struct plane_controller *controller, const char *backend,
	int after_status, struct plane_http_response *response);

#endif
