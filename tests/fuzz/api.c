/* The controller's API: an input is a whole HTTP request. Whatever is asked, the answer is JSON of
 * the promised form, no error is our own fault, and the order that a drone gets says what was
 * asked. */
#include "controller/api.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "controller/node_session.h"
#include "controller_world.h"
#include "fuzz.h"
#include "model/executable.h"

static int orders; /* of the present input */

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
	(void)argc;
	(void)argv;
	controller_world_create(on_hub_event, NULL);
	plane_drone_registry_put(controller.drones, controller_world_drone(),
		&(struct plane_drone_entry){ .has_logs = true });
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
	bool is_connect = fuzz_same(head.target, (struct plane_slice){ "/ctrl/connect", 13 });
	orders = 0;
	ask(&head, (const char *)bytes + head.len, len - head.len, &response);
	(void)uv_run(&controller.loop, UV_RUN_NOWAIT); /* orders and news go out */
	check_answer(&response, is_connect);
	drop_start(&response);
	plane_buffer_finish(&response.body);
	plane_buffer_finish(&response.extra_headers);
	controller_world_reset();
	return 0;
}
