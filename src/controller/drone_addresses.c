/* Where a drone's backends may be: what it registers, and what it then tells. */
#include "controller/drone_internal.h"

#include <errno.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "net/address.h"

int plane_drone_addresses_take(struct plane_node_session *session,
	const struct plane_handshake *handshake, struct plane_error *err)
{
	struct plane_drone_session *drone = (struct plane_drone_session *)session;
	const char *ip = session->limits.ip;
	int result = plane_backend_rules_set(&drone->rules, &handshake->backends,
		session->is_own_machine, ip[0] ? ip : NULL, err);
	if (result == 0 && drone->rules.is_registered)
		drone->registered_ip = plane_address_format_ip(&drone->rules.ip);
	return result;
}

void plane_drone_addresses_describe(
	const struct plane_node_session *session, struct plane_store_node *node)
{
	const struct plane_drone_session *drone = (const struct plane_drone_session *)session;
	node->backend_ip = drone->registered_ip;
	node->first_port = drone->rules.first_port;
	node->last_port = drone->rules.last_port;
}

/* -EADDRINUSE when another drone has registered there. */
static int check_owner(const struct plane_drone_session *drone, const char *ip, int first_port,
	int last_port, struct plane_error *err)
{
	const struct plane_controller *controller = drone->base.controller;
	_cleanup_free_ char *owner = NULL;
	int result = plane_store_address_owner(controller->store, drone->base.node_id, ip,
		first_port, last_port, controller->config->unhealthy_ms, &owner, err);
	if (result < 0 || !owner)
		return result;
	return plane_error_set(err, EADDRINUSE,
		"backends at %s, ports %d to %d: %s has registered there, and is connected", ip,
		first_port, last_port, owner);
}

/* It is registered itself by now: of two that come at once, one sees the other. */
int plane_drone_addresses_check(struct plane_node_session *session, struct plane_error *err)
{
	const struct plane_drone_session *drone = (const struct plane_drone_session *)session;
	if (!drone->registered_ip || plane_address_is_loopback(&drone->rules.ip))
		return 0;
	return check_owner(
		drone, drone->registered_ip, drone->rules.first_port, drone->rules.last_port, err);
}

int plane_drone_address_take(
	struct plane_drone_session *drone, const char *text, struct plane_error *err)
{
	struct sockaddr_storage address;
	int result = plane_address_parse(text, &address, err);
	return result < 0 ? result : plane_backend_rules_check(&drone->rules, &address, err);
}

int plane_drone_address_check(
	const struct plane_drone_session *drone, const char *text, struct plane_error *err)
{
	struct sockaddr_storage address;
	if (!text[0] || !plane_backend_rules_is_unsure(&drone->rules) ||
		plane_address_parse(text, &address, NULL) < 0)
		return 0;
	_cleanup_free_ char *ip = plane_address_format_ip(&address);
	int port = plane_address_port(&address);
	return check_owner(drone, ip, port, port, err);
}
