/* The life of one backend on its drone: which state follows which, and what is to be done then
 * (reference 4.3). Pure. */
#ifndef PLANE_DRONE_LIFECYCLE_H
#define PLANE_DRONE_LIFECYCLE_H

#include <stdbool.h>

#include "model/backend_state.h"
#include "runtime/runtime.h"

enum plane_life_event_kind {
	PLANE_LIFE_BEGIN,       /* scheduled -> loading */
	PLANE_LIFE_PREPARED,    /* the image is there */
	PLANE_LIFE_SPAWNED,     /* it runs, at `address` */
	PLANE_LIFE_FAILED,      /* it could not be prepared or spawned: `message` */
	PLANE_LIFE_READY,       /* it answers HTTP */
	PLANE_LIFE_NOT_READY,   /* it did not answer in time */
	PLANE_LIFE_PROBE_BROKE, /* whether it answers cannot be found out: `message` */
	PLANE_LIFE_TERMINATE,   /* somebody wants it to end: `kind`, `reason` */
	PLANE_LIFE_GRACE_OVER,  /* it has ignored a soft termination for too long */
	PLANE_LIFE_EXITED,      /* its processes are gone: `exit` */
};

struct plane_life_event {
	enum plane_life_event_kind kind;
	const char *address;
	const char *message;
	enum plane_termination_kind termination;
	enum plane_termination_reason reason;
	const struct plane_runtime_exit *exit;
};

/** What the supervisor must do after a step. */
enum plane_life_effect {
	PLANE_EFFECT_NONE,
	PLANE_EFFECT_PREPARE,
	PLANE_EFFECT_SPAWN,
	PLANE_EFFECT_WAIT_READY,
	PLANE_EFFECT_SIGNAL, /* SIGTERM */
	PLANE_EFFECT_KILL,
};

struct plane_life {
	struct plane_backend_state state;
	bool is_running; /* spawned, and its exit has not been told */
};

/**
 * Takes one step. True when `life->state` changed (and is to be recorded and reported); `*effect`
 * is to be carried out in any case. Events that say nothing new change nothing: states only move
 * forward, and a terminated backend stays terminated.
 */
bool plane_life_advance(struct plane_life *life, const struct plane_life_event *event,
	enum plane_life_effect *effect);

/** What a restarted drone does about a backend that it found running in this state. */
enum plane_life_effect plane_life_resume(const struct plane_backend_state *state);

#endif
