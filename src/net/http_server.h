/* A small HTTP/1.1 server for the control plane: the controller's API and each role's /metrics.
 * The loop thread moves bytes; a request handler runs on a pool thread, reads top to bottom and
 * may block. Streams (server-sent events, logs) and WebSockets leave the pool: they are fed from
 * the loop thread. Not for the proxy's data path. */
#ifndef PLANE_NET_HTTP_SERVER_H
#define PLANE_NET_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "base/buffer.h"
#include "base/error.h"
#include "net/http_pool.h"
#include "net/tls_context.h"

struct plane_http_server;
struct plane_http_stream; /* an answer whose body is written bit by bit */
struct plane_ws;          /* a WebSocket taken over from a request */

struct plane_http_header {
	char *name; /* lower case */
	char *value;
};

/** One request with its whole body. Valid during the handler. */
struct plane_http_request {
	const char *method;
	const char *path;  /* as sent, without the query, not decoded */
	const char *query; /* without '?'; "" for none */
	const struct plane_http_header *headers;
	size_t header_count;
	const char *body;
	size_t body_len;
	const char *peer_address; /* "ip" */
	/** Of the client certificate, which was verified: "" when it has none that is clear. NULL
	 *  without certificate. */
	const char *peer_common_name;
	void *server_data; /* the pointer given at creation */
};

/** First value of a header (name in lower case), or NULL. */
const char *plane_http_request_header(const struct plane_http_request *request, const char *name);
/** Decoded value of a query parameter; NULL when absent. The caller frees it. */
char *plane_http_request_query(const struct plane_http_request *request, const char *name);

struct plane_ws_listener {
	void *data;
	void (*on_text)(void *data, const char *text, size_t len);
	/** The connection is gone (Close frame of the peer, error, or plane_ws_close); last call.
	 */
	void (*on_closed)(void *data);
	size_t message_max_bytes; /* a longer one ends the connection; 0: 64 MiB */
};

/** What a handler answers. Zeroed is 200 with an empty body. */
struct plane_http_response {
	int status;
	struct plane_buffer body;
	struct plane_buffer extra_headers; /* complete lines "Name: value\r\n" */
	const char *content_type;          /* literal; NULL for none */
	/* At most one of these; called on the loop thread once the head was written: */
	void (*start_stream)(void *data, struct plane_http_stream *stream);
	void (*start_ws)(void *data, struct plane_ws *ws); /* answers 101 */
	void *start_data;
	uint64_t ticket; /* what a stream or WebSocket was allowed by; see ticket_is_valid */
};

/** Runs on a pool thread. Fills `response`. */
typedef void (*plane_http_handler_fn)(
	const struct plane_http_request *request, struct plane_http_response *response);

struct plane_http_server_config {
	const char *listen; /* "ip:port"; port 0 lets the kernel choose */
	plane_http_handler_fn handler;
	void *server_data;
	int pool_threads; /* own threads of this server */
	/** NULL, or the lane (http_pool.h) of a request whose handler may wait for others than this
	 *  process, by its head. Loop thread. */
	int (*lane_of)(const struct plane_http_request *request);
	int lane_limits[PLANE_HTTP_LANES]; /* how many threads each may take; 0: all */
	size_t max_body_bytes;             /* 413 above */
	size_t max_held_bytes; /* of the bodies of all requests together; 503 above. 0: no limit */
	/** NULL, or asked when a head is there, before its body is read. False: `response`, which
	 * it fills, is the answer, and the connection ends. `*max_body_bytes` may be made less;
	 * with 0 the request is handled without its body, and the connection ends after the answer.
	 * With neither ticket nor client certificate it may be displaced while its body comes. Loop
	 *  thread; must not block. The request has no body yet. */
	bool (*takes_body)(const struct plane_http_request *request, size_t *max_body_bytes,
		struct plane_http_response *response);
	/* at the limit the connection that has been silent longest, and for two seconds, is closed
	 * for who comes; accepting pauses when all are in use */
	int max_connections;
	SSL_CTX *tls;       /* of plane_tls_server_context; borrowed for the call. NULL: plain */
	int max_handshakes; /* of TLS, in progress; accepting pauses above. 0: 256 */
	/** NULL, or whether what a ticket (not 0) stands for still holds. Loop thread. */
	bool (*ticket_is_valid)(void *server_data, uint64_t ticket);
};

struct plane_http_server *plane_http_server_create(
	uv_loop_t *loop, const struct plane_http_server_config *config, struct plane_error *err);
/** "ip:port" as bound. */
const char *plane_http_server_address(const struct plane_http_server *server);
/** Stops accepting, waits for running handlers, closes streams and WebSockets; then `on_closed`. */
void plane_http_server_close(
	struct plane_http_server *server, void (*on_closed)(void *data), void *data);

/** Takes a context for connections that come from now on. What was opened with a client certificate
 *  that it would not accept is closed. Loop thread; the server must have been made with TLS. */
void plane_http_server_set_tls(struct plane_http_server *server, SSL_CTX *owned_context);

/** Cuts streams and WebSockets whose ticket or client certificate is no longer valid; a WebSocket's
 * peer is told by a Close frame with 1008. Loop thread. */
void plane_http_server_recheck(struct plane_http_server *server);

/* Streams: loop thread only. */
/** Called when the client went away or the stream was ended; last call for this stream. */
void plane_http_stream_on_closed(
	struct plane_http_stream *stream, void (*on_closed)(void *data), void *data);
/** False when more than 4 MiB wait for a slow reader: the stream is then closed. */
bool plane_http_stream_write(struct plane_http_stream *stream, const void *bytes, size_t len);
void plane_http_stream_end(struct plane_http_stream *stream);

/* WebSockets on the server's side: loop thread only. */
/** Again: another listener in its place, also from inside on_text. */
void plane_ws_listen(struct plane_ws *ws, const struct plane_ws_listener *listener);
/** False when more than 16 MiB wait for a slow peer: the connection is then closed. */
bool plane_ws_send_text(struct plane_ws *ws, const char *text, size_t len);
void plane_ws_close(struct plane_ws *ws);
/** With a close code (RFC 6455 section 7.4) and what to tell the peer; `reason` may be NULL. */
void plane_ws_close_because(struct plane_ws *ws, int code, const char *reason);

#endif
