/* Flags and environment of what a node or client shows the controller. */
#ifndef PLANE_CLI_CREDENTIALS_H
#define PLANE_CLI_CREDENTIALS_H

#include "cli/flags.h"
#include "net/controller_url.h"

#define PLANE_CREDENTIAL_FLAG_COUNT 5

/** As many elements of an array of struct plane_flag. */
#define PLANE_CREDENTIAL_FLAGS(credentials)                                                        \
	{ "controller-token-file", PLANE_FLAG_TEXT, &(credentials)->token_file, "FILE",            \
		"holds the token for the controller (default: $PLANE_CONTROLLER_TOKEN)" },         \
		{ "tls-ca", PLANE_FLAG_TEXT, &(credentials)->tls.authorities, "FILE",              \
			"authorities that the controller's certificate may be of (default: the "   \
			"system's)" },                                                             \
		{ "tls-pin", PLANE_FLAG_TEXT, &(credentials)->tls.pinned, "FILE",                  \
			"the controller's own certificate, whatever names it has" },               \
		{ "tls-cert", PLANE_FLAG_TEXT, &(credentials)->tls.certificate, "FILE",            \
			"client certificate to show to the controller" },                          \
	{                                                                                          \
		"tls-key", PLANE_FLAG_TEXT, &(credentials)->tls.key, "FILE", "its key"             \
	}

/** After the flags: takes the token from $PLANE_CONTROLLER_TOKEN, out of the environment that child
 *  processes get. Once, before threads. */
void plane_credentials_complete(struct plane_controller_credentials *credentials);

#endif
