/* Guards the control API: does not let it stand open, and reads token files, certificate and key
 * again while it runs. Loop thread. */
#ifndef PLANE_CONTROLLER_GUARD_H
#define PLANE_CONTROLLER_GUARD_H

#include <stdbool.h>

#include <uv.h>

#include "base/error.h"
#include "net/tls_context.h"

struct plane_controller;
struct plane_controller_config;

/**
 * Refuses to serve on anything but loopback without a token file, a client certificate authority,
 * forward auth or is_insecure; the message says what to do.
 */
int plane_guard_check(const struct plane_controller_config *config, struct plane_error *err);
/** Of a configuration that was checked: only the address keeps others from the API. */
bool plane_guard_is_loopback_only(const struct plane_controller_config *config);

/** A kind of file that is read again. */
struct plane_guard_reload {
	bool is_changed;            /* by the present reading */
	struct plane_error problem; /* of it; code 0: none */
};

/** A member of the controller. Fields are the guard's. */
struct plane_guard {
	uv_timer_t timer;
	uv_signal_t hangup;
	uv_work_t reload;
	bool is_reloading, must_reload_again;
	struct plane_guard_reload tokens, tls;
	unsigned char tls_digest[PLANE_TLS_DIGEST_SIZE]; /* of what was read last */
	SSL_CTX *tls_context;                            /* read, and not used yet */
	struct plane_error
		tls_seen; /* the problem of the last reading: it may be half of a change */
	bool was_tls_problem_told;
};

/** Opens `controller->access` and reads what TLS needs, if the configuration asks for them. Before
 *  threads. */
int plane_guard_open(struct plane_controller *controller, struct plane_error *err);
/** What the server is to be made with: NULL for plain HTTP. Freed by plane_guard_finish. */
SSL_CTX *plane_guard_tls(struct plane_controller *controller);
/** Reads the files again twice a second and on SIGHUP; what was opened with a token that is no
 *  longer good is cut. The server must be there until plane_guard_stop. */
void plane_guard_start(struct plane_controller *controller);
void plane_guard_stop(struct plane_controller *controller);
/** Closes the handles. */
void plane_guard_close(struct plane_controller *controller);
/** After the loop's end. */
void plane_guard_finish(struct plane_controller *controller);

#endif
