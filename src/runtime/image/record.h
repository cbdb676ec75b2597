/* The record of one name: a JSON file in the index, replaced in one step. */
#ifndef PLANE_RUNTIME_IMAGE_RECORD_H
#define PLANE_RUNTIME_IMAGE_RECORD_H

#include <jansson.h>

#include "runtime/image/image.h"

/** "sha256:" and 64 hex digits. */
bool plane_image_is_digest(const char *text);

/** What the record holds; also what `plane image show --json` prints. Caller decrefs. */
json_t *plane_image_to_json(const struct plane_image *image);

/** Reads the record; lock_fd of `image` is -1. -ENOENT (without advice) when there is none. */
int plane_image_record_read(const char *images_dir, const char *full_name,
	struct plane_image *image, struct plane_error *err);

/** Replaces the record, durably. */
int plane_image_record_write(
	const char *images_dir, const struct plane_image *image, struct plane_error *err);

/** Frees a NULL-terminated list and its texts. */
void plane_image_words_free(char **words);

#endif
