/* The bridge of an instance. What is changed outside of it (forwarding of interfaces) is noted in
 * the bridge's alias as "plane:<interface>,...", so that whoever removes the bridge can undo it. */
#include "runtime/native/network_bridge.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"

#define TAKEN_MAX 65536 /* routes looked at; a host with more is a router, not a drone */
#define SUBNET_SIZE (1u << (32 - PLANE_NETWORK_PREFIX))

struct range {
	uint32_t first, last;
};

struct survey {
	struct range *taken;
	size_t count;
	int bridge_index;       /* whose own address is wanted */
	uint32_t bridge_subnet; /* 0: none */
	uint32_t published;     /* whose interface is wanted; 0: none */
	int home_index;         /* of it; 0: not this host's */
	int uplink_index;       /* of the default route with the best metric */
	uint32_t uplink_metric;
};

static void survey_finish(struct survey *survey)
{
	free(survey->taken);
}

bool plane_network_id_is_valid(const char *instance_id)
{
	return instance_id && strlen(instance_id) == 8 &&
	       strspn(instance_id, "0123456789abcdef") == 8;
}

void plane_network_mac(uint32_t address, unsigned char mac[6])
{
	mac[0] = 0x02; /* locally administered */
	mac[1] = 0x50;
	for (int i = 0; i < 4; i++)
		mac[2 + i] = (unsigned char)(address >> (24 - 8 * i));
}

static int read_linkinfo(const struct nlattr *attribute, void *data)
{
	struct plane_network_link *link = data;

	if (mnl_attr_get_type(attribute) == IFLA_INFO_KIND)
		link->is_bridge = strcmp(mnl_attr_get_str(attribute), "bridge") == 0;
	return MNL_CB_OK;
}

static int read_link(const struct nlmsghdr *header, void *data)
{
	struct plane_network_link *link = data;
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(header);
	const struct nlattr *attribute;

	link->index = info->ifi_index;
	mnl_attr_for_each(attribute, header, sizeof(*info))
	{
		switch (mnl_attr_get_type(attribute)) {
		case IFLA_MASTER:
			link->master = (int)mnl_attr_get_u32(attribute);
			break;
		case IFLA_IFALIAS:
			snprintf(link->alias, sizeof(link->alias), "%.*s",
				(int)mnl_attr_get_payload_len(attribute),
				mnl_attr_get_str(attribute));
			break;
		case IFLA_LINKINFO:
			(void)mnl_attr_parse_nested(attribute, read_linkinfo, link);
			break;
		default:
			break;
		}
	}
	return MNL_CB_OK;
}

int plane_network_find_link(struct plane_netlink *netlink, const char *name,
	struct plane_network_link *link, struct plane_error *err)
{
	_Alignas(8) char bytes[256];
	struct nlmsghdr *header = mnl_nlmsg_put_header(bytes);
	struct plane_network_link found = { 0 };
	struct plane_error local;

	header->nlmsg_type = RTM_GETLINK;
	(void)mnl_nlmsg_put_extra_header(header, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(header, IFLA_IFNAME, name);
	int code = plane_netlink_ask(netlink, header, read_link, &found, "look up link", &local);
	if (code < 0)
		return plane_error_set(err, code, "%s %s", local.message, name);
	*link = found;
	return 0;
}

static void take(struct survey *survey, uint32_t address, unsigned prefix)
{
	uint32_t mask = prefix == 0 ? 0 : ~0u << (32 - prefix);

	if (survey->count == TAKEN_MAX)
		return;
	if ((survey->count & (survey->count - 1)) == 0) { /* grow at powers of two */
		size_t room = survey->count ? survey->count * 2 : 1;
		struct range *grown = realloc(survey->taken, room * sizeof(*grown));
		if (!grown)
			return;
		survey->taken = grown;
	}
	survey->taken[survey->count++] =
		(struct range){ .first = address & mask, .last = (address & mask) | ~mask };
}

static int read_address(const struct nlmsghdr *header, void *data)
{
	struct survey *survey = data;
	const struct ifaddrmsg *info = mnl_nlmsg_get_payload(header);
	const struct nlattr *attribute;

	mnl_attr_for_each(attribute, header, sizeof(*info))
	{
		if (info->ifa_family != AF_INET || mnl_attr_get_payload_len(attribute) != 4)
			continue;
		int type = mnl_attr_get_type(attribute);
		uint32_t address = ntohl(mnl_attr_get_u32(attribute));
		if (type == IFA_LOCAL && (int)info->ifa_index == survey->bridge_index &&
			info->ifa_prefixlen == PLANE_NETWORK_PREFIX)
			survey->bridge_subnet = address & ~(SUBNET_SIZE - 1);
		if (type == IFA_LOCAL && address == survey->published)
			survey->home_index = (int)info->ifa_index;
		if (type == IFA_ADDRESS || type == IFA_LOCAL)
			take(survey, address, info->ifa_prefixlen);
	}
	return MNL_CB_OK;
}

static int read_route(const struct nlmsghdr *header, void *data)
{
	struct survey *survey = data;
	const struct rtmsg *info = mnl_nlmsg_get_payload(header);
	const struct nlattr *attribute;
	uint32_t destination = 0, metric = 0;
	int out = 0;

	mnl_attr_for_each(attribute, header, sizeof(*info))
	{
		if (mnl_attr_get_payload_len(attribute) != 4)
			continue;
		if (mnl_attr_get_type(attribute) == RTA_DST)
			destination = ntohl(mnl_attr_get_u32(attribute));
		else if (mnl_attr_get_type(attribute) == RTA_OIF)
			out = (int)mnl_attr_get_u32(attribute);
		else if (mnl_attr_get_type(attribute) == RTA_PRIORITY)
			metric = mnl_attr_get_u32(attribute);
	}
	if (info->rtm_family != AF_INET)
		return MNL_CB_OK;
	if (info->rtm_dst_len > 0) {
		take(survey, destination, info->rtm_dst_len);
	} else if (out && info->rtm_table == RT_TABLE_MAIN &&
		   (!survey->uplink_index || metric < survey->uplink_metric)) {
		survey->uplink_index = out;
		survey->uplink_metric = metric;
	}
	return MNL_CB_OK;
}

static int look_around(
	struct plane_netlink *netlink, struct survey *survey, struct plane_error *err)
{
	_Alignas(8) char bytes[256];
	struct nlmsghdr *header = mnl_nlmsg_put_header(bytes);

	header->nlmsg_type = RTM_GETADDR;
	header->nlmsg_flags = NLM_F_DUMP;
	struct ifaddrmsg *address = mnl_nlmsg_put_extra_header(header, sizeof(*address));
	address->ifa_family = AF_INET;
	int code = plane_netlink_ask(netlink, header, read_address, survey, "list addresses", err);
	if (code < 0)
		return code;
	header = mnl_nlmsg_put_header(bytes);
	header->nlmsg_type = RTM_GETROUTE;
	header->nlmsg_flags = NLM_F_DUMP;
	struct rtmsg *route = mnl_nlmsg_put_extra_header(header, sizeof(*route));
	route->rtm_family = AF_INET;
	return plane_netlink_ask(netlink, header, read_route, survey, "list routes", err);
}

/* Begins at a place that the id gives, so that instances on machines that are later connected
 * rarely meet, and a range of two starting at once is different. */
static uint32_t choose_subnet(const struct survey *survey, const char *name)
{
	uint32_t start = (uint32_t)strtoul(name + 3, NULL, 16);

	for (uint32_t i = 0; i < 4096; i++) {
		uint32_t first = (10u << 24) | ((start + i) % 4096) * SUBNET_SIZE;
		uint32_t last = first + SUBNET_SIZE - 1;
		bool is_free = true;
		for (size_t j = 0; j < survey->count && is_free; j++)
			is_free = survey->taken[j].last < first || survey->taken[j].first > last;
		if (is_free)
			return first;
	}
	return 0;
}

static int make_bridge(
	struct plane_netlink *netlink, const char *name, uint32_t subnet, struct plane_error *err)
{
	struct plane_netlink_batch batch = { 0 };
	unsigned char mac[6];

	struct nlmsghdr *header = plane_netlink_add(&batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	(void)mnl_nlmsg_put_extra_header(header, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(header, IFLA_IFNAME, name);
	plane_network_mac(subnet + 1, mac); /* fixed: else it changes with the ports */
	mnl_attr_put(header, IFLA_ADDRESS, sizeof(mac), mac);
	struct nlattr *info = mnl_attr_nest_start(header, IFLA_LINKINFO);
	mnl_attr_put_strz(header, IFLA_INFO_KIND, "bridge");
	struct nlattr *data = mnl_attr_nest_start(header, IFLA_INFO_DATA);
	mnl_attr_put_u32(header, IFLA_BR_STP_STATE, 0);
	mnl_attr_put_u32(header, IFLA_BR_FORWARD_DELAY, 0);
	mnl_attr_put_u8(header, IFLA_BR_MCAST_SNOOPING, 0);
	mnl_attr_nest_end(header, data);
	mnl_attr_nest_end(header, info);
	return plane_netlink_commit(netlink, &batch, "make the bridge", err);
}

static int raise_bridge(struct plane_netlink *netlink, const struct plane_network_bridge *bridge,
	struct plane_error *err)
{
	struct plane_netlink_batch batch = { 0 };

	struct nlmsghdr *header = plane_netlink_add(&batch, RTM_NEWLINK, 0);
	struct ifinfomsg *info = mnl_nlmsg_put_extra_header(header, sizeof(*info));
	info->ifi_index = bridge->index;
	info->ifi_flags = info->ifi_change = IFF_UP;
	header = plane_netlink_add(&batch, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
	struct ifaddrmsg *address = mnl_nlmsg_put_extra_header(header, sizeof(*address));
	address->ifa_family = AF_INET;
	address->ifa_prefixlen = PLANE_NETWORK_PREFIX;
	address->ifa_index = (uint32_t)bridge->index;
	mnl_attr_put_u32(header, IFA_LOCAL, htonl(bridge->subnet + 1));
	mnl_attr_put_u32(header, IFA_ADDRESS, htonl(bridge->subnet + 1));
	mnl_attr_put_u32(header, IFA_BROADCAST, htonl(bridge->subnet + SUBNET_SIZE - 1));
	return plane_netlink_commit(netlink, &batch, "raise the bridge", err);
}

static int set_alias(
	struct plane_netlink *netlink, int index, const char *alias, struct plane_error *err)
{
	struct plane_netlink_batch batch = { 0 };

	struct nlmsghdr *header = plane_netlink_add(&batch, RTM_NEWLINK, 0);
	struct ifinfomsg *info = mnl_nlmsg_put_extra_header(header, sizeof(*info));
	info->ifi_index = index;
	mnl_attr_put_strz(header, IFLA_IFALIAS, alias);
	return plane_netlink_commit(netlink, &batch, "note in the bridge's alias", err);
}

static int set_option(const char *family, const char *link, const char *option, const char *value,
	struct plane_error *err)
{
	char path[128];

	snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", family, link, option);
	return plane_file_write_text(path, value, err);
}

static bool is_forwarding(const char *link)
{
	char path[128];
	struct plane_buffer text = { 0 };

	snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/forwarding", link);
	bool is_on =
		plane_file_read(path, 16, &text, NULL) == 0 && text.len > 0 && text.data[0] == '1';
	plane_buffer_finish(&text);
	return is_on;
}

/* ---- the note of whose forwarding was switched on ---- */

static const char note[] = "plane:";

static bool is_noted(const char *alias, const char *link)
{
	const char *at = plane_text_starts_with(alias, note) ? alias + strlen(note) : "";

	for (size_t len; *at; at += len + (at[len] == ',')) {
		len = strcspn(at, ",");
		if (len == strlen(link) && strncmp(at, link, len) == 0)
			return true;
	}
	return false;
}

/* False, and nothing is added, when it does not fit. */
static bool add_to_note(char alias[PLANE_NETWORK_ALIAS_SIZE], const char *link)
{
	size_t len = strlen(alias);

	if (len + strlen(note) + strlen(link) >= PLANE_NETWORK_ALIAS_SIZE)
		return false;
	snprintf(alias + len, PLANE_NETWORK_ALIAS_SIZE - len, "%s%s", len ? "," : note, link);
	return true;
}

/* Takes the first name off the note; false when there is none (any more). */
static bool next_noted(const char **at, char link[IFNAMSIZ])
{
	size_t len = strcspn(*at, ",");

	if (len == 0 || len >= IFNAMSIZ || memchr(*at, '/', len))
		return false;
	snprintf(link, IFNAMSIZ, "%.*s", (int)len, *at);
	*at += len + ((*at)[len] == ',');
	return true;
}

/* First the note, then the deed: a crash between them restores what was not changed. */
static int allow_forwarding(struct plane_netlink *netlink,
	const struct plane_network_bridge *bridge, const char *link,
	char alias[PLANE_NETWORK_ALIAS_SIZE], struct plane_error *err)
{
	if (!link[0] || is_forwarding(link))
		return 0;
	if (!is_noted(alias, link)) {
		if (!add_to_note(alias, link))
			return plane_error_set(err, -ENOSPC,
				"no room to note that %s forwards, beside %s", link, alias);
		int code = set_alias(netlink, bridge->index, alias, err);
		if (code < 0)
			return code;
	}
	return set_option("ipv4", link, "forwarding", "1", err);
}

/* The kernel asks the interface on which a packet comes in: the bridge for what backends send; the
 * uplink for the answers to it; the published address's for what proxies send. The host's other
 * interfaces stay as they are. */
static int forward(struct plane_netlink *netlink, const struct plane_network_bridge *bridge,
	char alias[PLANE_NETWORK_ALIAS_SIZE], struct plane_error *err)
{
	bool by_uplink = bridge->has_egress || !bridge->home[0];

	int code = set_option("ipv4", bridge->name, "forwarding", "1", err);
	if (code == 0 && by_uplink)
		code = allow_forwarding(netlink, bridge, bridge->uplink, alias, err);
	if (code == 0)
		code = allow_forwarding(netlink, bridge, bridge->home, alias, err);
	return code;
}

static int adjust(struct plane_netlink *netlink, struct plane_network_bridge *bridge,
	char alias[PLANE_NETWORK_ALIAS_SIZE], struct plane_error *err)
{
	int code = raise_bridge(netlink, bridge, err);

	if (code < 0)
		return code;
	code = set_option("ipv4", bridge->name, "send_redirects", "0", err);
	if (code < 0)
		return code;
	if (bridge->has_egress || bridge->published)
		return forward(netlink, bridge, alias, err);
	return set_option("ipv4", bridge->name, "forwarding", "0", err);
}

/* What was found of the interfaces, by name. */
static int name_links(
	struct plane_network_bridge *bridge, const struct survey *survey, struct plane_error *err)
{
	if (!survey->uplink_index ||
		!if_indextoname((unsigned)survey->uplink_index, bridge->uplink))
		bridge->uplink[0] = '\0';
	bridge->is_own = survey->home_index != 0;
	if (!bridge->is_own || !if_indextoname((unsigned)survey->home_index, bridge->home) ||
		strcmp(bridge->home, "lo") == 0)
		bridge->home[0] = '\0';
	if (bridge->published && !bridge->home[0] && !bridge->uplink[0])
		return plane_error_set(err, -EADDRNOTAVAIL,
			"the address for proxies is of no interface here, and there is no default "
			"route "
			"by which they could come");
	return 0;
}

int plane_network_bridge_ensure(
	struct plane_netlink *netlink, struct plane_network_bridge *bridge, struct plane_error *err)
{
	_cleanup_(survey_finish) struct survey survey = { 0 };
	struct plane_network_link link = { 0 };

	int code = plane_network_find_link(netlink, bridge->name, &link, err);
	bool is_new = code == -ENODEV;
	if (code < 0 && !is_new)
		return code;
	if (!is_new && !link.is_bridge)
		return plane_error_set(
			err, -EEXIST, "link %s exists and is no bridge", bridge->name);
	survey.bridge_index = link.index;
	survey.published = bridge->published;
	code = look_around(netlink, &survey, err);
	if (code < 0)
		return code;
	bridge->subnet =
		survey.bridge_subnet ? survey.bridge_subnet : choose_subnet(&survey, bridge->name);
	if (!bridge->subnet)
		return plane_error_set(err, -EADDRNOTAVAIL,
			"no /%d of 10.0.0.0/8 is free of routes", PLANE_NETWORK_PREFIX);
	code = name_links(bridge, &survey, err);
	if (code < 0)
		return code;
	if (is_new) {
		code = make_bridge(netlink, bridge->name, bridge->subnet, err);
		if (code < 0)
			return code;
	}
	bridge->index = plane_netlink_index(netlink, bridge->name);
	if (bridge->index < 0)
		return plane_error_set(err, bridge->index, "bridge %s went away", bridge->name);
	/* Before it is raised, so that it never gets an IPv6 address. No IPv6 in the kernel is
	 * fine. */
	code = set_option("ipv6", bridge->name, "disable_ipv6", "1", err);
	if (code == 0 || code == -ENOENT)
		code = adjust(netlink, bridge, link.alias, err);
	if (code < 0 && is_new) {
		struct plane_error ignored; /* the first failure is the one to tell */
		(void)plane_network_bridge_remove(netlink, bridge->name, &ignored);
	}
	return code;
}

/* Another Plane instance may still need what forwards: it gets the duty to restore. */
static bool hand_over(struct plane_netlink *netlink, const char *name, const char *forwarding)
{
	struct if_nameindex *links = if_nameindex();
	bool is_done = false;

	for (struct if_nameindex *at = links; at && at->if_index && !is_done; at++) {
		struct plane_network_link link = { 0 };
		if (!plane_text_starts_with(at->if_name, "pl-") || strcmp(at->if_name, name) == 0 ||
			!plane_network_id_is_valid(at->if_name + 3) ||
			plane_network_find_link(netlink, at->if_name, &link, NULL) < 0)
			continue;
		if (!link.is_bridge || !is_forwarding(at->if_name))
			continue;
		is_done = is_noted(link.alias, forwarding) ||
			  (add_to_note(link.alias, forwarding) &&
				  set_alias(netlink, link.index, link.alias, NULL) == 0);
	}
	if (links)
		if_freenameindex(links);
	return is_done;
}

static int restore_forwarding(
	struct plane_netlink *netlink, const char *name, const char *alias, struct plane_error *err)
{
	const char *at = plane_text_starts_with(alias, note) ? alias + strlen(note) : "";
	char link[IFNAMSIZ];

	while (next_noted(&at, link)) {
		if (hand_over(netlink, name, link))
			continue;
		int code = set_option("ipv4", link, "forwarding", "0", err);
		if (code < 0 && code != -ENOENT)
			return code;
	}
	return 0;
}

int plane_network_bridge_remove(
	struct plane_netlink *netlink, const char *name, struct plane_error *err)
{
	struct plane_network_link link = { 0 };
	struct plane_netlink_batch batch = { 0 };

	int code = plane_network_find_link(netlink, name, &link, err);
	if (code == -ENODEV)
		return 0;
	if (code < 0)
		return code;
	if (!link.is_bridge)
		return plane_error_set(err, -EPERM, "link %s is no bridge, so not ours", name);
	code = restore_forwarding(netlink, name, link.alias, err);
	if (code < 0)
		return code;
	struct nlmsghdr *header = plane_netlink_add(&batch, RTM_DELLINK, 0);
	struct ifinfomsg *info = mnl_nlmsg_put_extra_header(header, sizeof(*info));
	info->ifi_index = link.index;
	return plane_netlink_commit(netlink, &batch, "remove the bridge", err);
}
