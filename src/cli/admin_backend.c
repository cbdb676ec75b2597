/* Commands about backends. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/admin.h"
#include "cli/display.h"
#include "model/backend_state.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void print_value(const char *label, const char *value, const char *color)
{
	bool is_terminal = isatty(STDOUT_FILENO);
	printf("%s: %s%s%s\n", label, is_terminal ? color : "", value,
		is_terminal ? "\033[0m" : "");
	fflush(stdout);
}

/* ---- following states ---- */

struct follower {
	const struct plane_admin *admin;
	struct plane_buffer line;
	int until;
	bool is_reached;
};

static void print_status(const json_t *entry)
{
	char when[PLANE_DISPLAY_SIZE];
	const char *status = plane_admin_text(entry, "status");
	const char *reason = plane_admin_text(entry, "termination_reason");
	const char *message = plane_admin_text(entry, "message");
	const json_t *code = json_object_get(entry, "exit_code");
	plane_display_time(json_integer_value(json_object_get(entry, "time")), when);
	bool is_terminal = isatty(STDOUT_FILENO);
	printf("Status: %s%s%s at %s", is_terminal ? "\033[35m" : "", status,
		is_terminal ? "\033[0m" : "", when);
	if (reason[0])
		printf(" (%s)", reason);
	if (json_is_integer(code))
		printf(", exit code %" JSON_INTEGER_FORMAT, json_integer_value(code));
	printf("%s%s\n", message[0] ? ": " : "", message);
	fflush(stdout);
}

static void take_line(struct follower *follower, const char *line)
{
	enum plane_backend_status status;
	if (!plane_text_starts_with(line, "data:"))
		return;
	_cleanup_json_ json_t *entry =
		plane_json_parse(line + strlen("data:"), strlen(line) - strlen("data:"), NULL);
	if (!entry || !plane_backend_status_parse(plane_admin_text(entry, "status"), &status))
		return;
	if (follower->admin->as_json)
		plane_admin_print_json(entry);
	else
		print_status(entry);
	follower->is_reached = (int)status >= follower->until;
}

static bool on_events(void *data, const char *text, size_t len)
{
	struct follower *follower = data;
	plane_buffer_add(&follower->line, text, len);
	for (;;) {
		char *newline = memchr(follower->line.data, '\n', follower->line.len);
		if (!newline || follower->is_reached)
			break;
		*newline = '\0';
		take_line(follower, follower->line.data);
		plane_buffer_consume(&follower->line, (size_t)(newline - follower->line.data) + 1);
	}
	return !follower->is_reached;
}

int plane_admin_follow_status(const struct plane_admin *admin, const char *backend, int until)
{
	struct follower follower = { .admin = admin, .until = until };
	_cleanup_free_ char *name = plane_admin_encode(backend);
	_cleanup_free_ char *path = plane_strdupf("/pub/b/%s/status-stream", name);
	int status = plane_admin_stream(admin, path, on_events, &follower);
	plane_buffer_finish(&follower.line);
	if (status == 0 && !follower.is_reached)
		return plane_fail(
			"the controller ended the stream of states; run the command again");
	return status;
}

/* ---- connect ---- */

struct connect_flags {
	const char *cluster, *image, *key, *key_namespace, *tag, *id, *pool, *mount, *subdomain,
		*user;
	int64_t max_idle, lifetime, memory_mib;
	bool is_immediate, use_static_token;
	struct plane_flag_list env;
};

/* NULL, and `json` is gone, when the member could not be made. */
static json_t *with_member(json_t *json, const char *name, json_t *owned_value)
{
	if (json && json_object_set_new(json, name, owned_value) == 0)
		return json;
	json_decref(json);
	return NULL;
}

static json_t *executable_of(const struct connect_flags *flags)
{
	json_t *env = json_object();
	for (size_t i = 0; i < flags->env.count; i++) {
		const char *equals = strchr(flags->env.values[i], '=');
		_cleanup_free_ char *name = plane_strndup(
			flags->env.values[i], equals ? (size_t)(equals - flags->env.values[i])
						     : strlen(flags->env.values[i]));
		env = with_member(env, name, json_string(equals ? equals + 1 : ""));
	}
	json_t *executable = with_member(json_pack("{s:s}", "image", flags->image), "env", env);
	if (flags->mount)
		executable = with_member(executable, "mount",
			strcmp(flags->mount, "true") == 0 ? json_true()
							  : json_string(flags->mount));
	if (flags->memory_mib)
		executable = with_member(executable, "resource_limits",
			json_pack("{s:I}", "memory_limit_bytes",
				(json_int_t)flags->memory_mib << 20));
	return executable;
}

/* NULL when a flag is no UTF-8 text. */
static json_t *request_of(const struct connect_flags *flags)
{
	json_t *config = json_pack("{s:s?,s:s?,s:s,s:o,s:I,s:b,s:s?}", "id", flags->id, "cluster",
		flags->cluster, "pool", flags->pool, "executable", executable_of(flags),
		"max_idle_seconds", (json_int_t)flags->max_idle, "use_static_token",
		flags->use_static_token, "subdomain", flags->subdomain);
	if (flags->lifetime)
		config = with_member(
			config, "lifetime_limit_seconds", json_integer(flags->lifetime));
	json_t *request =
		with_member(json_pack("{s:s?}", "user", flags->user), "spawn_config", config);
	if (flags->key)
		request = with_member(request, "key",
			json_pack("{s:s,s:s,s:s}", "name", flags->key, "namespace",
				flags->key_namespace, "tag", flags->tag));
	return request;
}

static void print_connection(const json_t *answer)
{
	bool is_new = json_is_true(json_object_get(answer, "spawned"));
	print_value(is_new ? "Created backend" : "Reusing backend",
		plane_admin_text(answer, "backend_id"), "\033[32m");
	print_value("URL", plane_admin_text(answer, "url"), "\033[34m");
	print_value("Status URL", plane_admin_text(answer, "status_url"), "\033[34m");
	if (plane_admin_text(answer, "drone")[0])
		print_value("Drone", plane_admin_text(answer, "drone"), "\033[32m");
}

int plane_admin_connect(int argc, char **argv)
{
	struct plane_admin admin = { 0 };
	struct connect_flags c = { .max_idle = 500, .pool = "", .key_namespace = "", .tag = "" };
	const struct plane_flag flags[] = {
		{ "image", PLANE_FLAG_TEXT, &c.image, "IMAGE", "to run", .is_required = true },
		{ "key", PLANE_FLAG_TEXT, &c.key, "KEY",
			"what the backend is for (default: random)" },
		{ "namespace", PLANE_FLAG_TEXT, &c.key_namespace, "TEXT", "of the key" },
		{ "tag", PLANE_FLAG_TEXT, &c.tag, "TEXT", "that a held key must have" },
		{ "cluster", PLANE_FLAG_TEXT, &c.cluster, "CLUSTER",
			"to run in (default: the controller's)" },
		{ "pool", PLANE_FLAG_TEXT, &c.pool, "POOL", "of drones" },
		{ "id", PLANE_FLAG_TEXT, &c.id, "NAME", "of a new backend (default: random)" },
		{ "env", PLANE_FLAG_LIST, &c.env, "NAME=VALUE", "environment; may be repeated" },
		{ "max-idle-seconds", PLANE_FLAG_INT, &c.max_idle, "S",
			"end it after so long without connections (default: 500)", 0, INT32_MAX },
		{ "lifetime-limit-seconds", PLANE_FLAG_INT, &c.lifetime, "S",
			"end it after so long in any case", 1, INT32_MAX },
		{ "memory-mib", PLANE_FLAG_INT, &c.memory_mib, "MIB", "limit of its memory", 1,
			1 << 24 },
		{ "mount", PLANE_FLAG_TEXT, &c.mount, "PATH",
			"keep a directory in /plane-data: a relative path, or true for the key's" },
		{ "subdomain", PLANE_FLAG_TEXT, &c.subdomain, "NAME", "of its URL" },
		{ "user", PLANE_FLAG_TEXT, &c.user, "USER", "for whom the link is" },
		{ "static-token", PLANE_FLAG_BOOL, &c.use_static_token, NULL,
			"one link for all, which stays the same" },
		{ "immediate", PLANE_FLAG_BOOL, &c.is_immediate, NULL,
			"do not wait until it is ready" },
	};
	const struct plane_command command = {
		.usage = "plane admin connect --image IMAGE [--key KEY] [flags]",
		.summary =
			"Gets a URL for a key: of the backend that runs for it, or of a new one.",
		.examples = "  plane admin connect --image whiteboard --key room-1\n"
			    "  plane admin connect --image echo --env GREETING=hello --json\n",
		.flags = flags,
		.flag_count = COUNT(flags),
	};
	int status = plane_admin_parse(&admin, &command, argc, argv, NULL);
	if (status >= 0)
		return status;
	_cleanup_json_ json_t *request = request_of(&c);
	if (!request)
		return plane_fail("the flags are not all UTF-8 text");
	_cleanup_json_ json_t *answer =
		plane_admin_request(&admin, "POST", "/ctrl/connect", request);
	if (!answer)
		return 1;
	if (admin.as_json)
		plane_admin_print_json(answer);
	else
		print_connection(answer);
	if (c.is_immediate)
		return 0;
	return plane_admin_follow_status(
		&admin, plane_admin_text(answer, "backend_id"), PLANE_READY);
}

int plane_admin_terminate(int argc, char **argv)
{
	struct plane_admin admin = { 0 };
	const char *words[PLANE_COMMAND_WORDS_MAX + 1];
	bool is_hard = false, is_immediate = false;
	const struct plane_flag flags[] = {
		{ "hard", PLANE_FLAG_BOOL, &is_hard, NULL, "at once, without SIGTERM first" },
		{ "immediate", PLANE_FLAG_BOOL, &is_immediate, NULL, "do not wait for its end" },
	};
	const struct plane_command command = {
		.usage = "plane admin terminate BACKEND [--hard] [flags]",
		.summary = "Ends a backend.",
		.flags = flags,
		.flag_count = COUNT(flags),
		.min_words = 1,
		.max_words = 1,
	};
	int status = plane_admin_parse(&admin, &command, argc, argv, words);
	if (status >= 0)
		return status;
	_cleanup_free_ char *name = plane_admin_encode(words[0]);
	_cleanup_free_ char *path =
		plane_strdupf("/ctrl/b/%s/%s-terminate", name, is_hard ? "hard" : "soft");
	_cleanup_json_ json_t *answer = plane_admin_request(&admin, "POST", path, NULL);
	if (!answer)
		return 1;
	if (!admin.as_json)
		print_value("Sent termination signal", words[0], "\033[32m");
	return is_immediate ? 0 : plane_admin_follow_status(&admin, words[0], PLANE_TERMINATED);
}

int plane_admin_backend_status(int argc, char **argv)
{
	struct plane_admin admin = { 0 };
	const char *words[PLANE_COMMAND_WORDS_MAX + 1];
	const struct plane_command command = {
		.usage = "plane admin backend-status BACKEND [flags]",
		.summary = "Prints the states of a backend as they come, until it has ended.",
		.min_words = 1,
		.max_words = 1,
	};
	int status = plane_admin_parse(&admin, &command, argc, argv, words);
	return status >= 0 ? status : plane_admin_follow_status(&admin, words[0], PLANE_TERMINATED);
}

/* ---- logs ---- */

static bool print_text(void *data, const char *text, size_t len)
{
	(void)data;
	return fwrite(text, 1, len, stdout) == len && fflush(stdout) == 0;
}

int plane_admin_logs(int argc, char **argv)
{
	struct plane_admin admin = { 0 };
	const char *words[PLANE_COMMAND_WORDS_MAX + 1];
	int64_t tail = -1;
	bool is_follow = false;
	const struct plane_flag flags[] = {
		{ "follow", PLANE_FLAG_BOOL, &is_follow, NULL, "go on with what comes" },
		{ "tail", PLANE_FLAG_INT, &tail, "N", "only the last lines", 0, 1000000 },
	};
	const struct plane_command command = {
		.usage = "plane admin logs BACKEND [flags]",
		.summary = "Prints what a backend wrote to stdout and stderr.",
		.examples = "  plane admin logs --follow --tail 20 BACKEND\n",
		.flags = flags,
		.flag_count = COUNT(flags),
		.min_words = 1,
		.max_words = 1,
	};
	int status = plane_admin_parse(&admin, &command, argc, argv, words);
	if (status >= 0)
		return status;
	_cleanup_free_ char *name = plane_admin_encode(words[0]);
	_cleanup_free_ char *path =
		tail < 0 ? plane_strdupf(
				   "/ctrl/b/%s/logs?follow=%s", name, is_follow ? "true" : "false")
			 : plane_strdupf("/ctrl/b/%s/logs?follow=%s&tail=%" PRId64, name,
				   is_follow ? "true" : "false", tail);
	return plane_admin_stream(&admin, path, print_text, NULL);
}
