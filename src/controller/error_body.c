/* The table of API errors. Messages of the reference are exact; clients compare them. */
#include "controller/error_body.h"

#include <errno.h>

#include "base/json.h"
#include "base/log.h"
#include "base/random.h"

static const struct {
	const char *kind;
	int status;
	const char *message;
} errors[] = {
	[PLANE_API_NO_DRONE_AVAILABLE] = { "NoDroneAvailable", 500, "No active drone available." },
	[PLANE_API_FAILED_TO_ACQUIRE_KEY] = { "FailedToAcquireKey", 500,
		"Failed to acquire lock." },
	[PLANE_API_FAILED_TO_REMOVE_KEY] = { "FailedToRemoveKey", 409, "Failed to remove lock." },
	[PLANE_API_KEY_HELD_UNHEALTHY] = { "KeyHeldUnhealthy", 500, "Lock is held but unhealthy." },
	[PLANE_API_KEY_HELD] = { "KeyHeld", 409, "Lock is held but tag does not match." },
	[PLANE_API_KEY_UNHELD_NO_SPAWN_CONFIG] = { "KeyUnheldNoSpawnConfig", 409,
		"Lock is unheld but no spawn config was provided." },
	[PLANE_API_NO_CLUSTER_PROVIDED] = { "NoClusterProvided", 400,
		"No cluster provided, and no default cluster for this controller." },
	[PLANE_API_INVALID_CLUSTER_NAME] = { "InvalidClusterName", 400, "Invalid cluster name" },
	[PLANE_API_NO_SUCH_BACKEND] = { "NotFound", 404, "Backend does not exist" },
	[PLANE_API_NO_SUCH_DRONE] = { "NotFound", 404, "Drone does not exist" },
	[PLANE_API_NO_SUCH_PATH] = { "NotFound", 404, "No such path" },
	[PLANE_API_METHOD_NOT_ALLOWED] = { "Other", 405, "Method not allowed on this path" },
	[PLANE_API_INVALID_JSON] = { "Other", 400, "Failed to parse the request body as JSON" },
	[PLANE_API_INVALID_TYPE] = { "Other", 422, "Wrong type in the request body" },
	[PLANE_API_INVALID_QUERY] = { "Other", 400, "Invalid query parameter" },
	[PLANE_API_MEDIA_TYPE] = { "Other", 415,
		"Expected request with `Content-Type: application/json`" },
	[PLANE_API_NOT_A_WEBSOCKET] = { "Other", 400, "Expected a WebSocket upgrade" },
	[PLANE_API_DRONE_NOT_CONNECTED] = { "Other", 503,
		"The drone of this backend is not connected" },
	[PLANE_API_NOT_SUPPORTED] = { "Other", 501,
		"The drone of this backend does not offer logs" },
	[PLANE_API_DATABASE] = { "Other", 500, "Database error" },
	[PLANE_API_DATABASE_AWAY] = { "DatabaseError", 503,
		"The database is not reachable at the moment. Try again." },
	[PLANE_API_RECOVERING] = { "DatabaseRecovering", 503,
		"The database was failed over or restored and may have forgotten which backends "
		"run: keys that are not held wait until those have ended. Try again." },
	[PLANE_API_DATABASE_SLOW] = { "DatabaseError", 503,
		"The query took too long for the database. Try again, or ask for less." },
	[PLANE_API_DATABASE_BUSY] = { "DatabaseError", 503,
		"Too many queries of this kind are running. Try again." },
	[PLANE_API_UNHEALTHY] = { "Other", 500, "Database health check failed" },
	[PLANE_API_REVOKE_FAILED] = { "Other", 500, "Failed to revoke token" },
	[PLANE_API_UNAUTHORIZED] = { "Other", 401, "This needs a token" },
	[PLANE_API_FORBIDDEN] = { "Other", 403, "The token does not have the scope" },
	[PLANE_API_INTERNAL] = { "Other", 500, "Internal error." },
};

#define ID_LENGTH 14

static void fail(struct plane_http_response *response, enum plane_api_error error,
	const char *message, const char *cause)
{
	char id[ID_LENGTH + 1];
	plane_random_alphanumeric(id, ID_LENGTH);
	if (!message)
		message = errors[error].message;
	if (errors[error].status >= 500)
		plane_warn("answering %d %s (error id %s): %s", errors[error].status,
			errors[error].kind, id, cause ? cause : message);
	plane_buffer_clear(&response->body);
	plane_api_answer(response, json_pack("{s:s,s:s,s:s}", "id", id, "kind", errors[error].kind,
					   "message", message));
	response->status = errors[error].status;
}

void plane_api_fail(
	struct plane_http_response *response, enum plane_api_error error, const char *message)
{
	fail(response, error, message, NULL);
}

void plane_api_fail_because(struct plane_http_response *response, enum plane_api_error error,
	const struct plane_error *cause)
{
	if (cause->code == -EAGAIN)
		error = PLANE_API_DATABASE_AWAY;
	else if (cause->code == -ETIMEDOUT)
		error = PLANE_API_DATABASE_SLOW;
	else if (cause->code == -EUSERS)
		error = PLANE_API_DATABASE_BUSY;
	fail(response, error, NULL, cause->message);
}

void plane_api_answer(struct plane_http_response *response, json_t *owned_json)
{
	_cleanup_json_ json_t *json = owned_json;
	_cleanup_free_ char *text = json ? plane_json_dump(json) : NULL;
	response->status = text ? 200 : 500;
	response->content_type = "application/json";
	plane_buffer_add_text(&response->body, text ? text
						    : "{\"id\":\"\",\"kind\":\"Other\","
						      "\"message\":\"Internal error.\"}");
}
