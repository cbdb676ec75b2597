/* Commands about the controller and its clusters. */
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

static const char *text_of(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));
	return text ? text : "";
}

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
			text_of(answer, "status"), text_of(answer, "version"), PLANE_VERSION,
			text_of(answer, "hash"), PLANE_GIT_HASH);
	return 0;
}

/* In the largest unit only, as the original prints it: 3s, 2m, 1h, 4d. */
static void print_age(const char *label, const json_t *seconds)
{
	int64_t age = json_integer_value(seconds);
	if (!json_is_integer(seconds))
		printf("%s: none yet\n", label);
	else if (age < 60)
		printf("%s: %" PRId64 "s\n", label, age);
	else if (age < 3600)
		printf("%s: %" PRId64 "m\n", label, age / 60);
	else if (age < 86400)
		printf("%s: %" PRId64 "h\n", label, age / 3600);
	else
		printf("%s: %" PRId64 "d\n", label, age / 86400);
}

static void print_node(const json_t *node)
{
	const json_t *name = json_object_get(node, "name");
	const char *drone = text_of(name, "Drone");
	printf("  %s\n", drone[0] ? drone : text_of(name, "Proxy"));
	printf("    Plane version: %s\n    Plane hash: %s\n    Controller: %s\n",
		text_of(node, "plane_version"), text_of(node, "plane_hash"),
		text_of(node, "controller"));
	print_age(
		"    Controller heartbeat age", json_object_get(node, "controller_heartbeat_age"));
}

static void print_cluster(const json_t *state)
{
	size_t i;
	json_t *entry;
	printf("Drones:\n");
	json_array_foreach (json_object_get(state, "drones"), i, entry) {
		print_node(json_object_get(entry, "node"));
		printf("    Ready: %s\n    Draining: %s\n    Backend count: %" JSON_INTEGER_FORMAT
		       "\n",
			json_is_true(json_object_get(entry, "ready")) ? "true" : "false",
			json_is_true(json_object_get(entry, "draining")) ? "true" : "false",
			json_integer_value(json_object_get(entry, "backend_count")));
		print_age("    Last heartbeat age", json_object_get(entry, "last_heartbeat_age"));
	}
	printf("Proxies:\n");
	json_array_foreach (json_object_get(state, "proxies"), i, entry)
		print_node(entry);
}

int plane_admin_cluster_state(int argc, char **argv)
{
	struct plane_admin admin = { 0 };
	const char *words[PLANE_COMMAND_WORDS_MAX + 1];
	const struct plane_command command = {
		.usage = "plane admin cluster-state CLUSTER [flags]",
		.summary = "Shows the drones and proxies of a cluster.",
		.examples = "  plane admin cluster-state localhost:9090\n",
		.min_words = 1,
		.max_words = 1,
	};
	int status = plane_admin_parse(&admin, &command, argc, argv, words);
	if (status >= 0)
		return status;
	_cleanup_free_ char *path = plane_strdupf("/ctrl/c/%s/state", words[0]);
	_cleanup_json_ json_t *answer = plane_admin_request(&admin, "GET", path, NULL);
	if (!answer)
		return 1;
	if (admin.as_json)
		plane_admin_print_json(answer);
	else
		print_cluster(answer);
	return 0;
}

static int set_draining(int argc, char **argv, bool is_draining)
{
	struct plane_admin admin = { 0 };
	const char *cluster = NULL, *drone = NULL;
	const struct plane_flag flags[] = {
		{ "cluster", PLANE_FLAG_TEXT, &cluster, "CLUSTER", "of the drone",
			.is_required = true },
		{ "drone", PLANE_FLAG_TEXT, &drone, "dr-NAME", "", .is_required = true },
	};
	const struct plane_command command = {
		.usage = is_draining ? "plane admin drain --cluster CLUSTER --drone DRONE"
				     : "plane admin undrain --cluster CLUSTER --drone DRONE",
		.summary = is_draining ? "The drone gets no new backends; those it runs go on."
				       : "The drone gets new backends again.",
		.flags = flags,
		.flag_count = COUNT(flags),
	};
	int status = plane_admin_parse(&admin, &command, argc, argv, NULL);
	if (status >= 0)
		return status;
	_cleanup_free_ char *name = plane_admin_encode(drone);
	_cleanup_free_ char *path = plane_strdupf(
		"/ctrl/c/%s/d/%s/%s", cluster, name, is_draining ? "drain" : "undrain");
	_cleanup_json_ json_t *answer = plane_admin_request(&admin, "POST", path, NULL);
	if (!answer)
		return 1;
	bool is_updated = json_is_true(json_object_get(answer, "updated"));
	if (admin.as_json)
		plane_admin_print_json(answer);
	else if (is_draining)
		printf("Drone %s %s\n", drone,
			is_updated ? "draining initiated." : "was already draining.");
	else
		printf("Drone %s %s\n", drone,
			is_updated ? "takes backends again." : "was not draining.");
	return 0;
}

int plane_admin_drain(int argc, char **argv)
{
	return set_draining(argc, argv, true);
}

int plane_admin_undrain(int argc, char **argv)
{
	return set_draining(argc, argv, false);
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
