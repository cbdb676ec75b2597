/* One end of a WebSocket (RFC 6455) without I/O: bytes in, texts out, and the other way. Framing,
 * masking, UTF-8 and the closing handshake are wslay's; pings of the peer are answered. One thread.
 */
#ifndef PLANE_NET_WEBSOCKET_H
#define PLANE_NET_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"

#define PLANE_WEBSOCKET_MESSAGE_MAX ((size_t)64 << 20)

/* Close codes (RFC 6455 section 7.4.1). */
#define PLANE_WEBSOCKET_NORMAL 1000
#define PLANE_WEBSOCKET_GOING_AWAY 1001
#define PLANE_WEBSOCKET_REFUSED 1008 /* a policy was broken: the reason says which */

struct plane_websocket;

/** Called from plane_websocket_feed for each whole text message; binary ones are skipped. */
typedef void (*plane_websocket_text_fn)(void *data, const char *text, size_t len);

struct plane_websocket *plane_websocket_create(
	bool is_client, plane_websocket_text_fn on_text, void *data);
/** Not from inside on_text. */
void plane_websocket_destroy(struct plane_websocket *ws);

/** Longer messages than this break the protocol, from the next one on; at first it is
 *  PLANE_WEBSOCKET_MESSAGE_MAX. Also from inside on_text. */
void plane_websocket_set_message_max(struct plane_websocket *ws, size_t bytes);

/**
 * Takes bytes of the peer and calls on_text for what they complete. What is to be sent afterwards
 * is in the output. -EPROTO when the peer broke the protocol: send the output, then close.
 */
int plane_websocket_feed(struct plane_websocket *ws, const void *bytes, size_t len);

/** These add frames to the output; nothing after a close. Text must be UTF-8. */
void plane_websocket_send_text(struct plane_websocket *ws, const char *text, size_t len);
void plane_websocket_send_ping(struct plane_websocket *ws);
/** `reason` may be NULL; what is beyond 123 bytes is cut off (a frame holds no more). */
void plane_websocket_send_close(struct plane_websocket *ws, int code, const char *reason);

/** Bytes for the peer, written by the owner, who then consumes or steals them. */
struct plane_buffer *plane_websocket_output(struct plane_websocket *ws);

/** A Close frame went both ways, or nothing more can be read: close the connection. */
bool plane_websocket_is_closed(const struct plane_websocket *ws);

/** Why the peer closed: its code (0: none was given) and its words, "" for none. Valid until the
 *  next call. */
int plane_websocket_close_reason(const struct plane_websocket *ws, const char **reason);

/** Sec-WebSocket-Accept for a key (section 4.2.2); `accept` has room for 29 bytes. */
#define PLANE_WEBSOCKET_ACCEPT_SIZE 29
void plane_websocket_accept(const char *key, char accept[PLANE_WEBSOCKET_ACCEPT_SIZE]);

#endif
