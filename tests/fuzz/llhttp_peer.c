/* Our HTTP/1 parser beside llhttp's, in its strict mode. */
#include "llhttp_peer.h"

#include <stdlib.h>
#include <string.h>

#include <llhttp/llhttp.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "fuzz.h"

struct peer {
	llhttp_t parser;
	struct plane_buffer target, body;
	struct plane_buffer names[PLANE_HTTP1_HEADERS_MAX], values[PLANE_HTTP1_HEADERS_MAX];
	size_t field_count;
	bool is_in_value, has_too_many, is_head_request;
	/* when the head was complete */
	bool has_head, is_chunked, has_upgrade;
	uint64_t content_length;
	int minor_version, status;
	uint8_t method;
	/* at the end */
	bool is_complete, is_keep_alive;
	enum llhttp_errno error;
	size_t end; /* where the message ended, or the error is */
};

static struct peer *peer_of(llhttp_t *parser)
{
	return parser->data;
}

static int on_url(llhttp_t *parser, const char *at, size_t len)
{
	plane_buffer_add(&peer_of(parser)->target, at, len);
	return 0;
}

/* Trailers come the same way, after the head: they are not compared. */
static int on_name(llhttp_t *parser, const char *at, size_t len)
{
	struct peer *peer = peer_of(parser);
	if (peer->has_head || peer->has_too_many)
		return 0;
	if (peer->is_in_value || peer->field_count == 0)
		peer->field_count++;
	peer->is_in_value = false;
	peer->has_too_many = peer->field_count > PLANE_HTTP1_HEADERS_MAX;
	if (!peer->has_too_many)
		plane_buffer_add(&peer->names[peer->field_count - 1], at, len);
	return 0;
}

static int on_value(llhttp_t *parser, const char *at, size_t len)
{
	struct peer *peer = peer_of(parser);
	if (peer->has_head || peer->has_too_many)
		return 0;
	peer->is_in_value = true;
	plane_buffer_add(&peer->values[peer->field_count - 1], at, len);
	return 0;
}

static int on_value_complete(llhttp_t *parser)
{
	peer_of(parser)->is_in_value = true; /* also when it was empty */
	return 0;
}

static int on_headers_complete(llhttp_t *parser)
{
	struct peer *peer = peer_of(parser);
	peer->has_head = true;
	peer->is_chunked = (parser->flags & F_CHUNKED) != 0;
	peer->has_upgrade = parser->upgrade;
	peer->content_length = parser->content_length;
	peer->minor_version = parser->http_minor;
	peer->status = parser->status_code;
	peer->method = parser->method;
	/* that these have no body (RFC 9112 section 6.3) is its caller's to say */
	bool is_bodiless = parser->type == HTTP_RESPONSE &&
			   (peer->is_head_request || peer->status < 200 || peer->status == 204 ||
				   peer->status == 304);
	if (is_bodiless)
		parser->flags |= F_SKIPBODY;
	peer->is_keep_alive = llhttp_should_keep_alive(parser);
	return is_bodiless ? 1 : 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t len)
{
	plane_buffer_add(&peer_of(parser)->body, at, len);
	return 0;
}

static int on_message_complete(llhttp_t *parser)
{
	peer_of(parser)->is_complete = true;
	return HPE_PAUSED;
}

static const llhttp_settings_t settings = { .on_url = on_url,
	.on_header_field = on_name,
	.on_header_value = on_value,
	.on_header_value_complete = on_value_complete,
	.on_headers_complete = on_headers_complete,
	.on_body = on_body,
	.on_message_complete = on_message_complete };

static void peer_read(struct peer *peer, llhttp_type_t type, const char *bytes, size_t len)
{
	llhttp_init(&peer->parser, type, &settings);
	peer->parser.data = peer;
	peer->error = llhttp_execute(&peer->parser, bytes, len);
	const char *at = llhttp_get_error_pos(&peer->parser);
	peer->end = peer->error == HPE_OK ? len : (size_t)(at - bytes);
}

static void peer_finish(struct peer *peer)
{
	plane_buffer_finish(&peer->target);
	plane_buffer_finish(&peer->body);
	for (size_t i = 0; i < PLANE_HTTP1_HEADERS_MAX; i++) {
		plane_buffer_finish(&peer->names[i]);
		plane_buffer_finish(&peer->values[i]);
	}
}

/* ---- where llhttp is stricter, or reads a different protocol ---- */

/* llhttp knows a list of methods; RFC 9110 section 9.1 lets there be any token. */
static bool is_known_method(struct plane_slice method)
{
#define IS_METHOD(number, name, text) || plane_slice_equals(method, #text)
	return false HTTP_METHOD_MAP(IS_METHOD);
#undef IS_METHOD
}

/* llhttp checks targets by the form of URLs, byte by byte, and refuses what is not ASCII. We pass
 * on what browsers and backends agree about; the target's bytes have no effect on framing. */
static bool is_plain_target(struct plane_slice target)
{
	if (target.data[0] != '/')
		return false;
	for (size_t i = 0; i < target.len; i++)
		if (target.data[i] <= ' ' || target.data[i] > '~' || target.data[i] == '#')
			return false;
	return true;
}

static bool is_allowed_head(enum llhttp_errno error, const struct plane_http1_head *head)
{
	switch (error) {
	case HPE_INVALID_METHOD:
		return !is_known_method(head->method);
	case HPE_INVALID_URL:
		return !is_plain_target(head->target);
	default:
		return false;
	}
}

/* Tabs are white space around values and in lists (RFC 9110 section 5.6.3); llhttp takes only
 * spaces there, and so reads another value. The proxy writes these fields anew. */
static bool has_tab_in_control_field(const struct plane_http1_head *head)
{
	static const char *const names[] = { "transfer-encoding", "content-length", "connection" };
	for (size_t i = 0; i < head->header_count; i++) {
		struct plane_slice name = head->headers[i].name;
		const char *end = rawmemchr(name.data, '\r');
		bool has_tab = memchr(name.data, '\t', (size_t)(end - name.data));
		for (size_t j = 0; j < 3; j++)
			if (has_tab && plane_slice_equals_nocase(name, names[j]))
				return true;
	}
	return false;
}

/* Is the place in a line, behind a ';' or at white space? */
static bool is_in_extension(const char *bytes, size_t at)
{
	for (;; at--) {
		if (bytes[at] == ';' || bytes[at] == ' ' || bytes[at] == '\t')
			return true;
		if (at == 0 || bytes[at - 1] == '\n')
			return false;
	}
}

/* llhttp reads trailers as if they were fields of the head, and refuses those that frame. They may
 * frame nothing there (RFC 9110 section 6.5.1): ours passes over them, and the proxy drops them. It
 * refuses white space in front of a chunk extension, which RFC 9112 section 7.1.1 allows, and
 * checks the grammar of extensions, which nobody uses and which end with the line. */
static bool is_allowed_body(const struct peer *peer, const char *bytes, size_t len)
{
	switch (peer->error) {
	case HPE_INVALID_TRANSFER_ENCODING:
	case HPE_UNEXPECTED_CONTENT_LENGTH:
	case HPE_INVALID_CONTENT_LENGTH:
		return true;
	case HPE_INVALID_CHUNK_SIZE:
	case HPE_STRICT:
		return is_in_extension(bytes, peer->end < len ? peer->end : len - 1);
	default:
		return false;
	}
}

/* ---- comparing ---- */

static struct plane_slice trimmed(const struct plane_buffer *buffer)
{
	struct plane_slice slice = { buffer->data, buffer->len };
	while (slice.len && strchr(" \t", slice.data[slice.len - 1]))
		slice.len--;
	return slice;
}

static void check_fields(const struct plane_http1_head *head, const struct peer *peer)
{
	FUZZ_CHECK(peer->field_count == head->header_count);
	for (size_t i = 0; i < head->header_count; i++) {
		FUZZ_CHECK(fuzz_same(head->headers[i].name, trimmed(&peer->names[i])));
		FUZZ_CHECK(fuzz_same(head->headers[i].value, trimmed(&peer->values[i])));
	}
}

static void check_head(const struct plane_http1_head *head, const struct peer *peer)
{
	FUZZ_CHECK(peer->minor_version == head->minor_version);
	check_fields(head, peer);
	FUZZ_CHECK(peer->is_chunked == (plane_http1_find(head, "transfer-encoding") != NULL));
	FUZZ_CHECK(peer->content_length == head->content_length);
	FUZZ_CHECK(peer->is_keep_alive == head->is_keep_alive);
	/* which HTTP/1.0 does not know, RFC 9110 section 7.8; llhttp lets it */
	if ((!head->status || head->status == 101) && head->minor_version == 1)
		FUZZ_CHECK(peer->has_upgrade == head->is_upgrade);
}

/* The body as ours reads it; what it is, and where it ends (the end of the bytes when it goes on).
 */
static enum plane_http1_result read_body(const struct plane_http1_head *head, const char *bytes,
	size_t len, struct plane_buffer *body, size_t *end)
{
	struct plane_http1_chunked chunked = { 0 };
	enum plane_http1_result result = PLANE_HTTP1_MORE;
	size_t at = head->len, rest = len - head->len;
	switch (head->framing) {
	case PLANE_HTTP1_NO_BODY:
		*end = at;
		return PLANE_HTTP1_DONE;
	case PLANE_HTTP1_LENGTH:
	case PLANE_HTTP1_UNTIL_CLOSE:
		if (head->framing == PLANE_HTTP1_LENGTH && head->content_length <= rest) {
			rest = (size_t)head->content_length;
			result = PLANE_HTTP1_DONE;
		}
		plane_buffer_add(body, bytes + at, rest);
		*end = at + rest;
		return result;
	case PLANE_HTTP1_CHUNKED:
		break;
	}
	while (at < len && result == PLANE_HTTP1_MORE) {
		size_t taken = 0;
		struct plane_slice data = { 0 };
		result = plane_http1_chunked_next(&chunked, bytes + at, len - at, &taken, &data);
		if (result == PLANE_HTTP1_BAD)
			break;
		plane_buffer_add(body, data.data, data.len);
		at += taken;
	}
	*end = at;
	return result;
}

static void check_body(
	const struct plane_http1_head *head, const struct peer *peer, const char *bytes, size_t len)
{
	_cleanup_(plane_buffer_finish) struct plane_buffer body = { 0 };
	size_t end = 0;
	enum plane_http1_result result = read_body(head, bytes, len, &body, &end);
	if (result == PLANE_HTTP1_BAD)
		return; /* we refuse */
	if (peer->error != HPE_OK && !peer->is_complete) {
		if (!peer->is_chunked || !is_allowed_body(peer, bytes, len))
			fuzz_fail(__FILE__, __LINE__, llhttp_get_error_reason(&peer->parser));
		return;
	}
	FUZZ_CHECK(peer->is_complete == (result == PLANE_HTTP1_DONE));
	FUZZ_CHECK(peer->end == end);
	FUZZ_CHECK(fuzz_same((struct plane_slice){ body.data, body.len },
		(struct plane_slice){ peer->body.data, peer->body.len }));
}

/* llhttp waits for more where ours has not seen the end of the head either, unless it refuses. */
static void check_verdict(enum plane_http1_result result, const struct peer *peer)
{
	if (result == PLANE_HTTP1_MORE)
		FUZZ_CHECK(!peer->has_head);
}

void fuzz_compare_request(const char *bytes, size_t len)
{
	struct peer peer = { 0 };
	struct plane_http1_head head;
	const char *problem;
	peer_read(&peer, HTTP_REQUEST, bytes, len);
	enum plane_http1_result result = plane_http1_parse_request(bytes, len, &head, &problem);
	check_verdict(result, &peer);
	if (result == PLANE_HTTP1_DONE && has_tab_in_control_field(&head)) {
		/* see there */
	} else if (result == PLANE_HTTP1_DONE && !peer.has_head) {
		if (!is_allowed_head(peer.error, &head))
			fuzz_fail(__FILE__, __LINE__, llhttp_get_error_reason(&peer.parser));
	} else if (result == PLANE_HTTP1_DONE) {
		FUZZ_CHECK(plane_slice_equals(head.method, llhttp_method_name(peer.method)));
		FUZZ_CHECK(fuzz_same(
			head.target, (struct plane_slice){ peer.target.data, peer.target.len }));
		check_head(&head, &peer);
		check_body(&head, &peer, bytes, len);
	}
	peer_finish(&peer);
}

void fuzz_compare_response(const char *bytes, size_t len, bool is_head_request)
{
	struct peer peer = { .is_head_request = is_head_request };
	struct plane_http1_head head;
	const char *problem;
	peer_read(&peer, HTTP_RESPONSE, bytes, len);
	enum plane_http1_result result =
		plane_http1_parse_response(bytes, len, is_head_request, &head, &problem);
	check_verdict(result, &peer);
	if (result == PLANE_HTTP1_DONE && !has_tab_in_control_field(&head)) {
		FUZZ_CHECK(peer.has_head);
		FUZZ_CHECK(peer.status == head.status);
		check_head(&head, &peer);
		check_body(&head, &peer, bytes, len);
	}
	peer_finish(&peer);
}
