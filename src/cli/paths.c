/* Directories of the command line. */
#include "cli/paths.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

static const char *environment(const char *name)
{
	const char *value = getenv(name);
	return value && value[0] ? value : NULL;
}

static char *default_dir(struct plane_error *err)
{
	const char *data_home = environment("XDG_DATA_HOME"), *home = environment("HOME");
	if (geteuid() == 0)
		return plane_strdup("/var/lib/plane");
	if (data_home)
		return plane_strdupf("%s/plane", data_home);
	if (home)
		return plane_strdupf("%s/.local/share/plane", home);
	plane_error_set(
		err, ENOENT, "no data directory: give one with --data-dir or in PLANE_DATA_DIR");
	return NULL;
}

char *plane_data_dir(const char *given, struct plane_error *err)
{
	const char *from_environment = environment("PLANE_DATA_DIR");
	_cleanup_free_ char *wanted = NULL;
	if (given)
		wanted = plane_strdup(given);
	else if (from_environment)
		wanted = plane_strdup(from_environment);
	else
		wanted = default_dir(err);
	if (!wanted)
		return NULL;
	if (plane_file_make_directories(wanted, 0711, err) < 0) {
		plane_error_prefix(err, "the data directory");
		return NULL;
	}
	char *absolute = realpath(wanted, NULL);
	if (!absolute)
		plane_error_errno(err, "the data directory %s", wanted);
	else if (access(absolute, W_OK | X_OK) < 0) {
		plane_error_errno(err, "the data directory %s cannot be written to", absolute);
		free(STEAL(absolute));
	}
	return absolute;
}

char *plane_images_dir(const char *data_dir)
{
	return plane_strdupf("%s/images", data_dir);
}

char *plane_drone_dir(const char *data_dir)
{
	return plane_strdupf("%s/drone", data_dir);
}

char *plane_controller_dir(const char *data_dir)
{
	return plane_strdupf("%s/controller", data_dir);
}
