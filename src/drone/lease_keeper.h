/* The drone's own lease where it is kept: which epoch it holds, in the journal, so that a restarted
 * drone goes on with it; until when, in the file that the shims read. What it means is decided in
 * lease.c. Loop thread only. */
#ifndef PLANE_DRONE_LEASE_KEEPER_H
#define PLANE_DRONE_LEASE_KEEPER_H

#include "drone/journal.h"
#include "drone/lease.h"
#include "drone/local_clock.h"
#include "runtime/runtime.h"

struct plane_lease_keeper {
	struct plane_journal *journal; /* borrowed, as the others */
	const struct plane_local_clock *clock;
	struct plane_runtime *runtime;
	struct plane_drone_lease lease;
	char journal_id[PLANE_NAME_SIZE]; /* tells us from other processes of our name */
	int64_t soft_margin_ms;           /* from the soft stop to the hard one, as recorded */
};

/** Reads what a former process of this drone held. */
int plane_lease_keeper_open(struct plane_lease_keeper *keeper, struct plane_journal *journal,
	const struct plane_local_clock *clock, struct plane_runtime *runtime,
	struct plane_error *err);

/** Fills the request that is due now, which counts as sent; false when none is. */
bool plane_lease_keeper_ask(struct plane_lease_keeper *keeper, struct plane_drone_message *message);

/** Takes an answer. After BROKEN the shims have been told to kill; the caller ends what else there
 *  is of `*broken_epoch`. */
enum plane_drone_lease_change plane_lease_keeper_answer(struct plane_lease_keeper *keeper,
	const struct plane_drone_order *order, int64_t *broken_epoch);

#endif
