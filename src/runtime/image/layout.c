/* Reading layouts. All names in a layout are resolved inside of it. */
#include "runtime/image/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"
#include "runtime/image/digest.h"
#include "runtime/image/record.h"

#define MAX_JSON ((off_t)8 << 20)
#define MAX_LAYERS 512
#define MAX_INDEX_DEPTH 3

struct layout {
	struct plane_tree files; /* the layout's directory */
	struct plane_unpack *unpack;
	EVP_MD_CTX *identity; /* of configuration and layers */
};

static int open_file(const struct layout *layout, const char *path, struct plane_error *err)
{
	struct stat status;
	_cleanup_close_ int fd = plane_tree_open(&layout->files, path, O_RDONLY | O_NONBLOCK, err);
	if (fd < 0)
		return plane_error_prefix(err, "%s", layout->unpack->source);
	if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
		return plane_error_set(
			err, EINVAL, "%s: %.300s is no regular file", layout->unpack->source, path);
	return plane_steal_fd(&fd);
}

/* The file's digest goes into the image's identity; `wanted` ("sha256:...") may be NULL. */
static int check_digest(struct layout *layout, int fd, const char *path, const char *wanted,
	struct plane_error *err)
{
	char digest[PLANE_DIGEST_SIZE] = "";
	int result = plane_digest_file(fd, digest, err);
	if (result < 0)
		return result;
	if (wanted && strcmp(wanted, digest) != 0)
		return plane_error_set(err, EBADMSG,
			"%s: %.200s is damaged: its digest is %s instead of %s",
			layout->unpack->source, path, digest, wanted);
	(void)EVP_DigestUpdate(layout->identity, digest, sizeof(digest)); /* memory only */
	return 0;
}

static int read_json(
	struct layout *layout, int fd, const char *path, json_t **json, struct plane_error *err)
{
	struct stat status;
	if (fstat(fd, &status) < 0 || status.st_size > MAX_JSON)
		return plane_error_set(
			err, E2BIG, "%s: %.300s is too large", layout->unpack->source, path);
	_cleanup_free_ char *text = plane_alloc((size_t)status.st_size + 1);
	ssize_t got = pread(fd, text, (size_t)status.st_size, 0);
	*json = got < 0 ? NULL : plane_json_parse(text, (size_t)got, err);
	if (!*json)
		return plane_error_prefix(err, "%s: %.300s", layout->unpack->source, path);
	return 0;
}

static int read_json_at(
	struct layout *layout, const char *path, json_t **json, struct plane_error *err)
{
	_cleanup_close_ int fd = open_file(layout, path, err);
	return fd < 0 ? fd : read_json(layout, fd, path, json, err);
}

/* A compressed layer may stand under a digest of its tar: then its gzip, xz or zstd magic says
 * why the digest differs, and the archive's own checks must do. */
static bool is_compressed(int fd)
{
	unsigned char magic[6] = { 0 };
	ssize_t got = pread(fd, magic, sizeof(magic), 0);
	return got == sizeof(magic) &&
	       (memcmp(magic, "\x1f\x8b", 2) == 0 || memcmp(magic, "\x28\xb5\x2f\xfd", 4) == 0 ||
		       memcmp(magic,
			       "\xfd"
			       "7zXZ",
			       6) == 0 ||
		       memcmp(magic, "BZh", 3) == 0);
}

static int unpack_layer(struct layout *layout, const char *path, const char *digest,
	const char *diff_id, bool is_first, struct plane_error *err)
{
	_cleanup_close_ int fd = open_file(layout, path, err);
	if (fd < 0)
		return fd;
	const char *wanted = digest ? digest : is_compressed(fd) ? NULL : diff_id;
	int result = check_digest(layout, fd, path, wanted, err);
	if (result < 0)
		return result;
	struct plane_unpack layer = *layout->unpack;
	layer.has_whiteouts = !is_first;
	result = plane_unpack_tar(&layer, fd, err);
	layout->unpack->warned = layer.warned;
	return result < 0 ? plane_error_prefix(err, "layer %.100s", path) : 0;
}

static int read_config(struct layout *layout, const char *path, const char *digest, json_t **json,
	struct plane_image_config *config, struct plane_error *err)
{
	_cleanup_close_ int fd = open_file(layout, path, err);
	if (fd < 0)
		return fd;
	int result = check_digest(layout, fd, path, digest, err);
	if (result == 0)
		result = read_json(layout, fd, path, json, err);
	if (result == 0)
		result = plane_image_config_read(*json, config, err);
	return result < 0 ? plane_error_prefix(err, "the image's configuration") : 0;
}

/* ---- OCI ---- */

/* The digest of a descriptor and the path of its blob. */
static int blob_path(
	const json_t *descriptor, const char **digest, char path[128], struct plane_error *err)
{
	const char *text = json_string_value(json_object_get(descriptor, "digest"));
	if (!text || !plane_image_is_digest(text))
		return plane_error_set(err, EINVAL, "a descriptor has no sha256 digest");
	*digest = text;
	snprintf(path, 128, "blobs/sha256/%s", text + 7);
	return 0;
}

static const char *host_architecture(void)
{
	struct utsname name;
	if (uname(&name) < 0)
		return "";
	if (strcmp(name.machine, "x86_64") == 0)
		return "amd64";
	return strcmp(name.machine, "aarch64") == 0 ? "arm64" : "";
}

static bool is_for_this_machine(const json_t *descriptor)
{
	const json_t *platform = json_object_get(descriptor, "platform");
	const char *os = json_string_value(json_object_get(platform, "os"));
	const char *architecture = json_string_value(json_object_get(platform, "architecture"));
	return os && architecture && strcmp(os, "linux") == 0 &&
	       strcmp(architecture, host_architecture()) == 0;
}

/* The one manifest, or the one for this machine. */
static const json_t *choose_manifest(const json_t *index, struct plane_error *err)
{
	const json_t *manifests = json_object_get(index, "manifests");
	const json_t *chosen = NULL;
	size_t i, fitting = 0;
	json_t *entry;
	if (json_array_size(manifests) == 1)
		return json_array_get(manifests, 0);
	json_array_foreach (manifests, i, entry) {
		if (is_for_this_machine(entry)) {
			chosen = entry;
			fitting++;
		}
	}
	if (fitting == 1)
		return chosen;
	plane_error_set(err, EINVAL,
		"the layout holds %zu images, %zu of them for linux/%s: it must be one",
		json_array_size(manifests), fitting, host_architecture());
	return NULL;
}

static int unpack_oci_manifest(struct layout *layout, const json_t *manifest,
	struct plane_image_config *config, struct plane_error *err)
{
	const json_t *layers = json_object_get(manifest, "layers");
	_cleanup_json_ json_t *json = NULL;
	const char *digest = NULL;
	char path[128];
	size_t i;
	json_t *layer;
	if (!json_is_array(layers) || json_array_size(layers) > MAX_LAYERS)
		return plane_error_set(
			err, EINVAL, "the manifest has no layers, or more than %d", MAX_LAYERS);
	int result = blob_path(json_object_get(manifest, "config"), &digest, path, err);
	if (result == 0)
		result = read_config(layout, path, digest, &json, config, err);
	json_array_foreach (layers, i, layer) {
		if (result == 0)
			result = blob_path(layer, &digest, path, err);
		if (result == 0)
			result = unpack_layer(layout, path, digest, NULL, i == 0, err);
	}
	return result;
}

static int unpack_oci(
	struct layout *layout, struct plane_image_config *config, struct plane_error *err)
{
	_cleanup_json_ json_t *document = NULL;
	int result = read_json_at(layout, "index.json", &document, err);
	for (int depth = 0; result == 0 && json_object_get(document, "manifests"); depth++) {
		const char *digest = NULL;
		char path[128];
		const json_t *entry = choose_manifest(document, err);
		if (!entry || depth == MAX_INDEX_DEPTH)
			return entry ? plane_error_set(err, EINVAL, "indexes in indexes in indexes")
				     : err->code;
		result = blob_path(entry, &digest, path, err);
		if (result < 0)
			return result;
		_cleanup_close_ int fd = open_file(layout, path, err);
		if (fd < 0)
			return fd;
		json_t *next = NULL;
		result = check_digest(layout, fd, path, digest, err);
		if (result == 0)
			result = read_json(layout, fd, path, &next, err);
		json_decref(document);
		document = next;
	}
	return result < 0 ? result : unpack_oci_manifest(layout, document, config, err);
}

/* ---- docker save ---- */

static const char *diff_id(const json_t *config, size_t index)
{
	const json_t *ids = json_object_get(json_object_get(config, "rootfs"), "diff_ids");
	const char *id = json_string_value(json_array_get(ids, index));
	return id && plane_image_is_digest(id) ? id : NULL;
}

static int unpack_docker_image(struct layout *layout, const json_t *image,
	struct plane_image_config *config, struct plane_error *err)
{
	const char *config_path = json_string_value(json_object_get(image, "Config"));
	const json_t *layers = json_object_get(image, "Layers");
	_cleanup_json_ json_t *json = NULL;
	size_t i;
	json_t *layer;
	if (!config_path || !json_is_array(layers) || json_array_size(layers) > MAX_LAYERS)
		return plane_error_set(err, EINVAL,
			"manifest.json: expected Config and up to %d Layers", MAX_LAYERS);
	int result = read_config(layout, config_path, NULL, &json, config, err);
	json_array_foreach (layers, i, layer) {
		if (result == 0 && !json_is_string(layer))
			result = plane_error_set(
				err, EINVAL, "manifest.json: Layers[%zu]: expected a text", i);
		if (result == 0)
			result = unpack_layer(layout, json_string_value(layer), NULL,
				diff_id(json, i), i == 0, err);
	}
	return result;
}

static int unpack_docker(
	struct layout *layout, struct plane_image_config *config, struct plane_error *err)
{
	_cleanup_json_ json_t *manifest = NULL;
	int result = read_json_at(layout, "manifest.json", &manifest, err);
	if (result < 0)
		return result;
	if (!json_is_array(manifest) || json_array_size(manifest) != 1)
		return plane_error_set(err, EINVAL,
			"%s holds %zu images: save exactly one (docker save NAME:TAG)",
			layout->unpack->source, json_array_size(manifest));
	return unpack_docker_image(layout, json_array_get(manifest, 0), config, err);
}

enum plane_layout_kind plane_layout_of(int dir_fd)
{
	if (faccessat(dir_fd, "oci-layout", F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
		faccessat(dir_fd, "index.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return PLANE_LAYOUT_OCI;
	if (faccessat(dir_fd, "manifest.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return PLANE_LAYOUT_DOCKER;
	return PLANE_LAYOUT_NONE;
}

int plane_layout_unpack(int dir_fd, enum plane_layout_kind kind, struct plane_unpack *unpack,
	struct plane_image_config *config, char *digest, struct plane_error *err)
{
	struct layout layout = {
		.files = { .root_fd = dir_fd }, .unpack = unpack, .identity = EVP_MD_CTX_new()
	};
	unsigned char sum[EVP_MAX_MD_SIZE];
	int result = -ENOMEM;
	if (layout.identity && EVP_DigestInit_ex(layout.identity, EVP_sha256(), NULL) == 1)
		result = kind == PLANE_LAYOUT_OCI ? unpack_oci(&layout, config, err)
						  : unpack_docker(&layout, config, err);
	if (result == 0 && EVP_DigestFinal_ex(layout.identity, sum, NULL) == 1)
		plane_digest_text(sum, digest);
	EVP_MD_CTX_free(layout.identity);
	if (result < 0)
		plane_image_config_finish(config);
	return result;
}
