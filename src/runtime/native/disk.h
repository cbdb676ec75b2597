/* The disk that backends write to. Their file system may have no quotas, so the drone keeps a
 * reserve: when less than it is free, who holds the most is ended. The decision is pure; measuring
 * blocks and belongs on a worker. */
#ifndef PLANE_RUNTIME_NATIVE_DISK_H
#define PLANE_RUNTIME_NATIVE_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct plane_disk_room {
	int64_t free_bytes, total_bytes;
	int64_t free_files, total_files; /* total 0: the file system does not count them */
};

/** What a sandbox holds. */
struct plane_disk_use {
	int64_t bytes, files;
	bool is_unbounded; /* its tree is deeper than can be followed: it counts as more than any */
};

/** Room on the file system of `path`. */
int plane_disk_room_read(const char *path, struct plane_disk_room *room, struct plane_error *err);

/** Bytes that are to stay free: a twentieth of all, at most 1 GiB. */
int64_t plane_disk_reserve(const struct plane_disk_room *room);

/** Less than the reserve is free, or less than a twentieth of the files, at most 50,000. */
bool plane_disk_is_short(const struct plane_disk_room *room);

/**
 * Which of the users is to be ended, or -1: the one that holds the most of what is short, unless
 * even that is less than a sixteenth of the reserve, when others than backends filled the disk.
 */
int plane_disk_choose(
	const struct plane_disk_room *room, const struct plane_disk_use *users, size_t count);

/** Adds up the tree at `path`, without following links or leaving its file system. */
void plane_disk_measure_tree(const char *path, struct plane_disk_use *use);

/** Adds files without a name that processes of users `first_uid` .. + 65535 of the host hold open;
 * for `count` ranges that follow each other at once, so that /proc is read once. `users[i]` is
 * range i's; ranges with `is_wanted[i]` false are left out. */
void plane_disk_measure_open(
	uid_t first_uid, const bool *is_wanted, struct plane_disk_use *users, size_t count);

/** Removes logs in `directory`, the oldest first, until `bytes` are freed, but no backend's for
 * which `is_kept` is true. What was freed. */
int64_t plane_disk_remove_logs(const char *directory, int64_t bytes,
	bool (*is_kept)(void *data, const char *backend), void *data);

#endif
