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

/** One socket of the two. It is watched once and for all (edge-triggered epoll), so its flags stay
 *  true until tried in vain. */
struct plane_end {
	struct plane_conn *conn; /* NULL: a backend's that is in the pool */
	int fd;                  /* -1: closed */
	bool is_readable : 1;
	bool is_writable : 1;
	bool is_peer_done : 1; /* the peer said that it sends no more; there may be bytes to read */
	bool is_eof : 1;       /* all of it was read */
	bool is_broken : 1;    /* reading or writing failed */
	bool is_hung_up : 1;   /* both directions are closed; there may be bytes to read */
	bool is_shut : 1;      /* we send no more */
	struct plane_buffer out; /* bytes that the socket did not take yet */
};

/** The backend's socket, which outlives a request: between two it is in the pool (pool.h). */
struct plane_upstream {
	struct plane_end end;
	struct plane_upstream *prev, *next; /* of the pool; `next` also of the graveyard */
	struct plane_upstream *same_prev, *same_next; /* of the pool's same backend */
	struct plane_pool_backend *backend;           /* NULL: not in the pool */
	int64_t idle_since_ms;
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

/** The present request and its answer. What is known of the head beside this is gone once it was
 *  written for the backend. */
struct plane_exchange {
	struct plane_conn *conn;
	struct plane_route_waiter waiter;
	struct plane_buffer held_head;   /* as it came, while the route is waited for */
	struct plane_buffer sent_head;   /* as it went, while it may have to be sent once more */
	struct plane_buffer response_in; /* bytes of the answer that are not understood yet */
	struct plane_body request, response;
	bool is_head_request, is_http10, is_upgrade, is_idempotent, expects_continue;
	bool is_request_broken; /* the backend took no more of the request */
	bool is_reused;         /* the backend's connection was in the pool */
	bool is_answered;       /* the backend said something */
	bool has_response_head;
	bool wants_keep_alive;   /* of the client's connection, after this */
	bool can_reuse_upstream; /* of the backend's */
	bool strips_chunks;      /* the client cannot read chunks */
};

/** What an idle tunnel costs is this and an upstream: keep both small. */
struct plane_conn {
	struct plane_worker *worker;
	struct plane_conn *prev, *next;             /* of the worker */
	struct plane_conn *timer_prev, *timer_next; /* of a slot */
	int timer_slot;                             /* -1: none */
	enum plane_conn_phase phase;
	int64_t deadline_ms; /* 0: none */
	struct plane_end client;
	struct plane_upstream *upstream; /* NULL: none */
	struct plane_buffer in;          /* of the client: bytes that belong to no request yet */
	struct plane_route *route;
	struct plane_exchange *exchange;
	bool is_counted : 1;    /* as a use of the route's backend */
	bool is_dead : 1;       /* reaped when the events at hand are done */
	bool is_keep_alive : 1; /* after the answer that is being written */
	char client_ip[46];
};

/* worker.c */
struct plane_proxy_shared *plane_worker_shared(struct plane_worker *worker);
int64_t plane_worker_now_ms(const struct plane_worker *worker);
char *plane_worker_scratch(struct plane_worker *worker); /* PLANE_SCRATCH_SIZE */
/** An empty buffer, to write a message's head into; until the next call. */
struct plane_buffer *plane_worker_compose(struct plane_worker *worker);
bool plane_worker_is_stopping(const struct plane_worker *worker);
struct plane_pool *plane_worker_pool(struct plane_worker *worker);
struct plane_route_inbox *plane_worker_inbox(struct plane_worker *worker);
/** Watches the end's socket until it is closed. */
int plane_worker_watch(struct plane_worker *worker, struct plane_end *end);
/** Frees a closed one when the events at hand are done. */
void plane_worker_bury(struct plane_worker *worker, struct plane_upstream *owned_upstream);
/** 0 takes the deadline away. */
void plane_conn_set_deadline(struct plane_conn *conn, int64_t after_ms);
/** Takes it off the worker's lists; its memory goes when the events at hand are done. */
void plane_conn_destroy(struct plane_conn *conn);

/* conn.c */
/** Goes as far as sockets allow. */
void plane_conn_advance(struct plane_conn *conn);
void plane_conn_expire(struct plane_conn *conn);
void plane_conn_routed(struct plane_conn *conn, struct plane_route *owned_route);
/** Forgets the request; whoever waits for its route waits no more. */
void plane_conn_free_exchange(struct plane_conn *conn);
/** Ends it at once. */
void plane_conn_kill(struct plane_conn *conn);
/** Answers the present request itself, and goes on if `is_clean` (the whole request was read). */
void plane_conn_answer(struct plane_conn *conn, int status, const char *text);
/** The exchange is over: the client's connection goes on or ends. */
void plane_conn_finish_exchange(struct plane_conn *conn);

/* end.c */
/** For a socket before it connects or listens: small messages go at once, and a peer that vanished
 *  is noticed within about five minutes. */
void plane_end_set_options(int fd);
/** Bytes read into `bytes`, 0 when there are none now (see is_eof, is_broken). */
size_t plane_end_read(struct plane_end *end, char *bytes, size_t len);
/** Sends, keeping what the socket does not take. */
void plane_end_write(struct plane_end *end, const char *bytes, size_t len);
/** Tries again to send what is kept; true when nothing is left. */
bool plane_end_flush(struct plane_end *end);
void plane_end_close(struct plane_end *end);
void plane_end_shut(struct plane_end *end);
/** Closing it will be a reset: the peer sees that something failed. */
void plane_end_reset(struct plane_end *end);

/* upstream.c */
/** Connects to the route's backend, or takes a pooled connection, and sends the head. */
void plane_upstream_open(struct plane_conn *conn, const struct plane_http1_head *head,
	const struct plane_target *target);
bool plane_upstream_step(struct plane_conn *conn);
/** The backend failed before its answer: 502, or once more on a fresh connection. */
void plane_upstream_failed(struct plane_conn *conn, const char *why);
/** After a whole answer: into the pool, or closed. */
void plane_upstream_release(struct plane_conn *conn);
/** Closes the backend's connection, if there is one. */
void plane_upstream_close(struct plane_conn *conn);
/** Closes one that is in no list. */
void plane_upstream_destroy(struct plane_worker *worker, struct plane_upstream *owned_upstream);

/* exchange.c, tunnel.c: true when something moved */
bool plane_exchange_step(struct plane_conn *conn);
/** `early` are bytes that the backend sent behind its head. */
void plane_tunnel_begin(struct plane_conn *conn, const char *early, size_t early_len);
bool plane_tunnel_step(struct plane_conn *conn);

#endif
