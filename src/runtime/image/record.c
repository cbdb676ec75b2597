/* Records of the index. What is read back is checked like any other input: a record that was
 * damaged or edited gives an error, never a path outside of the store. */
#include "runtime/image/record.h"

#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "runtime/image/names.h"

#define MAX_RECORD_BYTES ((size_t)4 << 20)
#define MAX_ID 65535

bool plane_image_is_digest(const char *text)
{
	return plane_text_starts_with(text, "sha256:") && strlen(text) == 7 + 64 &&
	       strspn(text + 7, "0123456789abcdef") == 64;
}

void plane_image_words_free(char **words)
{
	for (char **word = words; word && *word; word++)
		free(*word);
	free(words);
}

void plane_image_finish(struct plane_image *image)
{
	plane_closep(&image->lock_fd);
	free(image->name);
	free(image->digest);
	free(image->rootfs_path);
	plane_image_words_free(image->argv);
	plane_image_words_free(image->env);
	free(image->user);
	free(image->workdir);
	free(image->groups);
	free(image->home);
	*image = (struct plane_image)PLANE_IMAGE_EMPTY;
}

static json_t *words_to_json(char *const *words)
{
	json_t *array = json_array();
	for (; words && *words; words++)
		/* Not every byte string is text for JSON; import refuses those that are not. */
		(void)json_array_append_new(array, json_string(*words));
	return array;
}

json_t *plane_image_to_json(const struct plane_image *image)
{
	_cleanup_json_ json_t *groups = json_array();
	for (size_t i = 0; i < image->group_count; i++)
		(void)json_array_append_new(groups, json_integer(image->groups[i]));
	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:s, s:s, s:i, s:i, s:O, s:s, s:I, s:I}",
		"name", image->name, "digest", image->digest, "rootfs", image->rootfs_path, "argv",
		words_to_json(image->argv), "env", words_to_json(image->env), "user", image->user,
		"workdir", image->workdir, "uid", (int)image->uid, "gid", (int)image->gid, "groups",
		groups, "home", image->home, "size_bytes", (json_int_t)image->size_bytes,
		"imported_at_ms", (json_int_t)image->imported_at_ms);
}

static int words_from_json(
	const json_t *object, const char *name, char ***words, struct plane_error *err)
{
	json_t *array = NULL;
	int result = plane_json_get_any(object, name, PLANE_JSON_REQUIRED, &array, err);
	if (result < 0)
		return result;
	if (!json_is_array(array))
		return plane_error_set(err, EPROTO, "%s: expected an array", name);
	char **list = plane_alloc_zero(json_array_size(array) + 1, sizeof(*list));
	*words = list;
	size_t i;
	json_t *value;
	json_array_foreach (array, i, value) {
		if (!json_is_string(value))
			return plane_error_set(err, EPROTO, "%s[%zu]: expected a string", name, i);
		list[i] = plane_strdup(json_string_value(value));
	}
	return 0;
}

static int groups_from_json(
	const json_t *object, struct plane_image *image, struct plane_error *err)
{
	const json_t *array = json_object_get(object, "groups");
	if (!json_is_array(array))
		return plane_error_set(err, EPROTO, "groups: expected an array");
	image->groups = plane_alloc_zero(json_array_size(array) + 1, sizeof(*image->groups));
	size_t i;
	json_t *value;
	json_array_foreach (array, i, value) {
		json_int_t id = json_integer_value(value);
		if (!json_is_integer(value) || id < 0 || id > MAX_ID)
			return plane_error_set(err, EPROTO, "groups[%zu]: expected a group id", i);
		image->groups[image->group_count++] = (uint32_t)id;
	}
	return 0;
}

static int text_from_json(
	const json_t *object, const char *name, char **text, struct plane_error *err)
{
	const char *value = NULL;
	int result = plane_json_get_text(object, name, PLANE_JSON_REQUIRED, &value, err);
	if (result == 0)
		*text = plane_strdup(value);
	return result;
}

static int numbers_from_json(
	const json_t *object, struct plane_image *image, struct plane_error *err)
{
	int64_t uid = 0, gid = 0;
	int result = plane_json_get_int(object, "uid", PLANE_JSON_REQUIRED, 0, MAX_ID, &uid, err);
	if (result == 0)
		result = plane_json_get_int(
			object, "gid", PLANE_JSON_REQUIRED, 0, MAX_ID, &gid, err);
	if (result == 0)
		result = plane_json_get_int(object, "size_bytes", PLANE_JSON_REQUIRED, 0, INT64_MAX,
			&image->size_bytes, err);
	if (result == 0)
		result = plane_json_get_int(object, "imported_at_ms", PLANE_JSON_REQUIRED, 0,
			INT64_MAX, &image->imported_at_ms, err);
	image->uid = (uint32_t)uid;
	image->gid = (uint32_t)gid;
	return result;
}

static int record_from_json(
	const json_t *object, struct plane_image *image, struct plane_error *err)
{
	if (!json_is_object(object))
		return plane_error_set(err, EPROTO, "expected an object");
	int result = text_from_json(object, "digest", &image->digest, err);
	if (result == 0 && !plane_image_is_digest(image->digest))
		result = plane_error_set(err, EPROTO, "digest: expected sha256:<hex>");
	if (result == 0)
		result = text_from_json(object, "user", &image->user, err);
	if (result == 0)
		result = text_from_json(object, "workdir", &image->workdir, err);
	if (result == 0)
		result = text_from_json(object, "home", &image->home, err);
	if (result == 0)
		result = words_from_json(object, "argv", &image->argv, err);
	if (result == 0 && !image->argv[0])
		result = plane_error_set(err, EPROTO, "argv: expected a command");
	if (result == 0)
		result = words_from_json(object, "env", &image->env, err);
	if (result == 0)
		result = groups_from_json(object, image, err);
	if (result == 0)
		result = numbers_from_json(object, image, err);
	return result;
}

static char *record_path(const char *images_dir, const char *full_name)
{
	char file[PLANE_IMAGE_FILE_SIZE];
	plane_image_name_to_file(full_name, file);
	return plane_strdupf("%s/index/%s", images_dir, file);
}

/* A record is never changed, only replaced: another one has another inode or another time. */
static void stamp(const char *path, struct plane_image *image)
{
	struct stat st = { 0 };
	(void)stat(path, &st); /* gone: zeroes, which are no record's */
	image->record_inode = st.st_ino;
	image->record_changed_ns = st.st_ctim.tv_sec * INT64_C(1000000000) + st.st_ctim.tv_nsec;
	image->record_size = st.st_size;
}

bool plane_image_is_current(const char *images_dir, const struct plane_image *image)
{
	_cleanup_free_ char *path = record_path(images_dir, image->name);
	struct plane_image now = PLANE_IMAGE_EMPTY;
	stamp(path, &now);
	return now.record_inode != 0 && now.record_inode == image->record_inode &&
	       now.record_changed_ns == image->record_changed_ns &&
	       now.record_size == image->record_size;
}

int plane_image_record_read(const char *images_dir, const char *full_name,
	struct plane_image *image, struct plane_error *err)
{
	_cleanup_free_ char *path = record_path(images_dir, full_name);
	_cleanup_(plane_buffer_finish) struct plane_buffer content = { 0 };
	struct plane_image read = PLANE_IMAGE_EMPTY;
	stamp(path, &read); /* first: what is replaced meanwhile is not current */
	int result = plane_file_read(path, MAX_RECORD_BYTES, &content, err);
	if (result < 0)
		return result;
	_cleanup_json_ json_t *object = plane_json_parse(content.data, content.len, err);
	result = object ? record_from_json(object, &read, err) : -EPROTO;
	if (result < 0) {
		plane_image_finish(&read);
		(void)plane_error_prefix(err,
			"image %s: its record %s is damaged (remove it and import again)",
			full_name, path);
		return -EPROTO;
	}
	read.name = plane_strdup(full_name);
	read.rootfs_path = plane_strdupf("%s/trees/%s/rootfs", images_dir, read.digest + 7);
	*image = read;
	return 0;
}

int plane_image_record_write(
	const char *images_dir, const struct plane_image *image, struct plane_error *err)
{
	char file[PLANE_IMAGE_FILE_SIZE];
	plane_image_name_to_file(image->name, file);
	_cleanup_free_ char *path = plane_strdupf("%s/index/%s", images_dir, file);
	_cleanup_json_ json_t *object = plane_image_to_json(image);
	if (!object)
		return plane_error_set(
			err, EINVAL, "image %s: its configuration is not UTF-8 text", image->name);
	(void)json_object_del(object, "rootfs"); /* follows from the digest */
	_cleanup_free_ char *text = plane_json_dump(object);
	return plane_file_replace(path, text, strlen(text), 0600, true, err);
}
