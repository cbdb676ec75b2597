/* Deadlines, orders and reasons of placements. */
#include "controller/placing.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "controller/placement.h"

static int64_t drone_clock(
	struct plane_controller *controller, const struct plane_store_drone *drone)
{
	struct plane_drone_entry entry;
	if (plane_drone_registry_find(controller->drones, drone->id, &entry) && entry.has_clock)
		return plane_clock_report_estimate(&entry.clock, plane_clock_boot_ms());
	return drone->last_local_time_ms; /* connected to another controller */
}

void plane_placing_lease(struct plane_controller *controller, const struct plane_store_drone *drone,
	struct plane_deadlines *deadlines, int64_t *lease_ms)
{
	const struct plane_lease_constants *constants =
		drone->lease_epoch ? &controller->config->drone_lease : &controller->config->lease;
	*deadlines = plane_deadlines_after(constants, drone_clock(controller, drone));
	*lease_ms = constants->expire_ms;
}

void plane_placing_where(const struct plane_controller *controller, const char *cluster,
	const char *pool, struct plane_store_connect *look)
{
	look->cluster = cluster;
	look->pool = pool;
	look->healthy_ms = controller->config->unhealthy_ms;
	look->lease_healthy_ms = controller->config->drone_lease.soft_terminate_ms;
}

struct counts {
	int64_t draining, silent, full;
};

static void count(struct counts *counts, const struct plane_controller *controller,
	const struct plane_store_member *member, const struct plane_resources *asked)
{
	int64_t healthy_ms = member->has_lease ? controller->config->drone_lease.soft_terminate_ms
					       : controller->config->unhealthy_ms;
	bool is_silent = !member->is_ready || member->heartbeat_age_ms < 0 ||
			 member->heartbeat_age_ms >= healthy_ms ||
			 member->controller_heartbeat_age_ms >= controller->config->unhealthy_ms;
	if (member->is_draining)
		counts->draining++;
	else if (is_silent)
		counts->silent++;
	else
		counts->full += plane_resources_any(asked);
}

static void say(char reason[PLANE_PLACING_REASON_SIZE], const struct counts *counts,
	const struct plane_resources *asked)
{
	char draining[40] = "", silent[40] = "", full[140] = "", what[PLANE_RESOURCES_TEXT_SIZE];
	plane_resources_describe(asked, what);
	if (counts->draining)
		(void)snprintf(draining, sizeof(draining), " Draining: %lld.",
			(long long)counts->draining);
	if (counts->silent)
		(void)snprintf(
			silent, sizeof(silent), " Not heard of: %lld.", (long long)counts->silent);
	if (counts->full)
		(void)snprintf(full, sizeof(full), " Without room for %s: %lld.", what,
			(long long)counts->full);
	(void)snprintf(reason, PLANE_PLACING_REASON_SIZE, "No active drone available.%s%s%s",
		draining, silent, full);
}

void plane_placing_explain(struct plane_controller *controller, const char *cluster,
	const char *pool, const struct plane_resources *asked,
	char reason[PLANE_PLACING_REASON_SIZE])
{
	struct plane_store_members members = { 0 };
	struct plane_store_member_filter filter = {
		.cluster = cluster, .pool = pool, .are_drones = true
	};
	struct counts counts = { 0 };
	struct plane_error err = { 0 };
	if (plane_store_member_list(controller->store, &filter, &members, &err) < 0)
		plane_warn("find out why no drone is available: %s", err.message);
	for (size_t i = 0; i < members.count; i++)
		count(&counts, controller, &members.entries[i], asked);
	plane_store_members_finish(&members);
	say(reason, &counts, asked);
}
