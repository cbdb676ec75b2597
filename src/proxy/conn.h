/* A client's connection and the backend's that serves its present request. Private to proxy/;
 * everything runs on the worker's thread. */
#ifndef PLANE_PROXY_CONN_H
#define PLANE_PROXY_CONN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "net/http1.h"
#include "proxy/shared.h"

#define PLANE_SCRATCH_SIZE ((size_t)64 << 10)
#define PLANE_HEAD_MAX ((size_t)64 << 10)

struct plane_conn;
struct plane_pool;

/** One socket of the two. Flags are those of edge-triggered epoll: true until tried in vain. */
struct plane_end {
	struct plane_conn *conn;
	int fd; /* -1: none */
	bool is_readable, is_writable;
	bool is_peer_done; /* the peer said that it sends no more; there may be bytes to read */
	bool is_eof;       /* all of it was read */
	bool is_broken;    /* reading or writing failed */
	bool is_hung_up;   /* both directions are closed; there may be bytes to read */
	bool is_shut;      /* we send no more */
	struct plane_buffer out; /* bytes that the socket did not take yet */
};

enum plane_conn_phase {
	PLANE_CONN_HEAD,       /* between requests, or reading a request's head */
	PLANE_CONN_WAITING,    /* for the route */
	PLANE_CONN_CONNECTING, /* to the backend */
	PLANE_CONN_EXCHANGE,   /* request and answer pass */
	PLANE_CONN_TUNNEL,
	PLANE_CONN_ANSWERED,  /* the rest of an answer is written */
	PLANE_CONN_LINGERING, /* what the client still sends is thrown away for a moment */
};

/** A body that passes through: how much of it is left. */
struct plane_body {
	enum plane_http1_framing framing;
	uint64_t left;
	struct plane_http1_chunked chunked;
	bool is_done;
};

/** The present request and its answer. */
struct plane_exchange {
	struct plane_buffer bytes; /* of the request's head; its slices point here */
	struct plane_http1_head head;
	struct plane_target target;
	struct plane_body request, response;
	struct plane_buffer response_in; /* of the answer's head */
	bool has_response_head;
	bool wants_keep_alive;   /* of the client's connection, after this */
	bool can_reuse_upstream; /* of the backend's */
	bool is_head_request, is_http10;
	bool strips_chunks; /* the client cannot read chunks */
	bool is_reused;     /* the backend's connection was in the pool */
	bool is_idempotent;
	bool is_request_broken; /* the backend took no more of the request */
};

struct plane_conn {
	struct plane_worker *worker;
	struct plane_conn *prev, *next;             /* of the worker */
	struct plane_conn *timer_prev, *timer_next; /* of a slot */
	int timer_slot;                             /* -1: none */
	int64_t deadline_ms;                        /* 0: none */
	enum plane_conn_phase phase;
	struct plane_end client, upstream;
	struct plane_buffer in; /* of the client: bytes that belong to no request yet */
	struct plane_route *route;
	bool is_counted;    /* as a use of the route's backend */
	bool is_dead;       /* reaped when the events at hand are done */
	bool is_keep_alive; /* after the answer that is being written */
	struct plane_exchange *exchange;
	struct plane_route_waiter waiter;
	char client_ip[46];
};

/* worker.c */
struct plane_proxy_shared *plane_worker_shared(struct plane_worker *worker);
int64_t plane_worker_now_ms(const struct plane_worker *worker);
char *plane_worker_scratch(struct plane_worker *worker); /* PLANE_SCRATCH_SIZE */
bool plane_worker_is_stopping(const struct plane_worker *worker);
struct plane_pool *plane_worker_pool(struct plane_worker *worker);
struct plane_route_inbox *plane_worker_inbox(struct plane_worker *worker);
/** Watches the end's socket. */
int plane_worker_watch(struct plane_worker *worker, struct plane_end *end);
void plane_worker_unwatch(struct plane_worker *worker, struct plane_end *end);
/** 0 takes the deadline away. */
void plane_conn_set_deadline(struct plane_conn *conn, int64_t after_ms);
/** Takes it off the worker's lists; its memory goes when the events at hand are done. */
void plane_conn_destroy(struct plane_conn *conn);

/* conn.c */
/** Goes as far as sockets allow. */
void plane_conn_advance(struct plane_conn *conn);
void plane_conn_expire(struct plane_conn *conn);
void plane_conn_routed(struct plane_conn *conn, struct plane_route *owned_route);
/** Ends it at once. */
void plane_conn_kill(struct plane_conn *conn);
/** Answers the present request itself, and goes on if `is_clean` (the whole request was read). */
void plane_conn_answer(struct plane_conn *conn, int status, const char *text);
/** The exchange is over: the client's connection goes on or ends. */
void plane_conn_finish_exchange(struct plane_conn *conn);

/* end.c */
/** Bytes read into `bytes`, 0 when there are none now (see is_eof, is_broken). */
size_t plane_end_read(struct plane_end *end, char *bytes, size_t len);
/** Sends, keeping what the socket does not take. */
void plane_end_write(struct plane_end *end, const char *bytes, size_t len);
/** Tries again to send what is kept; true when nothing is left. */
bool plane_end_flush(struct plane_end *end);
void plane_end_close(struct plane_end *end);
void plane_end_shut(struct plane_end *end);

/* upstream.c */
/** Connects to the route's backend, or takes a pooled connection; goes on to CONNECTING. */
void plane_upstream_open(struct plane_conn *conn);
bool plane_upstream_step(struct plane_conn *conn);
/** The backend failed before its answer: 502, or once more on a fresh connection. */
void plane_upstream_failed(struct plane_conn *conn, const char *why);
/** After a whole answer: into the pool, or closed. */
void plane_upstream_release(struct plane_conn *conn);

/* exchange.c, tunnel.c: true when something moved */
bool plane_exchange_step(struct plane_conn *conn);
void plane_tunnel_begin(struct plane_conn *conn);
bool plane_tunnel_step(struct plane_conn *conn);

#endif
