/* The proxy: takes HTTP and WebSocket from browsers and passes them on to the backend that the
 * token in the URL stands for. This runs one as a whole process. */
#ifndef PLANE_PROXY_PROXY_H
#define PLANE_PROXY_PROXY_H

#include "base/error.h"
#include "net/controller_url.h"

/** Everything is borrowed for the whole run. Start from plane_proxy_config_defaults. */
struct plane_proxy_config {
	const char *controller_url; /* its user part is the bearer token */
	struct plane_controller_credentials credentials;
	const char *cluster;           /* routes of others are refused by their Host */
	const char *name;              /* "px-..."; NULL: random */
	const char *listen;            /* "ip:port"; port 0: chosen by the kernel */
	const char *root_redirect_url; /* where "/" is sent; NULL: 400 */
	const char *metrics_listen;    /* "ip:port" for GET /metrics; NULL: none */
	int workers;                   /* threads; 0: one for each CPU */
	int max_connections;           /* of clients, over all workers; more are refused with 503 */
	int header_timeout_ms;         /* for a request's head, and between requests */
	int stall_timeout_ms;   /* a client that neither reads nor sends for so long is cut */
	int connect_timeout_ms; /* to a backend: then 504 */
	int ready_timeout_ms;   /* a request waits so long for its backend: then 504 */
	int grace_ms;           /* open requests get so long at the end */
	int ready_fd; /* gets "ready <ip:port>\n" once connected and serving; -1: none. Closed then.
		       */
};

extern const struct plane_proxy_config plane_proxy_config_defaults;

/**
 * Serves until SIGTERM or SIGINT, lets open requests finish for grace_ms, and returns 0. Negative
 * with `err` when it cannot start. Call it on the process's main thread before other threads are
 * started; not reentrant.
 */
int plane_proxy_run(const struct plane_proxy_config *config, struct plane_error *err);

#endif
