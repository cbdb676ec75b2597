/* A queue of bytes: appended at the end, consumed at the start. A program that has no memory left
 * ends: an example has nothing better to do. */
#ifndef EXAMPLES_COMMON_BUFFER_H
#define EXAMPLES_COMMON_BUFFER_H

#include <stddef.h>

/** Zeroed is empty and valid. */
struct web_buffer {
	char *memory;
	size_t start, end, capacity;
};

void web_buffer_finish(struct web_buffer *buffer);

static inline size_t web_buffer_len(const struct web_buffer *buffer)
{
	return buffer->end - buffer->start;
}

/** The first byte; valid until the next append. Not NULL only when something was appended. */
static inline char *web_buffer_bytes(const struct web_buffer *buffer)
{
	return buffer->memory + buffer->start;
}

/** Room for `len` bytes more at the end; count them with web_buffer_added. */
char *web_buffer_reserve(struct web_buffer *buffer, size_t len);
void web_buffer_added(struct web_buffer *buffer, size_t len);

void web_buffer_append(struct web_buffer *buffer, const void *bytes, size_t len);
void web_buffer_append_text(struct web_buffer *buffer, const char *text);
void web_buffer_printf(struct web_buffer *buffer, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/** Appends `len` bytes as a JSON string with its quotes; what is not UTF-8 becomes U+FFFD. */
void web_buffer_append_json(struct web_buffer *buffer, const char *bytes, size_t len);

/** Removes from the start. Gives much memory back once all is consumed. */
void web_buffer_consume(struct web_buffer *buffer, size_t len);

#endif
