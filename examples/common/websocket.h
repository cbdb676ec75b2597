/* WebSocket (RFC 6455), the server's side: handshake and frames, no extensions. Pure: reads no
 * socket. */
#ifndef EXAMPLES_COMMON_WEBSOCKET_H
#define EXAMPLES_COMMON_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"

enum web_opcode {
	WEB_CONTINUATION = 0,
	WEB_TEXT = 1,
	WEB_BINARY = 2,
	WEB_CLOSE = 8,
	WEB_PING = 9,
	WEB_PONG = 10
};

/** `accept` has room for 29 bytes. False when `key` is not 24 characters of base64. */
bool web_socket_accept(const char *key, char accept[29]);

/** Appends one whole frame. */
void web_frame_append(
	struct web_buffer *output, enum web_opcode opcode, const void *bytes, size_t len);
/** A close frame with its code. */
void web_frame_append_close(struct web_buffer *output, int code);

/** One frame as it stands at the start of an input. */
struct web_frame {
	enum web_opcode opcode;
	bool is_final;
	char *bytes; /* unmasked in place */
	size_t len;
	size_t total; /* with its header: to consume */
};

/** 1: `frame` is there; 0: more must come; else minus the close code: -1002 for what breaks the
 * protocol, -1009 for a frame longer than `max_len`. */
int web_frame_read(const struct web_buffer *input, size_t max_len, struct web_frame *frame);

#endif
