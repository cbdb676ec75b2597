/* Whole files and trees. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/random.h"

int plane_file_read(
	const char *path, size_t max, struct plane_buffer *content, struct plane_error *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return plane_error_errno(err, "open %s", path);
	size_t total = 0;
	for (;;) {
		ssize_t got = read(fd, plane_buffer_reserve(content, 4096), 4096);
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

static int write_and_rename(const char *temporary, const char *path, const void *bytes, size_t len,
	mode_t mode, bool is_durable, struct plane_error *err)
{
	_cleanup_close_ int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0)
		return plane_error_errno(err, "create %s", temporary);
	if (plane_file_write_all(fd, bytes, len, err) < 0)
		return plane_error_prefix(err, "%s", temporary);
	if (is_durable && fsync(fd) < 0)
		return plane_error_errno(err, "fsync %s", temporary);
	if (rename(temporary, path) < 0)
		return plane_error_errno(err, "rename %s to %s", temporary, path);
	return 0;
}

int plane_file_replace(const char *path, const void *bytes, size_t len, mode_t mode,
	bool is_durable, struct plane_error *err)
{
	char suffix[9];
	plane_random_alphanumeric(suffix, 8);
	_cleanup_free_ char *temporary = plane_strdupf("%s.%s.tmp", path, suffix);
	int result = write_and_rename(temporary, path, bytes, len, mode, is_durable, err);
	if (result < 0)
		(void)unlink(temporary); /* it may not even exist */
	return result;
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
