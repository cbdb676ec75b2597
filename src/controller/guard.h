/* Guards the control API: does not let it stand open, and reads token files again while it runs.
 * Loop thread. */
#ifndef PLANE_CONTROLLER_GUARD_H
#define PLANE_CONTROLLER_GUARD_H

#include <stdbool.h>

#include <uv.h>

#include "base/error.h"

struct plane_controller;
struct plane_controller_config;

/**
 * Refuses to serve on anything but loopback without a token file, a client certificate authority,
 * forward auth or is_insecure; the message says what to do.
 */
int plane_guard_check(const struct plane_controller_config *config, struct plane_error *err);

/** A member of the controller. Fields are the guard's. */
struct plane_guard {
	uv_timer_t timer;
	uv_signal_t hangup;
	uv_work_t reload;
	bool is_reloading, must_reload_again;
	bool is_changed;            /* by the present reload */
	struct plane_error problem; /* of the present reload; code 0: none */
};

/** Opens `controller->access` if the configuration asks for one. Before threads. */
int plane_guard_open(struct plane_controller *controller, struct plane_error *err);
/** Reads the files again twice a second and on SIGHUP; what was opened with a token that is no
 *  longer good is cut. The server must be there until plane_guard_stop. */
void plane_guard_start(struct plane_controller *controller);
void plane_guard_stop(struct plane_controller *controller);
/** Closes the handles. */
void plane_guard_close(struct plane_controller *controller);

#endif
