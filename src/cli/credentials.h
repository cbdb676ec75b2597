/* Flags and environment of what a node or client shows the controller. */
#ifndef PLANE_CLI_CREDENTIALS_H
#define PLANE_CLI_CREDENTIALS_H

#include "cli/flags.h"
#include "net/controller_url.h"

/** A struct plane_flag. */
#define PLANE_TOKEN_FILE_FLAG(credentials)                                                         \
	(struct plane_flag)                                                                        \
	{                                                                                          \
		"controller-token-file", PLANE_FLAG_TEXT, &(credentials)->token_file, "FILE",      \
			"holds the token for the controller (default: $PLANE_CONTROLLER_TOKEN)"    \
	}

/** After the flags: takes the token from $PLANE_CONTROLLER_TOKEN, out of the environment that child
 *  processes get. Once, before threads. */
void plane_credentials_complete(struct plane_controller_credentials *credentials);

#endif
