/* Reading a request's target and Host. */
#include "proxy/target.h"

#include <string.h>

#include "model/names.h"

static bool is_token(struct plane_slice token)
{
	if (token.len < PLANE_PROXY_TOKEN_MIN || token.len > PLANE_PROXY_TOKEN_MAX)
		return false;
	bool is_bad = false; /* no branch for each byte: the compiler takes many at once */
	for (size_t i = 0; i < token.len; i++)
		is_bad |= token.data[i] <= ' ' || token.data[i] > '~';
	return !is_bad;
}

struct plane_target plane_target_read(struct plane_slice target)
{
	struct plane_target read = { .kind = PLANE_TARGET_BAD };
	if (!target.len || target.data[0] != '/')
		return read;
	const char *end = target.data + target.len;
	const char *query = memchr(target.data, '?', target.len);
	const char *path_end = query ? query : end;
	read.original_path = (struct plane_slice){ target.data, (size_t)(path_end - target.data) };
	if (plane_slice_equals(read.original_path, "/"))
		read.kind = PLANE_TARGET_ROOT;
	else if (plane_slice_equals(read.original_path, "/ready"))
		read.kind = PLANE_TARGET_READY;
	if (read.kind != PLANE_TARGET_BAD)
		return read;
	const char *token = target.data + 1;
	const char *slash = memchr(token, '/', (size_t)(path_end - token));
	const char *token_end = slash ? slash : path_end;
	if (token_end == token)
		return read;
	read.token = (struct plane_slice){ token, (size_t)(token_end - token) };
	read.kind = is_token(read.token) ? PLANE_TARGET_TOKEN : PLANE_TARGET_GONE;
	read.forwarded = (struct plane_slice){ token_end, (size_t)(end - token_end) };
	if (plane_token_is_static(read.token.data, read.token.len))
		read.forwarded = target;
	read.needs_slash = !read.forwarded.len || read.forwarded.data[0] != '/';
	return read;
}

static size_t without_https_port(const char *text, size_t len)
{
	return len > 4 && memcmp(text + len - 4, ":443", 4) == 0 ? len - 4 : len;
}

int plane_target_check_host(struct plane_slice host, const char *cluster, const char *subdomain)
{
	if (!host.data || !host.len)
		return 400;
	size_t cluster_len = without_https_port(cluster, strlen(cluster));
	size_t len = without_https_port(host.data, host.len);
	if (len < cluster_len || memcmp(host.data + len - cluster_len, cluster, cluster_len) != 0)
		return 403;
	size_t before = len - cluster_len;
	if (before && host.data[before - 1] != '.')
		return 403;
	if (!subdomain)
		return 0;
	size_t subdomain_len = strlen(subdomain);
	if (before != subdomain_len + (subdomain_len ? 1 : 0))
		return 403;
	return memcmp(host.data, subdomain, subdomain_len) == 0 ? 0 : 403;
}
