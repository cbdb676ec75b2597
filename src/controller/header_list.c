/* Headers of requests that are made for a caller, through libcurl. Must never log their values:
 * they hold bearer tokens. */
#include "controller/header_list.h"

#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"

/* Said about this connection or body, not about the caller (RFC 9110 section 7.6.1), or ours to
 * say.
 */
static const char *const never_forwarded[] = { "host", "connection", "upgrade", "content-length",
	"transfer-encoding", "expect", "keep-alive", "te", "trailer", "proxy-connection",
	"proxy-authorization", "accept-encoding", "x-original-path", "x-forwarded-host",
	"sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions",
	"sec-websocket-protocol", NULL };

/* '_' is as '-': many servers make no difference between the two. */
static bool is_name(const char *name, const char *wanted)
{
	while (*name && (*name == *wanted || (*name == '_' && *wanted == '-')))
		name++, wanted++;
	return !*name && !*wanted;
}

static bool is_one_of(const char *name, const char *const *names)
{
	for (; *names; names++)
		if (is_name(name, *names))
			return true;
	return false;
}

bool plane_header_list_add(struct curl_slist **list, const char *name, const char *value)
{
	/* libcurl drops a header that ends in ':' and sends an empty one that ends in ';' */
	_cleanup_free_ char *line =
		value[0] ? plane_strdupf("%s: %s", name, value) : plane_strdupf("%s;", name);
	struct curl_slist *longer = curl_slist_append(*list, line);
	if (longer)
		*list = longer;
	return longer != NULL;
}

bool plane_header_list_forward(struct curl_slist **list, const struct plane_http_request *request,
	const char *const *except)
{
	bool is_whole = true;
	for (size_t i = 0; is_whole && i < request->header_count; i++) {
		const struct plane_http_header *header = &request->headers[i];
		if (!is_one_of(header->name, never_forwarded) && !is_one_of(header->name, except))
			is_whole = plane_header_list_add(list, header->name, header->value);
	}
	/* libcurl adds these by itself unless told not to */
	static const char *const suppressed[] = { "Expect:", "Accept-Encoding:" };
	for (size_t i = 0; is_whole && i < 2; i++) {
		struct curl_slist *longer = curl_slist_append(*list, suppressed[i]);
		is_whole = longer != NULL;
		if (longer)
			*list = longer;
	}
	return is_whole;
}
