/* The network: whom a backend reaches, and what it can pretend or change. Addresses come in TRY_*.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* after net/if.h, whose names it has too */
#include <linux/netfilter_ipv4/ip_tables.h>

#include "escapes.h"

#define WAIT_MS 700 /* for an answer that must not come; on one machine it takes microseconds */

static bool read_target(const char *variable, struct sockaddr_in *address)
{
	char text[64];
	const char *target = getenv(variable);
	snprintf(text, sizeof(text), "%s", target ? target : "");
	char *colon = strchr(text, ':');
	*address = (struct sockaddr_in){ .sin_family = AF_INET };
	if (colon) {
		*colon = '\0';
		address->sin_port = htons((uint16_t)atoi(colon + 1));
	}
	return inet_pton(AF_INET, text, &address->sin_addr) == 1;
}

/* ---- sockets of other kinds ---- */

static long try_raw_socket(void)
{
	return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
}
static long try_raw_socket_6(void)
{
	return socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
}
static long try_packet_socket(void)
{
	return socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
}
static long try_other_families(void)
{
	for (int family = 0; family < 64; family++) {
		if (family == AF_UNIX || family == AF_INET || family == AF_INET6 ||
			family == AF_NETLINK)
			continue;
		static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET };
		for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
			if (socket(family, types[i], 0) >= 0 || errno != EPERM)
				return detail("family %d", family), 0;
	}
	return refused_if(true, EPERM);
}

/* ---- changes ---- */

/* Sends one netlink request; its error, or 0. */
static long ask_netlink(int protocol, uint16_t type, uint16_t flags, const void *body, size_t len)
{
	struct {
		struct nlmsghdr head;
		char body[256];
	} request = { .head = { (uint32_t)(sizeof(struct nlmsghdr) + len), type,
			      (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags), 1, 0 } };
	struct {
		struct nlmsghdr head;
		struct nlmsgerr error;
		char rest[512];
	} answer = { 0 };
	struct timeval patience = { 1, 0 };
	int fd = socket(AF_NETLINK, SOCK_RAW, protocol);
	if (fd < 0)
		return -1;
	memcpy(request.body, body, len);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (send(fd, &request, request.head.nlmsg_len, 0) < 0 ||
		recv(fd, &answer, sizeof(answer), 0) < (ssize_t)sizeof(struct nlmsghdr))
		return close_with(fd, -1);
	close(fd);
	if (answer.head.nlmsg_type != NLMSG_ERROR)
		return 0;
	return refused_if(answer.error.error != 0, -answer.error.error);
}

struct route_attribute {
	struct rtattr head;
	uint32_t value;
};
#define ATTRIBUTE(type, value)                                                                     \
	{                                                                                          \
		{ sizeof(struct route_attribute), type }, value                                    \
	}

static long try_add_address(void)
{
	struct sockaddr_in neighbour;
	if (!read_target("TRY_NEIGHBOUR", &neighbour))
		return refused_if(true, EDESTADDRREQ);
	struct {
		struct ifaddrmsg head;
		struct route_attribute local;
	} body = { { AF_INET, 20, 0, 0, if_nametoindex("eth0") },
		ATTRIBUTE(IFA_LOCAL, neighbour.sin_addr.s_addr) };
	return ask_netlink(NETLINK_ROUTE, RTM_NEWADDR, NLM_F_CREATE, &body, sizeof(body));
}
static long try_add_route(void)
{
	struct {
		struct rtmsg head;
		struct route_attribute out;
	} body = { { AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_LINK, RTN_UNICAST,
			   0 },
		ATTRIBUTE(RTA_OIF, if_nametoindex("eth0")) };
	return ask_netlink(
		NETLINK_ROUTE, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body, sizeof(body));
}
static long try_change_neighbour(void)
{
	struct sockaddr_in gateway;
	if (!read_target("TRY_HOST", &gateway))
		return refused_if(true, EDESTADDRREQ);
	struct {
		struct ndmsg head;
		struct route_attribute to;
	} body = { { AF_INET, 0, 0, (int)if_nametoindex("eth0"), NUD_PERMANENT, 0, 0 },
		ATTRIBUTE(NDA_DST, gateway.sin_addr.s_addr) };
	return ask_netlink(
		NETLINK_ROUTE, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &body, sizeof(body));
}
static long try_link_down(void)
{
	struct ifinfomsg body = { .ifi_index = (int)if_nametoindex("eth0"), .ifi_change = IFF_UP };
	return ask_netlink(NETLINK_ROUTE, RTM_NEWLINK, 0, &body, sizeof(body));
}
static long try_delete_link(void)
{
	struct ifinfomsg body = { .ifi_index = (int)if_nametoindex("eth0") };
	return ask_netlink(NETLINK_ROUTE, RTM_DELLINK, 0, &body, sizeof(body));
}
static long try_firewall(void)
{
	uint32_t body = 0; /* struct nfgenmsg; the message flushes the connection table */
	return ask_netlink(NETLINK_NETFILTER, (1 << 8) | 2, 0, &body, sizeof(body));
}
static long try_firewall_table(void)
{
	uint32_t body = 0; /* NFT_MSG_GETGEN asks nothing of importance, but needs the right */
	return ask_netlink(NETLINK_NETFILTER, (10 << 8) | 16, 0, &body, sizeof(body));
}
static long try_ip_security(void)
{
	uint8_t body[8] = { 0 };
	return ask_netlink(NETLINK_XFRM, 0x1c /* XFRM_MSG_FLUSHSA */, 0, body, sizeof(body));
}
static long try_audit(void)
{
	return ask_netlink(NETLINK_AUDIT, 1005 /* AUDIT_USER */, 0, "x", 2);
}

static long on_interface(unsigned long request, struct ifreq *change)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	memcpy(change->ifr_name, "eth0", 5);
	return close_with(fd, ioctl(fd, request, change));
}
static long try_interface_address(void)
{
	struct ifreq change = { 0 };
	struct sockaddr_in *address = (struct sockaddr_in *)&change.ifr_addr;
	if (!read_target("TRY_NEIGHBOUR", address))
		return refused_if(true, EDESTADDRREQ);
	address->sin_port = 0;
	return on_interface(SIOCSIFADDR, &change);
}
static long try_hardware_address(void)
{
	struct ifreq change = { .ifr_hwaddr = { ARPHRD_ETHER, "\x02\x50\x0a\x00\x00\x01" } };
	return on_interface(SIOCSIFHWADDR, &change);
}
static long try_promiscuous(void)
{
	struct ifreq change = { .ifr_flags = IFF_UP | IFF_PROMISC };
	return on_interface(SIOCSIFFLAGS, &change);
}
static long try_static_arp(void)
{
	struct arpreq change = { .arp_flags = ATF_PERM | ATF_COM, .arp_dev = "eth0" };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (!read_target("TRY_HOST", (struct sockaddr_in *)&change.arp_pa))
		return refused_if(true, EDESTADDRREQ);
	return close_with(fd, ioctl(fd, SIOCSARP, &change));
}

static long set_option(int level, int option, int value)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	return close_with(fd, setsockopt(fd, level, option, &value, sizeof(value)));
}
static long try_transparent(void)
{
	return set_option(IPPROTO_IP, IP_TRANSPARENT, 1);
}
static long try_mark(void)
{
	return set_option(SOL_SOCKET, SO_MARK, 1);
}
static long try_force_buffer(void)
{
	return set_option(SOL_SOCKET, SO_RCVBUFFORCE, 1 << 30);
}
static long try_repair(void)
{
	return set_option(IPPROTO_TCP, TCP_REPAIR, 1);
}
static long try_priority(void)
{
	return set_option(SOL_SOCKET, SO_PRIORITY, 7);
}
/* CVE-2021-22555 and many before it began here. */
static long try_old_firewall(void)
{
	struct ipt_replace table = { .name = "filter" };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	return close_with(
		fd, setsockopt(fd, IPPROTO_IP, IPT_SO_SET_REPLACE, &table, sizeof(table)));
}

/* ---- pretending ---- */

static long speak_as(const char *variable, int type)
{
	struct sockaddr_in from, to;
	int on = 1, fd = socket(AF_INET, type, 0);
	if (!read_target(variable, &from) || !read_target("TRY_HOST", &to))
		return refused_if(true, EDESTADDRREQ);
	from.sin_port = 0;
	if (setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof(on)) < 0 ||
		bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0)
		return close_with(fd, -1);
	if (type == SOCK_DGRAM)
		return close_with(
			fd, sendto(fd, "forged", 6, 0, (struct sockaddr *)&to, sizeof(to)));
	return close_with(fd, connect(fd, (struct sockaddr *)&to, sizeof(to)));
}
static long try_speak_as_neighbour(void)
{
	return speak_as("TRY_NEIGHBOUR", SOCK_DGRAM);
}
static long try_connect_as_neighbour(void)
{
	return speak_as("TRY_NEIGHBOUR", SOCK_STREAM);
}
static long try_speak_as_gateway(void)
{
	return speak_as("TRY_HOST", SOCK_DGRAM);
}
/* The source address in a control message. */
static long try_forged_source(void)
{
	struct sockaddr_in from, to;
	char control[CMSG_SPACE(sizeof(struct in_pktinfo))] = { 0 };
	struct iovec part = { "forged", 6 };
	if (!read_target("TRY_NEIGHBOUR", &from) || !read_target("TRY_HOST", &to))
		return refused_if(true, EDESTADDRREQ);
	struct msghdr message = { .msg_name = &to,
		.msg_namelen = sizeof(to),
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control) };
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	struct in_pktinfo info = { .ipi_spec_dst = from.sin_addr };
	head->cmsg_level = IPPROTO_IP;
	head->cmsg_type = IP_PKTINFO;
	head->cmsg_len = CMSG_LEN(sizeof(info));
	memcpy(CMSG_DATA(head), &info, sizeof(info));
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	return close_with(fd, sendmsg(fd, &message, 0));
}

/* ---- reaching ---- */

static long reach(int fd, const void *address, socklen_t len)
{
	int error = 0;
	socklen_t size = sizeof(error);
	struct pollfd wait = { .fd = fd, .events = POLLOUT };
	if (connect(fd, address, len) == 0)
		return close_with(fd, 0);
	if (errno != EINPROGRESS)
		return close_with(fd, -1);
	if (poll(&wait, 1, WAIT_MS) == 0)
		error = ETIMEDOUT;
	else
		(void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
	close(fd);
	return refused_if(error != 0, error);
}
static long reach_tcp(const char *variable)
{
	struct sockaddr_in to;
	if (!read_target(variable, &to))
		return refused_if(true, EDESTADDRREQ);
	return reach(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), &to, sizeof(to));
}
/* An answer counts; that the packet could be sent says nothing. */
static long ask_udp(const char *variable)
{
	struct sockaddr_in to;
	char answer[16];
	int on = 1, fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	if (!read_target(variable, &to))
		return refused_if(true, EDESTADDRREQ);
	(void)setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on));
	if (sendto(fd, "ask", 3, 0, (struct sockaddr *)&to, sizeof(to)) < 0)
		return close_with(fd, -1);
	if (poll(&wait, 1, WAIT_MS) == 0)
		return close_with(fd, refused_if(true, ETIMEDOUT));
	return close_with(fd, recv(fd, answer, sizeof(answer), 0));
}

/* The link-local IPv6 address that the kernel makes of the MAC that belongs to $variable's IPv4. */
static bool link_local(const char *variable, struct sockaddr_in6 *address)
{
	struct sockaddr_in known;
	if (!read_target(variable, &known))
		return false;
	const unsigned char *ip = (const unsigned char *)&known.sin_addr;
	const unsigned char bytes[16] = { 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x00, 0x50, ip[0], 0xff,
		0xfe, ip[1], ip[2], ip[3] };
	*address = (struct sockaddr_in6){ .sin6_family = AF_INET6,
		.sin6_port = htons(TRACE_TCP_PORT),
		.sin6_scope_id = if_nametoindex("eth0") };
	memcpy(&address->sin6_addr, bytes, sizeof(bytes));
	return true;
}
static long reach_link_local(const char *variable)
{
	struct sockaddr_in6 to;
	if (!link_local(variable, &to))
		return refused_if(true, EDESTADDRREQ);
	return reach(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0), &to, sizeof(to));
}
static long ask_all_nodes(void)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6,
		.sin6_port = htons(TRACE_UDP_PORT),
		.sin6_scope_id = if_nametoindex("eth0") };
	int off = 0, fd = socket(AF_INET6, SOCK_DGRAM, 0);
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	inet_pton(AF_INET6, "ff02::1", &to.sin6_addr);
	(void)setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, &off, sizeof(off));
	if (sendto(fd, "ask", 3, 0, (struct sockaddr *)&to, sizeof(to)) < 0)
		return close_with(fd, -1);
	return close_with(fd, refused_if(poll(&wait, 1, WAIT_MS) == 0, ETIMEDOUT));
}

#define REACH(name, how, variable)                                                                 \
	static long try_##name(void)                                                               \
	{                                                                                          \
		return how(variable);                                                              \
	}
REACH(host_port, reach_tcp, "TRY_HOST")
REACH(host_port_udp, ask_udp, "TRY_HOST")
REACH(host_other_address, reach_tcp, "TRY_HOST_OTHER")
REACH(controller_port, reach_tcp, "TRY_CONTROLLER")
REACH(proxy_port, reach_tcp, "TRY_PROXY")
REACH(neighbour, reach_tcp, "TRY_NEIGHBOUR")
REACH(neighbour_udp, ask_udp, "TRY_NEIGHBOUR_UDP")
REACH(neighbour_other_instance, reach_tcp, "TRY_STRANGER")
REACH(neighbour_link_local, reach_link_local, "TRY_NEIGHBOUR")
REACH(host_link_local, reach_link_local, "TRY_HOST")
REACH(broadcast, ask_udp, "TRY_BROADCAST")
REACH(metadata, reach_tcp, "TRY_METADATA")
REACH(metadata_udp, ask_udp, "TRY_METADATA")
REACH(metadata_on_host, reach_tcp, "TRY_METADATA_HOST")

REACH(outside, reach_tcp, "TRY_OUTSIDE")
REACH(outside_udp, ask_udp, "TRY_OUTSIDE_UDP")

const struct attempt network_controls[] = { ATTEMPT(outside, 0), ATTEMPT(outside_udp, 0), { 0 } };

static long try_all_nodes(void)
{
	return ask_all_nodes();
}

const struct attempt network_attempts[] = { ATTEMPT(raw_socket, EPERM),
	ATTEMPT(raw_socket_6, EPERM), ATTEMPT(packet_socket, EPERM), ATTEMPT(other_families, EPERM),
	ATTEMPT(add_address, EPERM), ATTEMPT(add_route, EPERM), ATTEMPT(change_neighbour, EPERM),
	ATTEMPT(link_down, EPERM), ATTEMPT(delete_link, EPERM), ATTEMPT(firewall, EPERM),
	ATTEMPT(firewall_table, EPERM), ATTEMPT(ip_security, EPERM, EPROTONOSUPPORT),
	ATTEMPT(audit, EPERM, ECONNREFUSED, EPROTONOSUPPORT), ATTEMPT(interface_address, EPERM),
	ATTEMPT(hardware_address, EPERM), ATTEMPT(promiscuous, EPERM), ATTEMPT(static_arp, EPERM),
	ATTEMPT(transparent, EPERM), ATTEMPT(mark, EPERM), ATTEMPT(force_buffer, EPERM),
	ATTEMPT(repair, EPERM), ATTEMPT(priority, EPERM), ATTEMPT(old_firewall, EPERM, ENOPROTOOPT),
	ATTEMPT(speak_as_neighbour, EINVAL, NO_WAY), ATTEMPT(connect_as_neighbour, EINVAL, NO_WAY),
	ATTEMPT(speak_as_gateway, EINVAL, NO_WAY), ATTEMPT(forged_source, EINVAL, NO_WAY),
	ATTEMPT(host_port, NO_WAY), ATTEMPT(host_port_udp, NO_WAY),
	ATTEMPT(host_other_address, NO_WAY), ATTEMPT(controller_port, NO_WAY),
	ATTEMPT(proxy_port, NO_WAY), ATTEMPT(neighbour, NO_WAY), ATTEMPT(neighbour_udp, NO_WAY),
	ATTEMPT(neighbour_other_instance, NO_WAY), ATTEMPT(neighbour_link_local, NO_WAY),
	ATTEMPT(host_link_local, NO_WAY), ATTEMPT(broadcast, NO_WAY, EACCES),
	ATTEMPT(metadata, NO_WAY), ATTEMPT(metadata_udp, NO_WAY), ATTEMPT(metadata_on_host, NO_WAY),
	ATTEMPT(all_nodes, NO_WAY), { 0 } };
