/* Small text helpers: no state, no allocation unless said. */
#ifndef PLANE_BASE_TEXT_H
#define PLANE_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool plane_text_starts_with(const char *text, const char *prefix);
bool plane_text_ends_with(const char *text, const char *suffix);
bool plane_text_equal(const char *a, const char *b); /* NULL equals only NULL */

/** Compares secrets in time that depends on their lengths only. */
bool plane_text_equal_secret(const char *a, size_t a_len, const char *b, size_t b_len);

/** Whole text as a decimal number in [min, max]; no sign other than '-', no spaces. */
bool plane_text_parse_int(const char *text, int64_t min, int64_t max, int64_t *value);

/** "2", "1.5", "0.125" in thousandths, in [min, max]; at most three decimals, no sign. */
bool plane_text_parse_millis(const char *text, int64_t min, int64_t max, int64_t *millis);

/** base64url without padding (RFC 4648 section 5); `text` has room for 4*((len+2)/3)+1. */
void plane_text_base64url(const unsigned char *bytes, size_t len, char *text);

/** Copies with a NUL; false (and nothing written) when it does not fit. */
bool plane_text_copy(char *to, size_t size, const char *from);

/** Valid UTF-8 (RFC 3629: no surrogates, no overlong forms)? */
bool plane_text_is_utf8(const char *bytes, size_t len);
/** Puts '?' for each byte that belongs to no valid sequence, as where a text was cut. */
void plane_text_make_utf8(char *text);

#endif
