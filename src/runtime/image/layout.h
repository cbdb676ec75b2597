/* Images in layers: OCI layouts (image-layout.md) and archives of `docker save`, as a directory. */
#ifndef PLANE_RUNTIME_IMAGE_LAYOUT_H
#define PLANE_RUNTIME_IMAGE_LAYOUT_H

#include "runtime/image/config.h"
#include "runtime/image/unpack.h"

enum plane_layout_kind { PLANE_LAYOUT_NONE, PLANE_LAYOUT_OCI, PLANE_LAYOUT_DOCKER };

/** What the directory is, by what stands in it. */
enum plane_layout_kind plane_layout_of(int dir_fd);

/**
 * Unpacks the layers of the one image in the layout, checking their digests, and reads its
 * configuration. `digest` (72 bytes) identifies all of it.
 */
int plane_layout_unpack(int dir_fd, enum plane_layout_kind kind, struct plane_unpack *unpack,
	struct plane_image_config *config, char *digest, struct plane_error *err);

#endif
