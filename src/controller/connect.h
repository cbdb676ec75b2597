/* Connecting to a key (reference section 3): the backend that holds it, or a new one. */
#ifndef PLANE_CONTROLLER_CONNECT_H
#define PLANE_CONTROLLER_CONNECT_H

#include "controller/error_body.h"
#include "controller/internal.h"
#include "controller/placing.h"
#include "model/connect_request.h"

/** Zeroed is empty. */
struct plane_connect_result {
	char backend[PLANE_NAME_SIZE];
	bool is_spawned;
	enum plane_backend_status status;
	char token[PLANE_TOKEN_SIZE];
	char secret_token[PLANE_TOKEN_SIZE]; /* "" for a static token */
	char cluster[PLANE_TEXT_MAX + 1];
	char subdomain[64];          /* "" for none */
	char drone[PLANE_NAME_SIZE]; /* "" unless spawned */
};

/** What a connect ended with when it did not succeed. */
struct plane_connect_failure {
	enum plane_api_error error;
	const char *message;                    /* instead of the error's own; NULL for none */
	struct plane_error cause;               /* for the log; code 0 for none */
	int64_t retry_after_seconds;            /* 0: nothing is known of that */
	char reason[PLANE_PLACING_REASON_SIZE]; /* what `message` may point to */
};

/**
 * Finds or starts the backend and makes a token for it. Many calls for one new key at once give
 * one backend, and all of them get it. While the key's backend terminates, a call that could
 * spawn waits for its end (bounded by the grace time). Pool thread; blocks. False on failure.
 */
bool plane_connect(struct plane_controller *controller, const struct plane_connect_request *request,
	struct plane_connect_result *result, struct plane_connect_failure *failure);

#endif
