/* Limits of tokens for nodes. */
#include "controller/node_limits.h"

#include <errno.h>
#include <string.h>

#include "net/address.h"

static const struct {
	const char *text;
	enum plane_node_kind kind;
} kind_names[] = { { "drone", PLANE_NODE_DRONE }, { "proxy", PLANE_NODE_PROXY },
	{ "dns", PLANE_NODE_DNS } };

const char *plane_node_limits_kind(enum plane_node_kind kind)
{
	for (size_t i = 0; i < sizeof(kind_names) / sizeof(kind_names[0]); i++)
		if (kind_names[i].kind == kind)
			return kind_names[i].text;
	return "";
}

static bool is_kind(const char *text)
{
	for (size_t i = 0; i < sizeof(kind_names) / sizeof(kind_names[0]); i++)
		if (strcmp(kind_names[i].text, text) == 0)
			return true;
	return false;
}

int plane_node_limits_check(const struct plane_node_limits *limits, struct plane_error *err)
{
	enum plane_node_kind kind = PLANE_NODE_CONTROLLER;
	struct sockaddr_storage address;
	bool is_ip = plane_address_parse_ip(limits->ip, &address, NULL) == 0;
	if (limits->kind[0] && !is_kind(limits->kind))
		return plane_error_set(err, EINVAL, "expected drone, proxy or dns");
	if (limits->name[0] &&
		(!plane_node_kind_of(limits->name, &kind) || !*plane_node_limits_kind(kind) ||
			plane_name_check(limits->name, plane_node_prefix(kind), NULL) < 0))
		return plane_error_set(
			err, EINVAL, "expected the name of a node, as dr-one, px-one or ns-one");
	if (limits->name[0] && limits->kind[0] &&
		strcmp(limits->kind, plane_node_limits_kind(kind)) != 0)
		return plane_error_set(err, EINVAL, "the name is not one of a %s", limits->kind);
	if (limits->cluster[0] && (strcmp(limits->kind, "dns") == 0 || kind == PLANE_NODE_DNS))
		return plane_error_set(err, EINVAL, "a DNS server belongs to no cluster");
	if (limits->cluster[0] && plane_cluster_check(limits->cluster, err) < 0)
		return err ? err->code : -EINVAL;
	if (limits->ip[0] && (!is_ip || (limits->kind[0] && strcmp(limits->kind, "drone") != 0)))
		return plane_error_set(err, EINVAL, "expected the IP address of a drone");
	return 0;
}
