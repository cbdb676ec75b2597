/* Names and tokens. */
#include "model/names.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

static const char *const prefixes[] = { "px", "dr", "ns", "co" };
static const char *const kind_texts[] = { "Proxy", "Drone", "AcmeDnsServer", "Controller" };

const char *plane_node_prefix(enum plane_node_kind kind)
{
	return prefixes[kind];
}

const char *plane_node_kind_text(enum plane_node_kind kind)
{
	return kind_texts[kind];
}

bool plane_node_kind_of(const char *name, enum plane_node_kind *kind)
{
	for (int i = PLANE_NODE_PROXY; i <= PLANE_NODE_DNS; i++)
		if (plane_text_starts_with(name, prefixes[i])) {
			*kind = (enum plane_node_kind)i;
			return true;
		}
	return false;
}

int plane_name_check(const char *name, const char *prefix, struct plane_error *err)
{
	if (prefix && !plane_text_starts_with(name, prefix))
		return plane_error_set(
			err, EINVAL, "name \"%.60s\" must start with \"%s\"", name, prefix);
	size_t len = strlen(name);
	if (len == 0)
		return plane_error_set(err, EINVAL, "name is empty");
	if (len > PLANE_NAME_MAX)
		return plane_error_set(err, EINVAL,
			"name \"%.60s...\" is %zu characters long, at most %d are allowed", name,
			len, PLANE_NAME_MAX);
	if (strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != len)
		return plane_error_set(
			err, EINVAL, "name \"%s\" may contain only a-z, 0-9 and '-'", name);
	return 0;
}

void plane_name_random(const char *prefix, char name[PLANE_NAME_SIZE])
{
	char random[15];
	plane_random_alphanumeric(random, 14);
	snprintf(name, PLANE_NAME_SIZE, "%s%s%s", prefix ? prefix : "", prefix ? "-" : "", random);
}

void plane_token_random(bool is_static, char token[PLANE_TOKEN_SIZE])
{
	char random[PLANE_RANDOM_TOKEN_SIZE];
	plane_random_token(random);
	snprintf(token, PLANE_TOKEN_SIZE, "%s%s", is_static ? "s." : "", random);
}

bool plane_token_is_static(const char *token, size_t len)
{
	return len >= 2 && memcmp(token, "s.", 2) == 0;
}

static bool is_host_name(const char *host, size_t len)
{
	if (len == 0 || len > 253 || host[0] == '.' || host[0] == '-' || host[len - 1] == '-')
		return false;
	for (size_t i = 0; i < len; i++) {
		bool is_word = isalnum((unsigned char)host[i]) || host[i] == '-' || host[i] == '_';
		bool is_dot = host[i] == '.' && host[i - 1] != '.';
		if (!is_word && !is_dot)
			return false;
	}
	return true;
}

static bool is_bracketed_ipv6(const char *host, size_t len)
{
	char address[INET6_ADDRSTRLEN];
	struct in6_addr parsed;
	if (len < 4 || len - 2 >= sizeof(address) || host[0] != '[' || host[len - 1] != ']')
		return false;
	memcpy(address, host + 1, len - 2);
	address[len - 2] = '\0';
	return inet_pton(AF_INET6, address, &parsed) == 1;
}

/* Where ":port" begins, or NULL. */
static const char *find_port(const char *cluster)
{
	const char *bracket = strrchr(cluster, ']');
	return strchr(bracket ? bracket : cluster, ':');
}

int plane_cluster_check(const char *cluster, struct plane_error *err)
{
	if (strlen(cluster) > PLANE_TEXT_MAX)
		return plane_error_set(
			err, EINVAL, "cluster name is longer than %d characters", PLANE_TEXT_MAX);
	const char *port = find_port(cluster);
	size_t host_len = port ? (size_t)(port - cluster) : strlen(cluster);
	int64_t number;
	if (port && !plane_text_parse_int(port + 1, 1, 65535, &number))
		return plane_error_set(
			err, EINVAL, "cluster \"%s\": the port must be 1 to 65535", cluster);
	if (!is_host_name(cluster, host_len) && !is_bracketed_ipv6(cluster, host_len))
		return plane_error_set(err, EINVAL,
			"cluster \"%s\" is not a host name or address with an optional port",
			cluster);
	return 0;
}

bool plane_cluster_is_https(const char *cluster)
{
	const char *port = find_port(cluster);
	return !port || strcmp(port, ":443") == 0;
}

int plane_subdomain_check(const char *subdomain, struct plane_error *err)
{
	size_t len = strlen(subdomain);
	if (len == 0 || len > 63)
		return plane_error_set(err, EINVAL, "subdomain must have 1 to 63 characters");
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)subdomain[i]) && subdomain[i] != '-')
			return plane_error_set(err, EINVAL,
				"subdomain \"%s\" may contain only letters, digits and '-'",
				subdomain);
	if (subdomain[0] == '-' || subdomain[len - 1] == '-')
		return plane_error_set(
			err, EINVAL, "subdomain \"%s\" may not begin or end with '-'", subdomain);
	return 0;
}

int plane_text_check(const char *text, const char *what, struct plane_error *err)
{
	size_t len = strlen(text);
	if (len > PLANE_TEXT_MAX)
		return plane_error_set(err, EINVAL, "%s is %zu bytes long, at most %d are allowed",
			what, len, PLANE_TEXT_MAX);
	for (size_t i = 0; i < len; i++)
		if (iscntrl((unsigned char)text[i]))
			return plane_error_set(
				err, EINVAL, "%s contains a control character", what);
	return 0;
}
