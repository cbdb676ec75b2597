/* The environment of a backend (reference 5.1). Pure. */
#ifndef PLANE_DRONE_ENVIRONMENT_H
#define PLANE_DRONE_ENVIRONMENT_H

#include <stdint.h>

#include "model/executable.h"

struct plane_session {
	const char *backend;
	int64_t fencing_token;
	const char *key_name;     /* NULL without a key */
	const char *static_token; /* NULL for none */
};

/**
 * What the user gave, and over it PORT and SESSION_BACKEND_...: a NULL-terminated list of
 * "NAME=value". The caller frees it with plane_environment_free.
 */
char **plane_environment_create(
	const struct plane_executable *executable, const struct plane_session *session);
void plane_environment_free(char **environment);

#endif
