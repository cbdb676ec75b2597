/* What fuzz targets share. A target defines LLVMFuzzerTestOneInput; it is linked with libFuzzer
 * (make fuzz), or with replay.c, which runs its corpus as test cases (make test). It must be
 * deterministic and keep no state from one input to the next. */
#ifndef PLANE_TESTS_FUZZ_FUZZ_H
#define PLANE_TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "net/http1.h"

/** The target: one input. Always 0. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
/** Called once before the first input; 0. fuzz.c has one that switches the log off. */
int LLVMFuzzerInitialize(int *argc, char ***argv);

/** An oracle: what must hold for every input. Ends the process with the place and the condition. */
#define FUZZ_CHECK(condition)                                                                      \
	do {                                                                                       \
		if (!(condition))                                                                  \
			fuzz_fail(__FILE__, __LINE__, #condition);                                 \
	} while (0)
/** Called then, if set: to undo what is in the way of a report. */
extern void (*fuzz_on_fail)(void);
_Noreturn void fuzz_fail(const char *file, int line, const char *what);

/** An error that was filled has a negative code and a message; `result` is what was returned. */
void fuzz_check_error(int result, const struct plane_error *err);

/** A copy of exactly `len` bytes, so that reading beyond it is seen. The caller frees it. */
char *fuzz_copy(const void *bytes, size_t len);
/** The same with a NUL behind it; a NUL inside ends the text earlier. */
char *fuzz_text(const void *bytes, size_t len);

/** What is left of an input that is taken apart from its front. */
struct fuzz_input {
	const uint8_t *at;
	size_t left;
};
/** 0 when nothing is left. */
uint8_t fuzz_byte(struct fuzz_input *input);
/** Up to and without the next `separator`, which is skipped; a text to be freed. */
char *fuzz_word(struct fuzz_input *input, uint8_t separator);

bool fuzz_same(struct plane_slice a, struct plane_slice b);

#endif
