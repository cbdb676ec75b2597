/* The token of the environment. */
#include "cli/credentials.h"

#include <stdlib.h>

#include "base/alloc.h"

#define TOKEN_VARIABLE "PLANE_CONTROLLER_TOKEN"

void plane_credentials_complete(struct plane_controller_credentials *credentials)
{
	static char *token; /* kept for the whole run */
	const char *found = getenv(TOKEN_VARIABLE);
	if (!token && found && found[0])
		token = plane_strdup(found);
	(void)unsetenv(TOKEN_VARIABLE); /* fails only for a malformed name */
	credentials->token = token;
}
