/* A tree that grows from untrusted entries and that nothing can leave: every name is resolved by
 * the kernel as if the tree's directory were the root (openat2 with RESOLVE_IN_ROOT). Bounded in
 * bytes and entries. */
#ifndef PLANE_RUNTIME_IMAGE_TREE_H
#define PLANE_RUNTIME_IMAGE_TREE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "base/error.h"

#define PLANE_TREE_MAX_ENTRIES 2000000
#define PLANE_TREE_MAX_PATH 4095
#define PLANE_TREE_MAX_DEPTH 256

/** Zeroed with root_fd set is ready. */
struct plane_tree {
	int root_fd; /* borrowed */
	uint64_t max_bytes;
	uint64_t bytes; /* of file contents so far */
	uint64_t entries;
};

/** What every entry has besides its name. */
struct plane_tree_meta {
	mode_t mode; /* permission bits, set-id bits included */
	int64_t uid, gid;
	struct timespec mtime;
};

/**
 * Opens the directory that holds `path` (made with its parents if missing) and gives the last part
 * of the name in `name` (at most 255 bytes). -EINVAL for "..", empty and too long names. A name
 * that means the root itself gives name "".
 */
int plane_tree_parent(
	struct plane_tree *tree, const char *path, char name[256], struct plane_error *err);

/** Opens an existing file inside; `flags` as open(2). -errno with `err`. */
int plane_tree_open(
	const struct plane_tree *tree, const char *path, int flags, struct plane_error *err);

/* Each replaces what stood there; a directory keeps its content when it becomes a directory. */
int plane_tree_put_directory(struct plane_tree *tree, const char *path,
	const struct plane_tree_meta *meta, struct plane_error *err);
/** The descriptor is for the content; end with plane_tree_end_file. */
int plane_tree_begin_file(struct plane_tree *tree, const char *path, struct plane_error *err);
int plane_tree_write(struct plane_tree *tree, int fd, const void *bytes, size_t len, off_t offset,
	const char *path, struct plane_error *err);
int plane_tree_end_file(struct plane_tree *tree, int owned_fd, const char *path,
	const struct plane_tree_meta *meta, const void *capability, size_t capability_len,
	struct plane_error *err);
int plane_tree_put_symlink(struct plane_tree *tree, const char *path, const char *target,
	const struct plane_tree_meta *meta, struct plane_error *err);
/** -EINVAL when `target` is not in the tree or is a directory. */
int plane_tree_put_hardlink(
	struct plane_tree *tree, const char *path, const char *target, struct plane_error *err);
int plane_tree_put_fifo(struct plane_tree *tree, const char *path,
	const struct plane_tree_meta *meta, struct plane_error *err);

/** Removes what stands at `path`, with all below it; nothing there is fine. */
int plane_tree_remove(struct plane_tree *tree, const char *path, struct plane_error *err);
/** Removes all below the directory `path`. */
int plane_tree_clear(struct plane_tree *tree, const char *path, struct plane_error *err);

#endif
