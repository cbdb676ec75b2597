/* What the files of the HTTP server share. Private to net/. Loop thread unless said. */
#ifndef PLANE_NET_HTTP_INTERNAL_H
#define PLANE_NET_HTTP_INTERNAL_H

#include "net/http1.h"
#include "net/http_pool.h"
#include "net/http_server.h"
#include "net/tls.h"
#include "net/websocket.h"

#define PLANE_HTTP_HEAD_MAX ((size_t)32 << 10)

enum plane_http_phase {
	PLANE_HTTP_IDLE,        /* no byte of a request yet */
	PLANE_HTTP_HEAD,        /* part of a head is there */
	PLANE_HTTP_BODY,        /* the head is read, its body is not complete */
	PLANE_HTTP_HANDLING,    /* the handler runs; nothing is read */
	PLANE_HTTP_ANSWERING,   /* the whole answer is being written */
	PLANE_HTTP_STREAMING,   /* plane_http_stream */
	PLANE_HTTP_WEBSOCKET,   /* plane_ws */
	PLANE_HTTP_HANDSHAKING, /* of TLS */
	PLANE_HTTP_LINGERING,   /* answered; what still comes is thrown away for a moment */
	PLANE_HTTP_CLOSED,      /* handles are being closed */
};

struct plane_http_stream {
	void (*on_closed)(void *data);
	void *data;
	bool is_chunked;
	bool is_ended;
};

struct plane_ws {
	struct plane_ws_listener listener;
	struct plane_websocket *endpoint;
	int64_t heard_at_ms; /* loop time of the last byte of the peer */
	bool is_feeding;
	bool must_close; /* a Close frame was sent: nothing else is */
	bool is_dropped; /* too slow: closed without ceremony */
};

/** One accepted connection. Freed when all its handles are closed. */
struct plane_http_connection {
	struct plane_http_server *server;
	struct plane_http_connection *next, *prev; /* server->connections */
	/* server->silent, while nothing or not all of a head has come: who has waited longest first
	 */
	struct plane_http_connection *silent_next, *silent_prev;
	int64_t silent_since_ms; /* loop time; 0: it is not on that list */
	uv_tcp_t tcp;
	uv_timer_t timer;
	int open_handles;
	enum plane_http_phase phase;
	bool is_eof;            /* the peer sends no more */
	bool must_close;        /* after the present answer */
	struct plane_buffer in; /* bytes that are not parsed yet */
	char peer_address[46];

	/* with TLS */
	struct plane_tls *tls;
	int64_t accepted_at_ms; /* loop time */
	bool is_handshaking;    /* and counted as such */
	bool is_peer_distrusted;
	char *peer_common_name; /* of a verified client certificate; NULL for none */
	int64_t peer_expires_at_s;

	/* the present request; freed with the answer */
	struct plane_http_head_copy {
		char *text; /* everything below points into it */
		struct plane_http_header *headers;
	} copy;
	struct plane_http_request request;
	struct plane_http_response response;
	struct plane_buffer body; /* counted in server->held_bytes */
	size_t max_body_bytes;
	int64_t body_deadline_ms; /* loop time */
	struct plane_http1_chunked chunked;
	enum plane_http1_framing framing;
	uint64_t body_left;
	bool is_head_request, is_http10, is_keep_alive;
	bool wants_continue;
	struct plane_http_job job;

	uint64_t ticket; /* of the stream or WebSocket */
	struct plane_http_stream stream;
	struct plane_ws ws;
};

struct plane_http_server {
	struct plane_http_server_config config;
	char *address;
	uv_loop_t *loop;
	uv_tcp_t listener;
	uv_timer_t room_timer; /* at the limit: when a silent connection may give its place away */
	struct plane_http_pool *pool;
	struct plane_http_connection *connections, *silent;
	int connection_count;
	size_t held_bytes; /* of bodies */
	SSL_CTX *tls;      /* NULL: plain */
	int handshake_count;
	bool is_accept_paused;
	int open_handles; /* listener and timer */
	bool is_closing, is_pool_closed, is_pool_closing;
	void (*on_closed)(void *data);
	void *data;
};

/* http_connection.c */
void plane_http_connection_accept(struct plane_http_server *server);
/** Parses what is in `in`; starts the handler when a request is complete. */
void plane_http_connection_advance(struct plane_http_connection *connection);
/** Takes bytes of the peer, which are not encrypted any more, by the phase. */
void plane_http_connection_take(
	struct plane_http_connection *connection, const char *bytes, size_t len);
/** The peer sends no more: UV_EOF, or what went wrong. */
void plane_http_connection_on_eof(struct plane_http_connection *connection, ssize_t result);
/** Reads again after the handler. */
void plane_http_connection_resume(struct plane_http_connection *connection);
/** The first request may come. */
void plane_http_connection_begin(struct plane_http_connection *connection);
/** After a complete answer: the next request, or the end. */
void plane_http_connection_answered(struct plane_http_connection *connection);
void plane_http_connection_arm(struct plane_http_connection *connection, uint64_t timeout_ms);
/** It is no longer among those of which a head is awaited. Safe to repeat. */
void plane_http_connection_leave_silent(struct plane_http_connection *connection);
/** Closes the connection that has been silent longest, if that is long enough for somebody else to
 *  have its place. Else says when it will be, 0 for never. */
bool plane_http_connection_displace(struct plane_http_server *server, uint64_t *after_ms);
/** Closes at once. Streams and WebSockets are told. Safe to repeat. */
void plane_http_connection_abort(struct plane_http_connection *connection);

/* http_answer.c */
/** Answers `status` with a line of text and closes. */
void plane_http_refuse(struct plane_http_connection *connection, int status, const char *message);
void plane_http_answer(struct plane_http_connection *connection);
/** Queues bytes, which it takes over and encrypts if need be. Failures abort the connection when
 * the loop turns. */
void plane_http_write(struct plane_http_connection *connection, struct plane_buffer *bytes,
	void (*on_written)(struct plane_http_connection *connection));
/** The same for bytes of the wire. */
void plane_http_write_wire(struct plane_http_connection *connection, struct plane_buffer *bytes,
	void (*on_written)(struct plane_http_connection *connection));
/** Ends our side after what is queued; what the peer still sends is thrown away for a moment. */
void plane_http_shut_down(struct plane_http_connection *connection);
void plane_http_request_finish(struct plane_http_connection *connection);

/* http_upgrade.c */
/** Ends a WebSocket soon: a Close frame, then the connection. */
void plane_http_ws_cut(struct plane_http_connection *connection);
void plane_http_ws_start(struct plane_http_connection *connection);
void plane_http_ws_read(struct plane_http_connection *connection, const char *bytes, size_t len);
void plane_http_ws_tick(struct plane_http_connection *connection);

/* http_tls.c */
/** Begins the handshake of a connection that was just accepted. */
void plane_http_tls_begin(struct plane_http_connection *connection);
/** Its handshake is over, or it is: another one's may begin. Safe to repeat. */
void plane_http_tls_leave(struct plane_http_connection *connection);
/** Others wait: gives the handshake that has taken longest less time. */
void plane_http_tls_hurry(struct plane_http_server *server);
void plane_http_tls_read(struct plane_http_connection *connection, const char *bytes, size_t len);
/** Puts bytes of the wire in the place of plain ones. */
int plane_http_tls_encrypt(struct plane_http_connection *connection, struct plane_buffer *bytes);
/** Tells the peer that the stream is whole. Nothing without TLS. */
void plane_http_tls_close(struct plane_http_connection *connection);
/** Is its client certificate, if there is one, still good? */
bool plane_http_tls_peer_is_valid(const struct plane_http_connection *connection);

/* http_server.c */
/** Accepts what waits, if there is room again. */
void plane_http_server_accept_again(struct plane_http_server *server);
/** Is what the stream or WebSocket was allowed by no longer so? */
bool plane_http_connection_is_revoked(const struct plane_http_connection *connection);
void plane_http_server_connection_gone(struct plane_http_server *server);

#endif
