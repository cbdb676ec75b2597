/* What fuzz targets share. */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"

/* A process that opens descriptors or starts threads before may replace this. */
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	plane_log_init("fuzz", PLANE_LOG_ERROR, PLANE_LOG_PRETTY);
	return 0;
}

void (*fuzz_on_fail)(void);

void fuzz_fail(const char *file, int line, const char *what)
{
	if (fuzz_on_fail)
		fuzz_on_fail();
	fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
	abort();
}

void fuzz_check_error(int result, const struct plane_error *err)
{
	if (result >= 0)
		return;
	FUZZ_CHECK(err->code < 0);
	FUZZ_CHECK(err->message[0]);
	FUZZ_CHECK(memchr(err->message, '\0', sizeof(err->message)));
}

char *fuzz_copy(const void *bytes, size_t len)
{
	char *copy = plane_alloc(len ? len : 1);
	if (len)
		memcpy(copy, bytes, len);
	return copy;
}

char *fuzz_text(const void *bytes, size_t len)
{
	char *text = plane_alloc(len + 1);
	if (len)
		memcpy(text, bytes, len);
	text[len] = '\0';
	return text;
}

uint8_t fuzz_byte(struct fuzz_input *input)
{
	if (!input->left)
		return 0;
	input->left--;
	return *input->at++;
}

char *fuzz_word(struct fuzz_input *input, uint8_t separator)
{
	const uint8_t *end = input->left ? memchr(input->at, separator, input->left) : NULL;
	size_t len = end ? (size_t)(end - input->at) : input->left;
	char *word = fuzz_text(input->at, len);
	input->at += len + (end != NULL);
	input->left -= len + (end != NULL);
	return word;
}

bool fuzz_same(struct plane_slice a, struct plane_slice b)
{
	return a.len == b.len && (!a.len || memcmp(a.data, b.data, a.len) == 0);
}
