/* WebSocket framing on wslay, between two memory buffers. */
#include "net/websocket.h"

#include <errno.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <wslay/wslay.h>

#include "base/alloc.h"
#include "base/random.h"

#define CLOSE_REASON_MAX 123 /* RFC 6455 section 5.5: 125 bytes, two of them the code */
#define ACCEPT_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

struct plane_websocket {
	wslay_event_context_ptr context;
	plane_websocket_text_fn on_text;
	void *data;
	const char *input;
	size_t input_len;
	struct plane_buffer output;
	bool is_feeding;
	char close_reason[CLOSE_REASON_MAX + 1]; /* of the peer */
};

static ssize_t read_input(
	wslay_event_context_ptr context, uint8_t *bytes, size_t len, int flags, void *data)
{
	struct plane_websocket *ws = data;
	if (!ws->input_len) {
		wslay_event_set_error(context, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	if (len > ws->input_len)
		len = ws->input_len;
	memcpy(bytes, ws->input, len);
	ws->input += len;
	ws->input_len -= len;
	return (ssize_t)len;
}

static ssize_t write_output(
	wslay_event_context_ptr context, const uint8_t *bytes, size_t len, int flags, void *data)
{
	struct plane_websocket *ws = data;
	plane_buffer_add(&ws->output, bytes, len);
	return (ssize_t)len;
}

static int make_mask(wslay_event_context_ptr context, uint8_t *bytes, size_t len, void *data)
{
	plane_random_bytes(bytes, len);
	return 0;
}

/* It is for a log: one line, whatever was sent. */
static void keep_close_reason(struct plane_websocket *ws, const char *text, size_t len)
{
	size_t kept = 0;
	for (; kept < len && kept < CLOSE_REASON_MAX; kept++)
		ws->close_reason[kept] = (unsigned char)text[kept] < ' ' ? ' ' : text[kept];
	ws->close_reason[kept] = '\0';
}

static void on_message(
	wslay_event_context_ptr context, const struct wslay_event_on_msg_recv_arg *arg, void *data)
{
	struct plane_websocket *ws = data;
	if (arg->opcode == WSLAY_TEXT_FRAME)
		ws->on_text(ws->data, (const char *)arg->msg, arg->msg_length);
	if (arg->opcode == WSLAY_CONNECTION_CLOSE && arg->msg_length > 2)
		keep_close_reason(ws, (const char *)arg->msg + 2, arg->msg_length - 2);
}

struct plane_websocket *plane_websocket_create(
	bool is_client, plane_websocket_text_fn on_text, void *data)
{
	struct plane_websocket *ws = PLANE_NEW(struct plane_websocket);
	struct wslay_event_callbacks callbacks = { .recv_callback = read_input,
		.send_callback = write_output,
		.genmask_callback = make_mask,
		.on_msg_recv_callback = on_message };
	ws->on_text = on_text;
	ws->data = data;
	int result = is_client ? wslay_event_context_client_init(&ws->context, &callbacks, ws)
			       : wslay_event_context_server_init(&ws->context, &callbacks, ws);
	if (result != 0)
		abort(); /* only for want of memory, as in plane_alloc */
	wslay_event_config_set_max_recv_msg_length(ws->context, PLANE_WEBSOCKET_MESSAGE_MAX);
	return ws;
}

void plane_websocket_set_message_max(struct plane_websocket *ws, size_t bytes)
{
	wslay_event_config_set_max_recv_msg_length(ws->context, bytes);
}

void plane_websocket_destroy(struct plane_websocket *ws)
{
	if (!ws)
		return;
	wslay_event_context_free(ws->context);
	plane_buffer_finish(&ws->output);
	free(ws);
}

/* Queued frames become output. Not while wslay reads: it is not re-entrant then. */
static void flush(struct plane_websocket *ws)
{
	while (!ws->is_feeding && wslay_event_want_write(ws->context))
		if (wslay_event_send(ws->context) != 0)
			return;
}

int plane_websocket_feed(struct plane_websocket *ws, const void *bytes, size_t len)
{
	ws->input = bytes;
	ws->input_len = len;
	ws->is_feeding = true;
	int result = 0;
	while (result == 0 && ws->input_len && wslay_event_want_read(ws->context))
		result = wslay_event_recv(ws->context);
	ws->is_feeding = false;
	flush(ws);
	/* wslay answers a broken protocol with a Close frame and reads no more. */
	bool is_broken = result != 0 || (!wslay_event_want_read(ws->context) &&
						!wslay_event_get_close_received(ws->context));
	return is_broken ? -EPROTO : 0;
}

static void queue(struct plane_websocket *ws, uint8_t opcode, const char *bytes, size_t len)
{
	struct wslay_event_msg message = { opcode, (const uint8_t *)bytes, len };
	(void)wslay_event_queue_msg(ws->context, &message); /* refused only after a close */
	flush(ws);
}

void plane_websocket_send_text(struct plane_websocket *ws, const char *text, size_t len)
{
	queue(ws, WSLAY_TEXT_FRAME, text, len);
}

void plane_websocket_send_ping(struct plane_websocket *ws)
{
	queue(ws, WSLAY_PING, "", 0);
}

void plane_websocket_send_close(struct plane_websocket *ws, int code, const char *reason)
{
	size_t len = reason ? strlen(reason) : 0;
	if (len > CLOSE_REASON_MAX)
		len = CLOSE_REASON_MAX;
	while (reason && len && (reason[len] & 0xc0) == 0x80)
		len--; /* not within a character: it must be UTF-8 */
	(void)wslay_event_queue_close(
		ws->context, (uint16_t)code, (const uint8_t *)reason, len); /* only once counts */
	flush(ws);
}

int plane_websocket_close_reason(const struct plane_websocket *ws, const char **reason)
{
	int code = wslay_event_get_status_code_received(ws->context);
	*reason = ws->close_reason;
	return code == WSLAY_CODE_NO_STATUS_RCVD || code == WSLAY_CODE_ABNORMAL_CLOSURE ? 0 : code;
}

struct plane_buffer *plane_websocket_output(struct plane_websocket *ws)
{
	return &ws->output;
}

bool plane_websocket_is_closed(const struct plane_websocket *ws)
{
	return wslay_event_get_close_received(ws->context) &&
	       wslay_event_get_close_sent(ws->context);
}

void plane_websocket_accept(const char *key, char accept[PLANE_WEBSOCKET_ACCEPT_SIZE])
{
	unsigned char digest[SHA_DIGEST_LENGTH];
	struct plane_buffer text = { 0 };
	plane_buffer_add_text(&text, key);
	plane_buffer_add_text(&text, ACCEPT_GUID);
	SHA1((const unsigned char *)text.data, text.len, digest);
	plane_buffer_finish(&text);
	(void)EVP_EncodeBlock((unsigned char *)accept, digest, sizeof(digest)); /* 28 + NUL */
}
