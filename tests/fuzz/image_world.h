/* For targets that import images into a jail. */
#ifndef PLANE_TESTS_FUZZ_IMAGE_WORLD_H
#define PLANE_TESTS_FUZZ_IMAGE_WORLD_H

#include "jail.h"

#define IMAGE_WORLD_SOURCE "/source/archive" /* a file */
#define IMAGE_WORLD_LAYOUT "/layout"         /* a directory, emptied after each input */
#define IMAGE_WORLD_STORE "/images"
#define IMAGE_WORLD_MAX_BYTES ((uint64_t)1 << 20)

/** Inside: imports `path`, checks what it made, removes it, and checks that nothing is left. A bare
 *  file system is given a command. */
void image_world_import(const char *path, bool is_bare);

/** Makes the checksums of a tar right, and those of tars in it, so that changed heads are read. */
void image_world_mend_tar(uint8_t *bytes, size_t len, int depth);

#endif
