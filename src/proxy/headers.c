/* Rewriting of heads. */
#include "proxy/headers.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/version.h"

/* RFC 9110 section 7.6.1: for one connection only. */
static const char *const hop_by_hop[] = { "connection", "keep-alive", "proxy-connection", "te",
	"transfer-encoding", "upgrade", "proxy-authorization", "proxy-authenticate" };

static void add_slice(struct plane_buffer *out, struct plane_slice slice)
{
	plane_buffer_add(out, slice.data, slice.len);
}

static void add_field(struct plane_buffer *out, const struct plane_http1_header *header)
{
	add_slice(out, header->name);
	plane_buffer_add(out, ": ", 2);
	add_slice(out, header->value);
	plane_buffer_add(out, "\r\n", 2);
}

/* Named by a Connection field, so for this connection only as well. */
static bool is_named_by_connection(const struct plane_http1_head *head, struct plane_slice name)
{
	char text[64];
	if (name.len >= sizeof(text))
		return false;
	memcpy(text, name.data, name.len);
	text[name.len] = '\0';
	for (size_t i = 0; i < head->header_count; i++)
		if (plane_slice_equals_nocase(head->headers[i].name, "connection") &&
			plane_http1_list_has(head->headers[i].value, text))
			return true;
	return false;
}

static bool is_hop_by_hop(const struct plane_http1_head *head, struct plane_slice name)
{
	for (size_t i = 0; i < sizeof(hop_by_hop) / sizeof(hop_by_hop[0]); i++)
		if (plane_slice_equals_nocase(name, hop_by_hop[i]))
			return true;
	/* what frames the message and names its host cannot be taken away by the sender */
	if (plane_slice_equals_nocase(name, "content-length") ||
		plane_slice_equals_nocase(name, "host"))
		return false;
	return is_named_by_connection(head, name);
}

/* Also with '_' for '-': many servers make no difference between the two. */
static bool has_prefix(struct plane_slice name, const char *prefix)
{
	size_t len = strlen(prefix);
	if (name.len < len)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = name.data[i] == '_' ? '-' : name.data[i];
		if (strncasecmp(&c, &prefix[i], 1) != 0)
			return false;
	}
	return true;
}

static bool is_name(struct plane_slice name, const char *wanted)
{
	return name.len == strlen(wanted) && has_prefix(name, wanted);
}

static bool is_ours_to_say(struct plane_slice name)
{
	return has_prefix(name, "x-verified-") || is_name(name, "x-forwarded-for") ||
	       is_name(name, "x-forwarded-proto");
}

static bool has_controls(const char *value, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)value[i];
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return true;
	}
	return false;
}

static void add_value(struct plane_buffer *out, const char *name, const char *value, size_t len)
{
	if (has_controls(value, len))
		return; /* cannot be said in a header */
	plane_buffer_add_text(out, name);
	plane_buffer_add(out, ": ", 2);
	plane_buffer_add(out, value, len);
	plane_buffer_add(out, "\r\n", 2);
}

static void add_text(struct plane_buffer *out, const char *name, const char *value)
{
	add_value(out, name, value, strlen(value));
}

static void add_verified(struct plane_buffer *out, const struct plane_target *target,
	const struct plane_route *route, const char *client_ip)
{
	if (route->user)
		add_text(out, "x-verified-username", route->user);
	if (route->user_data)
		add_text(out, "x-verified-user-data", route->user_data);
	add_value(out, "x-verified-path", target->original_path.data, target->original_path.len);
	add_text(out, "x-verified-backend", route->backend);
	add_text(out, "x-verified-secret", route->secret_token);
	add_text(out, "x-forwarded-for", client_ip);
	add_text(out, "x-forwarded-proto", "http");
}

void plane_headers_request(struct plane_buffer *out, const struct plane_http1_head *head,
	const struct plane_target *target, const struct plane_route *route, const char *client_ip)
{
	const struct plane_http1_header *upgrade = plane_http1_find(head, "upgrade");
	add_slice(out, head->method);
	plane_buffer_add_text(out, target->needs_slash ? " /" : " ");
	add_slice(out, target->forwarded);
	plane_buffer_add_text(out, " HTTP/1.1\r\n");
	for (size_t i = 0; i < head->header_count; i++) {
		const struct plane_http1_header *header = &head->headers[i];
		if (!is_hop_by_hop(head, header->name) && !is_ours_to_say(header->name))
			add_field(out, header);
	}
	add_verified(out, target, route, client_ip);
	if (head->framing == PLANE_HTTP1_CHUNKED)
		plane_buffer_add_text(out, "transfer-encoding: chunked\r\n");
	if (head->is_upgrade) {
		plane_buffer_add_text(out, "connection: upgrade\r\n");
		if (upgrade)
			add_field(out, upgrade);
	}
	plane_buffer_add(out, "\r\n", 2);
}

static void add_date(struct plane_buffer *out)
{
	char text[64];
	struct tm parts;
	time_t now = time(NULL);
	if (gmtime_r(&now, &parts) &&
		strftime(text, sizeof(text), "date: %a, %d %b %Y %H:%M:%S GMT\r\n", &parts) > 0)
		plane_buffer_add_text(out, text);
}

static void add_cors(struct plane_buffer *out)
{
	plane_buffer_add_text(out,
		"access-control-allow-origin: *\r\naccess-control-allow-methods: *\r\n"
		"access-control-allow-headers: *, Authorization\r\n");
}

static void add_server(struct plane_buffer *out)
{
	plane_buffer_add_text(out, "server: Plane/" PLANE_VERSION "-" PLANE_GIT_HASH "\r\n");
}

static bool has_cors(const struct plane_http1_head *head)
{
	return plane_http1_find(head, "access-control-allow-origin") ||
	       plane_http1_find(head, "access-control-allow-methods") ||
	       plane_http1_find(head, "access-control-allow-headers");
}

void plane_headers_response(struct plane_buffer *out, const struct plane_http1_head *head,
	const struct plane_response_plan *plan)
{
	plane_buffer_addf(out, "HTTP/1.1 %d ", head->status);
	add_slice(out, head->reason);
	plane_buffer_add(out, "\r\n", 2);
	for (size_t i = 0; i < head->header_count; i++) {
		const struct plane_http1_header *header = &head->headers[i];
		bool is_upgrade =
			plan->is_upgraded && plane_slice_equals_nocase(header->name, "upgrade");
		if ((is_upgrade || !is_hop_by_hop(head, header->name)) &&
			!plane_slice_equals_nocase(header->name, "server") &&
			!plane_slice_equals_nocase(header->name, "x-plane-backend-id"))
			add_field(out, header);
	}
	if (!plan->is_interim) {
		if (!plane_http1_find(head, "date"))
			add_date(out);
		if (!has_cors(head))
			add_cors(out);
		add_server(out);
		add_text(out, "x-plane-backend-id", plan->backend);
	}
	if (plan->is_chunked)
		plane_buffer_add_text(out, "transfer-encoding: chunked\r\n");
	if (plan->is_upgraded)
		plane_buffer_add_text(out, "connection: upgrade\r\n");
	else if (plan->closes && !plan->is_interim)
		plane_buffer_add_text(out, "connection: close\r\n");
	else if (plan->is_http10 && !plan->is_interim)
		plane_buffer_add_text(out, "connection: keep-alive\r\n");
	plane_buffer_add(out, "\r\n", 2);
}

const char *plane_headers_reason(int status)
{
	switch (status) {
	case 200:
		return "OK";
	case 301:
		return "Moved Permanently";
	case 400:
		return "Bad Request";
	case 403:
		return "Forbidden";
	case 408:
		return "Request Timeout";
	case 410:
		return "Gone";
	case 431:
		return "Request Header Fields Too Large";
	case 502:
		return "Bad Gateway";
	case 503:
		return "Service Unavailable";
	case 504:
		return "Gateway Timeout";
	default:
		return "Error";
	}
}

void plane_headers_own_answer(struct plane_buffer *out, int status, const char *text,
	const char *location, const char *backend, bool is_head_request, bool closes)
{
	plane_buffer_addf(out, "HTTP/1.1 %d %s\r\n", status, plane_headers_reason(status));
	add_date(out);
	add_cors(out);
	add_server(out);
	if (backend)
		add_text(out, "x-plane-backend-id", backend);
	if (location)
		add_text(out, "location", location);
	size_t len = text[0] ? strlen(text) + 1 : 0;
	if (len)
		plane_buffer_add_text(out, "content-type: text/plain; charset=utf-8\r\n");
	plane_buffer_addf(
		out, "content-length: %zu\r\n%s\r\n", len, closes ? "connection: close\r\n" : "");
	if (len && !is_head_request)
		plane_buffer_addf(out, "%s\n", text);
}
