/* Addresses of backends against what their drone may tell. */
#include "controller/backend_rules.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "net/address.h"

#define PORT_MAX 65535

static int check_kind(
	const struct sockaddr_storage *address, bool is_own_machine, struct plane_error *err)
{
	if (plane_address_is_special(address))
		return plane_error_set(err, EACCES, "it is no address of a machine");
	if (plane_address_is_loopback(address) && !is_own_machine)
		return plane_error_set(err, EACCES,
			"it is loopback, which is another machine for each proxy: start the drone "
			"with --ip");
	return 0;
}

static int set_only(struct plane_backend_rules *rules, const char *only_ip, struct plane_error *err)
{
	int result = plane_address_parse_ip(only_ip, &rules->ip, err);
	rules->has_ip = true;
	rules->first_port = 1;
	rules->last_port = PORT_MAX;
	return result;
}

static int set_registered(struct plane_backend_rules *rules,
	const struct plane_backend_place *place, const char *only_ip, struct plane_error *err)
{
	struct sockaddr_storage only;
	int result = plane_address_parse_ip(place->ip, &rules->ip, err);
	if (result == 0)
		result = check_kind(&rules->ip, rules->is_own_machine, err);
	if (result < 0)
		return plane_error_prefix(err, "backends at %.60s", place->ip);
	if (only_ip && (result = plane_address_parse_ip(only_ip, &only, err)) < 0)
		return result;
	if (only_ip && !plane_address_is_same_ip(&only, &rules->ip))
		return plane_error_set(err, EACCES,
			"backends at %.60s: its token is for a drone at %.60s", place->ip, only_ip);
	rules->has_ip = rules->is_registered = true;
	rules->first_port = place->first_port;
	rules->last_port = place->last_port;
	return 0;
}

int plane_backend_rules_set(struct plane_backend_rules *rules,
	const struct plane_backend_place *place, bool is_own_machine, const char *only_ip,
	struct plane_error *err)
{
	struct plane_backend_rules made = { .is_own_machine = is_own_machine };
	int result = 0;
	if (place->ip)
		result = set_registered(&made, place, only_ip, err);
	else if (only_ip)
		result = set_only(&made, only_ip, err);
	else if (place->is_told && !is_own_machine)
		result = plane_error_set(err, EACCES,
			"its backends can be reached from its own machine only, which is not the "
			"controller's: start the drone with --ip");
	if (result == 0)
		*rules = made;
	return result;
}

static int check_place(struct plane_backend_rules *rules, const struct sockaddr_storage *address,
	struct plane_error *err)
{
	int port = plane_address_port(address);
	int result = check_kind(address, rules->is_own_machine, err);
	if (result < 0)
		return result;
	if (rules->has_ip && !plane_address_is_same_ip(&rules->ip, address))
		return plane_error_set(err, EACCES, "it is not the drone's address");
	if (rules->has_ip && (port < rules->first_port || port > rules->last_port))
		return plane_error_set(err, EACCES, "the port is not one of the drone's");
	if (!rules->has_ip && !rules->is_own_machine) {
		rules->has_ip = true;
		rules->ip = *address;
		rules->first_port = 1;
		rules->last_port = PORT_MAX;
	}
	return 0;
}

int plane_backend_rules_check(struct plane_backend_rules *rules,
	const struct sockaddr_storage *address, struct plane_error *err)
{
	_cleanup_free_ char *text = plane_address_format(address);
	return check_place(rules, address, err) < 0
		       ? plane_error_prefix(err, "a backend at %s", text)
		       : 0;
}

bool plane_backend_rules_is_unsure(const struct plane_backend_rules *rules)
{
	return !rules->is_registered && !rules->is_own_machine;
}
