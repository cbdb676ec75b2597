/* Growable bytes. */
#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

void plane_buffer_finish(struct plane_buffer *buffer)
{
	free(buffer->data);
	*buffer = (struct plane_buffer){ 0 };
}

void plane_buffer_clear(struct plane_buffer *buffer)
{
	buffer->len = 0;
}

char *plane_buffer_reserve(struct plane_buffer *buffer, size_t more)
{
	if (buffer->capacity - buffer->len < more) {
		size_t capacity = buffer->capacity ? buffer->capacity : 128;
		while (capacity - buffer->len < more)
			capacity *= 2;
		buffer->data = plane_realloc(buffer->data, capacity);
		buffer->capacity = capacity;
	}
	return buffer->data + buffer->len;
}

void plane_buffer_addf(struct plane_buffer *buffer, const char *format, ...)
{
	va_list args;
	va_list again;
	va_start(args, format);
	va_copy(again, args);
	int len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (len > 0) {
		vsnprintf(plane_buffer_reserve(buffer, (size_t)len + 1), (size_t)len + 1, format,
			again);
		buffer->len += (size_t)len;
	}
	va_end(again);
}

void plane_buffer_consume(struct plane_buffer *buffer, size_t len)
{
	if (len >= buffer->len) {
		buffer->len = 0;
		return;
	}
	memmove(buffer->data, buffer->data + len, buffer->len - len);
	buffer->len -= len;
}

char *plane_buffer_text(struct plane_buffer *buffer)
{
	*plane_buffer_reserve(buffer, 1) = '\0';
	return buffer->data;
}

char *plane_buffer_steal(struct plane_buffer *buffer)
{
	char *text = plane_buffer_text(buffer);
	*buffer = (struct plane_buffer){ 0 };
	return text;
}
