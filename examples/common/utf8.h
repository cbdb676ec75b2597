/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. Pure. */
#ifndef EXAMPLES_COMMON_UTF8_H
#define EXAMPLES_COMMON_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/** Bytes of the character at `bytes` (len >= 1), or 0 when there is none. */
size_t web_utf8_size(const char *bytes, size_t len);

bool web_utf8_is_valid(const char *bytes, size_t len);

#endif
