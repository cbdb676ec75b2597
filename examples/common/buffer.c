/* A queue of bytes, see buffer.h. */
#include "common/buffer.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

#define SMALL_BYTES 4096
#define KEEP_BYTES (64 << 10)

void web_buffer_finish(struct web_buffer *buffer)
{
	free(buffer->memory);
	*buffer = (struct web_buffer){ 0 };
}

static void grow(struct web_buffer *buffer, size_t wanted)
{
	size_t capacity = buffer->capacity ? buffer->capacity : SMALL_BYTES;
	while (capacity < wanted)
		capacity *= 2;
	char *memory = realloc(buffer->memory, capacity);
	if (!memory) {
		fprintf(stderr, "out of memory for %zu bytes\n", capacity);
		_Exit(1);
	}
	buffer->memory = memory;
	buffer->capacity = capacity;
}

char *web_buffer_reserve(struct web_buffer *buffer, size_t len)
{
	size_t used = web_buffer_len(buffer);
	/* Moving is cheap as long as more was consumed than is left. */
	if (buffer->capacity - buffer->end < len && buffer->start > used) {
		memmove(buffer->memory, buffer->memory + buffer->start, used);
		buffer->start = 0;
		buffer->end = used;
	}
	if (buffer->capacity - buffer->end < len || !buffer->memory)
		grow(buffer, buffer->end + len);
	return buffer->memory + buffer->end;
}

void web_buffer_added(struct web_buffer *buffer, size_t len)
{
	buffer->end += len;
}

void web_buffer_append(struct web_buffer *buffer, const void *bytes, size_t len)
{
	if (len == 0)
		return;
	memcpy(web_buffer_reserve(buffer, len), bytes, len);
	buffer->end += len;
}

void web_buffer_append_text(struct web_buffer *buffer, const char *text)
{
	web_buffer_append(buffer, text, strlen(text));
}

void web_buffer_printf(struct web_buffer *buffer, const char *format, ...)
{
	va_list words;
	va_start(words, format);
	int len = vsnprintf(NULL, 0, format, words);
	va_end(words);
	if (len <= 0)
		return;
	char *room = web_buffer_reserve(buffer, (size_t)len + 1);
	va_start(words, format);
	(void)vsnprintf(room, (size_t)len + 1, format, words); /* measured above */
	va_end(words);
	buffer->end += (size_t)len;
}

void web_buffer_append_json(struct web_buffer *buffer, const char *bytes, size_t len)
{
	web_buffer_append(buffer, "\"", 1);
	for (size_t i = 0; i < len;) {
		size_t size = web_utf8_size(bytes + i, len - i);
		unsigned char first = (unsigned char)bytes[i];
		if (size == 0) {
			web_buffer_append_text(buffer, "\\ufffd");
			size = 1;
		} else if (first == '"' || first == '\\') {
			web_buffer_printf(buffer, "\\%c", first);
		} else if (first < 0x20 || first == 0x7f) {
			web_buffer_printf(buffer, "\\u%04x", first);
		} else {
			web_buffer_append(buffer, bytes + i, size);
		}
		i += size;
	}
	web_buffer_append(buffer, "\"", 1);
}

void web_buffer_consume(struct web_buffer *buffer, size_t len)
{
	buffer->start += len;
	if (buffer->start < buffer->end)
		return;
	buffer->start = buffer->end = 0;
	if (buffer->capacity > KEEP_BYTES)
		web_buffer_finish(buffer);
}
