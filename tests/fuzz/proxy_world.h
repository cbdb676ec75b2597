/* A world for the proxy: its real worker runs in this thread, between clients and backends that are
 * the other ends of socket pairs, on a clock that only the script moves. Whenever the worker has
 * nothing left to do it asks the script for the next step, so one input always runs the same way.
 */
#ifndef PLANE_TESTS_FUZZ_PROXY_WORLD_H
#define PLANE_TESTS_FUZZ_PROXY_WORLD_H

#include "base/buffer.h"
#include "fuzz.h"
#include "proxy/shared.h"

#define WORLD_CLIENTS 3
#define WORLD_BACKENDS 12

/** One connection, seen from its far end. */
struct world_peer {
	int fd; /* -1: not open (any more) */
	bool was_connected;
	bool is_paused;                     /* reads nothing */
	bool is_ended;                      /* the proxy said that it sends no more, or closed */
	struct plane_buffer sent, received; /* all of it */
};

struct world {
	struct world_peer clients[WORLD_CLIENTS];
	struct world_peer backends[WORLD_BACKENDS]; /* in the order of their connections */
	size_t backend_count;
	bool refuses_connections, hangs_connections, has_small_buffers;
	bool has_paused;   /* somebody did not read for a while */
	bool is_stopping;  /* the script told the proxy to */
	bool holds_routes; /* tokens that are asked for are not answered by themselves */
	int64_t now_ms;
	struct plane_proxy_shared shared;
	struct plane_worker *worker;
	/* the next step of the script; false when there is none */
	bool (*step)(struct world *world, void *data);
	void *step_data;
	/* inside */
	int accepting;             /* the client that waits to be accepted; -1: none */
	struct plane_buffer first; /* what it sends then */
	struct plane_buffer asked; /* tokens, each with a NUL */
	void *(*run)(void *data);
	void *run_data;
	bool has_passed_time; /* the worker's deadlines are to be looked at */
	int end_step;
};

#define WORLD_CLUSTER "c.test"
#define WORLD_SUBDOMAIN "sub"
#define WORLD_USER "alice"
#define WORLD_SECRET "secret-of-the-connection"
#define WORLD_CLIENT_IP "192.0.2.1"
/** The user data of a route as it goes into a field. */
#define WORLD_USER_DATA "{\"line\":\"a\\nb\",\"name\":\"\xc3\xa4\"}"

/** What the controller would say about a token; by its first letter, see proxy_world.c. */
struct plane_route_info world_route_of(const char *token, bool *exists);

/** Runs the whole script. Then ends all clients and waits: nothing may be left. */
void world_run(struct world *world, bool (*step)(struct world *world, void *data), void *data);
/** Prints what went over each connection. */
void world_show(const struct world *world);
void world_finish(struct world *world);

/* Steps. */
/** Sends, connecting first if it is not connected; a client's second connection is not made. */
void world_client_send(struct world *world, size_t client, const void *bytes, size_t len);
void world_peer_send(struct world_peer *peer, const void *bytes, size_t len);
void world_peer_shut(struct world_peer *peer);
void world_peer_close(struct world_peer *peer);
/** The `age`th newest open connection of a backend, or NULL. */
struct world_peer *world_backend(struct world *world, size_t age);
void world_pass_time(struct world *world, int64_t ms);
/** Answers what was asked; with routes, or that there are none. */
void world_answer_routes(struct world *world, bool exist);

#endif
