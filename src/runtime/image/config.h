/* How an image is to be run: from its configuration and the user's overrides (OCI image-spec,
 * config.md). */
#ifndef PLANE_RUNTIME_IMAGE_CONFIG_H
#define PLANE_RUNTIME_IMAGE_CONFIG_H

#include <jansson.h>

#include "runtime/image/image.h"

/** What an image says. Zeroed is an image that says nothing; owned. */
struct plane_image_config {
	char **entrypoint, **cmd, **env;
	char *user, *workdir;
};

/** Reads the object "config" of an image configuration. Missing fields and null say nothing. */
int plane_image_config_read(
	const json_t *json, struct plane_image_config *config, struct plane_error *err);
void plane_image_config_finish(struct plane_image_config *config);

/**
 * Fills argv, env, user and workdir of `image`, and looks the user up in the tree's /etc/passwd
 * and /etc/group (`root_fd`): uid, gid, groups, home. -EINVAL when there is no command, or no such
 * user.
 */
int plane_image_config_apply(const struct plane_image_config *config,
	const struct plane_image_overrides *overrides, int root_fd, struct plane_image *image,
	struct plane_error *err);

#endif
