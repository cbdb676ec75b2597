/* The socket of a drone (reference section 4): events in, actions out, renewals. Loop thread. */
#ifndef PLANE_CONTROLLER_DRONE_SESSION_H
#define PLANE_CONTROLLER_DRONE_SESSION_H

#include "controller/node_session.h"

/** A session for `plane_node_session_start`; cluster and pool are copied. */
struct plane_node_session *plane_drone_session_create(struct plane_controller *controller,
	const char *cluster, const char *pool, const struct plane_node_caller *caller);

/** Asks all drones that are connected here for what their backends use. */
void plane_drone_sessions_ask_usage(struct plane_controller *controller);

/** Sends the action now if that drone is connected here; the tick repeats it until it is acked. */
void plane_drone_session_push(
	struct plane_controller *controller, const struct plane_hub_event *event);

/** Looks now for the pending actions of each connected drone. */
void plane_drone_sessions_look(struct plane_controller *controller);

/** Has each connected drone connect anew, and so register and say what it runs: the store is
 *  another one, which may have lost that. */
void plane_drone_sessions_renew(struct plane_controller *controller);

/** Asks the drone for the log of a backend and feeds `stream` with it; ends the stream when that
 *  drone is not connected any more. */
void plane_drone_session_stream_log(struct plane_controller *controller, int64_t drone_id,
	const char *backend, int64_t tail_lines, bool is_follow, struct plane_http_stream *stream);

#endif
