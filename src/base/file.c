/* Whole files and trees. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/random.h"
#include "base/text.h"

/* From the present offset on; of a descriptor that others share, from the beginning on. */
static int read_all(int fd, const char *path, bool is_shared, size_t max,
	struct plane_buffer *content, struct plane_error *err)
{
	size_t total = 0;
	for (;;) {
		char *room = plane_buffer_reserve(content, 4096);
		ssize_t got =
			is_shared ? pread(fd, room, 4096, (off_t)total) : read(fd, room, 4096);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return plane_error_errno(err, "read %s", path);
		if (got == 0)
			return 0;
		total += (size_t)got;
		if (total > max)
			return plane_error_set(
				err, EFBIG, "read %s: longer than %zu bytes", path, max);
		content->len += (size_t)got;
	}
}

int plane_file_read(
	const char *path, size_t max, struct plane_buffer *content, struct plane_error *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return plane_error_errno(err, "open %s", path);
	return read_all(fd, path, false, max, content, err);
}

int plane_file_check_private(int fd, const char *path, struct plane_error *err)
{
	struct stat status;
	if (fstat(fd, &status) < 0)
		return plane_error_errno(err, "look at %s", path);
	if (!S_ISREG(status.st_mode))
		return plane_error_set(err, EINVAL, "%s is no regular file", path);
	if (status.st_mode & (S_IWGRP | S_IRWXO))
		return plane_error_set(err, EPERM,
			"%s is open to other users (mode %04o): chmod 600 %s, or 640 where a group "
			"reads it",
			path, (unsigned)(status.st_mode & 07777), path);
	return 0;
}

static int read_private_descriptor(
	const char *path, size_t max, struct plane_buffer *content, struct plane_error *err)
{
	int64_t fd;
	if (!plane_text_parse_int(path + strlen("fd:"), 0, 1 << 20, &fd) ||
		fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
		return plane_error_set(err, EBADF, "%s is no open descriptor", path);
	int result = plane_file_check_private((int)fd, path, err);
	return result < 0 ? result : read_all((int)fd, path, true, max, content, err);
}

int plane_file_read_private(
	const char *path, size_t max, struct plane_buffer *content, struct plane_error *err)
{
	if (plane_text_starts_with(path, "fd:"))
		return read_private_descriptor(path, max, content, err);
	/* O_NONBLOCK: a pipe would wait for a writer */
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return plane_error_errno(err, "open %s", path);
	int result = plane_file_check_private(fd, path, err);
	return result < 0 ? result : read_all(fd, path, false, max, content, err);
}

int plane_file_write_all(int fd, const void *bytes, size_t len, struct plane_error *err)
{
	const char *next = bytes;
	while (len > 0) {
		ssize_t written = write(fd, next, len);
		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return plane_error_errno(err, "write");
		next += written;
		len -= (size_t)written;
	}
	return 0;
}

/* The rename is on the disk only when the directory is. */
static int sync_directory_of(const char *path, struct plane_error *err)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *directory = slash == NULL ? plane_strdup(".")
					 : slash == path
						 ? plane_strdup("/")
						 : plane_strndup(path, (size_t)(slash - path));
	_cleanup_close_ int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		return plane_error_errno(err, "fsync %s", directory);
	return 0;
}

/* What the new file is to be. */
struct replacement {
	const void *bytes;
	size_t len;
	mode_t mode;
	const struct stat *owner; /* NULL: of whoever writes it */
	bool is_durable;
};

static int write_and_rename(const char *temporary, const char *path, const struct replacement *new,
	struct plane_error *err)
{
	_cleanup_close_ int fd =
		open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, new->mode);
	if (fd < 0)
		return plane_error_errno(err, "create %s", temporary);
	if (new->owner && (fchown(fd, new->owner->st_uid, new->owner->st_gid) < 0 ||
				  fchmod(fd, new->owner->st_mode & 07777) < 0))
		return plane_error_errno(err, "give %s the owner of %s", temporary, path);
	if (plane_file_write_all(fd, new->bytes, new->len, err) < 0)
		return plane_error_prefix(err, "%s", temporary);
	if (new->is_durable && fsync(fd) < 0)
		return plane_error_errno(err, "fsync %s", temporary);
	if (rename(temporary, path) < 0)
		return plane_error_errno(err, "rename %s to %s", temporary, path);
	return new->is_durable ? sync_directory_of(path, err) : 0;
}

static int replace(const char *path, const struct replacement *new, struct plane_error *err)
{
	char suffix[9];
	plane_random_alphanumeric(suffix, 8);
	_cleanup_free_ char *temporary = plane_strdupf("%s.%s.tmp", path, suffix);
	int result = write_and_rename(temporary, path, new, err);
	if (result < 0)
		(void)unlink(temporary); /* it may not even exist */
	return result;
}

int plane_file_replace(const char *path, const void *bytes, size_t len, mode_t mode,
	bool is_durable, struct plane_error *err)
{
	struct replacement new = {
		.bytes = bytes, .len = len, .mode = mode, .is_durable = is_durable
	};
	return replace(path, &new, err);
}

int plane_file_rewrite(const char *path, const void *bytes, size_t len, struct plane_error *err)
{
	struct stat owner;
	_cleanup_free_ char *target = realpath(path, NULL);
	if (!target || stat(target, &owner) < 0)
		return plane_error_errno(err, "find %s", path);
	struct replacement new = {
		.bytes = bytes, .len = len, .mode = 0600, .owner = &owner, .is_durable = true
	};
	return replace(target, &new, err);
}

int plane_file_make_directories(const char *path, mode_t mode, struct plane_error *err)
{
	_cleanup_free_ char *copy = plane_strdup(path);
	for (char *slash = strchr(copy + 1, '/');; slash = strchr(slash + 1, '/')) {
		if (slash)
			*slash = '\0';
		if (mkdir(copy, mode) < 0 && errno != EEXIST)
			return plane_error_errno(err, "create directory %s", copy);
		if (!slash)
			return 0;
		*slash = '/';
	}
}

int plane_file_write_text(const char *path, const char *text, struct plane_error *err)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return plane_error_errno(err, "open %s", path);
	if (write(fd, text, strlen(text)) < 0)
		return plane_error_errno(err, "write \"%s\" to %s", text, path);
	return 0;
}

#define REMOVE_DEPTH_MAX 16

/* One removal of a tree. */
struct removal {
	dev_t device;
	int root_fd;    /* -1 until it is open */
	unsigned moved; /* directories that were too deep and now stand below the root */
};

static int remove_entry(
	struct removal *removal, int parent, const char *name, int depth, struct plane_error *err);

static int remove_children(
	struct removal *removal, int owned_fd, int depth, struct plane_error *err)
{
	_cleanup_closedir_ DIR *dir = fdopendir(owned_fd);
	if (!dir) {
		(void)close(owned_fd);
		return plane_error_errno(err, "read directory");
	}
	for (struct dirent *entry; (entry = readdir(dir));) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		int result = remove_entry(removal, dirfd(dir), entry->d_name, depth + 1, err);
		if (result < 0)
			return result;
	}
	return 0;
}

/* A tree may be deeper than descriptors and stack reach: what is too deep goes up to the root,
 * where it is met again. */
static int move_up(struct removal *removal, int parent, const char *name, struct plane_error *err)
{
	char target[64];
	do
		snprintf(target, sizeof(target), ".plane-removed-%u", removal->moved++);
	while (faccessat(removal->root_fd, target, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
	if (renameat(parent, name, removal->root_fd, target) < 0)
		return plane_error_errno(err, "move directory %s up", name);
	return 0;
}

static int open_directory(
	const struct removal *removal, int parent, const char *name, struct plane_error *err)
{
	_cleanup_close_ int fd =
		openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return plane_error_errno(err, "open directory %s", name);
	if (st.st_dev != removal->device)
		return plane_error_set(
			err, EXDEV, "remove %s: a file system is mounted there", name);
	return plane_steal_fd(&fd);
}

static int remove_entry(
	struct removal *removal, int parent, const char *name, int depth, struct plane_error *err)
{
	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return plane_error_errno(err, "remove %s", name);
	for (;;) {
		int fd = open_directory(removal, parent, name, err);
		if (fd < 0)
			return fd;
		if (depth > REMOVE_DEPTH_MAX) {
			(void)close(fd);
			return move_up(removal, parent, name, err);
		}
		if (depth == 0)
			removal->root_fd = fd;
		unsigned moved = removal->moved;
		if (remove_children(removal, fd, depth, err) < 0)
			return plane_error_prefix(err, "%s", name);
		if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return 0;
		/* the root's own list may have been read before something was moved there */
		if (errno != ENOTEMPTY || depth > 0 || moved == removal->moved)
			return plane_error_errno(err, "remove directory %s", name);
	}
}

int plane_file_remove_tree(const char *path, struct plane_error *err)
{
	struct removal removal = { .root_fd = -1 };
	struct stat st;
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : plane_error_errno(err, "look at %s", path);
	removal.device = st.st_dev;
	return remove_entry(&removal, AT_FDCWD, path, 0, err);
}

void plane_file_spread_directories(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int flags = 0;
	if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		return;
	flags |= FS_TOPDIR_FL;
	(void)ioctl(fd, FS_IOC_SETFLAGS, &flags); /* a file system without it has its own ways */
}

int64_t plane_file_raise_limit(void)
{
	struct rlimit limit = { 0 };
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
			(void)getrlimit(RLIMIT_NOFILE, &limit); /* as it was */
	}
	return limit.rlim_cur > INT32_MAX ? INT32_MAX : (int64_t)limit.rlim_cur;
}
