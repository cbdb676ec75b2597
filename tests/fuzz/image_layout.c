/* runtime/image/: layouts with any documents in them: index, manifest, configuration, layers. An
 * input is a list of blobs, ended by bytes 0xff; "@1" in one stands for the digest of the first,
 * and so on, so that what is found by its digest is found. The last one is the layout's index.json,
 * or, when it begins with '[', its manifest.json (docker save), where "#1" is the name of a blob.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/sha.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "image_world.h"

#define BLOBS_MAX 9
#define SEPARATOR 0xff
#define BLOBS IMAGE_WORLD_LAYOUT "/blobs/sha256"

struct blobs {
	char digests[BLOBS_MAX][SHA256_DIGEST_LENGTH * 2 + 1];
	size_t count;
};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char *const directories[] = { IMAGE_WORLD_LAYOUT, IMAGE_WORLD_STORE, NULL };
	(void)argc;
	(void)argv;
	plane_log_init("fuzz", PLANE_LOG_ERROR, PLANE_LOG_PRETTY);
	jail_create(directories);
	return 0;
}

/* With the references replaced, and a tar mended. */
static void expand(
	const struct blobs *blobs, const uint8_t *bytes, size_t len, struct plane_buffer *out)
{
	bool is_tar = len > 262 && memcmp(bytes + 257, "ustar", 5) == 0;
	for (size_t i = 0; i < len; i++) {
		size_t number = i + 1 < len ? (size_t)bytes[i + 1] - '1' : BLOBS_MAX;
		bool is_reference =
			!is_tar && (bytes[i] == '@' || bytes[i] == '#') && number < blobs->count;
		if (is_reference)
			plane_buffer_addf(out, "%s%s",
				bytes[i] == '@' ? "sha256:" : "blobs/sha256/",
				blobs->digests[number]);
		else
			plane_buffer_add(out, bytes + i, 1);
		i += is_reference;
	}
	if (is_tar)
		image_world_mend_tar((uint8_t *)out->data, out->len, 1);
}

static void add_blob(struct blobs *blobs, const uint8_t *bytes, size_t len)
{
	unsigned char hash[SHA256_DIGEST_LENGTH];
	_cleanup_(plane_buffer_finish) struct plane_buffer content = { 0 };
	char *digest = blobs->digests[blobs->count];
	expand(blobs, bytes, len, &content);
	SHA256((const unsigned char *)content.data, content.len, hash);
	for (size_t i = 0; i < sizeof(hash); i++)
		snprintf(digest + i * 2, 3, "%02x", hash[i]);
	_cleanup_free_ char *path = plane_strdupf(BLOBS "/%s", digest);
	jail_write(path, content.data ? content.data : "", content.len);
	blobs->count++;
}

static void add_last(const struct blobs *blobs, const uint8_t *bytes, size_t len)
{
	bool is_docker = len && bytes[0] == '[';
	_cleanup_(plane_buffer_finish) struct plane_buffer content = { 0 };
	expand(blobs, bytes, len, &content);
	jail_write(
		is_docker ? IMAGE_WORLD_LAYOUT "/manifest.json" : IMAGE_WORLD_LAYOUT "/index.json",
		content.data ? content.data : "", content.len);
	if (!is_docker)
		jail_write(IMAGE_WORLD_LAYOUT "/oci-layout", "{}", 2);
}

static void build(const uint8_t *bytes, size_t len)
{
	struct blobs blobs = { 0 };
	struct plane_error err = { 0 };
	FUZZ_CHECK(plane_file_make_directories(BLOBS, 0700, &err) == 0);
	const uint8_t *end;
	while (blobs.count < BLOBS_MAX && len && (end = memchr(bytes, SEPARATOR, len))) {
		add_blob(&blobs, bytes, (size_t)(end - bytes));
		len -= (size_t)(end + 1 - bytes);
		bytes = end + 1;
	}
	add_last(&blobs, bytes, len);
}

static void clear(void)
{
	struct plane_error err = { 0 };
	static const char *const names[] = { "blobs", "index.json", "manifest.json", "oci-layout" };
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		_cleanup_free_ char *path = plane_strdupf(IMAGE_WORLD_LAYOUT "/%s", names[i]);
		FUZZ_CHECK(plane_file_remove_tree(path, &err) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	jail_enter();
	build(bytes, len);
	image_world_import(IMAGE_WORLD_LAYOUT, false);
	clear();
	jail_leave();
	return 0;
}
