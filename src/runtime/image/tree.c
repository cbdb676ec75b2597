/* Contained writing of a tree. */
#include "runtime/image/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"

#define MAX_ID 65535
#define RACES_MAX 100000

/* The kernel gives up on ".." with EAGAIN when anything on the machine is renamed or mounted at
 * that moment, and asks to try again (openat2(2)). */
static int open_in(int root_fd, const char *path, int flags)
{
	struct open_how how = { .flags = (uint64_t)(flags | O_CLOEXEC),
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	int fd, races = 0;
	do
		fd = (int)syscall(SYS_openat2, root_fd, path[0] ? path : ".", &how, sizeof(how));
	while (fd < 0 && errno == EAGAIN && races++ < RACES_MAX);
	return fd;
}

int plane_tree_open(
	const struct plane_tree *tree, const char *path, int flags, struct plane_error *err)
{
	int fd = open_in(tree->root_fd, path, flags);
	return fd < 0 ? plane_error_errno(err, "open %s in the image", path) : fd;
}

/* One component from `*rest`: 1, or 0 at the end. "." and empty ones are skipped. */
static int next_part(const char **rest, char part[256], const char *path, struct plane_error *err)
{
	for (;;) {
		*rest += strspn(*rest, "/");
		size_t len = strcspn(*rest, "/");
		if (len == 0)
			return 0;
		if (len > 255)
			return plane_error_set(
				err, EINVAL, "a part of the name %.200s... is too long", path);
		memcpy(part, *rest, len);
		part[len] = '\0';
		*rest += len;
		if (strcmp(part, "..") == 0)
			return plane_error_set(
				err, EINVAL, "the name %.500s has a \"..\" in it", path);
		if (strcmp(part, ".") != 0)
			return 1;
	}
}

/* The directory `part` below `dir_fd`, which stands for `prefix` in the tree; made if missing. A
 * link is followed inside the tree. */
static int enter(struct plane_tree *tree, const char *prefix, struct plane_error *err)
{
	int fd = open_in(tree->root_fd, prefix, O_RDONLY | O_DIRECTORY);
	if (fd >= 0)
		return fd;
	if (errno != ENOENT)
		return plane_error_errno(err, "open the directory %.500s in the image", prefix);
	/* its parent exists: made, or entered before */
	const char *slash = strrchr(prefix, '/');
	_cleanup_free_ char *parent =
		slash ? plane_strndup(prefix, (size_t)(slash - prefix)) : plane_strdup("");
	_cleanup_close_ int parent_fd = open_in(tree->root_fd, parent, O_RDONLY | O_DIRECTORY);
	int made = parent_fd < 0 ? -1 : mkdirat(parent_fd, slash ? slash + 1 : prefix, 0755);
	if (made < 0 && errno == EEXIST)
		return plane_error_set(err, EINVAL,
			"%.500s is a link to what is not in the image: nothing can be put below it",
			prefix);
	if (made < 0)
		return plane_error_errno(err, "make the directory %.500s in the image", prefix);
	tree->entries++;
	fd = open_in(tree->root_fd, prefix, O_RDONLY | O_DIRECTORY);
	return fd < 0 ? plane_error_errno(err, "open the directory %.500s in the image", prefix)
		      : fd;
}

int plane_tree_parent(
	struct plane_tree *tree, const char *path, char name[256], struct plane_error *err)
{
	char part[256] = "", next[256];
	char prefix[PLANE_TREE_MAX_PATH + 257];
	size_t prefix_len = 0;
	int depth = 0, result;
	const char *rest = path;
	if (strlen(path) > PLANE_TREE_MAX_PATH)
		return plane_error_set(err, EINVAL, "the name %.200s... is too long", path);
	prefix[0] = '\0';
	result = next_part(&rest, part, path, err);
	_cleanup_close_ int fd =
		result < 0 ? -1 : open_in(tree->root_fd, "", O_RDONLY | O_DIRECTORY);
	while (result > 0 && (result = next_part(&rest, next, path, err)) > 0) {
		int n = snprintf(prefix + prefix_len, sizeof(prefix) - prefix_len, "%s%s",
			prefix_len ? "/" : "", part);
		prefix_len += (size_t)n;
		if (++depth > PLANE_TREE_MAX_DEPTH)
			return plane_error_set(err, EINVAL, "the name %.200s... is too deep", path);
		plane_closep(&fd);
		fd = enter(tree, prefix, err);
		if (fd < 0)
			return fd;
		memcpy(part, next, sizeof(part));
	}
	if (result < 0)
		return result;
	if (fd < 0)
		return plane_error_errno(err, "open the image's root");
	memcpy(name, part, 256);
	return plane_steal_fd(&fd);
}

static int count_entry(struct plane_tree *tree, struct plane_error *err)
{
	if (++tree->entries > PLANE_TREE_MAX_ENTRIES)
		return plane_error_set(
			err, E2BIG, "the image has more than %d entries", PLANE_TREE_MAX_ENTRIES);
	return 0;
}

static int check_meta(const struct plane_tree_meta *meta, const char *path, struct plane_error *err)
{
	if (geteuid() == 0 &&
		(meta->uid < 0 || meta->uid > MAX_ID || meta->gid < 0 || meta->gid > MAX_ID))
		return plane_error_set(err, EINVAL,
			"%.500s belongs to user %lld and group %lld: ids above %d have no place in "
			"a sandbox",
			path, (long long)meta->uid, (long long)meta->gid, MAX_ID);
	return 0;
}

/* ---- removing ---- */

static int remove_below(int dir_fd, int depth)
{
	_cleanup_close_ int copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (copy < 0 || depth > PLANE_TREE_MAX_DEPTH * 2)
		return -1;
	_cleanup_closedir_ DIR *dir = fdopendir(copy);
	if (!dir)
		return -1;
	copy = -1; /* the stream's now */
	for (struct dirent *entry; (entry = readdir(dir));) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (unlinkat(dirfd(dir), entry->d_name, 0) == 0)
			continue;
		if (errno != EISDIR && errno != EPERM)
			return -1;
		_cleanup_close_ int child = openat(
			dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (child < 0 || remove_below(child, depth + 1) < 0 ||
			unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR) < 0)
			return -1;
	}
	return 0;
}

static int remove_name(int parent_fd, const char *name)
{
	if (unlinkat(parent_fd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -1;
	_cleanup_close_ int fd =
		openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || remove_below(fd, 0) < 0)
		return -1;
	return unlinkat(parent_fd, name, AT_REMOVEDIR);
}

int plane_tree_remove(struct plane_tree *tree, const char *path, struct plane_error *err)
{
	char name[256];
	_cleanup_close_ int parent = plane_tree_parent(tree, path, name, err);
	if (parent < 0)
		return parent;
	if (!name[0])
		return plane_error_set(err, EINVAL, "the image's root cannot be removed");
	return remove_name(parent, name) < 0 ? plane_error_errno(err, "remove %.500s", path) : 0;
}

int plane_tree_clear(struct plane_tree *tree, const char *path, struct plane_error *err)
{
	_cleanup_close_ int fd = open_in(tree->root_fd, path, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR
			       ? 0
			       : plane_error_errno(err, "open %.500s in the image", path);
	return remove_below(fd, 0) < 0 ? plane_error_errno(err, "clear %.500s", path) : 0;
}

/* ---- putting ---- */

/* The parent of a new entry, whose place is free afterwards. */
static int make_place(
	struct plane_tree *tree, const char *path, char name[256], struct plane_error *err)
{
	int result = count_entry(tree, err);
	if (result < 0)
		return result;
	_cleanup_close_ int parent = plane_tree_parent(tree, path, name, err);
	if (parent < 0)
		return parent;
	if (!name[0])
		return plane_error_set(err, EINVAL, "the image's root must be a directory");
	if (remove_name(parent, name) < 0)
		return plane_error_errno(err, "replace %.500s", path);
	return plane_steal_fd(&parent);
}

/* Owner first: a change of it takes the set-id bits away. */
static int apply_meta(int fd, const char *path, const struct plane_tree_meta *meta, mode_t more,
	struct plane_error *err)
{
	struct timespec times[2] = { meta->mtime, meta->mtime };
	bool is_root = geteuid() == 0;
	if (is_root && fchown(fd, (uid_t)meta->uid, (gid_t)meta->gid) < 0)
		return plane_error_errno(err, "set the owner of %.500s", path);
	if (fchmod(fd, (meta->mode & 07777) | (is_root ? 0 : more)) < 0)
		return plane_error_errno(err, "set the mode of %.500s", path);
	if (futimens(fd, times) < 0)
		return plane_error_errno(err, "set the time of %.500s", path);
	return 0;
}

int plane_tree_put_directory(struct plane_tree *tree, const char *path,
	const struct plane_tree_meta *meta, struct plane_error *err)
{
	char name[256];
	struct stat status;
	int result = check_meta(meta, path, err);
	if (result == 0)
		result = count_entry(tree, err);
	if (result < 0)
		return result;
	_cleanup_close_ int parent = plane_tree_parent(tree, path, name, err);
	if (parent < 0)
		return parent;
	if (name[0] && fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
		!S_ISDIR(status.st_mode) && unlinkat(parent, name, 0) < 0)
		return plane_error_errno(err, "replace %.500s", path);
	if (name[0] && mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
		return plane_error_errno(err, "make the directory %.500s", path);
	_cleanup_close_ int fd = openat(
		parent, name[0] ? name : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return plane_error_errno(err, "open the directory %.500s", path);
	return apply_meta(fd, path, meta, 0700, err);
}

int plane_tree_begin_file(struct plane_tree *tree, const char *path, struct plane_error *err)
{
	char name[256];
	_cleanup_close_ int parent = make_place(tree, path, name, err);
	if (parent < 0)
		return parent;
	int fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd < 0 ? plane_error_errno(err, "make the file %.500s", path) : fd;
}

int plane_tree_write(struct plane_tree *tree, int fd, const void *bytes, size_t len, off_t offset,
	const char *path, struct plane_error *err)
{
	tree->bytes += len;
	if (tree->bytes > tree->max_bytes || (uint64_t)offset > tree->max_bytes)
		return plane_error_set(err, E2BIG,
			"unpacked, the image is larger than the limit of %llu MiB (at %.300s)",
			(unsigned long long)(tree->max_bytes >> 20), path);
	for (const char *at = bytes; len > 0;) {
		ssize_t written = pwrite(fd, at, len, offset);
		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return plane_error_errno(err, "write %.500s", path);
		at += written;
		len -= (size_t)written;
		offset += written;
	}
	return 0;
}

int plane_tree_end_file(struct plane_tree *tree, int owned_fd, const char *path,
	const struct plane_tree_meta *meta, const void *capability, size_t capability_len,
	struct plane_error *err)
{
	_cleanup_close_ int fd = owned_fd;
	int result = check_meta(meta, path, err);
	(void)tree;
	if (result == 0)
		result = apply_meta(fd, path, meta, 0600, err);
	if (result == 0 && capability && geteuid() == 0 &&
		fsetxattr(fd, "security.capability", capability, capability_len, 0) < 0)
		result = plane_error_errno(err, "set the capabilities of %.500s", path);
	return result;
}

int plane_tree_put_symlink(struct plane_tree *tree, const char *path, const char *target,
	const struct plane_tree_meta *meta, struct plane_error *err)
{
	char name[256];
	int result = check_meta(meta, path, err);
	if (result < 0)
		return result;
	_cleanup_close_ int parent = make_place(tree, path, name, err);
	if (parent < 0)
		return parent;
	if (symlinkat(target, parent, name) < 0)
		return plane_error_errno(err, "make the link %.500s", path);
	struct timespec times[2] = { meta->mtime, meta->mtime };
	if (geteuid() == 0 &&
		fchownat(parent, name, (uid_t)meta->uid, (gid_t)meta->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return plane_error_errno(err, "set the owner of %.500s", path);
	if (utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return plane_error_errno(err, "set the time of %.500s", path);
	return 0;
}

int plane_tree_put_hardlink(
	struct plane_tree *tree, const char *path, const char *target, struct plane_error *err)
{
	char name[256], from_name[256], magic[64];
	struct stat status;
	/* its parent is resolved inside; the last part is not followed */
	_cleanup_close_ int from_parent = plane_tree_parent(tree, target, from_name, err);
	if (from_parent < 0)
		return from_parent;
	_cleanup_close_ int from = openat(
		from_parent, from_name[0] ? from_name : ".", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (from < 0 || fstat(from, &status) < 0 || S_ISDIR(status.st_mode))
		return plane_error_set(err, EINVAL,
			"%.300s is a link to %.300s, which is no file of the image", path, target);
	_cleanup_close_ int parent = plane_tree_parent(tree, path, name, err);
	if (parent < 0)
		return parent;
	struct stat present;
	if (fstatat(parent, name, &present, AT_SYMLINK_NOFOLLOW) == 0 &&
		present.st_ino == status.st_ino && present.st_dev == status.st_dev)
		return 0; /* a link to itself */
	plane_closep(&parent);
	parent = make_place(tree, path, name, err);
	if (parent < 0)
		return parent;
	snprintf(magic, sizeof(magic), "/proc/self/fd/%d", from);
	if (linkat(AT_FDCWD, magic, parent, name, AT_SYMLINK_FOLLOW) < 0)
		return plane_error_errno(err, "link %.300s to %.300s", path, target);
	return 0;
}

int plane_tree_put_fifo(struct plane_tree *tree, const char *path,
	const struct plane_tree_meta *meta, struct plane_error *err)
{
	char name[256];
	int result = check_meta(meta, path, err);
	if (result < 0)
		return result;
	_cleanup_close_ int parent = make_place(tree, path, name, err);
	if (parent < 0)
		return parent;
	if (mkfifoat(parent, name, meta->mode & 0777) < 0)
		return plane_error_errno(err, "make the pipe %.500s", path);
	if (geteuid() == 0 &&
		fchownat(parent, name, (uid_t)meta->uid, (gid_t)meta->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return plane_error_errno(err, "set the owner of %.500s", path);
	return 0;
}
