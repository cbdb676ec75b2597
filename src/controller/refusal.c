/* The next drone for a backend that was refused. */
#include "controller/refusal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "controller/placement.h"
#include "controller/placing.h"

#define TRIES 5 /* drones that drain or lose their lease meanwhile */

struct refusal {
	struct plane_controller *controller;
	int64_t drone_id;
	const char *drone, *action_id, *reason;
	struct plane_store_refused found;
	struct plane_drone_order order; /* that was refused; borrows */
};

static bool was_tried(const struct plane_store_refused *refused, int64_t drone_id)
{
	for (size_t i = 0; i < refused->tried_count; i++)
		if (refused->tried[i] == drone_id)
			return true;
	return false;
}

/* The drones that may get it, without those that were asked. */
static int find_drones(
	const struct refusal *refusal, struct plane_store_drones *drones, struct plane_error *err)
{
	struct plane_store_connect look = { .key_namespace = "", .key_tag = "" };
	struct plane_store_connection connection = { 0 };
	plane_placing_where(
		refusal->controller, refusal->found.cluster, refusal->found.pool, &look);
	int result = plane_store_connect(refusal->controller->store, &look, &connection, err);
	if (result < 0)
		return result;
	*drones = connection.drones;
	drones->count = 0;
	for (size_t i = 0; i < connection.drones.count; i++)
		if (!was_tried(&refusal->found, drones->entries[i].id))
			drones->entries[drones->count++] = drones->entries[i];
	return 0;
}

static int give_up(const struct refusal *refusal, struct plane_error *err)
{
	const char *backend = refusal->order.backend;
	struct plane_backend_state state = { .status = PLANE_TERMINATED,
		.last_status = PLANE_SCHEDULED,
		.reason = PLANE_REASON_INTERNAL_ERROR };
	struct plane_store_report report = { .backend = backend, .state = &state };
	(void)snprintf(state.message, sizeof(state.message),
		"no drone has room for it; the last that was asked, %.64s: %.120s", refusal->drone,
		refusal->reason);
	plane_text_make_utf8(state.message);
	int result = plane_store_backend_update(
		refusal->controller->store, refusal->drone_id, &report, 1, err);
	if (result < 0 || !report.is_changed)
		return result;
	plane_warn_backend(backend, "given up: %s", state.message);
	plane_metrics_add(&refusal->controller->metrics, PLANE_METRIC_UNPLACED, 1);
	plane_hub_publish_state(refusal->controller->hub, backend, &state, report.time_ms);
	return 0;
}

static int move_to(const struct refusal *refusal, const struct plane_store_drone *drone,
	const struct plane_placement *placement, struct plane_error *err)
{
	struct plane_controller *controller = refusal->controller;
	struct plane_drone_order order = refusal->order;
	struct plane_store_spawned spawned = { 0 };
	char action_id[PLANE_NAME_SIZE];
	plane_name_random("ak", action_id);
	order.action_id = action_id;
	order.drone_id = drone->id;
	order.epoch = drone->lease_epoch;
	struct plane_store_move move = { .refused_by = refusal->drone_id,
		.refused_action_id = refusal->action_id,
		.order = &order };
	plane_placing_lease(controller, drone, &order.deadlines, &move.lease_ms);
	int64_t asked_at_ms = plane_clock_boot_ms();
	int result = plane_store_move(controller->store, &move, &spawned, err);
	if (result < 0) {
		plane_placements_cancel(controller->placements, placement);
		return result;
	}
	plane_placements_confirm(controller->placements, placement, spawned.fencing_token);
	plane_hub_publish_action(
		controller->hub, order.backend, action_id, drone->id, asked_at_ms, spawned.message);
	plane_metrics_add(&controller->metrics, PLANE_METRIC_MOVED, 1);
	plane_info_backend(order.backend, "refused by %s (%s): scheduled on %s", refusal->drone,
		refusal->reason, drone->name);
	return 0;
}

/* -ESTALE: the drone that was chosen gets nothing any more, or the order has changed. */
static int try_once(const struct refusal *refusal, struct plane_error *err)
{
	struct plane_controller *controller = refusal->controller;
	struct plane_store_drones drones = { 0 };
	struct plane_placement placement;
	int result = find_drones(refusal, &drones, err);
	if (result < 0)
		return result;
	size_t index =
		plane_placements_choose(controller->placements, &drones, &refusal->order.resources,
			controller->config->best_of, plane_clock_boot_ms(), &placement);
	result = index == PLANE_PLACEMENT_NONE
			 ? give_up(refusal, err)
			 : move_to(refusal, &drones.entries[index], &placement, err);
	plane_store_drones_finish(&drones);
	return result;
}

static int move(struct refusal *refusal, struct plane_error *err)
{
	const char *message = refusal->found.message;
	_cleanup_json_ json_t *json = plane_json_parse(message, strlen(message), err);
	if (!json || plane_drone_order_read(json, &refusal->order, err) < 0) {
		plane_error("read the order %s: %s", refusal->action_id, err->message);
		return -ENOENT; /* nothing can be done about it */
	}
	plane_placements_refused(
		refusal->controller->placements, refusal->drone_id, refusal->order.fencing_token);
	return try_once(refusal, err);
}

int plane_refusal_take(struct plane_controller *controller, int64_t drone_id, const char *drone,
	const char *action_id, const char *reason, struct plane_error *err)
{
	struct refusal refusal = { .controller = controller,
		.drone_id = drone_id,
		.drone = drone,
		.action_id = action_id,
		.reason = reason };
	int result = -ESTALE;
	for (int tries = 0; tries < TRIES && result == -ESTALE; tries++) {
		result = plane_store_refused_find(
			controller->store, drone_id, action_id, &refusal.found, err);
		if (result == 0)
			result = move(&refusal, err);
		plane_store_refused_finish(&refusal.found);
	}
	return result == -ENOENT ? 0 : result;
}
