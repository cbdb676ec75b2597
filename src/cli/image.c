/* `plane image`: the image store of this machine. Needs no running server. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/paths.h"
#include "cli/table.h"
#include "runtime/image/image.h"
#include "runtime/image/record.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define DATA_DIR_FLAG(target)                                                                      \
	"data-dir", PLANE_FLAG_TEXT, target, "DIR",                                                \
		"where the store is (default: $PLANE_DATA_DIR or /var/lib/plane)"

static char *find_store(const char *data_dir_flag, struct plane_error *err)
{
	_cleanup_free_ char *data_dir = plane_data_dir(data_dir_flag, err);
	return data_dir ? plane_images_dir(data_dir) : NULL;
}

static const char *const *given(const struct plane_flag_list *list)
{
	return list->count ? list->values : NULL;
}

static void print_progress(void *data, bool is_warning, const char *line)
{
	bool is_quiet = *(bool *)data;
	if (is_warning)
		fprintf(stderr, "warning: %s\n", line);
	else if (!is_quiet)
		fprintf(stderr, "%s\n", line);
}

static void print_image(const struct plane_image *image, bool as_json)
{
	if (as_json) {
		_cleanup_json_ json_t *json = plane_image_to_json(image);
		_cleanup_free_ char *text = plane_json_dump(json);
		printf("%s\n", text);
		return;
	}
	char time[PLANE_CLOCK_TEXT_SIZE];
	plane_clock_format_rfc3339(image->imported_at_ms, time);
	printf("Name:     %s\nDigest:   %s\nSize:     %lld bytes\nImported: %s\nUser:     %s "
	       "(%u:%u)\nWorkdir:  %s\nCommand: ",
		image->name, image->digest, (long long)image->size_bytes, time,
		image->user[0] ? image->user : "root", image->uid, image->gid, image->workdir);
	for (char **word = image->argv; *word; word++)
		printf(" %s", *word);
	printf("\nEnvironment:\n");
	for (char **variable = image->env; *variable; variable++)
		printf("  %s\n", *variable);
}

static int run_import(int argc, char **argv)
{
	const char *data_dir = NULL, *words[PLANE_COMMAND_WORDS_MAX + 1];
	struct plane_flag_list entrypoint = { 0 }, cmd = { 0 }, env = { 0 };
	struct plane_image_overrides overrides = { .progress = print_progress };
	int64_t max_mib = (int64_t)(PLANE_IMAGE_DEFAULT_MAX_BYTES >> 20);
	bool as_json = false;
	const struct plane_flag flags[] = {
		{ "entrypoint", PLANE_FLAG_LIST, &entrypoint, "WORD",
			"command to run instead of the image's own; again for each word" },
		{ "cmd", PLANE_FLAG_LIST, &cmd, "WORD", "its arguments; again for each word" },
		{ "env", PLANE_FLAG_LIST, &env, "NAME=VALUE", "added to the image's environment" },
		{ "user", PLANE_FLAG_TEXT, &overrides.user, "USER[:GROUP]", "to run as" },
		{ "workdir", PLANE_FLAG_TEXT, &overrides.workdir, "DIR", "to run in" },
		{ "max-mib", PLANE_FLAG_INT, &max_mib, "MIB",
			"refuse what is larger when unpacked (default: 20480)", 1, 1 << 24 },
		{ DATA_DIR_FLAG(&data_dir) },
		{ "json", PLANE_FLAG_BOOL, &as_json, NULL, "print the image as JSON" },
	};
	const struct plane_command command = {
		.usage = "plane image import NAME PATH [flags]",
		.summary =
			"Imports an image: a directory, a tar of a root file system (plain, gzip, "
			"xz, zstd),\nan OCI layout or an archive of `docker save`.",
		.examples =
			"  docker save my-app:latest -o my-app.tar && plane image import my-app "
			"my-app.tar\n"
			"  plane image import debian rootfs.tar.gz --entrypoint /usr/bin/my-app\n",
		.flags = flags,
		.flag_count = COUNT(flags),
		.min_words = 2,
		.max_words = 2,
	};
	int status = plane_command_parse(&command, argc, argv, words);
	if (status >= 0)
		return status;
	struct plane_error err = { 0 };
	_cleanup_(plane_image_finish) struct plane_image image = PLANE_IMAGE_EMPTY;
	_cleanup_free_ char *store = find_store(data_dir, &err);
	overrides.entrypoint = given(&entrypoint);
	overrides.cmd = given(&cmd);
	overrides.env = given(&env);
	overrides.max_bytes = (uint64_t)max_mib << 20;
	overrides.progress_data = &as_json;
	if (!store || plane_image_import(store, words[0], words[1], &overrides, &image, &err) < 0)
		return plane_fail("%s", err.message);
	if (as_json)
		print_image(&image, true);
	else
		printf("Imported %s (%s, %.1f MiB)\n", image.name, image.digest,
			(double)image.size_bytes / (1 << 20));
	return 0;
}

static void print_list(const struct plane_image *images, size_t count, bool as_json)
{
	if (as_json) {
		_cleanup_json_ json_t *list = json_array();
		for (size_t i = 0; i < count; i++)
			(void)json_array_append_new(list, plane_image_to_json(&images[i]));
		_cleanup_free_ char *text = plane_json_dump(list);
		printf("%s\n", text);
		return;
	}
	struct plane_table table = { .columns = 4 };
	plane_table_add(&table, "NAME", "DIGEST", "MIB", "IMPORTED");
	for (size_t i = 0; i < count; i++) {
		char time[PLANE_CLOCK_TEXT_SIZE], size[32], digest[20];
		plane_clock_format_rfc3339(images[i].imported_at_ms, time);
		snprintf(size, sizeof(size), "%.1f", (double)images[i].size_bytes / (1 << 20));
		snprintf(digest, sizeof(digest), "%.19s", images[i].digest);
		plane_table_add(&table, images[i].name, digest, size, time);
	}
	plane_table_print(&table);
}

static int run_list(int argc, char **argv)
{
	const char *data_dir = NULL;
	bool as_json = false;
	const struct plane_flag flags[] = {
		{ DATA_DIR_FLAG(&data_dir) },
		{ "json", PLANE_FLAG_BOOL, &as_json, NULL, "as JSON" },
	};
	const struct plane_command command = { .usage = "plane image list [flags]",
		.summary = "Lists the images of this machine.",
		.flags = flags,
		.flag_count = COUNT(flags) };
	int status = plane_command_parse(&command, argc, argv, NULL);
	if (status >= 0)
		return status;
	struct plane_error err = { 0 };
	struct plane_image *images = NULL;
	size_t count = 0;
	_cleanup_free_ char *store = find_store(data_dir, &err);
	if (!store || plane_image_list(store, &images, &count, &err) < 0)
		return plane_fail("%s", err.message);
	print_list(images, count, as_json);
	plane_image_list_finish(images, count);
	return 0;
}

static int run_show(int argc, char **argv)
{
	const char *data_dir = NULL, *words[PLANE_COMMAND_WORDS_MAX + 1];
	bool as_json = false;
	const struct plane_flag flags[] = {
		{ DATA_DIR_FLAG(&data_dir) },
		{ "json", PLANE_FLAG_BOOL, &as_json, NULL, "as JSON" },
	};
	const struct plane_command command = { .usage = "plane image show NAME [flags]",
		.summary = "Shows how an image is run.",
		.flags = flags,
		.flag_count = COUNT(flags),
		.min_words = 1,
		.max_words = 1 };
	int status = plane_command_parse(&command, argc, argv, words);
	if (status >= 0)
		return status;
	struct plane_error err = { 0 };
	_cleanup_(plane_image_finish) struct plane_image image = PLANE_IMAGE_EMPTY;
	_cleanup_free_ char *store = find_store(data_dir, &err);
	if (!store || plane_image_resolve(store, words[0], &image, &err) < 0)
		return plane_fail("%s", err.message);
	print_image(&image, as_json);
	return 0;
}

static int run_remove(int argc, char **argv)
{
	const char *data_dir = NULL, *words[PLANE_COMMAND_WORDS_MAX + 1];
	bool as_json = false, is_kept = false;
	const struct plane_flag flags[] = {
		{ DATA_DIR_FLAG(&data_dir) },
		{ "json", PLANE_FLAG_BOOL, &as_json, NULL, "as JSON" },
	};
	const struct plane_command command = { .usage = "plane image remove NAME [flags]",
		.summary = "Removes an image. Backends that run it go on.",
		.flags = flags,
		.flag_count = COUNT(flags),
		.min_words = 1,
		.max_words = 1 };
	int status = plane_command_parse(&command, argc, argv, words);
	if (status >= 0)
		return status;
	struct plane_error err = { 0 };
	_cleanup_free_ char *store = find_store(data_dir, &err);
	if (!store || plane_image_remove(store, words[0], &is_kept, &err) < 0)
		return plane_fail("%s", err.message);
	if (as_json)
		printf("{\"removed\":true,\"files_kept\":%s}\n", is_kept ? "true" : "false");
	else
		printf("Removed %s%s\n", words[0],
			is_kept ? "; its files stay while something uses them" : "");
	return 0;
}

int plane_command_image(int argc, char **argv)
{
	static const struct plane_subcommand table[] = {
		{ "import", run_import,
			"import a directory, a tar, an OCI layout, a docker archive" },
		{ "list", run_list, "list the images" },
		{ "show", run_show, "show how an image is run" },
		{ "remove", run_remove, "remove an image" },
		{ 0 },
	};
	return plane_subcommand_run(
		table, "plane image", "The images of this machine.", argc, argv);
}
