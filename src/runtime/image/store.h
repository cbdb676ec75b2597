/* The store's directory: its locks, unfinished work and the trees that nothing needs. */
#ifndef PLANE_RUNTIME_IMAGE_STORE_H
#define PLANE_RUNTIME_IMAGE_STORE_H

#include "runtime/image/image.h"

/** A directory of our own below tmp/, flocked as long as we work in it: `<path>/tree` is what may
 * become a tree. */
struct plane_image_work {
	char *path;
	int lock_fd; /* the directory itself */
};

#define PLANE_IMAGE_WORK_EMPTY                                                                     \
	{                                                                                          \
		.lock_fd = -1                                                                      \
	}

/** Makes the store if needed, cleans what crashes left, and makes a directory to work in, with
 * an empty `tree/rootfs` and `tree/lock`. */
int plane_image_work_begin(
	const char *images_dir, struct plane_image_work *work, struct plane_error *err);

/** Removes the directory and all that is in it. For zeroed work too (lock_fd -1). */
void plane_image_work_finish(struct plane_image_work *work);

/**
 * Makes `<work>/tree` the tree of image->digest, unless that is there already, and image->name
 * stand for it. Sets rootfs_path and lock_fd of `image`. Collects trees that nothing needs.
 */
int plane_image_work_commit(const char *images_dir, struct plane_image_work *work,
	struct plane_image *image, struct plane_error *err);

/** Shared lock on the tree of `digest`, or -ENOENT when there is no such tree. */
int plane_image_tree_lock(const char *images_dir, const char *digest, struct plane_error *err);

#endif
