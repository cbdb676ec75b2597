/* The states of a backend: what they are, how they are written, and that they only move forward. */
#ifndef PLANE_MODEL_BACKEND_STATE_H
#define PLANE_MODEL_BACKEND_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/error.h"

/** Values are the order of life (reference: backend.last_status_number). */
enum plane_backend_status {
	PLANE_SCHEDULED = 10,
	PLANE_LOADING = 20,
	PLANE_STARTING = 30,
	PLANE_WAITING = 40,
	PLANE_READY = 50,
	PLANE_TERMINATING = 60,
	PLANE_HARD_TERMINATING = 65,
	PLANE_TERMINATED = 70,
};

enum plane_termination_kind { PLANE_KIND_NONE, PLANE_KIND_SOFT, PLANE_KIND_HARD };

enum plane_termination_reason {
	PLANE_REASON_NONE,
	PLANE_REASON_SWEPT, /* idle or lifetime */
	PLANE_REASON_EXTERNAL,
	PLANE_REASON_KEY_EXPIRED,
	PLANE_REASON_LOST,
	PLANE_REASON_STARTUP_TIMEOUT,
	PLANE_REASON_INTERNAL_ERROR,
};

#define PLANE_ADDRESS_SIZE 64

struct plane_backend_state {
	enum plane_backend_status status;
	char address[PLANE_ADDRESS_SIZE];        /* waiting, ready; else "" */
	enum plane_backend_status last_status;   /* from terminating on: where it was before */
	enum plane_termination_kind termination; /* terminated (may be NONE) */
	enum plane_termination_reason reason;    /* from terminating on */
	bool has_exit_code;                      /* terminated */
	int exit_code;
	/* Additions to the reference, left out of the JSON when they say nothing: */
	int signal; /* the signal that ended it, 0 for none */
	bool was_oom_killed;
	char message[256]; /* why it failed, for people; "" for nothing */
};

const char *plane_backend_status_text(enum plane_backend_status status);
bool plane_backend_status_parse(const char *text, enum plane_backend_status *status);
/** The first one that can come after it; 0 after `terminated`. Before all others (0): scheduled. */
enum plane_backend_status plane_backend_status_next(enum plane_backend_status status);
/** "soft", "hard"; NULL for NONE. */
const char *plane_termination_kind_text(enum plane_termination_kind kind);
bool plane_termination_kind_parse(const char *text, enum plane_termination_kind *kind);
/** "swept", ...; NULL for NONE. */
const char *plane_termination_reason_text(enum plane_termination_reason reason);
bool plane_termination_reason_parse(const char *text, enum plane_termination_reason *reason);

/** STATE of the reference, section 4: internally tagged by `status`. The caller decrefs. */
json_t *plane_backend_state_write(const struct plane_backend_state *state);
int plane_backend_state_read(
	const json_t *json, struct plane_backend_state *state, struct plane_error *err);

/** BackendStatusEntry of the reference, section 2; never contains the address. */
json_t *plane_backend_status_entry(const struct plane_backend_state *state, int64_t time_ms);

#endif
