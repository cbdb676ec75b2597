/* Rewriting of heads. */
#include "proxy/headers.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/version.h"

#define ADDED_BYTES 512 /* about as much is added to a head */

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

/* RFC 9110 section 7.6.1: for one connection only. */
static bool is_hop_by_hop(const struct plane_http1_head *head, struct plane_slice name)
{
	if (plane_slice_equals_nocase(name, "connection") ||
		plane_slice_equals_nocase(name, "keep-alive") ||
		plane_slice_equals_nocase(name, "proxy-connection") ||
		plane_slice_equals_nocase(name, "te") ||
		plane_slice_equals_nocase(name, "transfer-encoding") ||
		plane_slice_equals_nocase(name, "upgrade") ||
		plane_slice_equals_nocase(name, "proxy-authorization") ||
		plane_slice_equals_nocase(name, "proxy-authenticate"))
		return true;
	/* what frames the message and names its host cannot be taken away by the sender */
	return head->names_fields && !plane_slice_equals_nocase(name, "content-length") &&
	       !plane_slice_equals_nocase(name, "host") &&
	       plane_http1_is_named_by_connection(head, name);
}

/* Without case, and '_' as '-': many servers make no difference between the two. */
static char folded(char c)
{
	if (c == '_')
		return '-';
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool has_prefix(struct plane_slice name, const char *prefix)
{
	size_t len = strlen(prefix);
	if (name.len < len)
		return false;
	for (size_t i = 0; i < len; i++)
		if (folded(name.data[i]) != prefix[i])
			return false;
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

static inline void add_value(
	struct plane_buffer *out, const char *name, const char *value, size_t len)
{
	if (!plane_http1_is_value(value, len))
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
	(void)plane_buffer_reserve(out, head->len + ADDED_BYTES); /* mostly enough */
	add_slice(out, head->method);
	plane_buffer_add_text(out, target->needs_slash ? " /" : " ");
	add_slice(out, target->forwarded);
	plane_buffer_add_text(out, " HTTP/1.1\r\n");
	for (size_t i = 0; i < head->header_count; i++) {
		const struct plane_http1_header *header = &head->headers[i];
		bool is_upgrade =
			head->is_upgrade && plane_slice_equals_nocase(header->name, "upgrade");
		if (is_upgrade ||
			(!is_hop_by_hop(head, header->name) && !is_ours_to_say(header->name)))
			add_field(out, header);
	}
	add_verified(out, target, route, client_ip);
	if (head->framing == PLANE_HTTP1_CHUNKED)
		plane_buffer_add_text(out, "transfer-encoding: chunked\r\n");
	if (head->is_upgrade)
		plane_buffer_add_text(out, "connection: upgrade\r\n");
	plane_buffer_add(out, "\r\n", 2);
}

/* The same for a second. */
static void add_date(struct plane_buffer *out)
{
	static _Thread_local struct {
		time_t second;
		char text[64];
	} made;
	struct tm parts;
	time_t now = time(NULL);
	if (now != made.second && gmtime_r(&now, &parts) &&
		strftime(made.text, sizeof(made.text), "date: %a, %d %b %Y %H:%M:%S GMT\r\n",
			&parts) > 0)
		made.second = now;
	plane_buffer_add_text(out, made.text);
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

static bool is_cors(struct plane_slice name)
{
	return plane_slice_equals_nocase(name, "access-control-allow-origin") ||
	       plane_slice_equals_nocase(name, "access-control-allow-methods") ||
	       plane_slice_equals_nocase(name, "access-control-allow-headers");
}

static void add_status_line(struct plane_buffer *out, const struct plane_http1_head *head)
{
	const char digits[] = { (char)('0' + head->status / 100),
		(char)('0' + head->status / 10 % 10), (char)('0' + head->status % 10), ' ' };
	plane_buffer_add_text(out, "HTTP/1.1 ");
	plane_buffer_add(out, digits, sizeof(digits));
	add_slice(out, head->reason);
	plane_buffer_add(out, "\r\n", 2);
}

void plane_headers_response(struct plane_buffer *out, const struct plane_http1_head *head,
	const struct plane_response_plan *plan)
{
	bool has_date = false;
	bool has_cors = false;
	(void)plane_buffer_reserve(out, head->len + ADDED_BYTES); /* mostly enough */
	add_status_line(out, head);
	for (size_t i = 0; i < head->header_count; i++) {
		const struct plane_http1_header *header = &head->headers[i];
		bool is_upgrade =
			plan->is_upgraded && plane_slice_equals_nocase(header->name, "upgrade");
		has_date |= plane_slice_equals_nocase(header->name, "date");
		has_cors |= is_cors(header->name);
		if ((is_upgrade || !is_hop_by_hop(head, header->name)) &&
			!plane_slice_equals_nocase(header->name, "server") &&
			!plane_slice_equals_nocase(header->name, "x-plane-backend-id"))
			add_field(out, header);
	}
	if (!plan->is_interim) {
		if (!has_date)
			add_date(out);
		if (!has_cors)
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
