/* Users of an image's tree: /etc/passwd and /etc/group, read without leaving the tree. */
#ifndef PLANE_RUNTIME_IMAGE_USERS_H
#define PLANE_RUNTIME_IMAGE_USERS_H

#include "runtime/image/image.h"

/**
 * Looks up image->user ("", "name", "name:group", "uid", "uid:gid") and sets uid, gid, groups and
 * home. Names must be known to the tree, numbers need not. -EINVAL says what is wrong.
 */
int plane_image_user_find(int root_fd, struct plane_image *image, struct plane_error *err);

#endif
