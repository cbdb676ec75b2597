/* Directories of overlays, used again while they are clean. */
#include "runtime/native/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"

#define SPARES_MAX 64
#define EMPTY_SIZE_MAX 4096 /* of a directory; on ext4 one that was full stays large */

struct plane_scratch {
	char *spare;
	pthread_mutex_t mutex;
	unsigned kept[SPARES_MAX]; /* names of directories in `spare` */
	size_t count;
	unsigned next_name;
};

struct plane_scratch *plane_scratch_create(const char *directory, struct plane_error *err)
{
	_cleanup_free_ char *spare = plane_strdupf("%s/spare", directory);

	if (plane_file_remove_tree(spare, err) < 0)
		return NULL;
	if (mkdir(spare, 0700) < 0) {
		(void)plane_error_errno(err, "make directory %s", spare);
		return NULL;
	}
	struct plane_scratch *scratch = PLANE_NEW(struct plane_scratch);
	scratch->spare = STEAL(spare);
	pthread_mutex_init(&scratch->mutex, NULL);
	return scratch;
}

void plane_scratch_destroy(struct plane_scratch *scratch)
{
	if (!scratch)
		return;
	pthread_mutex_destroy(&scratch->mutex);
	free(scratch->spare);
	free(scratch);
}

static int make(const char *path, struct plane_error *err)
{
	static const char *const parts[] = { "", "/upper", "/work", "/stage" };

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		_cleanup_free_ char *part = plane_strdupf("%s%s", path, parts[i]);
		if (mkdir(part, 0700) < 0)
			return plane_error_errno(err, "make directory %s", part);
	}
	return 0;
}

int plane_scratch_take(struct plane_scratch *scratch, const char *path, struct plane_error *err)
{
	unsigned name = 0;
	pthread_mutex_lock(&scratch->mutex);
	bool has_spare = scratch->count > 0;
	if (has_spare)
		name = scratch->kept[--scratch->count];
	pthread_mutex_unlock(&scratch->mutex);
	if (!has_spare)
		return make(path, err);
	_cleanup_free_ char *spare = plane_strdupf("%s/%u", scratch->spare, name);
	return rename(spare, path) < 0 ? plane_error_errno(err, "rename %s to %s", spare, path) : 0;
}

static bool is_empty(int parent, const char *name)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_closedir_ DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	bool is_empty = dir;

	if (fd >= 0 && !dir)
		(void)close(fd); /* only read */
	for (struct dirent *entry; is_empty && (entry = readdir(dir));)
		is_empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
	return is_empty;
}

/* A backend that is root in its sandbox may set attributes on its root directory; new files take
 * over some of the flags, such as to be written at once. */
static bool has_plain_attributes(int fd, uid_t owner)
{
	char names[1024];
	struct stat st;
	int flags = 0;
	ssize_t len = flistxattr(fd, names, sizeof(names));

	if (len < 0 || fstat(fd, &st) < 0 || st.st_uid != owner || st.st_gid != owner ||
		(st.st_mode & 07777) != 0755 || st.st_size > EMPTY_SIZE_MAX)
		return false;
	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && (flags & FS_FL_USER_MODIFIABLE))
		return false;
	for (const char *name = names; name < names + len; name += strlen(name) + 1)
		if (!plane_text_starts_with(name, "trusted.overlay."))
			return false;
	return true;
}

static bool is_clean(const char *path, uid_t owner)
{
	_cleanup_close_ int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_close_ int upper =
		openat(directory, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	bool was_mounted = !is_empty(directory, "work");

	if (directory < 0 || upper < 0 || !is_empty(directory, "upper") ||
		!has_plain_attributes(upper, owner))
		return false;
	return !was_mounted || is_empty(directory, "work/work");
}

static bool keep(struct plane_scratch *scratch, const char *path)
{
	bool is_kept = false;
	pthread_mutex_lock(&scratch->mutex);
	if (scratch->count < SPARES_MAX) {
		unsigned name = scratch->next_name++;
		_cleanup_free_ char *spare = plane_strdupf("%s/%u", scratch->spare, name);
		is_kept = rename(path, spare) == 0;
		if (is_kept)
			scratch->kept[scratch->count++] = name;
	}
	pthread_mutex_unlock(&scratch->mutex);
	return is_kept;
}

int plane_scratch_give_back(
	struct plane_scratch *scratch, const char *path, uid_t owner, struct plane_error *err)
{
	if (is_clean(path, owner) && keep(scratch, path))
		return 0;
	return plane_file_remove_tree(path, err);
}

int plane_scratch_remove(struct plane_scratch *scratch, struct plane_error *err)
{
	scratch->count = 0;
	return plane_file_remove_tree(scratch->spare, err);
}
