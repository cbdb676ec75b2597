/* Image names and the file that each has in the index. Pure. */
#ifndef PLANE_RUNTIME_IMAGE_NAMES_H
#define PLANE_RUNTIME_IMAGE_NAMES_H

#include <stdbool.h>

/** Room for the longest index file name, "<encoded>.json", and its NUL. */
#define PLANE_IMAGE_FILE_SIZE 232

/** '/' and ':' as %2F and %3A, then ".json". `full_name` comes from plane_image_full_name. */
void plane_image_name_to_file(const char *full_name, char file[PLANE_IMAGE_FILE_SIZE]);

/** The name that `file` stands for, or NULL when it is no file of the index. Caller frees. */
char *plane_image_name_from_file(const char *file);

#endif
