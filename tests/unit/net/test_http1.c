/* net/http1.c. */
#include "../cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "net/http1.h"

static struct plane_http1_head head;
static const char *problem;

/* Parses a copy that ends where the text ends, so that reading beyond it is seen. */
static enum plane_http1_result request(const char *text)
{
	static char *copy;
	free(copy);
	size_t len = strlen(text);
	copy = malloc(len + !len);
	memcpy(copy, text, len);
	problem = NULL;
	return plane_http1_parse_request(copy, len, &head, &problem);
}

static enum plane_http1_result response(const char *text, bool is_head_request)
{
	static char *copy;
	free(copy);
	size_t len = strlen(text);
	copy = malloc(len + !len);
	memcpy(copy, text, len);
	return plane_http1_parse_response(copy, len, is_head_request, &head, &problem);
}

static void a_request_is_cut_into_its_parts(void **state)
{
	const char *text =
		"\r\nPOST /a?b=c HTTP/1.1\r\nHost: x:1\r\nX-Y: \t v w \t\r\n"
		"Content-Length: 12\r\nConnection: foo, Upgrade\r\nUpgrade: a\r\n\r\nrest";
	assert_int_equal(request(text), PLANE_HTTP1_DONE);
	assert_true(plane_slice_equals(head.method, "POST"));
	assert_true(plane_slice_equals(head.target, "/a?b=c"));
	assert_true(plane_slice_equals(head.host, "x:1"));
	assert_true(plane_slice_equals(plane_http1_find(&head, "x-y")->value, "v w"));
	assert_int_equal(head.framing, PLANE_HTTP1_LENGTH);
	assert_int_equal(head.content_length, 12);
	assert_true(head.is_upgrade);
	assert_true(head.is_keep_alive);
	assert_int_equal(head.len, strlen(text) - 4);
	assert_null(plane_http1_find(&head, "x-z"));
}

static void every_prefix_of_a_head_needs_more(void **state)
{
	const char *text = "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
	char part[64];
	for (size_t len = 0; len < strlen(text); len++) {
		memcpy(part, text, len);
		part[len] = '\0';
		assert_int_equal(request(part), PLANE_HTTP1_MORE);
	}
	assert_int_equal(request(text), PLANE_HTTP1_DONE);
}

static void what_two_readers_could_read_differently_is_refused(void **state)
{
	const char *bad[] = {
		"GET  / HTTP/1.1\r\n\r\n",
		"CONNECT a:443 HTTP/1.1\r\n\r\n",
		"CONNECT /a HTTP/1.1\r\n\r\n",
		"GET / HTTP/2.0\r\n\r\n",
		"GET / HTTP/1.1\n\r\n",
		"GET /\x01 HTTP/1.1\r\n\r\n",
		"G(T / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
		"GET / HTTP/1.1\r\nA : b\r\n\r\n",
		"GET / HTTP/1.1\r\n: b\r\n\r\n",
		"GET / HTTP/1.1\r\nA\r\n\r\n",
		"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
		"GET / HTTP/1.1\r\nA: b\n\r\n",
		"GET / HTTP/1.1\r\nA: \x7f\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length: \r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length: 9999999999999999999\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: "
		 "chunked\r\n\r\n"),
		"GET / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n",
		"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (request(bad[i]) != PLANE_HTTP1_BAD)
			fail_msg("accepted: %s", bad[i]);
		assert_non_null(problem);
	}
}

static void the_number_of_fields_is_limited(void **state)
{
	char text[PLANE_HTTP1_HEADERS_MAX * 6 + 64] = "GET / HTTP/1.1\r\n";
	for (int i = 0; i < PLANE_HTTP1_HEADERS_MAX; i++)
		strcat(text, "a: b\r\n");
	char *end = text + strlen(text);
	strcpy(end, "\r\n");
	assert_int_equal(request(text), PLANE_HTTP1_DONE);
	strcpy(end, "a: b\r\n\r\n");
	assert_int_equal(request(text), PLANE_HTTP1_TOO_MANY);
}

static void connections_are_kept_as_the_version_says(void **state)
{
	request("GET / HTTP/1.0\r\n\r\n");
	assert_false(head.is_keep_alive);
	request("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
	assert_true(head.is_keep_alive);
	request("GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
	assert_false(head.is_keep_alive);
	request("GET / HTTP/1.1\r\nExpect: 100-Continue\r\n\r\n");
	assert_true(head.expects_continue);
}

static void an_upgrade_names_a_protocol_and_is_named_by_connection(void **state)
{
	request("GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade:\r\nUpgrade: a\r\n\r\n");
	assert_true(head.is_upgrade);
	request("GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade:\r\n\r\n");
	assert_false(head.is_upgrade);
	request("GET / HTTP/1.1\r\nUpgrade: a\r\n\r\n");
	assert_false(head.is_upgrade);
	request("GET / HTTP/1.1\r\nConnection: upgrade\r\n\r\n");
	assert_false(head.is_upgrade);
	request("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n");
	assert_false(head.is_upgrade);
}

static void answers_are_framed_by_the_rules(void **state)
{
	assert_int_equal(response("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", false), 0);
	assert_int_equal(head.framing, PLANE_HTTP1_LENGTH);
	response("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true);
	assert_int_equal(head.framing, PLANE_HTTP1_NO_BODY);
	response("HTTP/1.1 304\r\nTransfer-Encoding: chunked\r\n\r\n", false);
	assert_int_equal(head.framing, PLANE_HTTP1_NO_BODY);
	response("HTTP/1.1 200 \r\n\r\n", false);
	assert_int_equal(head.framing, PLANE_HTTP1_UNTIL_CLOSE);
	assert_false(head.is_keep_alive);
	assert_int_equal(head.reason.len, 0);
	response("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n",
		false);
	assert_true(head.is_upgrade);
	assert_true(plane_slice_equals(head.reason, "Switching Protocols"));
	assert_int_equal(response("HTTP/1.1 099 x\r\n\r\n", false), PLANE_HTTP1_BAD);
	assert_int_equal(response("HTTP/1.1 2000 x\r\n\r\n", false), PLANE_HTTP1_BAD);
	assert_int_equal(response("HTTP/3 200 x\r\n\r\n", false), PLANE_HTTP1_BAD);
}

/* Decodes in pieces of `step` bytes; the payload in `out`, or NULL when refused or not ended. */
static char *decode(const char *text, size_t step, char *out)
{
	struct plane_http1_chunked chunked = { 0 };
	size_t len = strlen(text), at = 0;
	*out = '\0';
	while (at < len) {
		size_t end = at + step < len ? at + step : len;
		while (at < end) {
			size_t taken;
			struct plane_slice data;
			enum plane_http1_result result = plane_http1_chunked_next(
				&chunked, text + at, end - at, &taken, &data);
			if (result == PLANE_HTTP1_BAD)
				return NULL;
			strncat(out, data.len ? data.data : "", data.len);
			at += taken;
			if (result == PLANE_HTTP1_DONE)
				return at == len ? out : NULL;
		}
	}
	return NULL;
}

static void chunks_are_decoded_however_they_arrive(void **state)
{
	const char *text = "5\r\nhello\r\n1;a=b\r\n \r\n005 ;x\r\nworld\r\n0\r\nT: v\r\n\r\n";
	char out[64];
	for (size_t step = 1; step < 60; step++)
		assert_string_equal(decode(text, step, out), "hello world");
	assert_string_equal(decode("0\r\n\r\n", 1, out), "");
}

static void bad_chunks_are_refused(void **state)
{
	const char *bad[] = { "\r\n", ";\r\n", "x\r\n", "-1\r\n", "0x1\r\n", "1\n", "1\r\nab\r\n",
		"1\r\na\n", "fffffffffffffffff\r\n", "1 2\r\n\x01", "0\r\n x\r\n\r\n",
		"0\r\na: \x01\r\n\r\n", "1\r\r\n", "0 \r\n\r\n", "0 x\r\n\r\n", "0\r\na\r\n\r\n",
		"0\r\na : b\r\n\r\n", "0\r\n: b\r\n\r\n" };
	char out[64];
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (decode(bad[i], 1, out))
			fail_msg("accepted: %s", bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_is_cut_into_its_parts),
		cmocka_unit_test(every_prefix_of_a_head_needs_more),
		cmocka_unit_test(what_two_readers_could_read_differently_is_refused),
		cmocka_unit_test(the_number_of_fields_is_limited),
		cmocka_unit_test(connections_are_kept_as_the_version_says),
		cmocka_unit_test(an_upgrade_names_a_protocol_and_is_named_by_connection),
		cmocka_unit_test(answers_are_framed_by_the_rules),
		cmocka_unit_test(chunks_are_decoded_however_they_arrive),
		cmocka_unit_test(bad_chunks_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
