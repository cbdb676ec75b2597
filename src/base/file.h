/* Files and directories, whole: read, replace atomically, make. */
#ifndef PLANE_BASE_FILE_H
#define PLANE_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/error.h"

/** Appends the file's content; fails with -EFBIG when it is longer than `max` bytes. */
int plane_file_read(
	const char *path, size_t max, struct plane_buffer *content, struct plane_error *err);

/**
 * Replaces the file in one step (temporary file in the same directory, rename): a reader or a crash
 * sees the old content or the new, never a part. With `is_durable` the new content has reached the
 * disk when this returns (fsync of the file and of its directory).
 */
int plane_file_replace(const char *path, const void *bytes, size_t len, mode_t mode,
	bool is_durable, struct plane_error *err);

/** Durably the same for a file that exists and keeps its owner, group and permissions. A symbolic
 *  link stays one: the file that it points to is replaced. */
int plane_file_rewrite(const char *path, const void *bytes, size_t len, struct plane_error *err);

/** Descriptors that hold a secret or say who may enter: refused when a group or others may write,
 *  or when others may read. `path` is for the message. */
int plane_file_check_private(int fd, const char *path, struct plane_error *err);

/** Appends the content of such a file: plane_file_read after plane_file_check_private. A path
 *  "fd:N" is an open descriptor, which is read from its beginning and closed on exec from then on.
 */
int plane_file_read_private(
	const char *path, size_t max, struct plane_buffer *content, struct plane_error *err);

/** Lets this process have as many files open as it may allow itself (the hard limit), and says how
 *  many that is. */
int64_t plane_file_raise_limit(void);

/** Makes the directory and its parents; existing ones are fine and keep their mode. */
int plane_file_make_directories(const char *path, mode_t mode, struct plane_error *err);

/**
 * Asks the file system to place directories that are made in this one apart from each other, where
 * it knows how (ext2 to ext4: chattr(1) +T). ext4 passes over every inode of a group that was freed
 * within the last minutes, one by one, for each new file: a group that others use is slow. Best
 * effort.
 */
void plane_file_spread_directories(const char *path);

/** Writes all of it, going on after EINTR and short writes. */
int plane_file_write_all(int fd, const void *bytes, size_t len, struct plane_error *err);

/** Writes `text` to an existing file with one write(2): for /proc, /sys and cgroup files. */
int plane_file_write_text(const char *path, const char *text, struct plane_error *err);

/**
 * Removes a tree without following symbolic links and without leaving its file system; a missing
 * tree is fine. Works relative to directory descriptors, so a hostile tree cannot redirect it.
 */
int plane_file_remove_tree(const char *path, struct plane_error *err);

#endif
