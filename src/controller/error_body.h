/* Error answers of the controller's API (reference section 2): kind, status and message. */
#ifndef PLANE_CONTROLLER_ERROR_BODY_H
#define PLANE_CONTROLLER_ERROR_BODY_H

#include <jansson.h>

#include "net/http_server.h"

enum plane_api_error {
	PLANE_API_NO_DRONE_AVAILABLE,
	PLANE_API_FAILED_TO_ACQUIRE_KEY,
	PLANE_API_FAILED_TO_REMOVE_KEY,
	PLANE_API_KEY_HELD_UNHEALTHY,
	PLANE_API_KEY_HELD,
	PLANE_API_KEY_UNHELD_NO_SPAWN_CONFIG,
	PLANE_API_NO_CLUSTER_PROVIDED,
	PLANE_API_INVALID_CLUSTER_NAME,
	PLANE_API_NO_SUCH_BACKEND,
	PLANE_API_NO_SUCH_DRONE,
	PLANE_API_NO_SUCH_PATH,
	PLANE_API_METHOD_NOT_ALLOWED,
	PLANE_API_INVALID_JSON,        /* 400 */
	PLANE_API_INVALID_TYPE,        /* 422 */
	PLANE_API_INVALID_QUERY,       /* 400 */
	PLANE_API_MEDIA_TYPE,          /* 415 */
	PLANE_API_NOT_A_WEBSOCKET,     /* 400 */
	PLANE_API_DRONE_NOT_CONNECTED, /* 503 */
	PLANE_API_NOT_SUPPORTED,       /* 501 */
	PLANE_API_DATABASE,            /* 500 "Database error" */
	PLANE_API_DATABASE_AWAY,       /* 503 */
	PLANE_API_RECOVERING,          /* 503 */
	PLANE_API_DATABASE_SLOW,       /* 503 */
	PLANE_API_DATABASE_BUSY,       /* 503 */
	PLANE_API_UNHEALTHY,           /* 500 "Database health check failed" */
	PLANE_API_REVOKE_FAILED,
	PLANE_API_UNAUTHORIZED, /* 401 */
	PLANE_API_FORBIDDEN,    /* 403 */
	PLANE_API_INTERNAL,
};

/** Answers with the error; `message` NULL takes the kind's own. Logs those of status 500. */
void plane_api_fail(
	struct plane_http_response *response, enum plane_api_error error, const char *message);
/** The same, and logs why with the answer's id: for errors whose cause is not told to callers.
 *  A store that is away (-EAGAIN) is DATABASE_AWAY, whatever the error; what took too long
 *  (-ETIMEDOUT) DATABASE_SLOW, and too much of the same (-EUSERS) DATABASE_BUSY. */
void plane_api_fail_because(struct plane_http_response *response, enum plane_api_error error,
	const struct plane_error *cause);

/** Answers 200 with the JSON; `owned_json` is decref'd. */
void plane_api_answer(struct plane_http_response *response, json_t *owned_json);

#endif
