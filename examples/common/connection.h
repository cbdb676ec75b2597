/* Inside the server: one connection, and what the loop and the connection ask of each other.
 * Programs include server.h only. */
#ifndef EXAMPLES_COMMON_CONNECTION_H
#define EXAMPLES_COMMON_CONNECTION_H

#include "common/server.h"

enum web_state {
	WEB_READING_HEAD,
	WEB_READING_BODY,
	WEB_ANSWERED, /* the answer is in `output`; the next request waits in `input` */
	WEB_SOCKET,
	WEB_ENDING /* what is in `output` is the last; input is thrown away until it ends */
};

struct web_connection {
	struct web_server *server;
	struct web_connection *previous, *next; /* list of all */
	struct web_connection *next_touched;
	int fd;
	uint32_t events; /* what epoll watches */
	enum web_state state;
	struct web_buffer input, output;
	struct web_buffer head; /* memory of `request` */
	struct web_buffer body; /* of the request, or of the fragments of a message */
	size_t head_scanned;
	struct web_request request;
	struct web_body body_state;
	int fragments; /* opcode of the message that is in `body`, 0 when none is */
	int64_t state_since_ms, last_read_ms, last_write_ms;
	int64_t held_until_ms; /* the output waits until then; 0: it does not */
	bool is_touched, is_doomed, is_announced, has_input_ended, has_shut_down, was_pinged;
	void *own;
};

struct web_server {
	const struct web_handlers *handlers;
	int listen_fd, signal_fd, epoll_fd;
	bool is_accepting;
	size_t connection_count, max_connections;
	struct web_connection *connections;
	struct web_connection *touched; /* to be settled before the loop waits again */
	int64_t now_ms, next_timer_ms;
};

/** Looked at again before the loop waits: flushed, watched as needed, or freed. */
void web_connection_touch(struct web_connection *connection);

/** Reads what has come and does what it says. */
void web_connection_read(struct web_connection *connection);

/** Sends what it can, goes on with requests that waited for that. */
void web_connection_progress(struct web_connection *connection);

/** Applies the time limits; returns when to look again. */
int64_t web_connection_check_time(struct web_connection *connection);

/** The events that the connection waits for. */
uint32_t web_connection_wanted(const struct web_connection *connection);

void web_connection_free(struct web_connection *connection);

#endif
