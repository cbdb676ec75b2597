/* The store: who may change what, when. The index lock orders changes; a tree's lock says that
 * it is used. A finder takes only the tree's lock, so it never waits for an import. */
#include "runtime/image/store.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/random.h"
#include "base/text.h"
#include "runtime/image/names.h"
#include "runtime/image/record.h"

#define MAX_NAMES 100000
#define MAX_NAMES_IN_ERROR 10
#define MAX_RESOLVE_TRIES 16

/* Directories that nothing refers to any more, each flocked by us until it is gone. */
struct trash {
	struct plane_image_work *items;
	size_t count;
};

static int wait_for_flock(int fd, int operation)
{
	int result;
	do
		result = flock(fd, operation);
	while (result < 0 && errno == EINTR);
	return result;
}

static int make_store(const char *images_dir, struct plane_error *err)
{
	static const char *const parts[] = { "index", "trees", "tmp" };
	int result = plane_file_make_directories(images_dir, 0700, err);
	if (result == 0 && chmod(images_dir, 0700) < 0)
		result = plane_error_errno(err, "close %s to others", images_dir);
	for (size_t i = 0; result == 0 && i < 3; i++) {
		_cleanup_free_ char *path = plane_strdupf("%s/%s", images_dir, parts[i]);
		result = plane_file_make_directories(path, 0700, err);
	}
	return result;
}

static int lock_index(const char *images_dir, struct plane_error *err)
{
	_cleanup_free_ char *path = plane_strdupf("%s/lock", images_dir);
	_cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return plane_error_errno(err, "open %s", path);
	if (wait_for_flock(fd, LOCK_EX) < 0)
		return plane_error_errno(err, "lock %s", path);
	return plane_steal_fd(&fd);
}

void plane_image_work_finish(struct plane_image_work *work)
{
	struct plane_error err = { 0 };
	if (work->path && plane_file_remove_tree(work->path, &err) < 0)
		plane_warn("image store: %s (the next import tries again)", err.message);
	free(work->path);
	plane_closep(&work->lock_fd);
	*work = (struct plane_image_work)PLANE_IMAGE_WORK_EMPTY;
}

static void trash_add(struct trash *trash, char *owned_path, int owned_fd)
{
	trash->items =
		plane_realloc(trash->items, (trash->count + 1) * sizeof(struct plane_image_work));
	trash->items[trash->count++] =
		(struct plane_image_work){ .path = owned_path, .lock_fd = owned_fd };
}

static void trash_empty(struct trash *trash)
{
	for (size_t i = 0; i < trash->count; i++)
		plane_image_work_finish(&trash->items[i]);
	free(trash->items);
	*trash = (struct trash){ 0 };
}

/* Takes what no living process works in. The caller holds the index lock: work begins under it,
 * so a directory without a lock is nobody's. */
static void collect_leftovers(const char *images_dir, struct trash *trash)
{
	_cleanup_free_ char *tmp = plane_strdupf("%s/tmp", images_dir);
	_cleanup_closedir_ DIR *dir = opendir(tmp);
	for (struct dirent *entry; dir && (entry = readdir(dir));) {
		if (entry->d_name[0] == '.')
			continue;
		_cleanup_close_ int fd = openat(
			dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
			trash_add(trash, plane_strdupf("%s/%s", tmp, entry->d_name),
				plane_steal_fd(&fd));
	}
	_cleanup_free_ char *index = plane_strdupf("%s/index", images_dir);
	_cleanup_closedir_ DIR *records = opendir(index);
	for (struct dirent *entry; records && (entry = readdir(records));)
		if (plane_text_ends_with(entry->d_name, ".tmp"))
			(void)unlinkat(dirfd(records), entry->d_name, 0); /* next time, then */
}

static int make_work(const char *images_dir, struct plane_image_work *work, struct plane_error *err)
{
	char suffix[17];
	plane_random_alphanumeric(suffix, 16);
	work->path = plane_strdupf("%s/tmp/%s", images_dir, suffix);
	_cleanup_free_ char *rootfs = plane_strdupf("%s/tree/rootfs", work->path);
	_cleanup_free_ char *lock = plane_strdupf("%s/tree/lock", work->path);
	int result = plane_file_make_directories(rootfs, 0700, err);
	if (result < 0)
		return result;
	work->lock_fd = open(work->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (work->lock_fd < 0 || flock(work->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return plane_error_errno(err, "lock %s", work->path);
	_cleanup_close_ int fd = open(lock, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd < 0 ? plane_error_errno(err, "create %s", lock) : 0;
}

int plane_image_work_begin(
	const char *images_dir, struct plane_image_work *work, struct plane_error *err)
{
	struct trash trash = { 0 };
	int result = make_store(images_dir, err);
	if (result < 0)
		return result;
	_cleanup_close_ int index = lock_index(images_dir, err);
	if (index < 0)
		return index;
	collect_leftovers(images_dir, &trash);
	result = make_work(images_dir, work, err);
	plane_closep(&index);
	index = -1;
	trash_empty(&trash);
	if (result < 0)
		plane_image_work_finish(work);
	return result;
}

int plane_image_tree_lock(const char *images_dir, const char *digest, struct plane_error *err)
{
	_cleanup_free_ char *path = plane_strdupf("%s/trees/%s/lock", images_dir, digest + 7);
	struct stat locked, present;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return plane_error_errno(err, "open %s", path);
	/* A collector holds it exclusively only between its look and its rename. */
	if (wait_for_flock(fd, LOCK_SH) < 0 || fstat(fd, &locked) < 0)
		return plane_error_errno(err, "lock %s", path);
	if (stat(path, &present) < 0 || present.st_ino != locked.st_ino ||
		present.st_dev != locked.st_dev)
		return plane_error_set(err, ENOENT, "%s was collected", path);
	return plane_steal_fd(&fd);
}

/* Sorted by name, NULL-terminated. */
static char **list_names(const char *images_dir, size_t *count, struct plane_error *err)
{
	_cleanup_free_ char *path = plane_strdupf("%s/index", images_dir);
	_cleanup_closedir_ DIR *dir = opendir(path);
	char **names = plane_alloc_zero(1, sizeof(*names));
	*count = 0;
	if (!dir && errno != ENOENT) {
		free(names);
		(void)plane_error_errno(err, "read %s", path);
		return NULL;
	}
	for (struct dirent *entry; dir && *count < MAX_NAMES && (entry = readdir(dir));) {
		char *name = plane_image_name_from_file(entry->d_name);
		if (!name)
			continue;
		names = plane_realloc(names, (*count + 2) * sizeof(*names));
		size_t at = (*count)++;
		for (; at > 0 && strcmp(names[at - 1], name) > 0; at--)
			names[at] = names[at - 1];
		names[at] = name;
		names[*count] = NULL;
	}
	return names;
}

static bool is_referenced(char *const *digests, const char *hex)
{
	for (; *digests; digests++)
		if (strcmp(*digests + 7, hex) == 0)
			return true;
	return false;
}

/* Digests of all names; NULL when one cannot be read: then no tree may be collected. */
static char **referenced_digests(const char *images_dir)
{
	size_t count = 0;
	char **names = list_names(images_dir, &count, NULL);
	if (!names)
		return NULL;
	char **digests = plane_alloc_zero(count + 1, sizeof(*digests));
	size_t found = 0;
	for (size_t i = 0; i < count; i++) {
		struct plane_error err = { 0 };
		struct plane_image image = PLANE_IMAGE_EMPTY;
		if (plane_image_record_read(images_dir, names[i], &image, &err) == 0) {
			digests[found++] = STEAL(image.digest);
			plane_image_finish(&image);
			continue;
		}
		plane_warn("image store: no tree is collected: %s", err.message);
		plane_image_words_free(digests);
		digests = NULL;
		break;
	}
	plane_image_words_free(names);
	return digests;
}

/* Moves the tree to tmp/ when nobody has it locked. */
static void collect_tree(const char *images_dir, const char *hex, struct trash *trash)
{
	char suffix[17];
	plane_random_alphanumeric(suffix, 16);
	_cleanup_free_ char *path = plane_strdupf("%s/trees/%s", images_dir, hex);
	_cleanup_free_ char *lock = plane_strdupf("%s/lock", path);
	_cleanup_free_ char *moved = plane_strdupf("%s/tmp/%s", images_dir, suffix);
	_cleanup_close_ int lock_fd = open(lock, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return;
	if (lock_fd >= 0 && flock(lock_fd, LOCK_EX | LOCK_NB) < 0)
		return;
	if (rename(path, moved) == 0)
		trash_add(trash, STEAL(moved), plane_steal_fd(&fd));
}

/* The caller holds the index lock. */
static void collect_trees(const char *images_dir, struct trash *trash)
{
	_cleanup_free_ char *path = plane_strdupf("%s/trees", images_dir);
	_cleanup_closedir_ DIR *dir = opendir(path);
	char **digests = referenced_digests(images_dir);
	for (struct dirent *entry; dir && digests && (entry = readdir(dir));)
		if (entry->d_name[0] != '.' && !is_referenced(digests, entry->d_name))
			collect_tree(images_dir, entry->d_name, trash);
	plane_image_words_free(digests);
}

/* All of the tree reaches the disk before its name does: after a power cut a tree that is there
 * is complete. */
static int publish_tree(const struct plane_image_work *work, const char *target, const char *trees,
	struct plane_error *err)
{
	_cleanup_free_ char *tree = plane_strdupf("%s/tree", work->path);
	_cleanup_close_ int trees_fd = open(trees, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (trees_fd < 0)
		return plane_error_errno(err, "open %s", trees);
	if (rename(tree, target) < 0)
		return plane_error_errno(err, "rename %s to %s", tree, target);
	if (fsync(trees_fd) < 0)
		return plane_error_errno(err, "fsync %s", trees);
	return 0;
}

static int commit_locked(const char *images_dir, struct plane_image_work *work,
	struct plane_image *image, struct plane_error *err)
{
	_cleanup_free_ char *trees = plane_strdupf("%s/trees", images_dir);
	_cleanup_free_ char *target = plane_strdupf("%s/%s", trees, image->digest + 7);
	int lock_fd = plane_image_tree_lock(images_dir, image->digest, err);
	if (lock_fd == -ENOENT) {
		int result = publish_tree(work, target, trees, err);
		if (result < 0)
			return result;
		lock_fd = plane_image_tree_lock(images_dir, image->digest, err);
	}
	if (lock_fd < 0)
		return lock_fd;
	int result = plane_image_record_write(images_dir, image, err);
	if (result < 0) {
		(void)close(lock_fd); /* only a lock */
		return result;
	}
	image->lock_fd = lock_fd;
	free(image->rootfs_path);
	image->rootfs_path = plane_strdupf("%s/rootfs", target);
	return 0;
}

int plane_image_work_commit(const char *images_dir, struct plane_image_work *work,
	struct plane_image *image, struct plane_error *err)
{
	struct trash trash = { 0 };
	if (syncfs(work->lock_fd) < 0)
		return plane_error_errno(err, "write %s to disk", work->path);
	_cleanup_close_ int index = lock_index(images_dir, err);
	if (index < 0)
		return index;
	/* rootfs_path is needed by nothing before, and must not be NULL in the record. */
	if (!image->rootfs_path)
		image->rootfs_path = plane_strdup("");
	int result = commit_locked(images_dir, work, image, err);
	collect_trees(images_dir, &trash);
	plane_closep(&index);
	index = -1;
	trash_empty(&trash);
	return result;
}

static int no_such_image(
	const char *images_dir, const char *asked, const char *full, struct plane_error *err)
{
	size_t count = 0;
	char **names = list_names(images_dir, &count, NULL);
	_cleanup_(plane_buffer_finish) struct plane_buffer known = { 0 };
	for (size_t i = 0; names && names[i] && i < MAX_NAMES_IN_ERROR; i++)
		plane_buffer_addf(&known, "%s%s", i ? ", " : "", names[i]);
	if (count > MAX_NAMES_IN_ERROR)
		plane_buffer_addf(&known, " and %zu more", count - MAX_NAMES_IN_ERROR);
	plane_image_words_free(names);
	return plane_error_set(err, ENOENT,
		"there is no image %s; import it with `plane image import %s PATH` (%s%.400s)",
		full, asked, count ? "there are: " : "the store has no images yet",
		plane_buffer_text(&known));
}

int plane_image_resolve(const char *images_dir, const char *name, struct plane_image *image,
	struct plane_error *err)
{
	_cleanup_free_ char *full = plane_image_full_name(name, err);
	if (!full)
		return -EINVAL;
	for (int i = 0; i < MAX_RESOLVE_TRIES; i++) {
		struct plane_image found = PLANE_IMAGE_EMPTY;
		int result = plane_image_record_read(images_dir, full, &found, err);
		if (result == -ENOENT)
			return no_such_image(images_dir, name, full, err);
		if (result < 0)
			return result;
		found.lock_fd = plane_image_tree_lock(images_dir, found.digest, err);
		if (found.lock_fd >= 0) {
			*image = found;
			return 0;
		}
		result = found.lock_fd;
		found.lock_fd = -1;
		plane_image_finish(&found);
		/* Gone: the name was removed or replaced meanwhile, so it is looked up again. */
		if (result != -ENOENT)
			return plane_error_prefix(err, "image %s", full);
	}
	return plane_error_set(err, ENOENT,
		"image %s: its files are missing from the store; import it again with "
		"`plane image import %s PATH`",
		full, name);
}

int plane_image_list(
	const char *images_dir, struct plane_image **images, size_t *count, struct plane_error *err)
{
	size_t name_count = 0;
	char **names = list_names(images_dir, &name_count, err);
	if (!names)
		return -EIO;
	struct plane_image *list = plane_alloc_zero(name_count + 1, sizeof(*list));
	size_t found = 0;
	int result = 0;
	for (size_t i = 0; i < name_count && result == 0; i++) {
		list[found].lock_fd = -1;
		result = plane_image_record_read(images_dir, names[i], &list[found], err);
		if (result == -ENOENT)
			result = 0; /* removed meanwhile */
		else if (result == 0)
			found++;
	}
	plane_image_words_free(names);
	if (result < 0) {
		plane_image_list_finish(list, found);
		return result;
	}
	*images = list;
	*count = found;
	return 0;
}

void plane_image_list_finish(struct plane_image *images, size_t count)
{
	for (size_t i = 0; i < count; i++)
		plane_image_finish(&images[i]);
	free(images);
}

/* The caller holds the index lock. A damaged record can be removed too. */
static int remove_name(const char *images_dir, const char *asked, const char *full, char **digest,
	struct plane_error *err)
{
	char file[PLANE_IMAGE_FILE_SIZE];
	plane_image_name_to_file(full, file);
	_cleanup_free_ char *path = plane_strdupf("%s/index/%s", images_dir, file);
	struct plane_image image = PLANE_IMAGE_EMPTY;
	if (plane_image_record_read(images_dir, full, &image, NULL) == 0)
		*digest = STEAL(image.digest);
	plane_image_finish(&image);
	if (unlink(path) < 0 && errno == ENOENT)
		return no_such_image(images_dir, asked, full, err);
	else if (access(path, F_OK) == 0)
		return plane_error_set(err, EACCES, "remove %s: not permitted", path);
	return 0;
}

int plane_image_remove(
	const char *images_dir, const char *name, bool *is_tree_kept, struct plane_error *err)
{
	struct trash trash = { 0 };
	_cleanup_free_ char *digest = NULL;
	_cleanup_free_ char *full = plane_image_full_name(name, err);
	if (!full)
		return -EINVAL;
	_cleanup_close_ int index = lock_index(images_dir, err);
	if (index == -ENOENT)
		return no_such_image(images_dir, name, full, err);
	if (index < 0)
		return index;
	int result = remove_name(images_dir, name, full, &digest, err);
	if (result == 0) {
		collect_trees(images_dir, &trash);
		_cleanup_free_ char *tree =
			digest ? plane_strdupf("%s/trees/%s", images_dir, digest + 7) : NULL;
		if (is_tree_kept)
			*is_tree_kept = !tree || access(tree, F_OK) == 0;
	}
	collect_leftovers(images_dir, &trash);
	plane_closep(&index);
	index = -1;
	trash_empty(&trash);
	return result;
}
