/* The body of POST /ctrl/connect (reference section 2), checked. */
#ifndef PLANE_MODEL_CONNECT_REQUEST_H
#define PLANE_MODEL_CONNECT_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/error.h"
#include "model/resources.h"

/** Texts and JSON are borrowed from the parsed body. */
struct plane_connect_request {
	bool has_key;
	const char *key_name;
	const char *key_namespace; /* "" by default */
	const char *key_tag;       /* "" by default */

	bool has_spawn_config;
	const char *backend;            /* NULL: random */
	const char *cluster;            /* NULL: the controller's default */
	const char *pool;               /* "" by default */
	json_t *executable;             /* checked here too, so that a mistake is told at once */
	int64_t lifetime_limit_seconds; /* -1: none */
	int64_t max_idle_seconds;       /* -1: none */
	bool use_static_token;
	const char *subdomain;            /* NULL: none */
	struct plane_resources resources; /* by default what the executable's limits are */

	const char *user; /* NULL: none */
	json_t *auth;     /* object; NULL when absent, to be read as {} */
};

/** Wrong types or values: -EPROTO (answered 422), the message names the field. */
int plane_connect_request_read(
	const json_t *json, struct plane_connect_request *request, struct plane_error *err);

#endif
