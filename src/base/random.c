/* Random bytes, numbers and names. */
#include "base/random.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/text.h"

void plane_random_bytes(void *bytes, size_t len)
{
	char *next = bytes;
	while (len > 0) {
		ssize_t got = getrandom(next, len, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			perror("plane: getrandom");
			abort();
		}
		next += got;
		len -= (size_t)got;
	}
}

uint64_t plane_random_below(uint64_t bound)
{
	/* Values from the incomplete last run of `bound` would make low results likelier. */
	uint64_t limit = UINT64_MAX - UINT64_MAX % bound;
	uint64_t value;
	do {
		plane_random_bytes(&value, sizeof(value));
	} while (value >= limit);
	return value % bound;
}

void plane_random_alphanumeric(char *text, size_t len)
{
	static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	size_t done = 0;
	while (done < len) {
		unsigned char pool[32];
		plane_random_bytes(pool, sizeof(pool));
		for (size_t i = 0; i < sizeof(pool) && done < len; i++)
			if (pool[i] < 252) /* 7 * 36: the rest would be biased */
				text[done++] = alphabet[pool[i] % 36];
	}
	text[len] = '\0';
}

void plane_random_token(char text[PLANE_RANDOM_TOKEN_SIZE])
{
	unsigned char bytes[32];
	plane_random_bytes(bytes, sizeof(bytes));
	plane_text_base64url(bytes, sizeof(bytes), text);
}
