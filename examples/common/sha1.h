/* SHA-1 (RFC 3174): the WebSocket handshake asks for it. For nothing that must be safe. Pure. */
#ifndef EXAMPLES_COMMON_SHA1_H
#define EXAMPLES_COMMON_SHA1_H

#include <stddef.h>

void web_sha1(const void *bytes, size_t len, unsigned char digest[20]);

#endif
