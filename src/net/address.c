/* Socket addresses as text. */
#include "net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"

static int refuse(const char *text, struct plane_error *err)
{
	return plane_error_set(err, -EINVAL,
		"\"%s\" is no address: expected an IP address and a port, as 127.0.0.1:8080", text);
}

int plane_address_parse(const char *text, struct sockaddr_storage *address, struct plane_error *err)
{
	char host[INET6_ADDRSTRLEN];
	int64_t port;
	const char *colon = strrchr(text, ':');
	if (!colon || !plane_text_parse_int(colon + 1, 0, 65535, &port))
		return refuse(text, err);
	bool is_v6 = text[0] == '[' && colon > text + 1 && colon[-1] == ']';
	const char *begin = is_v6 ? text + 1 : text;
	size_t len = (size_t)(colon - begin) - is_v6;
	if (!len || len >= sizeof(host))
		return refuse(text, err);
	memcpy(host, begin, len);
	host[len] = '\0';
	struct sockaddr_storage result = { 0 };
	struct sockaddr_in *v4 = (struct sockaddr_in *)&result;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&result;
	if (is_v6) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)port);
	} else {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
	}
	void *binary = is_v6 ? (void *)&v6->sin6_addr : (void *)&v4->sin_addr;
	if (inet_pton(is_v6 ? AF_INET6 : AF_INET, host, binary) != 1)
		return refuse(text, err);
	*address = result;
	return 0;
}

bool plane_address_is_loopback(const struct sockaddr_storage *address)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
	if (address->ss_family == AF_INET)
		return ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	return address->ss_family == AF_INET6 &&
	       (IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) ||
		       (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr) &&
			       v6->sin6_addr.s6_addr[12] == IN_LOOPBACKNET));
}

int plane_address_parse_ip(
	const char *ip, struct sockaddr_storage *address, struct plane_error *err)
{
	_cleanup_free_ char *text = plane_strdupf(strchr(ip, ':') ? "[%s]:0" : "%s:0", ip);
	if (plane_address_parse(text, address, NULL) < 0)
		return plane_error_set(err, EINVAL, "\"%.60s\" is no IP address", ip);
	return 0;
}

bool plane_address_is_own(const char *ip)
{
	struct sockaddr_storage address;
	struct ifaddrs *all = NULL;
	if (plane_address_parse_ip(ip, &address, NULL) < 0)
		return false;
	bool is_own = plane_address_is_loopback(&address);
	if (is_own || getifaddrs(&all) < 0)
		return is_own;
	for (const struct ifaddrs *each = all; each && !is_own; each = each->ifa_next) {
		int family = each->ifa_addr ? each->ifa_addr->sa_family : AF_UNSPEC;
		struct sockaddr_storage own = { 0 };
		if (family != AF_INET && family != AF_INET6)
			continue;
		memcpy(&own, each->ifa_addr,
			family == AF_INET ? sizeof(struct sockaddr_in)
					  : sizeof(struct sockaddr_in6));
		is_own = plane_address_is_same_ip(&address, &own);
	}
	freeifaddrs(all);
	return is_own;
}

/* An IPv4 address as it is written in IPv6. */
static struct in6_addr to_v6(const struct sockaddr_storage *address)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
	struct in6_addr mapped = { .s6_addr = { [10] = 0xff, [11] = 0xff } };
	if (address->ss_family == AF_INET6)
		return ((const struct sockaddr_in6 *)address)->sin6_addr;
	memcpy(&mapped.s6_addr[12], &v4->sin_addr, sizeof(v4->sin_addr));
	return mapped;
}

bool plane_address_is_special(const struct sockaddr_storage *address)
{
	struct in6_addr v6 = to_v6(address);
	if (IN6_IS_ADDR_V4MAPPED(&v6)) {
		const uint8_t *v4 = &v6.s6_addr[12];
		return v4[0] == 0 || v4[0] >= 224 || (v4[0] == 169 && v4[1] == 254);
	}
	return IN6_IS_ADDR_UNSPECIFIED(&v6) || IN6_IS_ADDR_MULTICAST(&v6) ||
	       IN6_IS_ADDR_LINKLOCAL(&v6) ||
	       (IN6_IS_ADDR_V4COMPAT(&v6) && !IN6_IS_ADDR_LOOPBACK(&v6));
}

bool plane_address_is_same_ip(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	struct in6_addr first = to_v6(a), second = to_v6(b);
	return IN6_ARE_ADDR_EQUAL(&first, &second);
}

int plane_address_port(const struct sockaddr_storage *address)
{
	if (address->ss_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)address)->sin6_port);
	return address->ss_family == AF_INET
		       ? ntohs(((const struct sockaddr_in *)address)->sin_port)
		       : 0;
}

char *plane_address_format_ip(const struct sockaddr_storage *address)
{
	char host[INET6_ADDRSTRLEN] = "";
	struct in6_addr v6 = to_v6(address);
	if (IN6_IS_ADDR_V4MAPPED(&v6))
		inet_ntop(AF_INET, &v6.s6_addr[12], host, sizeof(host));
	else
		inet_ntop(AF_INET6, &v6, host, sizeof(host));
	return plane_strdup(host);
}

char *plane_address_format(const struct sockaddr_storage *address)
{
	char host[INET6_ADDRSTRLEN] = "";
	if (address->ss_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
		inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
		return plane_strdupf("[%s]:%u", host, ntohs(v6->sin6_port));
	}
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
	inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
	return plane_strdupf("%s:%u", host, ntohs(v4->sin_port));
}
