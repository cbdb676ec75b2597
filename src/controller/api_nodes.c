/* Routes that show nodes: a cluster's state, lists of drones and proxies, one drone. */
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "controller/api.h"
#include "controller/error_body.h"

/* Reference 3.3: "node" as the original's clients read it; what is behind "controller" is ours. */
static json_t *write_node(
	const struct plane_store_member *member, const struct plane_controller_config *config)
{
	return json_pack("{s:{s:s},s:s,s:s,s:s?,s:o,s:s,s:s}", "name",
		member->kind == PLANE_NODE_DRONE ? "Drone" : "Proxy", member->name, "plane_version",
		member->version, "plane_hash", member->git_hash, "controller", member->controller,
		"controller_heartbeat_age",
		member->controller ? json_integer(member->controller_heartbeat_age_ms / 1000)
				   : json_null(),
		"cluster", member->cluster, "ip", member->ip);
}

static bool is_healthy(
	const struct plane_store_member *member, const struct plane_controller_config *config)
{
	int64_t drone_ms =
		member->has_lease ? config->drone_lease.soft_terminate_ms : config->unhealthy_ms;
	return member->controller && member->controller_heartbeat_age_ms < config->unhealthy_ms &&
	       member->heartbeat_age_ms >= 0 && member->heartbeat_age_ms < drone_ms;
}

/* A drone that has not sent its first heartbeat yet has no age: null. */
static json_t *write_drone(
	const struct plane_store_member *member, const struct plane_controller_config *config)
{
	return json_pack("{s:b,s:b,s:o,s:I,s:o,s:s,s:s,s:b,s:o}", "ready", member->is_ready,
		"draining", member->is_draining, "last_heartbeat_age",
		member->heartbeat_age_ms < 0 ? json_null()
					     : json_integer(member->heartbeat_age_ms / 1000),
		"backend_count", (json_int_t)member->backend_count, "node",
		write_node(member, config), "cluster", member->cluster, "pool", member->pool,
		"healthy", is_healthy(member, config), "resources",
		member->has_resources ? plane_drone_resources_write(&member->resources)
				      : json_null());
}

/* True when `members` are those that the filter lets pass; else it was answered. */
static bool find(struct plane_api_call *call, const struct plane_store_member_filter *filter,
	struct plane_store_members *members)
{
	struct plane_error err = { 0 };
	int result = plane_store_member_list(call->controller->store, filter, members, &err);
	if (result < 0)
		plane_api_fail_because(call->response, PLANE_API_DATABASE, &err);
	return result == 0;
}

static json_t *write_all(const struct plane_api_call *call,
	const struct plane_store_members *members, enum plane_node_kind kind,
	json_t *(*write)(const struct plane_store_member *member,
		const struct plane_controller_config *config))
{
	json_t *list = json_array();
	for (size_t i = 0; i < members->count; i++)
		if (members->entries[i].kind == kind)
			(void)json_array_append_new(
				list, write(&members->entries[i], call->controller->config));
	return list;
}

void plane_api_cluster_state(struct plane_api_call *call)
{
	struct plane_store_members members = { 0 };
	struct plane_store_member_filter filter = {
		.cluster = call->params.values[0], .are_drones = true, .are_proxies = true
	};
	if (!find(call, &filter, &members))
		return;
	plane_api_answer(call->response,
		json_pack("{s:o,s:o}", "drones",
			write_all(call, &members, PLANE_NODE_DRONE, write_drone), "proxies",
			write_all(call, &members, PLANE_NODE_PROXY, write_node)));
	plane_store_members_finish(&members);
}

void plane_api_drone(struct plane_api_call *call)
{
	struct plane_store_members members = { 0 };
	struct plane_store_member_filter filter = { .cluster = call->params.values[0],
		.name = call->params.values[1],
		.are_drones = true,
		.has_away = true };
	if (!find(call, &filter, &members))
		return;
	if (members.count == 0)
		plane_api_fail(call->response, PLANE_API_NO_SUCH_DRONE, NULL);
	else
		plane_api_answer(
			call->response, write_drone(&members.entries[0], call->controller->config));
	plane_store_members_finish(&members);
}

void plane_api_drone_list(struct plane_api_call *call)
{
	_cleanup_free_ char *cluster = plane_api_query(call, "cluster");
	/* an empty pool is one, the default */
	_cleanup_free_ char *pool = plane_http_request_query(call->request, "pool");
	struct plane_store_members members = { 0 };
	struct plane_store_member_filter filter = {
		.cluster = cluster, .pool = pool, .are_drones = true, .has_busy = true
	};
	if (!plane_api_query_flag(call, "all", &filter.has_away) || !find(call, &filter, &members))
		return;
	plane_api_answer(
		call->response, json_pack("{s:o}", "drones",
					write_all(call, &members, PLANE_NODE_DRONE, write_drone)));
	plane_store_members_finish(&members);
}

void plane_api_proxy_list(struct plane_api_call *call)
{
	_cleanup_free_ char *cluster = plane_api_query(call, "cluster");
	struct plane_store_members members = { 0 };
	struct plane_store_member_filter filter = { .cluster = cluster, .are_proxies = true };
	if (!find(call, &filter, &members))
		return;
	plane_api_answer(
		call->response, json_pack("{s:o}", "proxies",
					write_all(call, &members, PLANE_NODE_PROXY, write_node)));
	plane_store_members_finish(&members);
}
