/* Attaching sandboxes to the instance's bridge. See network.h for what the network promises. */
#include "runtime/native/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "runtime/native/netlink.h"
#include "runtime/native/network_bridge.h"
#include "runtime/native/nft.h"

#define FIRST_ADDRESS 2 /* of index 0; 0 is the network, 1 the gateway */

struct plane_network {
	char id[9];
	struct plane_network_bridge bridge;
	bool is_published;
	struct plane_network_publish publish;
	pthread_mutex_t attach_lock; /* guards attach_netlink */
	pthread_mutex_t detach_lock; /* guards detach_netlink */
	struct plane_netlink attach_netlink;
	struct plane_netlink detach_netlink; /* its requests take 20 ms and must not delay attach */
};

static void finish_netlink(struct plane_netlink *netlink)
{
	plane_netlink_finish(netlink);
}

static void unlockp(pthread_mutex_t **lock)
{
	pthread_mutex_unlock(*lock);
}

static pthread_mutex_t *lock(pthread_mutex_t *mutex)
{
	pthread_mutex_lock(mutex);
	return mutex;
}

#define HOLD(mutex) _cleanup_(unlockp) __attribute__((unused)) pthread_mutex_t *held = lock(mutex)

static void link_name(const struct plane_network *network, unsigned index, char name[IFNAMSIZ])
{
	snprintf(name, IFNAMSIZ, "pl%.5s-%u", network->id, index % 100000);
}

static uint32_t address_of(const struct plane_network *network, unsigned index)
{
	return network->bridge.subnet + FIRST_ADDRESS + index;
}

static void write_address(uint32_t address, char text[PLANE_NETWORK_ADDRESS_SIZE])
{
	snprintf(text, PLANE_NETWORK_ADDRESS_SIZE, "%u.%u.%u.%u", address >> 24,
		address >> 16 & 255, address >> 8 & 255, address & 255);
}

int plane_network_address(const struct plane_network *network, unsigned index,
	char address[PLANE_NETWORK_ADDRESS_SIZE])
{
	if (index >= PLANE_NETWORK_MAX_SANDBOXES)
		return -ERANGE;
	write_address(address_of(network, index), address);
	return 0;
}

unsigned plane_network_count(const struct plane_network *network)
{
	return network->is_published
		       ? plane_network_publish_count(&network->publish, PLANE_NETWORK_MAX_SANDBOXES)
		       : PLANE_NETWORK_MAX_SANDBOXES;
}

static void write_endpoint(
	uint32_t address, unsigned port, char endpoint[PLANE_NETWORK_ENDPOINT_SIZE])
{
	char ip[PLANE_NETWORK_ADDRESS_SIZE];

	write_address(address, ip);
	snprintf(endpoint, PLANE_NETWORK_ENDPOINT_SIZE, "%s:%u", ip, port & 0xffff);
}

void plane_network_endpoint(const struct plane_network *network, unsigned index,
	char endpoint[PLANE_NETWORK_ENDPOINT_SIZE])
{
	write_endpoint(address_of(network, index), PLANE_NETWORK_BACKEND_PORT, endpoint);
}

void plane_network_published(const struct plane_network *network, unsigned index,
	char endpoint[PLANE_NETWORK_ENDPOINT_SIZE])
{
	if (network->is_published)
		write_endpoint(
			network->publish.address, network->publish.first_port + index, endpoint);
	else
		plane_network_endpoint(network, index, endpoint);
}

static int set_up(struct plane_network *network, struct plane_error *err)
{
	struct plane_network_bridge *bridge = &network->bridge;
	struct plane_nft_rules rules = {
		.instance_id = network->id,
		.bridge = bridge->name,
		.prefix = PLANE_NETWORK_PREFIX,
		.is_nat = bridge->has_egress,
		.first_index = FIRST_ADDRESS,
		.count = PLANE_NETWORK_MAX_SANDBOXES,
		.backend_port = PLANE_NETWORK_BACKEND_PORT,
		.publish = network->is_published ? &network->publish : NULL,
	};

	int code = plane_netlink_open(&network->attach_netlink, err);
	if (code == 0)
		code = plane_netlink_open(&network->detach_netlink, err);
	if (code == 0)
		code = plane_network_bridge_ensure(&network->attach_netlink, bridge, err);
	if (code < 0)
		return code;
	rules.subnet = bridge->subnet;
	rules.uplink = bridge->uplink[0] ? bridge->uplink : NULL;
	rules.is_own = bridge->is_own;
	return plane_nft_install(&rules, err);
}

struct plane_network *plane_network_create(const char *instance_id,
	enum plane_network_egress egress, const struct plane_network_publish *publish,
	struct plane_error *err)
{
	if (!plane_network_id_is_valid(instance_id)) {
		plane_error_set(err, -EINVAL, "an instance id has 8 hex digits");
		return NULL;
	}
	struct plane_network *network = plane_alloc_zero(1, sizeof(*network));
	pthread_mutex_init(&network->attach_lock, NULL);
	pthread_mutex_init(&network->detach_lock, NULL);
	snprintf(network->id, sizeof(network->id), "%s", instance_id);
	snprintf(network->bridge.name, sizeof(network->bridge.name), "pl-%s", instance_id);
	network->bridge.has_egress = egress == PLANE_NETWORK_EGRESS_NAT;
	if (publish) {
		network->is_published = true;
		network->publish = *publish;
		network->bridge.published = publish->address;
	}
	if (set_up(network, err) < 0) {
		plane_error_prefix(err, "network of instance %s", instance_id);
		plane_network_destroy(network);
		return NULL;
	}
	return network;
}

void plane_network_destroy(struct plane_network *network)
{
	if (!network)
		return;
	plane_netlink_finish(&network->attach_netlink);
	plane_netlink_finish(&network->detach_netlink);
	pthread_mutex_destroy(&network->attach_lock);
	pthread_mutex_destroy(&network->detach_lock);
	free(network);
}

static int open_own_netns(struct plane_error *err)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? plane_error_errno(err, "open the thread's network namespace") : fd;
}

/* Going on in a sandbox's namespace would be worse than not going on. */
static void return_to(int netns_fd)
{
	if (setns(netns_fd, CLONE_NEWNET) < 0) {
		plane_error("cannot return to the host's network namespace: %s", strerror(errno));
		abort();
	}
}

/* A socket stays in the namespace in which it was made. */
static int open_inside(int netns_fd, struct plane_netlink *netlink, struct plane_error *err)
{
	_cleanup_close_ int own = open_own_netns(err);

	if (own < 0)
		return own;
	if (setns(netns_fd, CLONE_NEWNET) < 0)
		return plane_error_errno(err, "enter the sandbox's network namespace");
	int code = plane_netlink_open(netlink, err);
	return_to(own);
	return code;
}

static void put_queues(struct nlmsghdr *header)
{
	mnl_attr_put_u32(header, IFLA_NUM_TX_QUEUES, 1); /* default: one a CPU, costly to make */
	mnl_attr_put_u32(header, IFLA_NUM_RX_QUEUES, 1);
}

static int make_pair(struct plane_network *network, int netns_fd, const char *name,
	const unsigned char mac[6], struct plane_error *err)
{
	struct plane_netlink_batch batch = { 0 };

	struct nlmsghdr *header = plane_netlink_add(&batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	(void)mnl_nlmsg_put_extra_header(header, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(header, IFLA_IFNAME, name);
	put_queues(header);
	struct nlattr *info = mnl_attr_nest_start(header, IFLA_LINKINFO);
	mnl_attr_put_strz(header, IFLA_INFO_KIND, "veth");
	struct nlattr *data = mnl_attr_nest_start(header, IFLA_INFO_DATA);
	struct nlattr *peer = mnl_attr_nest_start(header, VETH_INFO_PEER);
	struct ifinfomsg *peer_info = mnl_nlmsg_put_extra_header(header, sizeof(*peer_info));
	memset(peer_info, 0, sizeof(*peer_info));
	mnl_attr_put_strz(header, IFLA_IFNAME, "eth0");
	mnl_attr_put(header, IFLA_ADDRESS, 6, mac);
	mnl_attr_put_u32(header, IFLA_NET_NS_FD, (uint32_t)netns_fd);
	put_queues(header);
	mnl_attr_nest_end(header, peer);
	mnl_attr_nest_end(header, data);
	mnl_attr_nest_end(header, info);
	return plane_netlink_commit(&network->attach_netlink, &batch, "make the veth pair", err);
}

/* The port learns nothing and takes packets of the sandbox's MAC only (locked, with a static
 * entry for it), so that a sandbox can neither take another's traffic nor pretend to be it. */
static void add_port(struct plane_netlink_batch *batch, int port, int bridge)
{
	struct nlmsghdr *header = plane_netlink_add(batch, RTM_NEWLINK, 0);
	struct ifinfomsg *info = mnl_nlmsg_put_extra_header(header, sizeof(*info));
	info->ifi_index = port;
	mnl_attr_put_u32(header, IFLA_MASTER, (uint32_t)bridge);
	struct nlattr *family = mnl_attr_nest_start(header, IFLA_AF_SPEC);
	struct nlattr *inet6 = mnl_attr_nest_start(header, AF_INET6);
	mnl_attr_put_u8(header, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	mnl_attr_nest_end(header, inet6);
	mnl_attr_nest_end(header, family);

	header = plane_netlink_add(batch, RTM_NEWLINK, 0);
	info = mnl_nlmsg_put_extra_header(header, sizeof(*info));
	info->ifi_index = port;
	info->ifi_flags = info->ifi_change = IFF_UP;
	struct nlattr *link = mnl_attr_nest_start(header, IFLA_LINKINFO);
	mnl_attr_put_strz(header, IFLA_INFO_SLAVE_KIND, "bridge");
	struct nlattr *data = mnl_attr_nest_start(header, IFLA_INFO_SLAVE_DATA);
	mnl_attr_put_u8(header, IFLA_BRPORT_ISOLATED, 1);
	mnl_attr_put_u8(header, IFLA_BRPORT_LEARNING, 0);
	mnl_attr_put_u8(header, IFLA_BRPORT_UNICAST_FLOOD, 0);
	mnl_attr_put_u8(header, IFLA_BRPORT_LOCKED, 1);
	mnl_attr_nest_end(header, data);
	mnl_attr_nest_end(header, link);
}

static void add_neighbour(struct plane_netlink_batch *batch, uint8_t family, int link,
	uint32_t address, const unsigned char mac[6])
{
	struct nlmsghdr *header =
		plane_netlink_add(batch, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE);
	struct ndmsg *info = mnl_nlmsg_put_extra_header(header, sizeof(*info));

	info->ndm_family = family;
	info->ndm_ifindex = link;
	if (family == AF_BRIDGE) { /* an entry of the bridge's forwarding table */
		info->ndm_flags = NTF_MASTER;
		info->ndm_state = NUD_NOARP;
	} else {
		info->ndm_state = NUD_PERMANENT;
		mnl_attr_put_u32(header, NDA_DST, htonl(address));
	}
	mnl_attr_put(header, NDA_LLADDR, 6, mac);
}

static int configure_host(struct plane_network *network, const char *name, uint32_t address,
	const unsigned char mac[6], struct plane_error *err)
{
	struct plane_netlink_batch batch = { 0 };
	int port = plane_netlink_index(&network->attach_netlink, name);

	if (port < 0)
		return plane_error_set(err, port, "link %s went away", name);
	add_port(&batch, port, network->bridge.index);
	add_neighbour(&batch, AF_BRIDGE, port, 0, mac);
	add_neighbour(&batch, AF_INET, network->bridge.index, address, mac);
	return plane_netlink_commit(&network->attach_netlink, &batch, "configure the port", err);
}

static void add_up(struct plane_netlink_batch *batch, int link)
{
	struct nlmsghdr *header = plane_netlink_add(batch, RTM_NEWLINK, 0);
	struct ifinfomsg *info = mnl_nlmsg_put_extra_header(header, sizeof(*info));

	info->ifi_index = link;
	info->ifi_flags = info->ifi_change = IFF_UP;
}

static int configure_sandbox(
	struct plane_netlink *netlink, uint32_t address, uint32_t gateway, struct plane_error *err)
{
	struct plane_netlink_batch batch = { 0 };
	unsigned char mac[6];
	int link = plane_netlink_index(netlink, "eth0");

	if (link < 0)
		return plane_error_set(err, link, "no eth0 in the sandbox's namespace");
	add_up(&batch, 1); /* lo is always the first */
	add_up(&batch, link);
	struct nlmsghdr *header = plane_netlink_add(&batch, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
	struct ifaddrmsg *info = mnl_nlmsg_put_extra_header(header, sizeof(*info));
	info->ifa_family = AF_INET;
	info->ifa_prefixlen = PLANE_NETWORK_PREFIX;
	info->ifa_index = (uint32_t)link;
	mnl_attr_put_u32(header, IFA_LOCAL, htonl(address));
	mnl_attr_put_u32(header, IFA_ADDRESS, htonl(address));
	header = plane_netlink_add(&batch, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
	struct rtmsg *route = mnl_nlmsg_put_extra_header(header, sizeof(*route));
	route->rtm_family = AF_INET;
	route->rtm_table = RT_TABLE_MAIN;
	route->rtm_protocol = RTPROT_STATIC;
	route->rtm_scope = RT_SCOPE_UNIVERSE;
	route->rtm_type = RTN_UNICAST;
	mnl_attr_put_u32(header, RTA_GATEWAY, htonl(gateway));
	mnl_attr_put_u32(header, RTA_OIF, (uint32_t)link);
	plane_network_mac(gateway, mac);
	add_neighbour(&batch, AF_INET, link, gateway, mac);
	return plane_netlink_commit(netlink, &batch, "configure eth0", err);
}

static int delete_link(struct plane_netlink *netlink, int index, struct plane_error *err)
{
	struct plane_netlink_batch batch = { 0 };
	struct nlmsghdr *header = plane_netlink_add(&batch, RTM_DELLINK, 0);
	struct ifinfomsg *info = mnl_nlmsg_put_extra_header(header, sizeof(*info));

	info->ifi_index = index;
	int code = plane_netlink_commit(netlink, &batch, "remove the link", err);
	return code == -ENODEV ? 0 : code; /* its namespace ended in this moment */
}

int plane_network_attach(struct plane_network *network, int netns_fd, unsigned index,
	char address[PLANE_NETWORK_ADDRESS_SIZE], struct plane_error *err)
{
	_cleanup_(finish_netlink) struct plane_netlink inside = { 0 };
	char name[IFNAMSIZ];
	unsigned char mac[6];

	if (index >= PLANE_NETWORK_MAX_SANDBOXES)
		return plane_error_set(err, -ERANGE, "sandbox index %u is not below %d", index,
			PLANE_NETWORK_MAX_SANDBOXES);
	uint32_t ip = address_of(network, index);
	link_name(network, index, name);
	plane_network_mac(ip, mac);
	int code = open_inside(netns_fd, &inside, err);
	if (code < 0)
		return code;

	HOLD(&network->attach_lock);
	code = make_pair(network, netns_fd, name, mac, err);
	if (code < 0)
		return plane_error_prefix(err, "attach %s", name), code;
	code = configure_host(network, name, ip, mac, err);
	if (code == 0)
		code = configure_sandbox(&inside, ip, network->bridge.subnet + 1, err);
	if (code < 0) {
		int link = plane_netlink_index(&network->attach_netlink, name);
		if (link > 0)
			(void)delete_link(&network->attach_netlink, link, NULL); /* told already */
		return plane_error_prefix(err, "attach %s", name), code;
	}
	write_address(ip, address);
	return 0;
}

static void forget_neighbour(struct plane_netlink *netlink, int bridge, uint32_t address)
{
	struct plane_netlink_batch batch = { 0 };
	struct nlmsghdr *header = plane_netlink_add(&batch, RTM_DELNEIGH, 0);
	struct ndmsg *info = mnl_nlmsg_put_extra_header(header, sizeof(*info));

	info->ndm_family = AF_INET;
	info->ndm_ifindex = bridge;
	mnl_attr_put_u32(header, NDA_DST, htonl(address));
	/* A missing or left-over entry does no harm: the next attach replaces it. */
	(void)plane_netlink_commit(netlink, &batch, "forget a neighbour", NULL);
}

void plane_network_release(struct plane_network *network, unsigned index)
{
	HOLD(&network->detach_lock);
	forget_neighbour(
		&network->detach_netlink, network->bridge.index, address_of(network, index));
}

bool plane_network_has_link(const struct plane_network *network, unsigned index)
{
	char name[IFNAMSIZ];

	link_name(network, index, name);
	return if_nametoindex(name) != 0;
}

int plane_network_detach(struct plane_network *network, unsigned index, struct plane_error *err)
{
	struct plane_network_link link = { 0 };
	char name[IFNAMSIZ];

	if (index >= PLANE_NETWORK_MAX_SANDBOXES)
		return plane_error_set(err, -ERANGE, "sandbox index %u is not below %d", index,
			PLANE_NETWORK_MAX_SANDBOXES);
	link_name(network, index, name);
	HOLD(&network->detach_lock);
	int code = plane_network_find_link(&network->detach_netlink, name, &link, err);
	if (code < 0 && code != -ENODEV)
		return code;
	if (code == 0 && link.master != network->bridge.index)
		return plane_error_set(
			err, -EPERM, "link %s is no port of %s", name, network->bridge.name);
	/* Before the link goes: afterwards the index may be attached again by another thread. */
	forget_neighbour(
		&network->detach_netlink, network->bridge.index, address_of(network, index));
	return code == -ENODEV ? 0 : delete_link(&network->detach_netlink, link.index, err);
}

/* Calls for each interface of the host that is named as a port of the instance. */
static int for_each_port(const char *id, int (*each)(void *data, const char *name, unsigned index),
	void *data, struct plane_error *err)
{
	char prefix[IFNAMSIZ];
	int code = 0;
	struct if_nameindex *links = if_nameindex();

	if (!links)
		return plane_error_errno(err, "list the links");
	snprintf(prefix, sizeof(prefix), "pl%.5s-", id);
	for (struct if_nameindex *at = links; at->if_index && code == 0; at++) {
		int64_t index;
		if (plane_text_starts_with(at->if_name, prefix) &&
			plane_text_parse_int(at->if_name + strlen(prefix), 0,
				PLANE_NETWORK_MAX_SANDBOXES - 1, &index))
			code = each(data, at->if_name, (unsigned)index);
	}
	if_freenameindex(links);
	return code;
}

struct listing {
	struct plane_netlink *netlink;
	int bridge_index;
	bool *in_use; /* NULL: remove instead */
	struct plane_error *err;
};

static int visit_port(void *data, const char *name, unsigned index)
{
	struct listing *listing = data;
	struct plane_network_link link = { 0 };

	int code = plane_network_find_link(listing->netlink, name, &link, listing->err);
	if (code == -ENODEV)
		return 0;
	if (code < 0 || link.master != listing->bridge_index)
		return code < 0 ? code : 0; /* of an instance whose id begins the same way */
	if (!listing->in_use)
		return delete_link(listing->netlink, link.index, listing->err);
	listing->in_use[index] = true;
	return 0;
}

int plane_network_list(struct plane_network *network, bool in_use[PLANE_NETWORK_MAX_SANDBOXES],
	struct plane_error *err)
{
	bool found[PLANE_NETWORK_MAX_SANDBOXES] = { 0 };

	HOLD(&network->detach_lock);
	struct listing listing = {
		.netlink = &network->detach_netlink,
		.bridge_index = network->bridge.index,
		.in_use = found,
		.err = err,
	};
	int code = for_each_port(network->id, visit_port, &listing, err);
	if (code == 0)
		memcpy(in_use, found, sizeof(found));
	return code;
}

int plane_network_remove(const char *instance_id, struct plane_error *err)
{
	_cleanup_(finish_netlink) struct plane_netlink netlink = { 0 };
	char bridge[IFNAMSIZ];

	if (!plane_network_id_is_valid(instance_id))
		return plane_error_set(err, -EINVAL, "an instance id has 8 hex digits");
	snprintf(bridge, sizeof(bridge), "pl-%s", instance_id);
	int code = plane_netlink_open(&netlink, err);
	if (code < 0)
		return code;
	int index = plane_netlink_index(&netlink, bridge);
	struct listing listing = { .netlink = &netlink, .bridge_index = index, .err = err };
	if (index > 0)
		code = for_each_port(instance_id, visit_port, &listing, err);
	if (code == 0)
		code = plane_network_bridge_remove(&netlink, bridge, err);
	/* Last: until the bridge is gone the rules protect the host. */
	if (code == 0)
		code = plane_nft_remove(instance_id, err);
	return code;
}

static int tune_netns(struct plane_error *err)
{
	static const char *const options[][2] = {
		{ "/proc/sys/net/ipv6/conf/all/disable_ipv6", "1" },
		{ "/proc/sys/net/ipv6/conf/default/disable_ipv6", "1" },
		{ "/proc/sys/net/ipv4/ip_unprivileged_port_start", "0" },
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		int code = plane_file_write_text(options[i][0], options[i][1], err);
		if (code < 0 && !(code == -ENOENT && i < 2)) /* a kernel without IPv6 */
			return code;
	}
	return 0;
}

int plane_netns_create(struct plane_error *err)
{
	_cleanup_close_ int own = open_own_netns(err);

	if (own < 0)
		return own;
	if (unshare(CLONE_NEWNET) < 0)
		return plane_error_errno(err, "make a network namespace");
	_cleanup_close_ int made = open_own_netns(err);
	int code = made < 0 ? made : tune_netns(err);
	return_to(own);
	return code < 0 ? code : plane_steal_fd(&made);
}
