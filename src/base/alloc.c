/* Checked allocation. */
#include "base/alloc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void out_of_memory(size_t size)
{
	fprintf(stderr, "plane: out of memory (asked for %zu bytes)\n", size);
	abort();
}

void *plane_alloc(size_t size)
{
	void *pointer = malloc(size ? size : 1);
	if (!pointer)
		out_of_memory(size);
	return pointer;
}

void *plane_alloc_zero(size_t count, size_t size)
{
	void *pointer = calloc(count ? count : 1, size ? size : 1);
	if (!pointer)
		out_of_memory(size);
	return pointer;
}

void *plane_realloc(void *owned_pointer, size_t size)
{
	void *pointer = realloc(owned_pointer, size ? size : 1);
	if (!pointer)
		out_of_memory(size);
	return pointer;
}

char *plane_strdup(const char *text)
{
	return text ? plane_strndup(text, strlen(text)) : NULL;
}

char *plane_strndup(const char *text, size_t len)
{
	char *copy = plane_alloc(len + 1);
	memcpy(copy, text, len);
	copy[len] = '\0';
	return copy;
}

char *plane_strdupf(const char *format, ...)
{
	char *text = NULL;
	va_list args;
	va_start(args, format);
	int len = vasprintf(&text, format, args);
	va_end(args);
	if (len < 0)
		out_of_memory(0);
	return text;
}
