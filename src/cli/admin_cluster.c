/* Commands that ask whether a controller is well, and whether its DNS server is. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uv.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/version.h"
#include "cli/admin.h"
#include "model/messages.h"
#include "model/names.h"
#include "net/channel.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

int plane_admin_status(int argc, char **argv)
{
	struct plane_admin admin = { 0 };
	const struct plane_command command = { .usage = "plane admin status [flags]",
		.summary = "Asks the controller whether it and its store are well." };
	int status = plane_admin_parse(&admin, &command, argc, argv, NULL);
	if (status >= 0)
		return status;
	_cleanup_json_ json_t *answer = plane_admin_request(&admin, "GET", "/ctrl/status", NULL);
	if (!answer)
		return 1;
	if (admin.as_json)
		plane_admin_print_json(answer);
	else
		printf("Status: %s\nVersion: %s (client: %s)\nHash: %s (client: %s)\n",
			plane_admin_text(answer, "status"), plane_admin_text(answer, "version"),
			PLANE_VERSION, plane_admin_text(answer, "hash"), PLANE_GIT_HASH);
	return 0;
}

/* ---- put-dummy-dns: a proxy for as long as it takes to set a TXT value ---- */

struct dummy {
	struct plane_channel *channel;
	uv_timer_t timer;
	char text[32 + PLANE_NAME_SIZE];
	int status; /* -1: not decided */
};

static void end_dummy(struct dummy *dummy, int status)
{
	dummy->status = status;
	if (dummy->channel)
		plane_channel_close(STEAL(dummy->channel), NULL, NULL);
	if (!uv_is_closing((uv_handle_t *)&dummy->timer))
		uv_close((uv_handle_t *)&dummy->timer, NULL);
}

static void on_dummy_connected(void *data, const struct plane_handshake *peer)
{
	struct dummy *dummy = data;
	struct plane_proxy_message lease = { .kind = PLANE_PROXY_CERT_LEASE_REQUEST };
	(void)peer;
	(void)plane_channel_send(dummy->channel, plane_proxy_message_write(&lease));
}

static void on_dummy_message(void *data, const json_t *json)
{
	struct dummy *dummy = data;
	struct plane_proxy_order order;
	if (plane_proxy_order_read(json, &order, NULL) < 0)
		return;
	if (order.kind == PLANE_ORDER_CERT_LEASE_RESPONSE && !order.is_accepted) {
		end_dummy(dummy, plane_fail("another proxy holds the certificate lease of this "
					    "cluster: try again in a minute"));
	} else if (order.kind == PLANE_ORDER_CERT_LEASE_RESPONSE) {
		struct plane_proxy_message set = { .kind = PLANE_PROXY_CERT_SET_TXT,
			.txt_value = dummy->text };
		(void)plane_channel_send(dummy->channel, plane_proxy_message_write(&set));
	} else if (order.kind == PLANE_ORDER_CERT_TXT_RESPONSE) {
		end_dummy(dummy,
			order.is_accepted ? 0 : plane_fail("the controller refused the TXT value"));
	}
}

static void on_dummy_disconnected(void *data)
{
	(void)data; /* it connects again */
}

static void on_dummy_timer(uv_timer_t *timer)
{
	end_dummy(timer->data, plane_fail("the controller did not answer within 10 s"));
}

int plane_admin_put_dummy_dns(int argc, char **argv)
{
	static const char *const extensions[] = { NULL };
	struct plane_admin admin = { 0 };
	struct dummy dummy = { .status = -1 };
	struct plane_error err = { 0 };
	uv_loop_t loop;
	char name[PLANE_NAME_SIZE];
	const char *cluster = NULL;
	const struct plane_flag flags[] = {
		{ "cluster", PLANE_FLAG_TEXT, &cluster, "CLUSTER", "whose value is set",
			.is_required = true },
	};
	const struct plane_command command = {
		.usage = "plane admin put-dummy-dns --cluster CLUSTER",
		.summary =
			"Sets a TXT value for a cluster as a proxy would, to test the DNS server.",
		.flags = flags,
		.flag_count = COUNT(flags),
	};
	int status = plane_admin_parse(&admin, &command, argc, argv, NULL);
	if (status >= 0)
		return status;
	plane_name_random(plane_node_prefix(PLANE_NODE_PROXY), name);
	snprintf(dummy.text, sizeof(dummy.text), "Dummy message from %s", name);
	struct plane_channel_listener listener = { &dummy, on_dummy_connected, on_dummy_message,
		on_dummy_disconnected };
	_cleanup_free_ char *path = plane_strdupf("/ctrl/c/%s/proxy-socket", cluster);
	if (uv_loop_init(&loop) < 0)
		return plane_fail("start the loop");
	(void)uv_timer_init(&loop, &dummy.timer); /* both always succeed */
	dummy.timer.data = &dummy;
	(void)uv_timer_start(&dummy.timer, on_dummy_timer, 10000, 0);
	dummy.channel = plane_channel_connect(&loop, admin.controller, &admin.credentials, path,
		name, extensions, &listener, &err);
	if (!dummy.channel)
		end_dummy(&dummy, plane_fail("%s", err.message));
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	(void)uv_loop_close(&loop); /* all handles were closed */
	if (dummy.status == 0)
		printf("Set the TXT value of %s to \"%s\"\n", cluster, dummy.text);
	return dummy.status;
}
