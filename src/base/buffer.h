/* The one growable byte buffer. Zeroed is empty and valid. */
#ifndef PLANE_BASE_BUFFER_H
#define PLANE_BASE_BUFFER_H

#include <stddef.h>
#include <string.h>

struct plane_buffer {
	char *data; /* NULL until something is added; not terminated unless plane_buffer_text says
		       so */
	size_t len;
	size_t capacity;
};

/** Frees the memory; the buffer is empty and usable again. */
void plane_buffer_finish(struct plane_buffer *buffer);
/** Forgets the content, keeps the memory. */
void plane_buffer_clear(struct plane_buffer *buffer);
/** Room for `more` bytes behind the content; the caller writes there and adds to `len`. */
char *plane_buffer_reserve(struct plane_buffer *buffer, size_t more);
static inline void plane_buffer_add(struct plane_buffer *buffer, const void *bytes, size_t len)
{
	if (!len)
		return; /* `bytes` may be NULL then */
	char *room = buffer->capacity - buffer->len >= len ? buffer->data + buffer->len
							   : plane_buffer_reserve(buffer, len);
	memcpy(room, bytes, len);
	buffer->len += len;
}
static inline void plane_buffer_add_text(struct plane_buffer *buffer, const char *text)
{
	plane_buffer_add(buffer, text, strlen(text)); /* of a literal it is known */
}
void plane_buffer_addf(struct plane_buffer *buffer, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/** Drops the first `len` bytes (at most what there is). */
void plane_buffer_consume(struct plane_buffer *buffer, size_t len);
/** The content as text: puts a NUL behind it, which does not count in `len`. Never NULL. */
char *plane_buffer_text(struct plane_buffer *buffer);
/** Gives the content away as text; the caller frees it. The buffer is empty afterwards. */
char *plane_buffer_steal(struct plane_buffer *buffer);

#endif
