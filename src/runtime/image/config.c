/* Configuration of an image. */
#include "runtime/image/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"
#include "runtime/image/record.h"
#include "runtime/image/users.h"

#define MAX_WORDS 4096
#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static int read_words(
	const json_t *config, const char *name, char ***words, struct plane_error *err)
{
	const json_t *array = json_object_get(config, name);
	size_t i;
	json_t *value;
	if (!array || json_is_null(array))
		return 0;
	if (!json_is_array(array) || json_array_size(array) > MAX_WORDS)
		return plane_error_set(err, EINVAL,
			"config.%s: expected an array of up to %d texts", name, MAX_WORDS);
	json_array_foreach (array, i, value)
		if (!json_is_string(value))
			return plane_error_set(
				err, EINVAL, "config.%s[%zu]: expected a text", name, i);
	*words = plane_alloc_zero(json_array_size(array) + 1, sizeof(**words));
	json_array_foreach (array, i, value)
		(*words)[i] = plane_strdup(json_string_value(value));
	return 0;
}

static int read_text(const json_t *config, const char *name, char **text, struct plane_error *err)
{
	const char *value = NULL;
	int result = plane_json_get_text(config, name, PLANE_JSON_OPTIONAL, &value, err);
	if (result < 0)
		return plane_error_prefix(err, "config");
	*text = plane_strdup(value);
	return 0;
}

int plane_image_config_read(
	const json_t *json, struct plane_image_config *config, struct plane_error *err)
{
	const json_t *object = json_object_get(json, "config");
	struct plane_image_config read = { 0 };
	if (!object || json_is_null(object))
		return 0;
	if (!json_is_object(object))
		return plane_error_set(err, EINVAL, "config: expected an object");
	int result = read_words(object, "Entrypoint", &read.entrypoint, err);
	if (result == 0)
		result = read_words(object, "Cmd", &read.cmd, err);
	if (result == 0)
		result = read_words(object, "Env", &read.env, err);
	if (result == 0)
		result = read_text(object, "User", &read.user, err);
	if (result == 0)
		result = read_text(object, "WorkingDir", &read.workdir, err);
	if (result < 0)
		plane_image_config_finish(&read);
	else
		*config = read;
	return result;
}

void plane_image_config_finish(struct plane_image_config *config)
{
	plane_image_words_free(config->entrypoint);
	plane_image_words_free(config->cmd);
	plane_image_words_free(config->env);
	free(config->user);
	free(config->workdir);
	*config = (struct plane_image_config){ 0 };
}

static size_t count_words(const char *const *words)
{
	size_t count = 0;
	while (words && words[count])
		count++;
	return count;
}

static char **join(const char *const *first, const char *const *second)
{
	size_t first_count = count_words(first), second_count = count_words(second);
	char **joined = plane_alloc_zero(first_count + second_count + 1, sizeof(*joined));
	for (size_t i = 0; i < first_count; i++)
		joined[i] = plane_strdup(first[i]);
	for (size_t i = 0; i < second_count; i++)
		joined[first_count + i] = plane_strdup(second[i]);
	return joined;
}

static int apply_command(const struct plane_image_config *config,
	const struct plane_image_overrides *overrides, struct plane_image *image,
	struct plane_error *err)
{
	const char *const *entrypoint = (const char *const *)config->entrypoint;
	const char *const *cmd = (const char *const *)config->cmd;
	if (overrides->entrypoint) {
		entrypoint = overrides->entrypoint;
		cmd = NULL;
	}
	if (overrides->cmd)
		cmd = overrides->cmd;
	if (count_words(entrypoint) + count_words(cmd) == 0)
		return plane_error_set(err, EINVAL,
			"nothing says what command the image runs: give it with --entrypoint");
	image->argv = join(entrypoint, cmd);
	if (!image->argv[0][0])
		return plane_error_set(err, EINVAL, "the image's command is an empty text");
	return 0;
}

static bool has_same_name(const char *a, const char *b)
{
	size_t len = strcspn(a, "=");
	return strncmp(a, b, len + 1) == 0;
}

static int check_variable(const char *variable, struct plane_error *err)
{
	const char *equals = strchr(variable, '=');
	if (equals && equals != variable)
		return 0;
	return plane_error_set(
		err, EINVAL, "environment: expected NAME=value, not \"%.100s\"", variable);
}

/* The later of two variables with one name stays. */
static void set_variable(char **env, size_t *count, const char *variable)
{
	for (size_t i = 0; i < *count; i++) {
		if (has_same_name(env[i], variable)) {
			free(env[i]);
			env[i] = plane_strdup(variable);
			return;
		}
	}
	env[(*count)++] = plane_strdup(variable);
}

static int apply_environment(const struct plane_image_config *config,
	const struct plane_image_overrides *overrides, struct plane_image *image,
	struct plane_error *err)
{
	const char *const *lists[] = { (const char *const *)config->env, overrides->env };
	size_t count = 0;
	image->env = plane_alloc_zero(
		count_words(lists[0]) + count_words(lists[1]) + 2, sizeof(*image->env));
	set_variable(image->env, &count, DEFAULT_PATH);
	for (size_t list = 0; list < 2; list++) {
		for (size_t i = 0; lists[list] && lists[list][i]; i++) {
			int result = check_variable(lists[list][i], err);
			if (result < 0)
				return result;
			set_variable(image->env, &count, lists[list][i]);
		}
	}
	return 0;
}

int plane_image_config_apply(const struct plane_image_config *config,
	const struct plane_image_overrides *overrides, int root_fd, struct plane_image *image,
	struct plane_error *err)
{
	const char *user = overrides->user ? overrides->user : config->user;
	const char *workdir = overrides->workdir ? overrides->workdir : config->workdir;
	int result = apply_command(config, overrides, image, err);
	if (result == 0)
		result = apply_environment(config, overrides, image, err);
	if (result < 0)
		return result;
	image->user = plane_strdup(user ? user : "");
	image->workdir = workdir && workdir[0] == '/'
				 ? plane_strdup(workdir)
				 : plane_strdupf("/%s", workdir ? workdir : "");
	return plane_image_user_find(root_fd, image, err);
}
