/* Image names: [host[:port]/]path[:tag], as people know them from registries. A name never
 * becomes a path by itself: the index encodes what is special in one. */
#include "runtime/image/names.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "runtime/image/image.h"

#define MAX_TAG_LENGTH 128
#define SUFFIX ".json"

static bool is_word_char(char c)
{
	return isalnum((unsigned char)c) || c == '.' || c == '_' || c == '-';
}

/* One component of the path, or the tag: starts with a letter, a digit or '_'. */
static bool is_word(const char *text, size_t len)
{
	if (len == 0 || !(isalnum((unsigned char)text[0]) || text[0] == '_'))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!is_word_char(text[i]))
			return false;
	return true;
}

static bool is_port(const char *text, size_t len)
{
	if (len == 0 || len > 5)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isdigit((unsigned char)text[i]))
			return false;
	return true;
}

/* Everything but the tag; only the first of several components may carry a port. */
static bool is_path(const char *text, size_t len)
{
	const char *end = text + len;
	const char *slash = memchr(text, '/', len);
	if (slash) {
		const char *colon = memchr(text, ':', (size_t)(slash - text));
		const char *host_end = colon ? colon : slash;
		if (colon && !is_port(colon + 1, (size_t)(slash - colon - 1)))
			return false;
		if (!is_word(text, (size_t)(host_end - text)))
			return false;
		text = slash + 1;
	}
	for (;;) {
		slash = memchr(text, '/', (size_t)(end - text));
		if (!is_word(text, (size_t)((slash ? slash : end) - text)))
			return false;
		if (!slash)
			return true;
		text = slash + 1;
	}
}

static size_t encoded_length(const char *name)
{
	size_t len = 0;
	for (; *name; name++)
		len += *name == '/' || *name == ':' ? 3 : 1;
	return len;
}

char *plane_image_full_name(const char *name, struct plane_error *err)
{
	const char *slash = strrchr(name, '/');
	const char *tag = strchr(slash ? slash : name, ':');
	size_t path_len = tag ? (size_t)(tag - name) : strlen(name);
	if (strchr(name, '@')) {
		(void)plane_error_set(err, EINVAL,
			"image name \"%.255s\": images are found by name and tag, not by digest",
			name);
		return NULL;
	}
	if (!is_path(name, path_len) ||
		(tag && (!is_word(tag + 1, strlen(tag + 1)) || strlen(tag + 1) > MAX_TAG_LENGTH))) {
		(void)plane_error_set(err, EINVAL,
			"image name \"%.255s\": expected [host[:port]/]name[:tag] of letters, "
			"digits, '.', '_' and '-', like \"echo\" or \"team/echo:v2\"",
			name);
		return NULL;
	}
	_cleanup_free_ char *full = plane_strdupf("%s%s", name, tag ? "" : ":latest");
	if (encoded_length(full) + sizeof(SUFFIX) > PLANE_IMAGE_FILE_SIZE) {
		(void)plane_error_set(err, EINVAL, "image name \"%.64s...\" is too long", name);
		return NULL;
	}
	return STEAL(full);
}

void plane_image_name_to_file(const char *full_name, char file[PLANE_IMAGE_FILE_SIZE])
{
	size_t len = 0;
	for (; *full_name; full_name++) {
		const char *code = *full_name == '/' ? "%2F" : *full_name == ':' ? "%3A" : NULL;
		if (code) {
			memcpy(file + len, code, 3);
			len += 3;
		} else {
			file[len++] = *full_name;
		}
	}
	memcpy(file + len, SUFFIX, sizeof(SUFFIX));
}

char *plane_image_name_from_file(const char *file)
{
	size_t len = strlen(file);
	if (len >= PLANE_IMAGE_FILE_SIZE || !plane_text_ends_with(file, SUFFIX))
		return NULL;
	_cleanup_free_ char *name = plane_strndup(file, len - strlen(SUFFIX));
	char *to = name;
	for (const char *from = name; *from;) {
		bool is_slash = plane_text_starts_with(from, "%2F");
		bool is_coded = is_slash || plane_text_starts_with(from, "%3A");
		*to++ = is_slash ? '/' : is_coded ? ':' : *from;
		from += is_coded ? 3 : 1;
	}
	*to = '\0';
	_cleanup_free_ char *full = plane_image_full_name(name, NULL);
	if (!plane_text_equal(full, name))
		return NULL;
	char written[PLANE_IMAGE_FILE_SIZE];
	plane_image_name_to_file(name, written);
	return strcmp(written, file) == 0 ? STEAL(name) : NULL; /* one file for each name */
}
