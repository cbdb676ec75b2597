/* Messages between DNS server and controller. */
#include "model/messages.h"

#include <errno.h>
#include <string.h>

#include "base/json.h"
#include "model/tagged.h"

json_t *plane_dns_message_write(const struct plane_dns_message *message)
{
	return json_pack("{s:{s:s}}", "TxtRecordRequest", "cluster", message->cluster);
}

int plane_dns_message_read(
	const json_t *json, struct plane_dns_message *message, struct plane_error *err)
{
	struct plane_dns_message read = { 0 };
	const char *tag;
	const json_t *content;
	int result = plane_tagged_read(json, &tag, &content, err);
	if (result < 0)
		return result;
	if (strcmp(tag, "TxtRecordRequest") != 0)
		return plane_error_set(
			err, ENOTSUP, "unknown message \"%.40s\" from a DNS server", tag);
	result = plane_json_get_text(content, "cluster", PLANE_JSON_REQUIRED, &read.cluster, err);
	if (result < 0)
		return plane_error_prefix(err, "%.40s", tag);
	*message = read;
	return 0;
}

json_t *plane_dns_order_write(const struct plane_dns_order *order)
{
	return json_pack("{s:{s:s,s:s?}}", "TxtRecordResponse", "cluster", order->cluster,
		"txt_value", order->txt_value);
}

int plane_dns_order_read(const json_t *json, struct plane_dns_order *order, struct plane_error *err)
{
	struct plane_dns_order read = { 0 };
	const char *tag;
	const json_t *content;
	int result = plane_tagged_read(json, &tag, &content, err);
	if (result < 0)
		return result;
	if (strcmp(tag, "TxtRecordResponse") != 0)
		return plane_error_set(
			err, ENOTSUP, "unknown message \"%.40s\" from the controller", tag);
	result = plane_json_get_text(content, "cluster", PLANE_JSON_REQUIRED, &read.cluster, err);
	if (result == 0)
		result = plane_json_get_text(
			content, "txt_value", PLANE_JSON_OPTIONAL, &read.txt_value, err);
	if (result < 0)
		return plane_error_prefix(err, "%.40s", tag);
	*order = read;
	return 0;
}
