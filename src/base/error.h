/* The one error type: a code and a sentence that says what was attempted, on what, and why it
 * failed. Functions that can fail return 0 or a negative errno-like code and fill it. */
#ifndef PLANE_BASE_ERROR_H
#define PLANE_BASE_ERROR_H

#include <stddef.h>

struct plane_error {
	int code;          /* negative errno-like; 0 when nothing failed */
	char message[768]; /* one sentence, without a trailing full stop or newline */
};

/**
 * Fills `err` (which may be NULL) and returns `code`, made negative. A message that does not fit
 * is cut and ends in "...". A message is always UTF-8, whatever it quotes: it goes into JSON.
 */
int plane_error_set(struct plane_error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/** The same with the present errno as code and its text appended: "open /x: Permission denied". */
int plane_error_errno(struct plane_error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/** Puts context in front of the message: "start backend b: open /x: ...". Returns err's code. */
int plane_error_prefix(struct plane_error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
