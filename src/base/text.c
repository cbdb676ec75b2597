/* Small text helpers. */
#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

bool plane_text_starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool plane_text_ends_with(const char *text, const char *suffix)
{
	size_t text_len = strlen(text);
	size_t suffix_len = strlen(suffix);
	return text_len >= suffix_len && strcmp(text + text_len - suffix_len, suffix) == 0;
}

bool plane_text_equal(const char *a, const char *b)
{
	if (!a || !b)
		return a == b;
	return strcmp(a, b) == 0;
}

bool plane_text_equal_secret(const char *a, size_t a_len, const char *b, size_t b_len)
{
	return a_len == b_len && CRYPTO_memcmp(a, b, a_len) == 0;
}

bool plane_text_parse_int(const char *text, int64_t min, int64_t max, int64_t *value)
{
	if (!isdigit((unsigned char)text[0]) &&
		!(text[0] == '-' && isdigit((unsigned char)text[1])))
		return false;
	char *end;
	errno = 0;
	long long number = strtoll(text, &end, 10);
	if (errno || *end || number < min || number > max)
		return false;
	*value = number;
	return true;
}

bool plane_text_parse_millis(const char *text, int64_t min, int64_t max, int64_t *millis)
{
	char digits[24];
	size_t whole = strcspn(text, "."), decimals = text[whole] ? strlen(text + whole + 1) : 0;
	if (whole == 0 || whole > 15 || decimals > 3 || (text[whole] && decimals == 0) ||
		strspn(text, "0123456789.") != strlen(text))
		return false;
	memcpy(digits, text, whole);
	memset(digits + whole, '0', 3);
	memcpy(digits + whole, text + whole + (text[whole] != '\0'), decimals);
	digits[whole + 3] = '\0';
	return plane_text_parse_int(digits, min, max, millis);
}

void plane_text_base64url(const unsigned char *bytes, size_t len, char *text)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	size_t out = 0;
	for (size_t i = 0; i < len; i += 3) {
		uint32_t group = (uint32_t)bytes[i] << 16;
		size_t have = len - i < 3 ? len - i : 3;
		if (have > 1)
			group |= (uint32_t)bytes[i + 1] << 8;
		if (have > 2)
			group |= bytes[i + 2];
		for (size_t k = 0; k <= have; k++)
			text[out++] = digits[(group >> (18 - 6 * k)) & 63];
	}
	text[out] = '\0';
}

bool plane_text_copy(char *to, size_t size, const char *from)
{
	size_t len = strlen(from);
	if (len >= size)
		return false;
	memcpy(to, from, len + 1);
	return true;
}

/* Length of the UTF-8 sequence that starts at `s`, or 0 when it is not valid. */
static size_t utf8_sequence(const unsigned char *s, size_t len)
{
	if (s[0] < 0x80)
		return 1;
	size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	if (s[0] < 0xc2 || s[0] > 0xf4 || n > len)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
	bool surrogate = s[0] == 0xed && s[1] > 0x9f;
	bool too_high = s[0] == 0xf4 && s[1] > 0x8f;
	return overlong || surrogate || too_high ? 0 : n;
}

bool plane_text_is_utf8(const char *bytes, size_t len)
{
	for (size_t i = 0; i < len;) {
		size_t n = utf8_sequence((const unsigned char *)bytes + i, len - i);
		if (!n)
			return false;
		i += n;
	}
	return true;
}

void plane_text_make_utf8(char *text)
{
	size_t len = strlen(text);
	for (size_t i = 0; i < len;) {
		size_t n = utf8_sequence((const unsigned char *)text + i, len - i);
		if (!n)
			text[i] = '?';
		i += n ? n : 1;
	}
}
