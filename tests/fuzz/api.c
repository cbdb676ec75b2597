/* The controller's API: an input is a whole HTTP request for a controller with a store of its own,
 * in which there are two drones and a few backends. Whatever is asked, the answer is JSON of the
 * promised form, no error is our own fault, and the order that a drone gets says what was asked. */
#include "controller/api.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "controller/node_session.h"
#include "fuzz.h"
#include "model/executable.h"
#include "store/sqlite.h"

#define CLUSTER "c.test:1"
#define REALTIME_MS 1700000000000
#define BOOT_MS 5000

static struct plane_controller_config config;
static struct plane_controller controller = { .name = "co-fuzz", .config = &config };
static sqlite3 *baseline; /* what the store is put back to after an input that changed it */
static int orders;        /* of the present input */

/* ---- a controller ---- */

static int64_t realtime(void *data)
{
	(void)data;
	return REALTIME_MS;
}

static int64_t boot(void *data)
{
	(void)data;
	return BOOT_MS;
}

static void no_request(
	const struct plane_http_request *request, struct plane_http_response *response)
{
	(void)request;
	response->status = 500;
}

static int64_t add_drone(const char *name, const char *pool)
{
	struct plane_store_node node = { .kind = PLANE_NODE_DRONE,
		.name = name,
		.cluster = CLUSTER,
		.controller = controller.name,
		.pool = pool };
	struct plane_error err = { 0 };
	int64_t id, connection;
	FUZZ_CHECK(
		plane_store_node_connected(controller.store, &node, &id, &connection, &err) == 0);
	FUZZ_CHECK(plane_store_drone_heartbeat(controller.store, id, 77, &err) == 0);
	return id;
}

static void add_backend(
	int64_t drone, const char *backend, const char *key, enum plane_backend_status status)
{
	_cleanup_json_ json_t *executable = json_pack("{s:s}", "image", "echo");
	_cleanup_json_ json_t *auth = json_object();
	_cleanup_free_ char *message = NULL, *token_text = plane_strdupf("token-of-%s", backend);
	_cleanup_free_ char *action = plane_strdupf("ak-%s", backend);
	struct plane_store_token token = { .token = token_text,
		.secret_token = "secret",
		.backend = backend,
		.user = "u",
		.auth = auth,
		.lifetime_ms = 1000000 };
	struct plane_store_spawn spawn = { .backend = backend,
		.cluster = CLUSTER,
		.drone_id = drone,
		.key_name = key,
		.key_namespace = "",
		.key_tag = "t",
		.lifetime_limit_seconds = -1,
		.max_idle_seconds = -1,
		.token = &token,
		.action_id = action,
		.executable = executable,
		.lease_ms = 60000 };
	struct plane_backend_state state = { .status = status,
		.last_status = PLANE_READY,
		.reason = PLANE_REASON_EXTERNAL,
		.address = "10.0.0.1:80" };
	struct plane_error err = { 0 };
	struct plane_store_report report = { .backend = backend, .state = &state };
	int64_t time_ms;
	FUZZ_CHECK(plane_store_spawn(controller.store, &spawn, &message, &time_ms, &err) == 0);
	FUZZ_CHECK(plane_store_backend_update(controller.store, drone, &report, 1, &err) == 0);
}

static void copy_database(sqlite3 *to, sqlite3 *from)
{
	sqlite3_backup *backup = sqlite3_backup_init(to, "main", from, "main");
	FUZZ_CHECK(backup && sqlite3_backup_step(backup, -1) == SQLITE_DONE);
	FUZZ_CHECK(sqlite3_backup_finish(backup) == SQLITE_OK);
}

static sqlite3 *database(void)
{
	return PLANE_SQLITE_STORE(controller.store)->writer.sqlite;
}

static void open_store(void)
{
	static const struct plane_store_clock clock = { realtime, boot, "boot", NULL };
	char directory[] = "/dev/shm/plane-fuzz-XXXXXX";
	struct plane_error err = { 0 };
	FUZZ_CHECK(mkdtemp(directory));
	_cleanup_free_ char *path = plane_strdupf("%s/db", directory);
	controller.store = plane_sqlite_store_open(path, &clock, &err);
	FUZZ_CHECK(controller.store && plane_store_migrate(controller.store, &err) == 0);
	FUZZ_CHECK(plane_store_controller_heartbeat(controller.store, controller.name, &err) == 0);
	int64_t drone = add_drone("dr-a", "");
	(void)add_drone("dr-b", "p");
	plane_drone_registry_put(controller.drones, drone, true);
	add_backend(drone, "ready", "k", PLANE_READY);
	add_backend(drone, "ending", "e", PLANE_TERMINATING);
	add_backend(drone, "ended", "g", PLANE_TERMINATED);
	FUZZ_CHECK(sqlite3_open(":memory:", &baseline) == SQLITE_OK);
	copy_database(baseline, database());
	/* the open files are enough; nothing stays behind, however this process ends */
	FUZZ_CHECK(plane_file_remove_tree(directory, &err) == 0);
}

static void on_hub_event(void *data, const struct plane_hub_event *event)
{
	struct plane_error err = { 0 };
	struct plane_drone_order order;
	(void)data;
	if (!event->message)
		return;
	_cleanup_json_ json_t *json =
		plane_json_parse(event->message, strlen(event->message), &err);
	FUZZ_CHECK(json && plane_drone_order_read(json, &order, &err) == 0);
	FUZZ_CHECK(order.kind == PLANE_ORDER_SPAWN || order.kind == PLANE_ORDER_TERMINATE);
	FUZZ_CHECK(plane_name_check(order.backend, NULL, &err) == 0);
	if (order.kind == PLANE_ORDER_SPAWN) {
		struct plane_executable executable = { 0 };
		FUZZ_CHECK(plane_executable_read(order.executable, &executable, &err) == 0);
		plane_executable_finish(&executable);
	}
	orders++;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct plane_http_server_config server = { .listen = "127.0.0.1:0",
		.handler = no_request,
		.pool_threads = 1,
		.max_connections = 1 };
	struct plane_error err = { 0 };
	(void)argc;
	(void)argv;
	plane_log_init("fuzz", PLANE_LOG_ERROR, PLANE_LOG_PRETTY);
	config = plane_controller_config_defaults;
	config.default_cluster = CLUSTER;
	config.termination_grace_ms = 0;
	FUZZ_CHECK(uv_loop_init(&controller.loop) == 0);
	controller.public_url = plane_strdup("http://public.test");
	controller.drones = plane_drone_registry_create();
	controller.hub = plane_hub_create(&controller.loop, &err);
	controller.server = plane_http_server_create(&controller.loop, &server, &err);
	FUZZ_CHECK(controller.hub && controller.server);
	plane_hub_set_receiver(controller.hub, on_hub_event, NULL);
	plane_hub_stop_waiting(controller.hub); /* nothing will ever end here */
	open_store();
	return 0;
}

/* ---- a request ---- */

static char *lower(struct plane_slice text)
{
	char *copy = plane_strndup(text.data, text.len);
	for (char *c = copy; *c; c++)
		*c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
	return copy;
}

static void ask(const struct plane_http1_head *head, const char *body, size_t body_len,
	struct plane_http_response *response)
{
	struct plane_http_header headers[PLANE_HTTP1_HEADERS_MAX];
	_cleanup_free_ char *method = plane_strndup(head->method.data, head->method.len);
	_cleanup_free_ char *path = plane_strndup(head->target.data, head->target.len);
	_cleanup_free_ char *exact = fuzz_text(body, body_len);
	char *question = strchr(path, '?');
	struct plane_http_request request = { .method = method,
		.path = path,
		.query = question ? question + 1 : "",
		.headers = headers,
		.header_count = head->header_count,
		.body = exact,
		.body_len = body_len,
		.peer_address = "192.0.2.1",
		.server_data = &controller };
	if (question)
		*question = '\0';
	for (size_t i = 0; i < head->header_count; i++) {
		headers[i].name = lower(head->headers[i].name);
		headers[i].value =
			plane_strndup(head->headers[i].value.data, head->headers[i].value.len);
	}
	plane_api_handle(&request, response);
	for (size_t i = 0; i < head->header_count; i++) {
		free(headers[i].name);
		free(headers[i].value);
	}
}

/* What would begin on the loop is thrown away before it does. */
static void drop_start(struct plane_http_response *response)
{
	struct plane_node_session *session = response->start_data;
	if (response->start_ws)
		session->role->free_session(session);
	else
		free(response->start_data);
}

/* ---- an answer ---- */

static const char *text_of(const json_t *json, const char *name)
{
	const char *text = json_string_value(json_object_get(json, name));
	FUZZ_CHECK(text);
	return text;
}

/* Errors that say something about us, not about the request or the state of the cluster. */
static void check_error(const struct plane_http_response *response, const json_t *json)
{
	static const char *const expected[] = { "NoDroneAvailable", "KeyHeldUnhealthy",
		"FailedToAcquireKey" };
	const char *kind = text_of(json, "kind");
	FUZZ_CHECK(text_of(json, "id")[0] && text_of(json, "message")[0]);
	FUZZ_CHECK(response->status >= 400 && response->status < 600);
	bool is_expected = response->status != 500;
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
		is_expected |= strcmp(kind, expected[i]) == 0;
	if (!is_expected)
		fuzz_fail(__FILE__, __LINE__, text_of(json, "message"));
}

static void check_connected(const json_t *json)
{
	struct plane_error err = { 0 };
	const char *url = text_of(json, "url"), *token = text_of(json, "token");
	FUZZ_CHECK(plane_name_check(text_of(json, "backend_id"), NULL, &err) == 0);
	FUZZ_CHECK(strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0);
	FUZZ_CHECK(!strpbrk(url, " \t\r\n\"<>\\"));
	FUZZ_CHECK(strlen(token) >= 43 && strstr(url, token));
	FUZZ_CHECK(orders == json_is_true(json_object_get(json, "spawned")));
}

static void check_extra_headers(struct plane_buffer *headers)
{
	struct plane_http1_head head;
	const char *problem;
	_cleanup_(plane_buffer_finish) struct plane_buffer whole = { 0 };
	plane_buffer_add_text(&whole, "HTTP/1.1 200 OK\r\n");
	plane_buffer_add(&whole, headers->data, headers->len);
	plane_buffer_add_text(&whole, "\r\n");
	FUZZ_CHECK(plane_http1_parse_response(whole.data, whole.len, true, &head, &problem) ==
		   PLANE_HTTP1_DONE);
	FUZZ_CHECK(head.len == whole.len);
}

static void check_answer(struct plane_http_response *response, bool is_connect)
{
	struct plane_error err = { 0 };
	bool is_json =
		response->content_type && strcmp(response->content_type, "application/json") == 0;
	check_extra_headers(&response->extra_headers);
	FUZZ_CHECK(!(response->start_ws && response->start_stream));
	FUZZ_CHECK(is_json || response->status < 400);
	if (!is_json)
		return;
	_cleanup_json_ json_t *json =
		plane_json_parse(response->body.data, response->body.len, &err);
	FUZZ_CHECK(json);
	if (response->status >= 400)
		check_error(response, json);
	else if (is_connect)
		check_connected(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct plane_http1_head head;
	const char *problem;
	if (plane_http1_parse_request((const char *)bytes, len, &head, &problem) !=
			PLANE_HTTP1_DONE ||
		head.target.data[0] != '/')
		return 0;
	struct plane_http_response response = { 0 };
	int changes = sqlite3_total_changes(database());
	bool is_connect = fuzz_same(head.target, (struct plane_slice){ "/ctrl/connect", 13 });
	orders = 0;
	ask(&head, (const char *)bytes + head.len, len - head.len, &response);
	(void)uv_run(&controller.loop, UV_RUN_NOWAIT); /* orders and news go out */
	check_answer(&response, is_connect);
	drop_start(&response);
	plane_buffer_finish(&response.body);
	plane_buffer_finish(&response.extra_headers);
	if (sqlite3_total_changes(database()) != changes)
		copy_database(database(), baseline);
	return 0;
}
