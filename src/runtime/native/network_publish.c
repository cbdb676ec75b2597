/* Reading what `--ip`, `--backend-ports` and `--proxy-allow` say. */
#include "runtime/native/network_publish.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/text.h"

#define FIRST_PORT_MIN 1024

static const char *const private_networks[] = { "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",
	"100.64.0.0/10", NULL };

static int read_cidr(const char *text, struct plane_network_cidr *cidr, struct plane_error *err)
{
	char address[INET_ADDRSTRLEN];
	size_t len = strcspn(text, "/");
	int64_t prefix = 32;
	struct in_addr binary;

	if (len >= sizeof(address) ||
		(text[len] && !plane_text_parse_int(text + len + 1, 0, 32, &prefix)))
		return plane_error_set(err, -EINVAL,
			"\"%s\" is no network: expected an IPv4 address, as 10.1.2.3, or a "
			"network, as "
			"10.1.0.0/16",
			text);
	snprintf(address, sizeof(address), "%.*s", (int)len, text);
	if (inet_pton(AF_INET, address, &binary) != 1)
		return plane_error_set(err, -EINVAL, "\"%s\" is no IPv4 network", text);
	uint32_t mask = prefix == 0 ? 0 : ~0u << (32 - prefix);
	if (ntohl(binary.s_addr) & ~mask)
		return plane_error_set(err, -EINVAL,
			"\"%s\": bits behind the prefix are set; one address alone is written as "
			"%s",
			text, address);
	*cidr = (struct plane_network_cidr){ ntohl(binary.s_addr), (unsigned)prefix };
	return 0;
}

static int read_ports(
	const char *text, struct plane_network_publish *publish, struct plane_error *err)
{
	char first[8] = "";
	size_t len = strcspn(text, "-");
	int64_t low = 0, high = 0;

	if (len < sizeof(first))
		snprintf(first, sizeof(first), "%.*s", (int)len, text);
	if (text[len] != '-' || !plane_text_parse_int(first, FIRST_PORT_MIN, 65535, &low) ||
		!plane_text_parse_int(text + len + 1, low, 65535, &high))
		return plane_error_set(err, -EINVAL,
			"\"%s\" is no range of ports: expected FIRST-LAST, from %d to 65535, "
			"as " PLANE_NETWORK_PORTS_DEFAULT,
			text, FIRST_PORT_MIN);
	publish->first_port = (uint16_t)low;
	publish->last_port = (uint16_t)high;
	return 0;
}

static int resolve(const char *name, uint32_t *address, struct plane_error *err)
{
	struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM }, *found = NULL;

	int code = getaddrinfo(name, NULL, &hints, &found);
	if (code != 0)
		return plane_error_set(err, -ENOENT, "look up the IPv4 address of \"%s\": %s", name,
			gai_strerror(code));
	*address =
		ntohl(((const struct sockaddr_in *)(const void *)found->ai_addr)->sin_addr.s_addr);
	freeaddrinfo(found);
	return 0;
}

int plane_network_publish_read(const char *ip, const char *ports, const char *const *allowed,
	struct plane_network_publish *publish, bool *is_published, struct plane_error *err)
{
	struct plane_network_publish read = { 0 };

	int code = ip ? resolve(ip, &read.address, err) : 0;
	if (code < 0)
		return code;
	if (!ip || read.address >> 24 == 127) {
		*is_published = false;
		return 0;
	}
	if (read.address == INADDR_ANY || read.address >> 28 >= 14)
		return plane_error_set(err, -EINVAL, "\"%s\" is no address of a machine", ip);
	code = read_ports(ports ? ports : PLANE_NETWORK_PORTS_DEFAULT, &read, err);
	if (code < 0)
		return code;
	if (!allowed || !allowed[0])
		allowed = private_networks;
	for (; allowed[read.allowed_count]; read.allowed_count++) {
		if (read.allowed_count == PLANE_NETWORK_ALLOWED_MAX)
			return plane_error_set(err, -EINVAL, "more than %d networks of proxies",
				PLANE_NETWORK_ALLOWED_MAX);
		code = read_cidr(
			allowed[read.allowed_count], &read.allowed[read.allowed_count], err);
		if (code < 0)
			return code;
	}
	*publish = read;
	*is_published = true;
	return 0;
}

unsigned plane_network_publish_count(const struct plane_network_publish *publish, unsigned count)
{
	unsigned ports = publish->last_port - publish->first_port + 1u;

	return ports < count ? ports : count;
}
