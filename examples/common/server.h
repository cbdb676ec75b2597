/* A small HTTP/1.1 and WebSocket server: one thread, epoll, any number of connections. All
 * callbacks run in web_server_run. Everything that a client can make grow has a limit. */
#ifndef EXAMPLES_COMMON_SERVER_H
#define EXAMPLES_COMMON_SERVER_H

#include "common/request.h"
#include "common/websocket.h"

#define WEB_MAX_MESSAGE_BYTES (16 << 20)

struct web_server;
struct web_connection;

/** What a program does with its connections. Callbacks that are NULL are not called. */
struct web_handlers {
	/** A whole request: answer it with web_connection_answer or make it a WebSocket with
	 * web_connection_upgrade, at once, once. */
	void (*on_request)(struct web_connection *connection, const struct web_request *request);
	/** A whole WebSocket message; text is valid UTF-8. */
	void (*on_message)(
		struct web_connection *connection, const char *bytes, size_t len, bool is_text);
	/** The WebSocket is gone; the connection is freed after it. */
	void (*on_close)(struct web_connection *connection);
	/** What every callback finds with web_connection_data. */
	void *data;
	size_t max_connections;   /* more wait in the kernel; 0: as many as files may be open */
	size_t max_message_bytes; /* 0: WEB_MAX_MESSAGE_BYTES */
	int64_t ping_after_ms; /* of silence; a second such time without any byte closes. 0: never
				*/
};

/** Raises the limit of open files, ignores SIGPIPE. Listens when this returns. NULL: says why on
 * standard error. `handlers` is borrowed. */
struct web_server *web_server_create(uint16_t port, const struct web_handlers *handlers);

/** Serves until SIGTERM or SIGINT, then says goodbye to WebSockets. 0, or 1 after an error. */
int web_server_run(struct web_server *server);

void web_server_destroy(struct web_server *server);

/** The number in $PORT; 8080 when there is none, 0 when it is no port. */
uint16_t web_port(void);

/** An answer. Zeroed with a status is an empty one. All borrowed for the call. */
struct web_answer {
	int status;
	const char *content_type; /* NULL: text/plain */
	const char *headers;      /* more lines, each with its \r\n, or NULL */
	const char *body;
	size_t body_len;
	int64_t delay_ms; /* send it so much later */
};

void web_connection_answer(struct web_connection *connection, const struct web_answer *answer);
void web_connection_answer_text(struct web_connection *connection, int status, const char *text);

/** Takes a WebSocket handshake, or answers 400 or 426: then it is false. */
bool web_connection_upgrade(struct web_connection *connection, const struct web_request *request);

/** Sends a message. A client that leaves more than 8 MiB and one message unread is cut off; that
 * takes effect after the callback, so this may be called in any loop over connections. */
void web_connection_send(
	struct web_connection *connection, const void *bytes, size_t len, bool is_text);

/** Says goodbye to a WebSocket with this code (RFC 6455, section 7.4.1). */
void web_connection_close(struct web_connection *connection, int code);

/** The program's own data of a WebSocket: NULL at first, owned by the program. */
void web_connection_set_own(struct web_connection *connection, void *own);
void *web_connection_own(const struct web_connection *connection);
void *web_connection_data(const struct web_connection *connection);

/** Milliseconds of the monotonic clock. */
int64_t web_now_ms(void);

#endif
