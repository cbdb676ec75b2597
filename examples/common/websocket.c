/* WebSocket handshake and frames, see websocket.h. */
#include "common/websocket.h"

#include <string.h>

#include "common/sha1.h"

static const char base64_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void base64(const unsigned char *bytes, size_t len, char *text)
{
	for (size_t i = 0; i < len; i += 3) {
		size_t have = len - i;
		uint32_t group = (uint32_t)bytes[i] << 16;
		group |= have > 1 ? (uint32_t)bytes[i + 1] << 8 : 0;
		group |= have > 2 ? bytes[i + 2] : 0;
		*text++ = base64_digits[group >> 18];
		*text++ = base64_digits[group >> 12 & 63];
		*text++ = '=';
		*text++ = '=';
		if (have > 1)
			text[-2] = base64_digits[group >> 6 & 63];
		if (have > 2)
			text[-1] = base64_digits[group & 63];
	}
	*text = '\0';
}

bool web_socket_accept(const char *key, char accept[29])
{
	static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	if (strlen(key) != 24 || strcmp(key + 22, "==") != 0 || strspn(key, base64_digits) != 22)
		return false;
	char joined[24 + sizeof(magic)];
	memcpy(joined, key, 24);
	memcpy(joined + 24, magic, sizeof(magic));
	unsigned char digest[20];
	web_sha1(joined, sizeof(joined) - 1, digest);
	base64(digest, sizeof(digest), accept);
	return true;
}

void web_frame_append(
	struct web_buffer *output, enum web_opcode opcode, const void *bytes, size_t len)
{
	unsigned char head[10] = { (unsigned char)(0x80 | opcode) };
	size_t head_len = 2;
	if (len < 126) {
		head[1] = (unsigned char)len;
	} else {
		size_t width = len <= UINT16_MAX ? 2 : 8;
		head[1] = width == 2 ? 126 : 127;
		for (size_t i = 0; i < width; i++)
			head[2 + i] = (unsigned char)((uint64_t)len >> (8 * (width - 1 - i)));
		head_len += width;
	}
	web_buffer_append(output, head, head_len);
	web_buffer_append(output, bytes, len);
}

void web_frame_append_close(struct web_buffer *output, int code)
{
	unsigned char bytes[2] = { (unsigned char)(code >> 8), (unsigned char)code };
	web_frame_append(output, WEB_CLOSE, bytes, sizeof(bytes));
}

static void unmask(char *bytes, size_t len, const unsigned char mask[4])
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (char)(bytes[i] ^ (char)mask[i & 3]);
}

static bool is_known(unsigned opcode)
{
	return opcode <= WEB_BINARY || (opcode >= WEB_CLOSE && opcode <= WEB_PONG);
}

int web_frame_read(const struct web_buffer *input, size_t max_len, struct web_frame *frame)
{
	size_t have = web_buffer_len(input);
	if (have < 2)
		return 0;
	unsigned char *head = (unsigned char *)web_buffer_bytes(input);
	unsigned opcode = head[0] & 0x0f;
	bool is_control = opcode >= WEB_CLOSE;
	/* No extension was agreed on, and a client masks (sections 5.1 and 5.2). */
	if ((head[0] & 0x70) || !(head[1] & 0x80) || !is_known(opcode))
		return -1002;
	uint64_t len = head[1] & 0x7f;
	if (is_control && (len > 125 || !(head[0] & 0x80)))
		return -1002;
	size_t width = len == 126 ? 2 : len == 127 ? 8 : 0;
	if (have < 2 + width + 4)
		return 0;
	if (width > 0) {
		len = 0;
		for (size_t i = 0; i < width; i++)
			len = len << 8 | head[2 + i];
		if (len < (width == 2 ? 126u : 65536u) || len >> 63)
			return -1002;
	}
	if (len > max_len)
		return -1009;
	size_t head_len = 2 + width + 4;
	if (have - head_len < len)
		return 0;
	frame->opcode = (enum web_opcode)opcode;
	frame->is_final = head[0] & 0x80;
	frame->bytes = (char *)head + head_len;
	frame->len = (size_t)len;
	frame->total = head_len + (size_t)len;
	unmask(frame->bytes, frame->len, head + head_len - 4);
	return 1;
}
