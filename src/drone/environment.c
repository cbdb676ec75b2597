/* Builds a backend's environment. */
#include "drone/environment.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

#define OURS_MAX 5

static bool has_name_of(const char *variable, const char *other)
{
	size_t len = strcspn(other, "=") + 1;
	return strncmp(variable, other, len) == 0;
}

static bool is_overridden(const char *variable, char *const *ours, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (has_name_of(variable, ours[i]))
			return true;
	return false;
}

char **plane_environment_create(
	const struct plane_executable *executable, const struct plane_session *session)
{
	char **environment =
		plane_alloc_zero(executable->env_count + OURS_MAX + 1, sizeof(*environment));
	size_t count = 0;
	environment[count++] = plane_strdup("PORT=8080");
	environment[count++] = plane_strdupf("SESSION_BACKEND_ID=%s", session->backend);
	environment[count++] =
		plane_strdupf("SESSION_BACKEND_FENCING_TOKEN=%" PRId64, session->fencing_token);
	if (session->key_name)
		environment[count++] = plane_strdupf("SESSION_BACKEND_KEY=%s", session->key_name);
	if (session->static_token)
		environment[count++] =
			plane_strdupf("SESSION_BACKEND_STATIC_TOKEN=%s", session->static_token);
	size_t ours = count;
	for (size_t i = 0; i < executable->env_count; i++)
		if (!is_overridden(executable->env[i], environment, ours))
			environment[count++] = plane_strdup(executable->env[i]);
	return environment;
}

void plane_environment_free(char **environment)
{
	for (char **variable = environment; variable && *variable; variable++)
		free(*variable);
	free(environment);
}
