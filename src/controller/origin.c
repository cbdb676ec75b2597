/* Origin, Sec-Fetch-Site and Host of a request. */
#include "controller/origin.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

/* Behind "scheme://". */
static const char *authority_of(const char *url)
{
	const char *slashes = url ? strstr(url, "://") : NULL;
	return slashes ? slashes + 3 : "";
}

/* "null", as of sandboxed frames, is nobody's. */
static bool is_own_origin(const char *origin, const char *host, const char *public_url)
{
	const char *authority = authority_of(origin);
	return (public_url && strcasecmp(origin, public_url) == 0) ||
	       (authority[0] && host && strcasecmp(authority, host) == 0);
}

static bool is_of_own_page(const struct plane_http_request *request, const char *public_url)
{
	const char *host = plane_http_request_header(request, "host");
	for (size_t i = 0; i < request->header_count; i++) {
		const struct plane_http_header *header = &request->headers[i];
		if (strcmp(header->name, "origin") == 0 &&
			!is_own_origin(header->value, host, public_url))
			return false;
		/* "none": the user typed it. "same-site" is another port of the machine, too. */
		if (strcmp(header->name, "sec-fetch-site") == 0 &&
			strcmp(header->value, "none") != 0 &&
			strcmp(header->value, "same-origin") != 0)
			return false;
	}
	return true;
}

/* The length of an authority's host, brackets included. */
static size_t host_len(const char *authority)
{
	return authority[0] == '[' ? strcspn(authority, "]") + 1 : strcspn(authority, ":");
}

static bool is_ip_literal(const char *host, size_t len)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr binary;
	bool is_v6 = len > 2 && host[0] == '[' && host[len - 1] == ']';
	const char *begin = is_v6 ? host + 1 : host;
	if (is_v6)
		len -= 2;
	if (len >= sizeof(text))
		return false;
	memcpy(text, begin, len);
	text[len] = '\0';
	return inet_pton(is_v6 ? AF_INET6 : AF_INET, text, &binary) == 1;
}

static bool is_name(const char *host, size_t len, const char *name, size_t name_len)
{
	return len == name_len && strncasecmp(host, name, len) == 0;
}

static bool is_listed(const char *host, size_t len, const char *names)
{
	while (names && *names) {
		size_t name_len = strcspn(names, ",");
		if (is_name(host, len, names, name_len))
			return true;
		names += name_len + (names[name_len] == ',');
	}
	return false;
}

static bool is_known_host(const char *authority, const struct plane_origin_rules *rules)
{
	const char *own = authority_of(rules->public_url);
	size_t len = host_len(authority);
	if (len == 0 || len > strlen(authority))
		return false;
	return is_ip_literal(authority, len) ||
	       is_name(authority, len, "localhost", strlen("localhost")) ||
	       is_name(authority, len, own, host_len(own)) ||
	       is_listed(authority, len, rules->hosts);
}

enum plane_origin plane_origin_of(
	const struct plane_http_request *request, const struct plane_origin_rules *rules)
{
	const char *host = plane_http_request_header(request, "host");
	if (!is_of_own_page(request, rules->public_url))
		return PLANE_ORIGIN_FOREIGN;
	/* without Host it is HTTP/1.0, which browsers do not speak */
	return rules->is_host_checked && host && !is_known_host(host, rules) ? PLANE_ORIGIN_HOST
									     : PLANE_ORIGIN_OWN;
}
