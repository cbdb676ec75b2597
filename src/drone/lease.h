/* When a backend may go on running for its key. Pure: reads no clock, does no I/O. Two kinds: the
 * lease of one key, as the original has it, and the drone's own, which covers all backends of an
 * epoch (extension "drone-lease"; docs/consistency.md). */
#ifndef PLANE_DRONE_LEASE_H
#define PLANE_DRONE_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "model/messages.h"

enum plane_lease_step {
	PLANE_LEASE_HOLD,
	PLANE_LEASE_RENEW,
	PLANE_LEASE_SOFT_STOP,
	PLANE_LEASE_HARD_STOP,
};

/* ---- the lease of one key ---- */

/** Times are those of the drone's local clock. */
struct plane_lease {
	struct plane_deadlines deadlines;
	int64_t asked_at_ms; /* for a renewal; 0: not since the last one was granted */
	int64_t latest_ms;   /* the latest time ever looked at */
};

/** A lease as it was granted. */
void plane_lease_grant(struct plane_lease *lease, const struct plane_deadlines *deadlines);

/**
 * Deadlines that a renewal granted. False, and nothing changes, when they end before those there
 * are: an answer that was overtaken.
 */
bool plane_lease_renew(struct plane_lease *lease, const struct plane_deadlines *deadlines);

/**
 * What the holder must do at `now_ms`. RENEW is said again every `retry_ms` until a renewal is
 * granted. Never answers a later step for an earlier clock reading: a clock that jumps back cannot
 * undo a stop.
 */
enum plane_lease_step plane_lease_step(struct plane_lease *lease, int64_t now_ms, int64_t retry_ms);

/** The connection is new: what was asked on the old one was not. */
void plane_lease_ask_again(struct plane_lease *lease);

/* ---- the drone's own lease ---- */

/** Zeroed: none yet, and none ever. */
struct plane_drone_lease {
	int64_t epoch;       /* held, or held until its deadlines passed; 0: none */
	int64_t known_epoch; /* the greatest ever held: answers about none older count */
	struct plane_deadlines deadlines; /* of `epoch` */
	int64_t granted_at_ms;            /* when they were asked for; 0: by another process */
	/* The last hard stop that was ever granted under `epoch`: shims, which look only when the
	 * time has come that they know of, kill by then, also when less was granted since. */
	int64_t last_hard_ms;
	int64_t interval_ms; /* between two requests; 0: not known yet */
	int64_t asked_at_ms; /* the first request since the last answer; 0: none */
	int64_t sent_at_ms;  /* the last request on this connection; 0: none */
	int64_t latest_ms;   /* the latest time ever looked at */
};

/** Between two requests as long as no controller has said how often. */
#define PLANE_DRONE_LEASE_FIRST_INTERVAL_MS 1000

/**
 * Goes on with an epoch that a former process of this drone held; `epoch` 0: none. Deadlines that
 * are not known any more are 0: passed.
 */
void plane_drone_lease_resume(struct plane_drone_lease *lease, int64_t epoch, int64_t known_epoch,
	const struct plane_deadlines *deadlines);

/** Is a request to be sent at `now_ms`? Then it counts as sent, with `epoch` (0: null) and that
 *  time. It is the drone's heartbeat too, so it is sent whatever became of the lease. */
bool plane_drone_lease_ask(struct plane_drone_lease *lease, int64_t now_ms);

/** What is told with a request has changed: the next one is due at once, unless an answer is
 * awaited or the last one was sent less than `pause_ms` ago. */
void plane_drone_lease_ask_early(struct plane_drone_lease *lease, int64_t now_ms, int64_t pause_ms);

/** The connection is new: a request is due at once. */
void plane_drone_lease_ask_again(struct plane_drone_lease *lease);

/** Between two requests. */
int64_t plane_drone_lease_interval_ms(const struct plane_drone_lease *lease);

/** How long a request has been without any answer, 0 when none is. */
int64_t plane_drone_lease_waiting_ms(const struct plane_drone_lease *lease, int64_t now_ms);

/** For how long something may run under the epoch if nothing more is granted; 0: not at all. */
int64_t plane_drone_lease_hard_in_ms(const struct plane_drone_lease *lease, int64_t now_ms);

enum plane_drone_lease_change {
	PLANE_DRONE_LEASE_SAME,     /* nothing: overtaken, or no epoch to be had yet */
	PLANE_DRONE_LEASE_EXTENDED, /* its deadlines moved */
	PLANE_DRONE_LEASE_BEGUN,    /* a new epoch */
	PLANE_DRONE_LEASE_BROKEN,   /* the epoch that was held, now in `*broken`, is over */
};

/**
 * Takes the answer to the request of `asked_at_ms`: `epoch` 0 for null; `deadlines` NULL when the
 * epoch is broken, or none is to be had yet. The answer to a later request counts, also when it
 * gives less time: controllers may have other constants than the last one. How often to ask is
 * until the answer's `renew_at_ms`, from that request and no other: an unanswered one makes no
 * later one rarer. After BROKEN everything of `*broken_epoch` must be stopped hard at once.
 */
enum plane_drone_lease_change plane_drone_lease_answer(struct plane_drone_lease *lease,
	int64_t epoch, int64_t asked_at_ms, const struct plane_deadlines *deadlines,
	int64_t *broken_epoch);

/** What backends of the epoch must do at `now_ms`: HOLD or a stop, never less than before as long
 *  as no renewal is granted. HARD_STOP without an epoch. */
enum plane_lease_step plane_drone_lease_step(struct plane_drone_lease *lease, int64_t now_ms);

/** May a backend of `epoch` be started at `now_ms`? */
bool plane_drone_lease_may_start(struct plane_drone_lease *lease, int64_t epoch, int64_t now_ms);

#endif
