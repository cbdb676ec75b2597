/* The algorithm of a connect: look up, wait for a terminating one, or place and spawn. */
#include "controller/connect.h"

#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "controller/placing.h"

#define TRIES 3
#define TOKEN_LIFETIME_MS (3600 * 1000)
#define WAIT_MARGIN_MS 3000

enum step {
	STEP_DONE,
	STEP_FAILED,
	STEP_LOST_RACE, /* somebody else was faster: look again; `failure` says at what */
	STEP_TERMINATING,
};

struct attempt {
	struct plane_controller *controller;
	const struct plane_connect_request *request;
	struct plane_connect_result *result;
	struct plane_connect_failure *failure;
	char random_key[PLANE_NAME_SIZE];
	struct plane_placement placement;
	int64_t asked_at_ms; /* boot clock: when the store was asked for the spawn */
	json_t *no_auth;     /* an empty object */
	/* of a token that is not given out yet */
	char token[PLANE_TOKEN_SIZE], secret_token[PLANE_TOKEN_SIZE];
};

static enum step fail(struct attempt *attempt, enum plane_api_error error, const char *message)
{
	attempt->failure->error = error;
	attempt->failure->message = message;
	return STEP_FAILED;
}

static enum step fail_store(struct attempt *attempt, const char *what, struct plane_error *err)
{
	attempt->failure->error = PLANE_API_INTERNAL;
	attempt->failure->message = NULL;
	(void)plane_error_prefix(err, "connect: %s", what);
	attempt->failure->cause = *err;
	return STEP_FAILED;
}

/* The key may be that of a backend that the store has forgotten. */
static enum step fail_recovering(struct attempt *attempt)
{
	const struct plane_controller *controller = attempt->controller;
	int64_t ends_at_ms = atomic_load(&controller->recovery_ends_at_ms);
	int64_t left_ms = ends_at_ms ? ends_at_ms - plane_clock_boot_ms()
				     : controller->config->drone_lease.expire_ms;
	attempt->failure->retry_after_seconds = left_ms > 0 ? (left_ms + 999) / 1000 : 1;
	return fail(attempt, PLANE_API_RECOVERING, NULL);
}

static enum step lost_race(struct attempt *attempt, enum plane_api_error error)
{
	(void)fail(attempt, error, NULL);
	return STEP_LOST_RACE;
}

/* A fresh token for a backend that is not known yet; borrows from the attempt. */
static struct plane_store_token new_token(struct attempt *attempt)
{
	plane_token_random(false, attempt->token);
	plane_token_random(false, attempt->secret_token);
	return (struct plane_store_token){ .token = attempt->token,
		.secret_token = attempt->secret_token,
		.user = attempt->request->user,
		.auth = attempt->request->auth ? attempt->request->auth : attempt->no_auth,
		.lifetime_ms = TOKEN_LIFETIME_MS };
}

static void give_token(struct attempt *attempt)
{
	struct plane_connect_result *result = attempt->result;
	(void)plane_text_copy(result->token, sizeof(result->token), attempt->token);
	(void)plane_text_copy(
		result->secret_token, sizeof(result->secret_token), attempt->secret_token);
}

static enum step reuse(struct attempt *attempt, const struct plane_store_connection *connection)
{
	const struct plane_store_held_key *held = &connection->key;
	struct plane_connect_result *result = attempt->result;
	if (strcmp(held->tag, attempt->request->key_tag) != 0)
		return fail(attempt, PLANE_API_KEY_HELD, NULL);
	if (held->status >= PLANE_TERMINATING) {
		(void)plane_text_copy(result->backend, sizeof(result->backend), held->backend);
		return STEP_TERMINATING;
	}
	memset(result, 0, sizeof(*result));
	result->status = held->status;
	(void)plane_text_copy(result->backend, sizeof(result->backend), held->backend);
	(void)plane_text_copy(result->cluster, sizeof(result->cluster), held->cluster);
	(void)plane_text_copy(result->subdomain, sizeof(result->subdomain), held->subdomain);
	if (held->static_token[0])
		(void)plane_text_copy(result->token, sizeof(result->token), held->static_token);
	else if (connection->has_token)
		give_token(attempt);
	else /* the backend was cleaned up this instant */
		return lost_race(attempt, PLANE_API_FAILED_TO_REMOVE_KEY);
	return STEP_DONE;
}

static enum step choose_drone(struct attempt *attempt, const struct plane_store_drones *drones,
	const char *cluster, struct plane_store_drone *chosen)
{
	struct plane_controller *controller = attempt->controller;
	const struct plane_connect_request *request = attempt->request;
	size_t index = plane_placements_choose(controller->placements, drones, &request->resources,
		controller->config->best_of, plane_clock_boot_ms(), &attempt->placement);
	if (index == PLANE_PLACEMENT_NONE) {
		plane_placing_explain(controller, cluster, request->pool, &request->resources,
			attempt->failure->reason);
		return fail(attempt, PLANE_API_NO_DRONE_AVAILABLE, attempt->failure->reason);
	}
	*chosen = drones->entries[index];
	return STEP_DONE;
}

static void announce(struct attempt *attempt, const struct plane_store_drone *drone,
	const char *action_id, const struct plane_store_spawned *spawned)
{
	struct plane_controller *controller = attempt->controller;
	const char *backend = attempt->result->backend;
	struct plane_backend_state state = { .status = PLANE_SCHEDULED };
	plane_placements_confirm(
		controller->placements, &attempt->placement, spawned->fencing_token);
	plane_hub_publish_action(controller->hub, backend, action_id, drone->id,
		attempt->asked_at_ms, spawned->message);
	plane_hub_publish_state(controller->hub, backend, &state, spawned->time_ms);
	plane_info_backend(backend, "scheduled on %s", drone->name);
}

static enum step spawn_on(
	struct attempt *attempt, const char *cluster, const struct plane_store_drone *drone)
{
	struct plane_controller *controller = attempt->controller;
	const struct plane_connect_request *request = attempt->request;
	struct plane_connect_result *result = attempt->result;
	char action_id[PLANE_NAME_SIZE];
	struct plane_store_spawned spawned = { 0 };
	struct plane_error err = { 0 };
	plane_name_random("ak", action_id);
	struct plane_store_token token = new_token(attempt);
	token.backend = result->backend;
	if (request->use_static_token)
		plane_token_random(true, result->token);
	else
		give_token(attempt);
	struct plane_store_spawn spawn = { .backend = result->backend,
		.cluster = cluster,
		.drone_id = drone->id,
		.key_name = request->has_key ? request->key_name : attempt->random_key,
		.key_namespace = request->key_namespace,
		.key_tag = request->key_tag,
		.is_key_new = !request->has_key,
		.lifetime_limit_seconds = request->lifetime_limit_seconds,
		.max_idle_seconds = request->max_idle_seconds,
		.subdomain = request->subdomain,
		.static_token = request->use_static_token ? result->token : NULL,
		.token = request->use_static_token ? NULL : &token,
		.action_id = action_id,
		.executable = request->executable,
		.lease_epoch = drone->lease_epoch,
		.resources = request->resources };
	plane_placing_lease(controller, drone, &spawn.deadlines, &spawn.lease_ms);
	attempt->asked_at_ms = plane_clock_boot_ms();
	int code = plane_store_spawn(controller->store, &spawn, &spawned, &err);
	if (code < 0)
		plane_placements_cancel(controller->placements, &attempt->placement);
	if (code == -EINPROGRESS)
		return fail_recovering(attempt);
	if (code == -EEXIST)
		return lost_race(attempt, PLANE_API_FAILED_TO_ACQUIRE_KEY);
	if (code == -ESTALE) /* the drone was given up, or has come back, this instant */
		return lost_race(attempt, PLANE_API_NO_DRONE_AVAILABLE);
	if (code < 0)
		return fail_store(attempt, "store the backend", &err);
	announce(attempt, drone, action_id, &spawned);
	return STEP_DONE;
}

/* Where a new backend belongs; NULL for nowhere. */
static const char *cluster_of(const struct attempt *attempt)
{
	return attempt->request->cluster ? attempt->request->cluster
					 : attempt->controller->config->default_cluster;
}

static enum step spawn(struct attempt *attempt, const struct plane_store_connection *found)
{
	const struct plane_connect_request *request = attempt->request;
	struct plane_connect_result *result = attempt->result;
	if (!request->has_spawn_config)
		return fail(attempt, PLANE_API_KEY_UNHELD_NO_SPAWN_CONFIG, NULL);
	const char *cluster = cluster_of(attempt);
	if (!cluster)
		return fail(attempt, PLANE_API_NO_CLUSTER_PROVIDED, NULL);
	if (request->has_key && found->is_recovering)
		return fail_recovering(attempt);
	struct plane_store_drone drone = { 0 };
	enum step step = choose_drone(attempt, &found->drones, cluster, &drone);
	if (step != STEP_DONE)
		return step;
	memset(result, 0, sizeof(*result));
	if (request->backend)
		(void)plane_text_copy(result->backend, sizeof(result->backend), request->backend);
	else
		plane_name_random(NULL, result->backend);
	result->is_spawned = true;
	result->status = PLANE_SCHEDULED;
	(void)plane_text_copy(result->cluster, sizeof(result->cluster), cluster);
	if (request->subdomain)
		(void)plane_text_copy(
			result->subdomain, sizeof(result->subdomain), request->subdomain);
	(void)plane_text_copy(result->drone, sizeof(result->drone), drone.name);
	return spawn_on(attempt, cluster, &drone);
}

static enum step try_once(struct attempt *attempt)
{
	const struct plane_connect_request *request = attempt->request;
	struct plane_error err = { 0 };
	struct plane_store_token token = new_token(attempt);
	struct plane_store_connect look = { .key_namespace = request->key_namespace,
		.key_name = request->has_key ? request->key_name : NULL,
		.key_tag = request->key_tag,
		.token = &token };
	struct plane_store_connection found = { 0 };
	plane_placing_where(attempt->controller,
		request->has_spawn_config ? cluster_of(attempt) : NULL, request->pool, &look);
	if (plane_store_connect(attempt->controller->store, &look, &found, &err) < 0)
		return fail_store(attempt, "look up the key", &err);
	enum step step = found.key.is_live ? reuse(attempt, &found) : spawn(attempt, &found);
	plane_store_drones_finish(&found.drones);
	return step;
}

/* Waits for the end of the backend in `result`; false when it did not come in time. */
static bool wait_for_end(struct attempt *attempt, int64_t deadline_ms)
{
	struct plane_hub *hub = attempt->controller->hub;
	struct plane_hub_waiter waiter;
	if (!plane_hub_wait_begin(hub, &waiter, attempt->result->backend))
		return false;
	/* it may have ended between the look and the beginning of the wait */
	struct plane_store_backend backend;
	struct plane_error err = { 0 };
	int code = plane_store_backend_find(
		attempt->controller->store, attempt->result->backend, &backend, &err);
	bool has_ended = code == -ENOENT || (code == 0 && backend.state.status == PLANE_TERMINATED);
	int64_t left_ms = deadline_ms - plane_clock_boot_ms();
	struct plane_metrics *metrics = &attempt->controller->metrics;
	plane_metrics_add(metrics, PLANE_METRIC_CONNECTS_WAITING, 1);
	if (!has_ended && left_ms > 0)
		has_ended = plane_hub_wait(hub, &waiter, left_ms);
	plane_metrics_add(metrics, PLANE_METRIC_CONNECTS_WAITING, -1);
	plane_hub_wait_end(hub, &waiter);
	return has_ended;
}

bool plane_connect(struct plane_controller *controller, const struct plane_connect_request *request,
	struct plane_connect_result *result, struct plane_connect_failure *failure)
{
	_cleanup_json_ json_t *no_auth = json_object();
	struct attempt attempt = { .controller = controller,
		.request = request,
		.result = result,
		.failure = failure,
		.no_auth = no_auth };
	int64_t deadline_ms =
		plane_clock_boot_ms() + controller->config->termination_grace_ms + WAIT_MARGIN_MS;
	plane_name_random("lk", attempt.random_key);
	memset(failure, 0, sizeof(*failure));
	for (int tries = 0; tries < TRIES;) {
		enum step step = try_once(&attempt);
		if (step == STEP_DONE || step == STEP_FAILED)
			return step == STEP_DONE;
		if (step == STEP_LOST_RACE) {
			tries++;
			continue;
		}
		if (!request->has_spawn_config || !wait_for_end(&attempt, deadline_ms)) {
			(void)fail(&attempt, PLANE_API_KEY_HELD_UNHEALTHY,
				request->has_spawn_config
					? "Lock is held but unhealthy: its backend is still "
					  "terminating. Try again."
					: "Lock is held but unhealthy: its backend is "
					  "terminating, and no spawn config was provided.");
			return false;
		}
	}
	return false;
}
