/* One HTTP/1.1 request (RFC 9112): its head and the decoding of its body. Pure: reads no socket.
 * Strict where leniency confuses proxies: two lengths, bare line feeds and folded lines are
 * refused. */
#ifndef EXAMPLES_COMMON_REQUEST_H
#define EXAMPLES_COMMON_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"

#define WEB_MAX_HEAD_BYTES (32 << 10)
#define WEB_MAX_HEADERS 100
#define WEB_MAX_BODY_BYTES (16 << 20)

struct web_header {
	const char *name; /* as it was sent */
	const char *value;
};

/** The strings live as long as the head's memory. */
struct web_request {
	const char *method;
	const char *path;  /* begins with '/', not decoded; "*" for OPTIONS * */
	const char *query; /* after the '?'; "" when there is none */
	struct web_header headers[WEB_MAX_HEADERS];
	size_t header_count;
	const char *body; /* never NULL once the request is complete */
	size_t body_len;
	bool keeps_alive;
	bool expects_continue;
	bool is_chunked;
	uint64_t content_length; /* 0 when chunked or without a body */
};

/**
 * Looks for the end of the head in the first `len` bytes, from `*scanned` on (0 at first; kept by
 * the caller). Its length with the empty line, 0 when it is not there yet, -1 for a bare line
 * feed or a NUL.
 */
long web_head_end(const char *bytes, size_t len, size_t *scanned);

/**
 * Takes the head apart in place; `head[len - 2]` is the end of its empty line. 0, or the HTTP
 * status that refuses it: 400, 413, 431, 501, 505.
 */
int web_request_parse(struct web_request *request, char *head, size_t len);

/** Value of the first header of that name in any case, or NULL. */
const char *web_request_header(const struct web_request *request, const char *name);

/** Does the list "a, b, c" of that header (all its lines) hold `word`, in any case? */
bool web_request_header_has(const struct web_request *request, const char *name, const char *word);

/** Number behind `name=` in the query: 0..max, or `fallback` when it is not there or no number. */
long web_request_number(
	const struct web_request *request, const char *name, long fallback, long max);

/** Where in a body the next byte belongs. Zeroed is the beginning. */
struct web_body {
	enum { WEB_CHUNK_SIZE, WEB_CHUNK_DATA, WEB_CHUNK_END, WEB_CHUNK_TRAILER } step;
	uint64_t left; /* of the present chunk */
	size_t trailer_bytes;
};

/** Moves what belongs to the body from `input` to `into`. 1 when it is complete, 0 when more must
 * come, or minus the HTTP status that refuses it. */
int web_body_read(struct web_body *body, const struct web_request *request,
	struct web_buffer *input, struct web_buffer *into);

#endif
