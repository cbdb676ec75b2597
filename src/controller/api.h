/* The controller's HTTP API (reference section 2): one function a route, on pool threads. */
#ifndef PLANE_CONTROLLER_API_H
#define PLANE_CONTROLLER_API_H

#include "controller/access.h"
#include "controller/internal.h"
#include "controller/router.h"

struct plane_api_call {
	struct plane_controller *controller;
	const struct plane_http_request *request;
	struct plane_http_response *response;
	struct plane_route_params params;
};

/** Whom a route's function may wait for, beside the store: each has a part of the threads of its
 *  own, so that none can keep the rest from being answered. */
enum plane_api_lane {
	PLANE_API_LANE_STORE,   /* nobody: health, nodes, states */
	PLANE_API_LANE_CONNECT, /* a backend's end */
	PLANE_API_LANE_LOGS,    /* another controller */
	PLANE_API_LANE_OTHERS,  /* drones; the server of --forward-auth, for all that is not public
				 */
};

struct plane_api_route {
	const char *method;
	const char *pattern; /* ":" is a parameter */
	unsigned scopes;     /* one of these is needed; 0 lets nobody in */
	void (*handle)(struct plane_api_call *call);
	int param_from; /* the first parameter that the function is about */
	enum plane_api_lane lane;
};

/** In place of scopes: open to everybody. */
#define PLANE_API_PUBLIC (1u << 16)

const struct plane_api_route *plane_api_routes(size_t *count);

/** The handler of the HTTP server; its `server_data` is the controller. */
void plane_api_handle(
	const struct plane_http_request *request, struct plane_http_response *response);

/** The server's `takes_body`: what may not be asked is refused before its body is read, and the
 *  body of what may is as long as that needs. */
bool plane_api_takes_body(const struct plane_http_request *request, size_t *max_body_bytes,
	struct plane_http_response *response);

/** The lane of the server's pool for a request, by its head; its `server_data` is the controller.
 */
int plane_api_lane(const struct plane_http_request *request);

/** Parses the JSON body; NULL when it was answered with an error already. The caller decrefs. */
json_t *plane_api_body(struct plane_api_call *call);

/* api_access.c */
/** May the caller ask for what needs one of `scopes`? False when it was answered with an error.
 * What a page of another origin made a browser send needs a token: the browser adds all else by
 * itself. */
bool plane_api_allows(struct plane_api_call *call, unsigned scopes);

/* api_query.c */
/** The query's parameter; NULL for none, and for an empty one. The caller frees it. */
char *plane_api_query(struct plane_api_call *call, const char *name);
/** "limit", from 1 to 1000, 100 by default; false when it was answered with an error. */
bool plane_api_query_limit(struct plane_api_call *call, int *limit);
/** "true" or "false", the default; false when it was answered with an error. */
bool plane_api_query_flag(struct plane_api_call *call, const char *name, bool *is_set);

/* api_connect.c */
void plane_api_connect(struct plane_api_call *call);
/* api_backend.c, api_backend_list.c */
void plane_api_backend_status(struct plane_api_call *call);
void plane_api_backend_status_stream(struct plane_api_call *call);
void plane_api_backend_list(struct plane_api_call *call);
void plane_api_backend_logs(struct plane_api_call *call);
void plane_api_soft_terminate(struct plane_api_call *call);
void plane_api_hard_terminate(struct plane_api_call *call);
void plane_api_revoke(struct plane_api_call *call);
/* api_nodes.c */
void plane_api_cluster_state(struct plane_api_call *call);
void plane_api_drone(struct plane_api_call *call);
void plane_api_drone_list(struct plane_api_call *call);
void plane_api_proxy_list(struct plane_api_call *call);
/* api_key_list.c */
void plane_api_key_list(struct plane_api_call *call);
/* api_cluster.c */
void plane_api_drain(struct plane_api_call *call);
void plane_api_undrain(struct plane_api_call *call);
void plane_api_drone_socket(struct plane_api_call *call);
void plane_api_proxy_socket(struct plane_api_call *call);
void plane_api_dns_socket(struct plane_api_call *call);
/* api_health.c */
void plane_api_health(struct plane_api_call *call);
void plane_api_status(struct plane_api_call *call);
void plane_api_metrics(struct plane_api_call *call);
void plane_api_backend_metrics(struct plane_api_call *call);
/** Somebody wants to know what backends use: when nobody did, waits for what drones say, for a
 * moment. */
void plane_api_want_usage(struct plane_controller *controller);

#endif
