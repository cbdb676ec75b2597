/* `--watch`: a block of text that is made anew every few seconds; in place on a terminal, one
 * behind the other elsewhere. */
#ifndef PLANE_CLI_WATCH_H
#define PLANE_CLI_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "cli/flags.h"

struct plane_watch {
	const char *title; /* what is seen, above each block; NULL: blocks alone */
	int64_t interval_s;
	/** Appends the present block, whole lines. Negative when it could not be had: `err` is
	 *  shown, and it is tried again. */
	int (*snapshot)(void *data, struct plane_buffer *text, struct plane_error *err);
	void *data;
};

/**
 * Shows blocks until a signal asks to end. Fails when not even the first one can be had. The exit
 * status: 0 after Ctrl-C, 1 after an error, which was told, 128 + number for other signals. The
 * terminal is left as it was, with the last block on it.
 */
int plane_watch(const struct plane_watch *watch);

/** True once a signal asked to end: for who is in the middle of something that takes long. */
bool plane_watch_is_over(void);

/** Takes notice of Ctrl-C and the like; plane_watch does so itself. */
void plane_watch_signals(void);
/** Waits, at most so long; false when a signal asked to end. */
bool plane_watch_wait(int64_t wait_ms);
/** The signal that came; 0: none. */
int plane_watch_signal(void);

#endif
