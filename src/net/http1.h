/* HTTP/1.1 messages, strictly (RFC 9112, RFC 9110): heads into slices of the caller's buffer, and
 * bodies by their framing. Shared by proxy and controller. Never guesses: what two recipients could
 * read differently (obsolete folding, bare CR, repeated lengths, unknown codings) is an error.
 * Pure: no I/O, no allocation. */
#ifndef PLANE_NET_HTTP1_H
#define PLANE_NET_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#define PLANE_HTTP1_HEADERS_MAX 128

struct plane_slice {
	const char *data;
	size_t len;
};

struct plane_http1_header {
	struct plane_slice name;
	struct plane_slice value; /* without surrounding white space */
};

enum plane_http1_framing {
	PLANE_HTTP1_NO_BODY,
	PLANE_HTTP1_LENGTH,
	PLANE_HTTP1_CHUNKED,
	PLANE_HTTP1_UNTIL_CLOSE, /* responses only */
};

struct plane_http1_head {
	/* requests */
	struct plane_slice method;
	struct plane_slice target;
	/* responses */
	int status;
	struct plane_slice reason;
	/* both */
	int minor_version; /* 0 or 1 */
	struct plane_http1_header headers[PLANE_HTTP1_HEADERS_MAX];
	size_t header_count;
	size_t len; /* bytes of the head, final empty line included */
	enum plane_http1_framing framing;
	uint64_t content_length; /* with PLANE_HTTP1_LENGTH */
	bool is_keep_alive;      /* as the sender wants it */
	bool is_upgrade;         /* Upgrade, named by Connection, in HTTP/1.1 (RFC 9110 7.8) */
	bool names_fields;     /* Connection contains other tokens than those that it may always */
	bool expects_continue; /* Expect: 100-continue */
	struct plane_slice host; /* data NULL when absent */
};

enum plane_http1_result {
	PLANE_HTTP1_DONE,
	PLANE_HTTP1_MORE,     /* not enough bytes yet */
	PLANE_HTTP1_BAD,      /* malformed: answer 400 and close */
	PLANE_HTTP1_TOO_MANY, /* too many header fields: answer 431 and close */
};

/**
 * Parses a request head at `bytes`. Empty lines in front are skipped (RFC 9112 section 2.2) and
 * counted in `len`. The caller bounds `len` of what it gathers. On BAD, `*problem` is a literal
 * that says what was wrong. Slices point into `bytes`.
 */
enum plane_http1_result plane_http1_parse_request(
	const char *bytes, size_t len, struct plane_http1_head *head, const char **problem);

/** The same for a response to a request of `is_head_request` or not (RFC 9112 section 6.3). */
enum plane_http1_result plane_http1_parse_response(const char *bytes, size_t len,
	bool is_head_request, struct plane_http1_head *head, const char **problem);

/** First field of that name (compared without case), or NULL. */
const struct plane_http1_header *plane_http1_find(
	const struct plane_http1_head *head, const char *name);

/** Does a Connection field name this field, so that it is for one connection only? */
bool plane_http1_is_named_by_connection(
	const struct plane_http1_head *head, struct plane_slice name);

/** Does a comma-separated list contain the token (compared without case)? */
bool plane_http1_list_has(struct plane_slice list, const char *token);

/* In the header, so that another length than that of a literal is seen without a call. */
static inline bool plane_slice_equals(struct plane_slice slice, const char *text)
{
	return strlen(text) == slice.len && memcmp(slice.data, text, slice.len) == 0;
}

static inline bool plane_slice_equals_nocase(struct plane_slice slice, const char *text)
{
	return strlen(text) == slice.len && strncasecmp(slice.data, text, slice.len) == 0;
}

/** May this be the value of a header field (RFC 9110 section 5.5: no control characters)? */
bool plane_http1_is_value(const char *bytes, size_t len);

/** Where in a chunked body the decoder stands. Zeroed is the start. */
struct plane_http1_chunked {
	int state;
	uint64_t left;        /* of the present chunk */
	uint32_t line_len;    /* of the present size line */
	uint32_t trailer_len; /* of all trailers */
	bool had_digit;
	bool is_in_trailers; /* behind the line of the last chunk */
};

/**
 * Takes chunked bytes from `bytes`. Returns how many belong to the body so far: all of them with
 * MORE; up to and including its end with DONE. `*data` is the payload found in the first piece and
 * may be shorter than what was taken: the caller loops until everything is taken. With MORE and
 * nothing taken the caller needs more bytes. Trailers are checked and passed over; no call takes
 * bytes of theirs together with what stands in front of them.
 */
enum plane_http1_result plane_http1_chunked_next(struct plane_http1_chunked *chunked,
	const char *bytes, size_t len, size_t *taken, struct plane_slice *data);

#endif
