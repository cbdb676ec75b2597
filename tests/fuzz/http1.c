/* net/http1.c: any bytes as a request, as a response and as a chunked body. What is accepted must
 * be well formed by rules written down here once more, must read the same after it was written
 * again, and must not be accepted earlier or differently when bytes come in pieces. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "fuzz.h"

#define EVERY_PREFIX_MAX 192

static bool has_only(struct plane_slice slice, bool (*is_allowed)(unsigned char c))
{
	for (size_t i = 0; i < slice.len; i++)
		if (!is_allowed((unsigned char)slice.data[i]))
			return false;
	return true;
}

static bool is_token(unsigned char c)
{
	return c > ' ' && c < 0x7f && !strchr("\"(),/:;<=>?@[\\]{}", c);
}

static bool is_text(unsigned char c)
{
	return c == '\t' || (c >= ' ' && c != 0x7f);
}

static bool is_target(unsigned char c)
{
	return c > ' ' && c != 0x7f;
}

static bool is_inside(struct plane_slice slice, const char *bytes, size_t len)
{
	return slice.data >= bytes && slice.data + slice.len <= bytes + len;
}

static size_t count_fields(const struct plane_http1_head *head, const char *name)
{
	size_t count = 0;
	for (size_t i = 0; i < head->header_count; i++)
		count += plane_slice_equals_nocase(head->headers[i].name, name);
	return count;
}

static void check_headers(const struct plane_http1_head *head, const char *bytes)
{
	FUZZ_CHECK(head->header_count <= PLANE_HTTP1_HEADERS_MAX);
	FUZZ_CHECK(head->minor_version == 0 || head->minor_version == 1);
	for (size_t i = 0; i < head->header_count; i++) {
		struct plane_slice name = head->headers[i].name, value = head->headers[i].value;
		FUZZ_CHECK(is_inside(name, bytes, head->len));
		FUZZ_CHECK(is_inside(value, bytes, head->len));
		FUZZ_CHECK(name.len && has_only(name, is_token));
		FUZZ_CHECK(has_only(value, is_text));
		FUZZ_CHECK(!value.len || !strchr(" \t", value.data[0]));
		FUZZ_CHECK(!value.len || !strchr(" \t", value.data[value.len - 1]));
	}
	FUZZ_CHECK(count_fields(head, "host") <= 1);
}

/* RFC 9112 section 6: one way only to say where a body ends. */
static void check_framing(const struct plane_http1_head *head)
{
	size_t lengths = count_fields(head, "content-length");
	size_t codings = count_fields(head, "transfer-encoding");
	FUZZ_CHECK(lengths + codings <= 1);
	FUZZ_CHECK(!codings || head->minor_version == 1);
	switch (head->framing) {
	case PLANE_HTTP1_CHUNKED:
		FUZZ_CHECK(codings == 1);
		break;
	case PLANE_HTTP1_LENGTH:
		FUZZ_CHECK(lengths == 1 && head->content_length > 0);
		break;
	case PLANE_HTTP1_UNTIL_CLOSE:
		FUZZ_CHECK(lengths + codings == 0 && !head->is_keep_alive);
		break;
	case PLANE_HTTP1_NO_BODY:
		break;
	}
}

static void write_again(struct plane_buffer *out, const struct plane_http1_head *head)
{
	if (head->status)
		plane_buffer_addf(out, "HTTP/1.%d %03d %.*s\r\n", head->minor_version, head->status,
			(int)head->reason.len, head->reason.data);
	else
		plane_buffer_addf(out, "%.*s %.*s HTTP/1.%d\r\n", (int)head->method.len,
			head->method.data, (int)head->target.len, head->target.data,
			head->minor_version);
	for (size_t i = 0; i < head->header_count; i++) {
		const struct plane_http1_header *header = &head->headers[i];
		plane_buffer_addf(out, "%.*s:%.*s \r\n", (int)header->name.len, header->name.data,
			(int)header->value.len, header->value.data);
	}
	plane_buffer_add(out, "\r\n", 2);
}

static void check_same(const struct plane_http1_head *a, const struct plane_http1_head *b)
{
	FUZZ_CHECK(a->status == b->status && a->minor_version == b->minor_version);
	if (a->status)
		FUZZ_CHECK(fuzz_same(a->reason, b->reason));
	else
		FUZZ_CHECK(fuzz_same(a->method, b->method) && fuzz_same(a->target, b->target));
	FUZZ_CHECK(a->header_count == b->header_count);
	for (size_t i = 0; i < a->header_count; i++) {
		FUZZ_CHECK(fuzz_same(a->headers[i].name, b->headers[i].name));
		FUZZ_CHECK(fuzz_same(a->headers[i].value, b->headers[i].value));
	}
	FUZZ_CHECK(a->framing == b->framing && a->content_length == b->content_length);
	FUZZ_CHECK(a->is_keep_alive == b->is_keep_alive && a->is_upgrade == b->is_upgrade);
	FUZZ_CHECK(a->expects_continue == b->expects_continue);
	FUZZ_CHECK(!a->host.data == !b->host.data && fuzz_same(a->host, b->host));
}

enum mode { REQUEST, RESPONSE, RESPONSE_TO_HEAD, MODE_COUNT };

static enum plane_http1_result parse(enum mode mode, const char *bytes, size_t len,
	struct plane_http1_head *head, const char **problem)
{
	*problem = NULL;
	memset(head, 0x5a, sizeof(*head)); /* the caller need not prepare it */
	head->status = 0;
	if (mode == REQUEST)
		return plane_http1_parse_request(bytes, len, head, problem);
	return plane_http1_parse_response(bytes, len, mode == RESPONSE_TO_HEAD, head, problem);
}

/* Of a part of the bytes, nothing may be said that all of them do not confirm. */
static void check_prefix(enum mode mode, const char *bytes, size_t len,
	enum plane_http1_result whole, size_t head_len)
{
	struct plane_http1_head head;
	const char *problem;
	_cleanup_free_ char *part = fuzz_copy(bytes, len);
	enum plane_http1_result result = parse(mode, part, len, &head, &problem);
	if (whole == PLANE_HTTP1_DONE && len < head_len)
		FUZZ_CHECK(result == PLANE_HTTP1_MORE);
	else if (result != PLANE_HTTP1_MORE) /* why it is refused may be seen elsewhere first */
		FUZZ_CHECK((result == PLANE_HTTP1_DONE) == (whole == PLANE_HTTP1_DONE) &&
			   whole != PLANE_HTTP1_MORE);
}

static void check_prefixes(enum mode mode, const char *bytes, size_t len,
	enum plane_http1_result whole, size_t head_len)
{
	size_t step = len <= EVERY_PREFIX_MAX ? 1 : len / 16;
	for (size_t i = 0; i < len; i += step)
		check_prefix(mode, bytes, i, whole, head_len);
	if (whole == PLANE_HTTP1_DONE)
		check_prefix(mode, bytes, head_len - 1, whole, head_len);
}

static void check_head(enum mode mode, const char *bytes, size_t len)
{
	struct plane_http1_head head, again;
	const char *problem;
	enum plane_http1_result result = parse(mode, bytes, len, &head, &problem);
	FUZZ_CHECK(result == PLANE_HTTP1_MORE || result == PLANE_HTTP1_DONE || problem);
	check_prefixes(mode, bytes, len, result, head.len);
	if (result != PLANE_HTTP1_DONE)
		return;
	FUZZ_CHECK(head.len <= len && memcmp(bytes + head.len - 4, "\r\n\r\n", 4) == 0);
	if (mode == REQUEST) {
		FUZZ_CHECK(head.method.len && has_only(head.method, is_token));
		FUZZ_CHECK(head.target.len && has_only(head.target, is_target));
		FUZZ_CHECK(head.framing != PLANE_HTTP1_UNTIL_CLOSE);
	} else {
		FUZZ_CHECK(head.status >= 100 && head.status <= 999);
		FUZZ_CHECK(has_only(head.reason, is_text));
	}
	check_headers(&head, bytes);
	check_framing(&head);
	_cleanup_(plane_buffer_finish) struct plane_buffer written = { 0 };
	write_again(&written, &head);
	FUZZ_CHECK(parse(mode, written.data, written.len, &again, &problem) == PLANE_HTTP1_DONE);
	FUZZ_CHECK(again.len == written.len);
	check_same(&head, &again);
}

/* Decodes, `step` bytes at a time, and adds up what was taken. */
static enum plane_http1_result decode(
	const char *bytes, size_t len, size_t step, struct plane_buffer *payload, size_t *total)
{
	struct plane_http1_chunked chunked = { 0 };
	*total = 0;
	while (*total < len) {
		size_t piece = len - *total < step ? len - *total : step, taken = 0;
		struct plane_slice data = { 0 };
		enum plane_http1_result result =
			plane_http1_chunked_next(&chunked, bytes + *total, piece, &taken, &data);
		if (result != PLANE_HTTP1_MORE && result != PLANE_HTTP1_DONE)
			return result;
		FUZZ_CHECK(taken > 0 && taken <= piece);
		FUZZ_CHECK(!data.len || is_inside(data, bytes + *total, taken));
		plane_buffer_add(payload, data.data, data.len);
		*total += taken;
		if (result == PLANE_HTTP1_DONE)
			return result;
	}
	return PLANE_HTTP1_MORE;
}

static void check_chunked(const char *bytes, size_t len)
{
	static const size_t steps[] = { SIZE_MAX, 1, 3, 64 };
	struct plane_buffer payloads[4] = { 0 };
	enum plane_http1_result results[4];
	size_t totals[4];
	for (size_t i = 0; i < 4; i++) {
		results[i] = decode(bytes, len, steps[i], &payloads[i], &totals[i]);
		FUZZ_CHECK(results[i] == results[0]);
		if (results[0] != PLANE_HTTP1_DONE)
			continue;
		FUZZ_CHECK(totals[i] == totals[0] && payloads[i].len == payloads[0].len);
		FUZZ_CHECK(!payloads[0].len ||
			   memcmp(payloads[i].data, payloads[0].data, payloads[0].len) == 0);
	}
	if (results[0] == PLANE_HTTP1_DONE) {
		FUZZ_CHECK(totals[0] >= 5 && totals[0] > payloads[0].len);
		FUZZ_CHECK(memcmp(bytes + totals[0] - 2, "\r\n", 2) == 0);
	}
	for (size_t i = 0; i < 4; i++)
		plane_buffer_finish(&payloads[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	for (enum mode mode = REQUEST; mode < MODE_COUNT; mode++)
		check_head(mode, (const char *)bytes, len);
	check_chunked((const char *)bytes, len);
	return 0;
}
