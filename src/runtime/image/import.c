/* Importing: finds out what the source is, unpacks it beside the store, and publishes it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "runtime/image/config.h"
#include "runtime/image/digest.h"
#include "runtime/image/image.h"
#include "runtime/image/layout.h"
#include "runtime/image/store.h"
#include "runtime/image/unpack.h"

struct import {
	const char *path;
	const struct plane_image_overrides *overrides;
	struct plane_image_work work;
	struct plane_tree tree; /* what becomes the image */
	int root_fd;
	struct plane_image_config config;
	char digest[PLANE_DIGEST_SIZE];
};

static void tell(const struct import *import, const char *format, const char *subject)
{
	const struct plane_image_overrides *overrides = import->overrides;
	if (!overrides->progress)
		return;
	_cleanup_free_ char *line = plane_strdupf("%s%s", format, subject);
	overrides->progress(overrides->progress_data, false, line);
}

static void on_warning(void *data, const char *line)
{
	const struct plane_image_overrides *overrides = ((struct import *)data)->overrides;
	if (overrides->progress)
		overrides->progress(overrides->progress_data, true, line);
}

static struct plane_unpack unpack_into(struct import *import, struct plane_tree *tree)
{
	return (struct plane_unpack){
		.tree = tree, .source = import->path, .warn = on_warning, .data = import
	};
}

static int import_layout(
	struct import *import, int dir_fd, enum plane_layout_kind kind, struct plane_error *err)
{
	struct plane_unpack unpack = unpack_into(import, &import->tree);
	tell(import,
		kind == PLANE_LAYOUT_OCI ? "unpacking an OCI layout: " : "unpacking an image: ",
		import->path);
	return plane_layout_unpack(dir_fd, kind, &unpack, &import->config, import->digest, err);
}

/* An archive of layers is unpacked beside the tree first: its parts come in any order. */
static int import_layered_tar(struct import *import, int fd, struct plane_error *err)
{
	_cleanup_free_ char *path = plane_strdupf("%s/source", import->work.path);
	if (mkdir(path, 0700) < 0)
		return plane_error_errno(err, "make %s", path);
	_cleanup_close_ int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return plane_error_errno(err, "open %s", path);
	struct plane_tree files = { .root_fd = dir_fd, .max_bytes = import->tree.max_bytes };
	struct plane_unpack unpack = unpack_into(import, &files);
	int result = plane_unpack_tar(&unpack, fd, err);
	return result < 0 ? result : import_layout(import, dir_fd, plane_layout_of(dir_fd), err);
}

static int import_tar(struct import *import, int fd, struct plane_error *err)
{
	static const char *const marks[] = { "manifest.json", "oci-layout", "index.json" };
	bool found[3];
	int result = plane_unpack_look(fd, import->path, marks, found, 3, err);
	if (result < 0)
		return result;
	if (found[0] || (found[1] && found[2]))
		return import_layered_tar(import, fd, err);
	struct plane_unpack unpack = unpack_into(import, &import->tree);
	tell(import, "unpacking a root file system: ", import->path);
	result = plane_unpack_tar(&unpack, fd, err);
	return result < 0 ? result : plane_digest_file(fd, import->digest, err);
}

static int import_directory(struct import *import, int fd, struct plane_error *err)
{
	enum plane_layout_kind kind = plane_layout_of(fd);
	if (kind != PLANE_LAYOUT_NONE)
		return import_layout(import, fd, kind, err);
	struct plane_unpack unpack = unpack_into(import, &import->tree);
	tell(import, "copying the directory ", import->path);
	return plane_unpack_directory(&unpack, import->path, import->digest, err);
}

static int import_source(struct import *import, struct plane_error *err)
{
	struct stat status;
	_cleanup_close_ int fd = open(import->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return plane_error_errno(err, "open %s", import->path);
	if (fstat(fd, &status) < 0)
		return plane_error_errno(err, "look at %s", import->path);
	if (S_ISDIR(status.st_mode))
		return import_directory(import, fd, err);
	if (!S_ISREG(status.st_mode))
		return plane_error_set(err, EINVAL,
			"%s is neither a directory nor a file (archives are read twice)",
			import->path);
	return import_tar(import, fd, err);
}

/* The root itself is entered by all users of the image. */
static int begin(struct import *import, const char *images_dir, struct plane_error *err)
{
	uint64_t max_bytes = import->overrides->max_bytes;
	int result = plane_image_work_begin(images_dir, &import->work, err);
	if (result < 0)
		return result;
	_cleanup_free_ char *rootfs = plane_strdupf("%s/tree/rootfs", import->work.path);
	if (chmod(rootfs, 0755) < 0)
		return plane_error_errno(err, "open %s to its users", rootfs);
	import->root_fd = open(rootfs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (import->root_fd < 0)
		return plane_error_errno(err, "open %s", rootfs);
	import->tree = (struct plane_tree){ .root_fd = import->root_fd,
		.max_bytes = max_bytes ? max_bytes : PLANE_IMAGE_DEFAULT_MAX_BYTES };
	return 0;
}

static int run(struct import *import, const char *images_dir, struct plane_image *image,
	struct plane_error *err)
{
	int result = begin(import, images_dir, err);
	if (result == 0)
		result = import_source(import, err);
	if (result == 0)
		result = plane_image_config_apply(
			&import->config, import->overrides, import->root_fd, image, err);
	if (result < 0)
		return result;
	image->digest = plane_strdup(import->digest);
	image->size_bytes = (int64_t)import->tree.bytes;
	image->imported_at_ms = plane_clock_realtime_ms();
	return plane_image_work_commit(images_dir, &import->work, image, err);
}

int plane_image_import(const char *images_dir, const char *name, const char *path,
	const struct plane_image_overrides *overrides, struct plane_image *image,
	struct plane_error *err)
{
	static const struct plane_image_overrides none = { 0 };
	struct import import = { .path = path,
		.overrides = overrides ? overrides : &none,
		.work = PLANE_IMAGE_WORK_EMPTY,
		.root_fd = -1 };
	struct plane_image made = PLANE_IMAGE_EMPTY;
	made.name = plane_image_full_name(name, err);
	if (!made.name)
		return -EINVAL;
	int result = run(&import, images_dir, &made, err);
	plane_closep(&import.root_fd);
	plane_image_config_finish(&import.config);
	plane_image_work_finish(&import.work);
	if (result < 0) {
		plane_image_finish(&made);
		return plane_error_prefix(err, "import %s", name);
	}
	*image = made;
	return 0;
}
