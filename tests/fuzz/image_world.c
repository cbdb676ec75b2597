/* Importing where nothing can be hurt, and looking at what came of it. */
#include "image_world.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "runtime/image/image.h"
#include "runtime/image/record.h"

#define BLOCK 512
#define MAX_ID 65535
#define DEPTH_MAX 600
#define TARS_IN_TARS_MAX 2

/* ---- trees ---- */

/* Adds the sizes of the files up. */
static void check_tree(int dir_fd, int depth, dev_t device, uint64_t *bytes)
{
	_cleanup_closedir_ DIR *dir = fdopendir(dir_fd);
	FUZZ_CHECK(dir && depth < DEPTH_MAX);
	for (struct dirent *entry; (entry = readdir(dir));) {
		struct stat status;
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		FUZZ_CHECK(fstatat(dirfd(dir), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0);
		FUZZ_CHECK(status.st_dev == device);
		FUZZ_CHECK(status.st_uid <= MAX_ID && status.st_gid <= MAX_ID);
		FUZZ_CHECK(S_ISREG(status.st_mode) || S_ISDIR(status.st_mode) ||
			   S_ISLNK(status.st_mode) || S_ISFIFO(status.st_mode));
		if (S_ISREG(status.st_mode))
			*bytes += (uint64_t)status.st_size / status.st_nlink;
		if (!S_ISDIR(status.st_mode))
			continue;
		int child = openat(
			dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		FUZZ_CHECK(child >= 0);
		check_tree(child, depth + 1, device, bytes);
	}
}

static void check_image(const struct plane_image *image)
{
	struct stat status;
	uint64_t bytes = 0;
	FUZZ_CHECK(plane_image_is_digest(image->digest));
	FUZZ_CHECK(image->argv && image->argv[0] && image->argv[0][0]);
	FUZZ_CHECK(image->workdir[0] == '/' && image->home[0] == '/');
	FUZZ_CHECK(image->uid <= MAX_ID && image->gid <= MAX_ID);
	for (size_t i = 0; image->env[i]; i++)
		FUZZ_CHECK(strchr(image->env[i], '=') > image->env[i]);
	int fd = open(image->rootfs_path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	FUZZ_CHECK(fd >= 0 && fstat(fd, &status) == 0);
	FUZZ_CHECK(status.st_uid <= MAX_ID && status.st_gid <= MAX_ID);
	check_tree(fd, 0, status.st_dev, &bytes);
	FUZZ_CHECK(bytes <= IMAGE_WORLD_MAX_BYTES * 64); /* holes: at most the limit a file */
}

/* ---- the store ---- */

static void check_empty(const char *path)
{
	_cleanup_closedir_ DIR *dir = opendir(path);
	for (struct dirent *entry; dir && (entry = readdir(dir));)
		FUZZ_CHECK(strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0);
}

static void on_progress(void *data, bool is_warning, const char *line)
{
	(void)data;
	(void)is_warning;
	FUZZ_CHECK(line && line[0]);
}

static void check_stored(const struct plane_image *made)
{
	struct plane_image found = PLANE_IMAGE_EMPTY;
	struct plane_error err = { 0 };
	bool is_kept = true;
	FUZZ_CHECK(plane_image_resolve(IMAGE_WORLD_STORE, "fuzz", &found, &err) == 0);
	FUZZ_CHECK(strcmp(found.digest, made->digest) == 0);
	FUZZ_CHECK(strcmp(found.argv[0], made->argv[0]) == 0);
	FUZZ_CHECK(found.uid == made->uid && found.gid == made->gid);
	check_image(&found);
	plane_image_finish(&found);
	FUZZ_CHECK(plane_image_remove(IMAGE_WORLD_STORE, "fuzz", &is_kept, &err) == 0);
}

void image_world_import(const char *path, bool is_bare)
{
	static const char *const cmd[] = { "/run", NULL }; /* a tar of a file system has none */
	const struct plane_image_overrides overrides = { .max_bytes = IMAGE_WORLD_MAX_BYTES,
		.cmd = is_bare ? cmd : NULL,
		.progress = on_progress };
	struct plane_image image = PLANE_IMAGE_EMPTY;
	struct plane_error err = { 0 };
	int result = plane_image_import(IMAGE_WORLD_STORE, "fuzz", path, &overrides, &image, &err);
	fuzz_check_error(result, &err);
	jail_check_untouched();
	if (result == 0)
		check_image(&image);
	struct plane_image kept = image;
	kept.lock_fd = -1; /* given back first: a tree that is used stays */
	plane_closep(&image.lock_fd);
	if (result == 0)
		check_stored(&kept);
	plane_image_finish(&image);
	check_empty(IMAGE_WORLD_STORE "/tmp");
	check_empty(IMAGE_WORLD_STORE "/trees");
	check_empty(IMAGE_WORLD_STORE "/index");
	jail_check_untouched();
}

/* ---- tars ---- */

static bool is_zero(const uint8_t *block)
{
	for (size_t i = 0; i < BLOCK; i++)
		if (block[i])
			return false;
	return true;
}

static void mend_head(uint8_t *block)
{
	unsigned sum = 0;
	memset(block + 148, ' ', 8);
	for (size_t i = 0; i < BLOCK; i++)
		sum += block[i];
	char text[8];
	snprintf(text, sizeof(text), "%06o", sum);
	memcpy(block + 148, text, 7);
}

void image_world_mend_tar(uint8_t *bytes, size_t len, int depth)
{
	size_t at = 0;
	while (len - at >= BLOCK) {
		uint8_t *head = bytes + at;
		at += BLOCK;
		if (is_zero(head))
			continue;
		mend_head(head);
		char digits[13] = "";
		memcpy(digits, head + 124, 12);
		size_t size = strtoull(digits, NULL, 8), rest = len - at;
		size_t padded = size < rest ? (size + BLOCK - 1) / BLOCK * BLOCK : rest;
		size = size < rest ? size : rest;
		if (depth < TARS_IN_TARS_MAX && size >= BLOCK &&
			memcmp(bytes + at + 257, "ustar", 5) == 0)
			image_world_mend_tar(bytes + at, size, depth + 1);
		at += padded < rest ? padded : rest;
	}
}
