/* Memory that is never NULL: running out of it ends the process with a message. Whoever takes
 * sizes from outside must bound them before it allocates. */
#ifndef PLANE_BASE_ALLOC_H
#define PLANE_BASE_ALLOC_H

#include <stddef.h>

void *plane_alloc(size_t size) __attribute__((malloc, returns_nonnull));
void *plane_alloc_zero(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *plane_realloc(void *owned_pointer, size_t size) __attribute__((returns_nonnull));

/** Copies of text; the caller frees them. `plane_strdup(NULL)` is NULL. */
char *plane_strdup(const char *text);
char *plane_strndup(const char *text, size_t len);
char *plane_strdupf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** A zeroed object of the type. */
#define PLANE_NEW(type) ((type *)plane_alloc_zero(1, sizeof(type)))

#endif
