/* `plane admin`: its commands, and HTTP to the controller. */
#include "cli/admin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"
#include "base/version.h"
#include "cli/commands.h"
#include "cli/credentials.h"
#include "cli/watch.h"
#include "net/tls_curl.h"

#define MAX_ANSWER ((size_t)64 << 20)
#define MAX_FLAGS 24
#define CONNECT_TIMEOUT_S 10L
#define ANSWER_TIMEOUT_S 90L /* a connect may wait for a backend that is terminating */

/* Given before the command, else $PLANE_CONTROLLER. */
static const char *default_controller;

int plane_admin_parse(struct plane_admin *admin, const struct plane_command *command, int argc,
	char **argv, const char *words[PLANE_COMMAND_WORDS_MAX + 1])
{
	struct plane_flag flags[MAX_FLAGS];
	struct plane_command all = *command;
	const char *environment = getenv("PLANE_CONTROLLER");
	size_t count = command->flag_count;
	for (size_t i = 0; i < count; i++)
		flags[i] = command->flags[i];
	flags[count++] = (struct plane_flag){ "controller", PLANE_FLAG_TEXT, &admin->controller,
		"URL", "(default: $PLANE_CONTROLLER, else http://127.0.0.1:8080)" };
	const struct plane_flag credentials[PLANE_CREDENTIAL_FLAG_COUNT] = { PLANE_CREDENTIAL_FLAGS(
		&admin->credentials) };
	for (size_t i = 0; i < PLANE_CREDENTIAL_FLAG_COUNT; i++)
		flags[count++] = credentials[i];
	flags[count++] = (struct plane_flag){ "json", PLANE_FLAG_BOOL, &admin->as_json, NULL,
		"answers as JSON, one value a line" };
	all.flags = flags;
	all.flag_count = count;
	int status = plane_command_parse(&all, argc, argv, words);
	if (status >= 0)
		return status;
	plane_credentials_complete(&admin->credentials);
	if (!admin->controller)
		admin->controller = default_controller;
	if (!admin->controller)
		admin->controller =
			environment && environment[0] ? environment : "http://127.0.0.1:8080";
	return -1;
}

void plane_admin_print_json(const json_t *json)
{
	_cleanup_free_ char *text = plane_json_dump(json);
	printf("%s\n", text);
	fflush(stdout);
}

const char *plane_admin_text(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));
	return text ? text : "";
}

void plane_admin_add_query(struct plane_buffer *path, const char *name, const char *value)
{
	if (!value)
		return;
	_cleanup_free_ char *encoded = plane_admin_encode(value);
	plane_buffer_addf(path, "&%s=%s", name, encoded);
}

char *plane_admin_encode(const char *text)
{
	char *escaped = curl_easy_escape(NULL, text, (int)strlen(text));
	char *copy = plane_strdup(escaped ? escaped : "");
	curl_free(escaped);
	return copy;
}

/* ---- HTTP ---- */

struct call {
	CURL *curl;
	struct curl_slist *headers;
	char *url;
	struct plane_buffer answer; /* of a request, or of a stream that failed */
	bool (*on_text)(void *data, const char *text, size_t len);
	void *data;
	bool is_ended; /* by on_text */
	struct plane_tls_curl tls;
	char problem[CURL_ERROR_SIZE];
};

static size_t on_bytes(char *bytes, size_t size, size_t count, void *data)
{
	struct call *call = data;
	long status = 0;
	size_t len = size * count;
	curl_easy_getinfo(call->curl, CURLINFO_RESPONSE_CODE, &status);
	if (call->on_text && status < 300) {
		call->is_ended = !call->on_text(call->data, bytes, len);
		return call->is_ended ? 0 : len;
	}
	if (call->answer.len + len > MAX_ANSWER)
		return 0;
	plane_buffer_add(&call->answer, bytes, len);
	return len;
}

static void add_header(struct call *call, const char *line)
{
	struct curl_slist *longer = curl_slist_append(call->headers, line);
	if (longer)
		call->headers = longer;
}

static void call_finish(struct call *call)
{
	curl_easy_cleanup(call->curl);
	curl_slist_free_all(call->headers);
	plane_buffer_finish(&call->answer);
	free(call->url);
}

static int call_begin(struct call *call, const struct plane_admin *admin, const char *path,
	struct plane_error *err)
{
	struct plane_controller_url url = { 0 };
	_cleanup_free_ char *bearer = NULL;
	int result = plane_controller_url_parse(admin->controller, &url, err);
	if (result < 0)
		return result;
	result = plane_controller_credentials_check(&url, &admin->credentials, err);
	if (result == 0)
		result = plane_controller_bearer(&url, &admin->credentials, &bearer, err);
	if (result < 0) {
		plane_controller_url_finish(&url);
		return result;
	}
	call->url = plane_strdupf("%s://%s%s", url.is_tls ? "https" : "http", url.authority, path);
	/* status and health are public: the token is not for them (reference 0.8) */
	if (bearer && plane_text_starts_with(path, "/ctrl")) {
		_cleanup_free_ char *line = plane_strdupf("Authorization: Bearer %s", bearer);
		add_header(call, line);
	}
	plane_controller_url_finish(&url);
	call->curl = curl_easy_init();
	if (!call->curl)
		return plane_error_set(err, -ENOMEM, "start an HTTP request");
	curl_easy_setopt(call->curl, CURLOPT_URL, call->url);
	call->tls.files = &admin->credentials.tls;
	plane_tls_curl_set(call->curl, &call->tls);
	curl_easy_setopt(call->curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(call->curl, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(call->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(call->curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
	curl_easy_setopt(call->curl, CURLOPT_ERRORBUFFER, call->problem);
	curl_easy_setopt(call->curl, CURLOPT_WRITEFUNCTION, on_bytes);
	curl_easy_setopt(call->curl, CURLOPT_WRITEDATA, call);
	curl_easy_setopt(call->curl, CURLOPT_USERAGENT, "plane/" PLANE_VERSION);
	return 0;
}

static int on_progress(
	void *data, curl_off_t down_all, curl_off_t down, curl_off_t up_all, curl_off_t up)
{
	(void)data;
	(void)down_all;
	(void)down;
	(void)up_all;
	(void)up;
	return plane_watch_is_over();
}

static int call_perform(struct call *call, const struct plane_admin *admin, struct plane_error *err)
{
	long status = 0;
	curl_easy_setopt(call->curl, CURLOPT_HTTPHEADER, call->headers);
	curl_easy_setopt(call->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(call->curl, CURLOPT_NOPROGRESS, 0L);
	CURLcode code = curl_easy_perform(call->curl);
	if (code != CURLE_OK && !(code == CURLE_WRITE_ERROR && call->is_ended)) {
		const char *why = call->problem[0] ? call->problem : curl_easy_strerror(code);
		const char *at = strchr(admin->controller, '@'); /* a token is not printed */
		const char *pinned = admin->credentials.tls.pinned;
		if (code == CURLE_PEER_FAILED_VERIFICATION)
			return plane_error_set(err, -EPROTO,
				"the controller at %s cannot be trusted: %s\n%s%s.",
				at ? at + 1 : admin->controller, why,
				pinned ? "Its certificate must be the very one in "
				       : "Name the authority of its certificate with --tls-ca FILE",
				pinned ? pinned : "");
		return plane_error_set(err, -EAGAIN,
			"the controller at %s does not answer: %s\nIs it running? Give its URL "
			"with --controller or in PLANE_CONTROLLER.",
			at ? at + 1 : admin->controller, why);
	}
	curl_easy_getinfo(call->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status >= 200 && status < 300)
		return 0;
	_cleanup_json_ json_t *json = plane_json_parse(
		call->answer.data ? call->answer.data : "", call->answer.len, NULL);
	const char *message = json_string_value(json_object_get(json, "message"));
	const char *kind = json_string_value(json_object_get(json, "kind"));
	const char *id = json_string_value(json_object_get(json, "id"));
	int result = status >= 500 ? -EAGAIN : -EPROTO;
	if (message)
		return plane_error_set(err, result, "%s (%s, HTTP status %ld, error id %s)",
			message, kind ? kind : "?", status, id ? id : "?");
	return plane_error_set(err, result, "the controller answered HTTP status %ld: %.500s",
		status, plane_buffer_text(&call->answer));
}

json_t *plane_admin_fetch(const struct plane_admin *admin, const char *method, const char *path,
	const json_t *body, struct plane_error *err)
{
	struct call call = { 0 };
	json_t *json = NULL;
	_cleanup_free_ char *text = body ? plane_json_dump(body) : plane_strdup("null");
	if (call_begin(&call, admin, path, err) == 0) {
		curl_easy_setopt(call.curl, CURLOPT_TIMEOUT, ANSWER_TIMEOUT_S);
		if (strcmp(method, "POST") == 0) {
			curl_easy_setopt(call.curl, CURLOPT_POSTFIELDS, text);
			add_header(&call, "Content-Type: application/json");
		}
		if (call_perform(&call, admin, err) == 0) {
			json = plane_json_parse(
				plane_buffer_text(&call.answer), call.answer.len, err);
			if (!json)
				(void)plane_error_prefix(err, "the controller's answer");
		}
	}
	call_finish(&call);
	return json;
}

json_t *plane_admin_request(
	const struct plane_admin *admin, const char *method, const char *path, const json_t *body)
{
	struct plane_error err = { 0 };
	json_t *json = plane_admin_fetch(admin, method, path, body, &err);
	if (!json)
		(void)plane_fail("%s", err.message);
	return json;
}

int plane_admin_stream(const struct plane_admin *admin, const char *path,
	bool (*on_text)(void *data, const char *text, size_t len), void *data)
{
	struct call call = { .on_text = on_text, .data = data };
	struct plane_error err = { 0 };
	int result = call_begin(&call, admin, path, &err);
	if (result == 0)
		result = call_perform(&call, admin, &err);
	call_finish(&call);
	return result < 0 ? plane_fail("%s", err.message) : 0;
}

/* ---- the commands ---- */

int plane_command_admin(int argc, char **argv)
{
	static const struct plane_subcommand table[] = {
		{ "connect", plane_admin_connect, "get a URL for a key, starting it if need be" },
		{ "backends", plane_admin_backends, "list backends" },
		{ "logs", plane_admin_logs, "print what a backend wrote" },
		{ "backend-status", plane_admin_backend_status, "follow a backend's states" },
		{ "terminate", plane_admin_terminate, "end a backend" },
		{ "status", plane_admin_status, "is the controller well?" },
		{ "cluster-state", plane_admin_cluster_state, "drones and proxies of a cluster" },
		{ "drones", plane_admin_drones, "list drones and what they have room for" },
		{ "proxies", plane_admin_proxies, "list proxies" },
		{ "keys", plane_admin_keys, "list keys that are held" },
		{ "drain", plane_admin_drain, "give a drone no new backends" },
		{ "undrain", plane_admin_undrain, "give a drained drone backends again" },
		{ "put-dummy-dns", plane_admin_put_dummy_dns, "set a TXT value, to test DNS" },
		{ 0 },
	};
	if (argc >= 2 && strcmp(argv[0], "--controller") == 0) {
		default_controller = argv[1];
		argc -= 2;
		argv += 2;
	} else if (argc >= 1 && plane_text_starts_with(argv[0], "--controller=")) {
		default_controller = argv[0] + strlen("--controller=");
		argc -= 1;
		argv += 1;
	}
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return plane_fail("start the HTTP client");
	int status =
		plane_subcommand_run(table, "plane admin", "Talks to a controller.", argc, argv);
	curl_global_cleanup();
	return status;
}
