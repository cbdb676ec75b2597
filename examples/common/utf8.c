/* UTF-8, see utf8.h. */
#include "common/utf8.h"

size_t web_utf8_size(const char *bytes, size_t len)
{
	const unsigned char *b = (const unsigned char *)bytes;
	if (b[0] < 0x80)
		return 1;
	size_t size = b[0] >= 0xf0 ? 4 : b[0] >= 0xe0 ? 3 : 2;
	if (b[0] < 0xc2 || b[0] > 0xf4 || size > len)
		return 0;
	/* Only the second byte's range depends on the first (RFC 3629, section 4). */
	unsigned low = b[0] == 0xe0 ? 0xa0 : b[0] == 0xf0 ? 0x90 : 0x80;
	unsigned high = b[0] == 0xed ? 0x9f : b[0] == 0xf4 ? 0x8f : 0xbf;
	if (b[1] < low || b[1] > high)
		return 0;
	for (size_t i = 2; i < size; i++)
		if ((b[i] & 0xc0) != 0x80)
			return 0;
	return size;
}

bool web_utf8_is_valid(const char *bytes, size_t len)
{
	for (size_t i = 0; i < len;) {
		size_t size = web_utf8_size(bytes + i, len - i);
		if (size == 0)
			return false;
		i += size;
	}
	return true;
}
