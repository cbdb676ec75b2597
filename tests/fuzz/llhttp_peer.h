/* Our HTTP/1 parser beside llhttp, the parser of Node.js (package node-llhttp), in its strict mode.
 * What ours accepts, llhttp must read the same: method, target, status, fields, framing, body, and
 * where the message ends. Ours may be stricter; where llhttp is, an allowance has a name and a
 * reason in llhttp_peer.c. */
#ifndef PLANE_TESTS_FUZZ_LLHTTP_PEER_H
#define PLANE_TESTS_FUZZ_LLHTTP_PEER_H

#include "fuzz.h"

void fuzz_compare_request(const char *bytes, size_t len);
void fuzz_compare_response(const char *bytes, size_t len, bool is_head_request);

#endif
