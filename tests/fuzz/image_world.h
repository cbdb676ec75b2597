/* A file system of their own for fuzz targets that import images: an empty one in memory, entered
 * for each import by chroot in a mount namespace of this process. What is written outside the image
 * store is seen there, and reaches nothing else. */
#ifndef PLANE_TESTS_FUZZ_IMAGE_WORLD_H
#define PLANE_TESTS_FUZZ_IMAGE_WORLD_H

#include "fuzz.h"

#define IMAGE_WORLD_SOURCE "/source" /* a file */
#define IMAGE_WORLD_LAYOUT "/layout" /* a directory, emptied after each input */
#define IMAGE_WORLD_STORE "/images"
#define IMAGE_WORLD_MAX_BYTES ((uint64_t)1 << 20)

/** To be called before anything else; ends the process when it cannot (it needs root). */
void image_world_create(void);
void image_world_enter(void);
void image_world_leave(void);

/** Inside: replaces a file; its directories are there. */
void image_world_write(const char *path, const void *bytes, size_t len);

/** Inside: imports `path`, checks what it made, removes it, and checks that nothing is left. A bare
 *  file system is given a command. */
void image_world_import(const char *path, bool is_bare);

/** Makes the checksums of a tar right, and those of tars in it, so that changed heads are read. */
void image_world_mend_tar(uint8_t *bytes, size_t len, int depth);

#endif
