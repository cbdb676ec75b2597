/* net/websocket.c: any bytes as frames, for both ends. What arrives does not depend on how the
 * bytes were cut, texts are UTF-8, and what is answered are frames that the other end may read.
 * Then the bytes as a text, sent from one end to the other. */
#include "net/websocket.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "fuzz.h"

struct received {
	struct plane_buffer texts; /* each with a line's end behind */
	size_t count;
};

static void on_text(void *data, const char *text, size_t len)
{
	struct received *received = data;
	FUZZ_CHECK(plane_text_is_utf8(text, len));
	plane_buffer_add(&received->texts, text, len);
	plane_buffer_add(&received->texts, "\n", 1);
	received->count++;
}

/* RFC 6455 section 5.2: whole, unfragmented frames of the opcodes that we send, masked by a client
 * and by nobody else, control frames short. */
static void check_frames(const struct plane_buffer *output, bool is_client)
{
	const unsigned char *at = (const unsigned char *)output->data;
	size_t left = output->len;
	bool is_closed = false;
	while (left) {
		FUZZ_CHECK(!is_closed && left >= 2);
		unsigned opcode = at[0] & 0x0f;
		size_t head = 2 + (is_client ? 4 : 0), size = at[1] & 0x7f;
		FUZZ_CHECK((at[0] & 0xf0) == 0x80 && ((at[1] & 0x80) != 0) == is_client);
		FUZZ_CHECK(opcode == 1 || opcode == 8 || opcode == 9 || opcode == 10);
		FUZZ_CHECK(opcode == 1 || size <= 125);
		if (size == 126) {
			size = (size_t)at[2] << 8 | at[3];
			head += 2;
		} else if (size == 127) {
			size = 0;
			for (int i = 2; i < 10; i++)
				size = size << 8 | at[i];
			head += 8;
		}
		FUZZ_CHECK(size <= left - head);
		is_closed = opcode == 8;
		at += head + size;
		left -= head + size;
	}
}

/* Feeds the bytes cut into pieces of `step`; the result of the first piece that failed, or 0. */
static int feed(bool is_client, const uint8_t *bytes, size_t len, size_t step,
	struct received *received, bool *is_closed)
{
	struct plane_websocket *ws = plane_websocket_create(is_client, on_text, received);
	int result = 0;
	for (size_t at = 0; at < len && result == 0 && !plane_websocket_is_closed(ws);) {
		size_t piece = len - at < step ? len - at : step;
		_cleanup_free_ char *copy = fuzz_copy(bytes + at, piece);
		result = plane_websocket_feed(ws, copy, piece);
		at += piece;
	}
	check_frames(plane_websocket_output(ws), is_client);
	*is_closed = plane_websocket_is_closed(ws);
	plane_websocket_destroy(ws);
	return result;
}

/* What came before a fault is the same, and the fault itself when both saw it; whoever has only a
 * part of a frame may see it later. */
static void check_same(const struct received *a, const struct received *b, bool is_same_end)
{
	size_t shorter = a->texts.len < b->texts.len ? a->texts.len : b->texts.len;
	FUZZ_CHECK(!shorter || memcmp(a->texts.data, b->texts.data, shorter) == 0);
	if (is_same_end)
		FUZZ_CHECK(a->count == b->count && a->texts.len == b->texts.len);
}

static void check_cuts(bool is_client, const uint8_t *bytes, size_t len)
{
	static const size_t steps[] = { SIZE_MAX, 1, 7 };
	struct received received[3] = { 0 };
	bool is_closed[3];
	int results[3];
	for (size_t i = 0; i < 3; i++) {
		results[i] = feed(is_client, bytes, len, steps[i], &received[i], &is_closed[i]);
		FUZZ_CHECK(results[i] != 0 || results[0] != 0 || is_closed[i] == is_closed[0]);
		check_same(&received[i], &received[0], results[i] == results[0]);
	}
	for (size_t i = 0; i < 3; i++)
		plane_buffer_finish(&received[i].texts);
}

static void check_sent(bool is_client, const char *text, size_t len)
{
	struct received received = { 0 };
	struct plane_websocket *from = plane_websocket_create(is_client, on_text, NULL);
	struct plane_websocket *to = plane_websocket_create(!is_client, on_text, &received);
	plane_websocket_send_text(from, text, len);
	plane_websocket_send_ping(from);
	struct plane_buffer *output = plane_websocket_output(from);
	check_frames(output, is_client);
	FUZZ_CHECK(plane_websocket_feed(to, output->data, output->len) == 0);
	FUZZ_CHECK(received.count == 1 && received.texts.len == len + 1);
	FUZZ_CHECK(!len || memcmp(received.texts.data, text, len) == 0);
	plane_buffer_clear(output);
	/* the pong, and then the closing handshake */
	struct plane_buffer *back = plane_websocket_output(to);
	FUZZ_CHECK(back->len > 0 && plane_websocket_feed(from, back->data, back->len) == 0);
	plane_buffer_clear(back);
	plane_websocket_send_close(from, 1000, "enough");
	(void)plane_websocket_feed(to, output->data, output->len); /* its result is its end */
	plane_buffer_clear(output);
	(void)plane_websocket_feed(from, back->data, back->len);
	FUZZ_CHECK(plane_websocket_is_closed(to) && plane_websocket_is_closed(from));
	plane_websocket_destroy(from);
	plane_websocket_destroy(to);
	plane_buffer_finish(&received.texts);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	check_cuts(false, bytes, len);
	check_cuts(true, bytes, len);
	if (plane_text_is_utf8((const char *)bytes, len)) {
		check_sent(true, (const char *)bytes, len);
		check_sent(false, (const char *)bytes, len);
	}
	return 0;
}
