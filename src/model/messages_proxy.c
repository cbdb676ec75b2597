/* Messages between proxy and controller. */
#include "model/messages.h"

#include <errno.h>
#include <string.h>

#include "base/json.h"
#include "model/tagged.h"

json_t *plane_proxy_message_write(const struct plane_proxy_message *m)
{
	switch (m->kind) {
	case PLANE_PROXY_ROUTE_INFO_REQUEST:
		return json_pack("{s:{s:s}}", "RouteInfoRequest", "token", m->token);
	case PLANE_PROXY_KEEP_ALIVE:
		return json_pack("{s:s}", "KeepAlive", m->backend);
	case PLANE_PROXY_CERT_LEASE_REQUEST:
		return json_pack("{s:s}", "CertManagerRequest", "CertLeaseRequest");
	case PLANE_PROXY_CERT_SET_TXT:
		return json_pack("{s:{s:{s:s}}}", "CertManagerRequest", "SetTxtRecord", "txt_value",
			m->txt_value);
	case PLANE_PROXY_CERT_RELEASE:
		return json_pack("{s:s}", "CertManagerRequest", "ReleaseCertLease");
	case PLANE_PROXY_REVOKED_SINCE:
		return json_pack("{s:{s:I}}", "RevokedSince", "since_ms", (json_int_t)m->since_ms);
	}
	return NULL;
}

static int read_cert_request(
	const json_t *json, struct plane_proxy_message *m, struct plane_error *err)
{
	const char *tag;
	const json_t *content;
	int result = plane_tagged_read(json, &tag, &content, err);
	if (result < 0)
		return result;
	bool is_release = strcmp(tag, "ReleaseCertLease") == 0;
	if (is_release || strcmp(tag, "CertLeaseRequest") == 0) {
		m->kind = is_release ? PLANE_PROXY_CERT_RELEASE : PLANE_PROXY_CERT_LEASE_REQUEST;
		return !content || json_is_null(content)
			       ? 0
			       : plane_error_set(err, EPROTO, "%s: expected no content", tag);
	}
	if (strcmp(tag, "SetTxtRecord") == 0) {
		m->kind = PLANE_PROXY_CERT_SET_TXT;
		return plane_json_get_text(
			content, "txt_value", PLANE_JSON_REQUIRED, &m->txt_value, err);
	}
	return plane_error_set(err, ENOTSUP, "unknown certificate request \"%.40s\"", tag);
}

static int read_message_content(const char *tag, const json_t *content,
	struct plane_proxy_message *m, struct plane_error *err)
{
	if (strcmp(tag, "RouteInfoRequest") == 0) {
		m->kind = PLANE_PROXY_ROUTE_INFO_REQUEST;
		return plane_json_get_text(content, "token", PLANE_JSON_REQUIRED, &m->token, err);
	}
	if (strcmp(tag, "KeepAlive") == 0) {
		m->kind = PLANE_PROXY_KEEP_ALIVE;
		m->backend = json_string_value(content);
		return m->backend ? 0 : plane_error_set(err, EPROTO, "expected a string");
	}
	if (strcmp(tag, "RevokedSince") == 0) {
		m->kind = PLANE_PROXY_REVOKED_SINCE;
		return plane_json_get_int(
			content, "since_ms", PLANE_JSON_REQUIRED, 0, INT64_MAX, &m->since_ms, err);
	}
	if (strcmp(tag, "CertManagerRequest") == 0)
		return read_cert_request(content, m, err);
	return plane_error_set(err, ENOTSUP, "unknown message \"%.40s\" from a proxy", tag);
}

int plane_proxy_message_read(
	const json_t *json, struct plane_proxy_message *message, struct plane_error *err)
{
	struct plane_proxy_message read = { 0 };
	const char *tag;
	const json_t *content;
	int result = plane_tagged_read(json, &tag, &content, err);
	if (result < 0)
		return result;
	result = read_message_content(tag, content, &read, err);
	if (result == 0)
		*message = read;
	return result == 0 || result == -ENOTSUP ? result : plane_error_prefix(err, "%.40s", tag);
}

static json_t *write_route(const struct plane_route_info *route)
{
	json_t *json = json_pack("{s:s,s:s,s:s,s:s,s:s?,s:s?}", "backend_id", route->backend,
		"address", route->address, "secret_token", route->secret_token, "cluster",
		route->cluster, "user", route->user, "subdomain", route->subdomain);
	json_object_set_new(json, "user_data",
		route->user_data ? json_incref((json_t *)route->user_data) : json_null());
	return json;
}

json_t *plane_proxy_order_write(const struct plane_proxy_order *o)
{
	switch (o->kind) {
	case PLANE_ORDER_ROUTE_INFO:
		return json_pack("{s:{s:s,s:o}}", "RouteInfoResponse", "token", o->token,
			"route_info", o->has_route ? write_route(&o->route) : json_null());
	case PLANE_ORDER_CERT_LEASE_RESPONSE:
		return json_pack("{s:{s:{s:b}}}", "CertManagerResponse", "CertLeaseResponse",
			"accepted", o->is_accepted);
	case PLANE_ORDER_CERT_TXT_RESPONSE:
		return json_pack("{s:{s:{s:b}}}", "CertManagerResponse", "SetTxtRecordResponse",
			"accepted", o->is_accepted);
	case PLANE_ORDER_BACKEND_REMOVED:
		return json_pack("{s:{s:s}}", "BackendRemoved", "backend", o->backend);
	case PLANE_ORDER_REVOKE_TOKENS:
		return json_pack(
			"{s:{s:s,s:s}}", "RevokeTokens", "backend", o->backend, "user", o->user);
	}
	return NULL;
}

static int read_route(const json_t *json, struct plane_route_info *route, struct plane_error *err)
{
	json_t *user_data = NULL;
	const struct {
		const char *name;
		enum plane_json_need need;
		const char **text;
	} fields[] = {
		{ "backend_id", PLANE_JSON_REQUIRED, &route->backend },
		{ "address", PLANE_JSON_REQUIRED, &route->address },
		{ "secret_token", PLANE_JSON_REQUIRED, &route->secret_token },
		{ "cluster", PLANE_JSON_REQUIRED, &route->cluster },
		{ "user", PLANE_JSON_OPTIONAL, &route->user },
		{ "subdomain", PLANE_JSON_OPTIONAL, &route->subdomain },
	};
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		int result = plane_json_get_text(
			json, fields[i].name, fields[i].need, fields[i].text, err);
		if (result < 0)
			return result;
	}
	int result = plane_json_get_any(json, "user_data", PLANE_JSON_OPTIONAL, &user_data, err);
	route->user_data = user_data;
	return result;
}

static int read_route_response(
	const json_t *json, struct plane_proxy_order *o, struct plane_error *err)
{
	json_t *route = NULL;
	int result = plane_json_get_text(json, "token", PLANE_JSON_REQUIRED, &o->token, err);
	if (result == 0)
		result =
			plane_json_get_object(json, "route_info", PLANE_JSON_OPTIONAL, &route, err);
	o->kind = PLANE_ORDER_ROUTE_INFO;
	o->has_route = route != NULL;
	return result < 0 || !route ? result : read_route(route, &o->route, err);
}

static int read_cert_response(
	const json_t *json, struct plane_proxy_order *o, struct plane_error *err)
{
	const char *tag;
	const json_t *content;
	int result = plane_tagged_read(json, &tag, &content, err);
	if (result < 0)
		return result;
	if (strcmp(tag, "CertLeaseResponse") == 0)
		o->kind = PLANE_ORDER_CERT_LEASE_RESPONSE;
	else if (strcmp(tag, "SetTxtRecordResponse") == 0)
		o->kind = PLANE_ORDER_CERT_TXT_RESPONSE;
	else
		return plane_error_set(err, ENOTSUP, "unknown certificate answer \"%.40s\"", tag);
	return plane_json_get_bool(content, "accepted", PLANE_JSON_REQUIRED, &o->is_accepted, err);
}

static int read_order_content(const char *tag, const json_t *content, struct plane_proxy_order *o,
	struct plane_error *err)
{
	if (strcmp(tag, "RouteInfoResponse") == 0)
		return read_route_response(content, o, err);
	if (strcmp(tag, "CertManagerResponse") == 0)
		return read_cert_response(content, o, err);
	bool is_revoke = strcmp(tag, "RevokeTokens") == 0;
	if (!is_revoke && strcmp(tag, "BackendRemoved") != 0)
		return plane_error_set(
			err, ENOTSUP, "unknown message \"%.40s\" from the controller", tag);
	o->kind = is_revoke ? PLANE_ORDER_REVOKE_TOKENS : PLANE_ORDER_BACKEND_REMOVED;
	int result = plane_json_get_text(content, "backend", PLANE_JSON_REQUIRED, &o->backend, err);
	if (result == 0 && is_revoke)
		result = plane_json_get_text(content, "user", PLANE_JSON_REQUIRED, &o->user, err);
	return result;
}

int plane_proxy_order_read(
	const json_t *json, struct plane_proxy_order *order, struct plane_error *err)
{
	struct plane_proxy_order read = { 0 };
	const char *tag;
	const json_t *content;
	int result = plane_tagged_read(json, &tag, &content, err);
	if (result < 0)
		return result;
	result = read_order_content(tag, content, &read, err);
	if (result == 0)
		*order = read;
	return result == 0 || result == -ENOTSUP ? result : plane_error_prefix(err, "%.40s", tag);
}
