/* Measuring what backends hold of the disk, and deciding who holds too much. */
#include "runtime/native/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <uthash.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "runtime/native/process.h"
#include "runtime/native/shim/protocol.h"

#define RESERVE_MAX_BYTES (1ll << 30)
#define RESERVE_MAX_FILES 50000
#define RESERVE_PART 20
#define BLAME_PART 16
#define DEPTH_MAX 100
#define BLOCK 512

int plane_disk_room_read(const char *path, struct plane_disk_room *room, struct plane_error *err)
{
	struct statvfs fs;
	if (statvfs(path, &fs) < 0)
		return plane_error_errno(err, "look at the disk of %s", path);
	*room = (struct plane_disk_room){ .free_bytes = (int64_t)(fs.f_bavail * fs.f_frsize),
		.total_bytes = (int64_t)(fs.f_blocks * fs.f_frsize),
		.free_files = (int64_t)fs.f_favail,
		.total_files = (int64_t)fs.f_files };
	return 0;
}

int64_t plane_disk_reserve(const struct plane_disk_room *room)
{
	int64_t part = room->total_bytes / RESERVE_PART;
	return part < RESERVE_MAX_BYTES ? part : RESERVE_MAX_BYTES;
}

static int64_t files_reserve(const struct plane_disk_room *room)
{
	int64_t part = room->total_files / RESERVE_PART;
	return part < RESERVE_MAX_FILES ? part : RESERVE_MAX_FILES;
}

static bool is_short_of_bytes(const struct plane_disk_room *room)
{
	return room->free_bytes < plane_disk_reserve(room);
}

static bool is_short_of_files(const struct plane_disk_room *room)
{
	return room->total_files > 0 && room->free_files < files_reserve(room);
}

bool plane_disk_is_short(const struct plane_disk_room *room)
{
	return is_short_of_bytes(room) || is_short_of_files(room);
}

int plane_disk_choose(
	const struct plane_disk_room *room, const struct plane_disk_use *users, size_t count)
{
	bool by_bytes = is_short_of_bytes(room);
	int64_t most = (by_bytes ? plane_disk_reserve(room) : files_reserve(room)) / BLAME_PART;
	int chosen = -1;
	if (!plane_disk_is_short(room))
		return -1;
	for (size_t i = 0; i < count; i++) {
		int64_t held = by_bytes ? users[i].bytes : users[i].files;
		if (users[i].is_unbounded)
			held = INT64_MAX;
		if (held > most) {
			most = held;
			chosen = (int)i;
		}
	}
	return chosen;
}

/* ---- trees ---- */

static void add_directory(int owned_fd, dev_t device, int depth, struct plane_disk_use *use)
{
	_cleanup_closedir_ DIR *dir = fdopendir(owned_fd);
	struct stat st;
	if (!dir) {
		(void)close(owned_fd); /* only read */
		return;
	}
	for (struct dirent *entry; (entry = readdir(dir));) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
			fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		use->files++;
		use->bytes +=
			st.st_blocks * BLOCK / (S_ISDIR(st.st_mode) ? 1 : (int64_t)st.st_nlink);
		if (!S_ISDIR(st.st_mode) || st.st_dev != device)
			continue;
		if (depth == DEPTH_MAX) {
			use->is_unbounded = true;
			continue;
		}
		int fd = openat(
			dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0)
			add_directory(fd, device, depth + 1, use);
	}
}

void plane_disk_measure_tree(const char *path, struct plane_disk_use *use)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0)
		add_directory(fd, st.st_dev, 0, use);
	else if (fd >= 0)
		(void)close(fd); /* only read */
}

/* ---- open files without a name ---- */

struct seen {
	struct {
		dev_t device;
		ino_t inode;
	} key;
	UT_hash_handle hh;
};

static bool is_new(struct seen **all, const struct stat *st)
{
	struct seen *seen, *entry = PLANE_NEW(struct seen);
	entry->key.device = st->st_dev;
	entry->key.inode = st->st_ino;
	HASH_FIND(hh, *all, &entry->key, sizeof(entry->key), seen);
	if (seen) {
		free(entry);
		return false;
	}
	HASH_ADD(hh, *all, key, sizeof(entry->key), entry);
	return true;
}

static void forget_seen(struct seen **all)
{
	struct seen *entry, *next;
	HASH_ITER (hh, *all, entry, next) {
		HASH_DEL(*all, entry);
		free(entry);
	}
}

/* `kind` is fd or map_files: a mapped file needs no descriptor. Memory files are not on the disk.
 */
static void add_open_files(
	const char *pid, const char *kind, struct seen **seen, struct plane_disk_use *use)
{
	char path[PATH_MAX];
	struct statfs fs;
	struct stat st;
	snprintf(path, sizeof(path), "/proc/%s/%s", pid, kind);
	_cleanup_closedir_ DIR *dir = opendir(path);
	for (struct dirent *entry; dir && (entry = readdir(dir));) {
		if (fstatat(dirfd(dir), entry->d_name, &st, 0) < 0 || !S_ISREG(st.st_mode) ||
			st.st_nlink > 0 || st.st_blocks == 0)
			continue;
		snprintf(path, sizeof(path), "/proc/%s/%s/%s", pid, kind, entry->d_name);
		if (statfs(path, &fs) < 0 || fs.f_type != OVERLAYFS_SUPER_MAGIC ||
			!is_new(seen, &st))
			continue;
		use->files++;
		use->bytes += st.st_blocks * BLOCK;
	}
}

struct search {
	uid_t first_uid;
	const bool *is_wanted;
	struct plane_disk_use *users;
	size_t count;
	struct seen *seen;
};

static void search_process(void *data, const char *pid, uid_t uid)
{
	struct search *search = data;
	size_t index = uid < search->first_uid ? search->count
					       : (uid - search->first_uid) / PLANE_SHIM_IDS;
	if (index >= search->count || !search->is_wanted[index])
		return;
	add_open_files(pid, "fd", &search->seen, &search->users[index]);
	add_open_files(pid, "map_files", &search->seen, &search->users[index]);
}

void plane_disk_measure_open(
	uid_t first_uid, const bool *is_wanted, struct plane_disk_use *users, size_t count)
{
	struct search search = { first_uid, is_wanted, users, count, NULL };
	plane_process_each(search_process, &search);
	forget_seen(&search.seen);
}

/* ---- logs ---- */

struct log_file {
	char *name;
	int64_t bytes, changed_at;
};

static int by_age(const void *left, const void *right)
{
	const struct log_file *a = left, *b = right;
	return (a->changed_at > b->changed_at) - (a->changed_at < b->changed_at);
}

static size_t list_logs(DIR *dir, bool (*is_kept)(void *data, const char *backend), void *data,
	struct log_file **files)
{
	size_t count = 0, room = 0;
	struct stat st;
	*files = NULL;
	for (struct dirent *entry; (entry = readdir(dir));) {
		_cleanup_free_ char *backend =
			plane_strndup(entry->d_name, strcspn(entry->d_name, "."));
		if (!*backend || is_kept(data, backend) ||
			fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (count == room) {
			room = room ? 2 * room : 64;
			*files = plane_realloc(*files, room * sizeof(**files));
		}
		(*files)[count++] = (struct log_file){ .name = plane_strdup(entry->d_name),
			.bytes = st.st_blocks * BLOCK,
			.changed_at = st.st_mtime };
	}
	return count;
}

int64_t plane_disk_remove_logs(const char *directory, int64_t bytes,
	bool (*is_kept)(void *data, const char *backend), void *data)
{
	_cleanup_closedir_ DIR *dir = opendir(directory);
	struct log_file *files;
	int64_t freed = 0;
	if (!dir)
		return 0;
	size_t count = list_logs(dir, is_kept, data, &files);
	if (count > 0)
		qsort(files, count, sizeof(*files), by_age);
	for (size_t i = 0; i < count; i++) {
		if (freed < bytes && unlinkat(dirfd(dir), files[i].name, 0) == 0)
			freed += files[i].bytes;
		free(files[i].name);
	}
	free(files);
	return freed;
}
