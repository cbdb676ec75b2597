/* The token that the roles of one `plane serve` use among themselves: made anew by each run, held
 * in memory files, never on a disk, in a process list or in an environment. */
#ifndef PLANE_CLI_SERVE_SECRET_H
#define PLANE_CLI_SERVE_SECRET_H

#include "base/error.h"

struct plane_serve_secret {
	int token_fd; /* the token, for the drone and the proxy; -1: none */
	int entry_fd; /* a token file that knows it, for the controller */
};
#define PLANE_SERVE_SECRET_NONE                                                                    \
	(struct plane_serve_secret)                                                                \
	{                                                                                          \
		-1, -1                                                                             \
	}

int plane_serve_secret_make(struct plane_serve_secret *secret, struct plane_error *err);
void plane_serve_secret_finish(struct plane_serve_secret *secret);

#endif
