/* Echo: answers with what it was asked and in which surroundings, and misbehaves when asked to.
 * A backend for tests and for looking around; its environment is readable by every client. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/server.h"
#include "common/utf8.h"

#define MAX_SHOWN_BODY (64 << 10)
#define MAX_HOG_MB (1L << 20)
#define MAX_WAIT_MS (3600L * 1000)

extern char **environ;

static void append_member(struct web_buffer *json, const char *name, size_t name_len,
	const char *value, size_t value_len, bool is_first)
{
	if (!is_first)
		web_buffer_append_text(json, ",");
	web_buffer_append_json(json, name, name_len);
	web_buffer_append_text(json, ":");
	web_buffer_append_json(json, value, value_len);
}

/* A header that came several times is one member with the values joined (RFC 9110, 5.3). */
static void append_headers(struct web_buffer *json, const struct web_request *request)
{
	bool is_first = true;
	for (size_t i = 0; i < request->header_count; i++) {
		const struct web_header *header = &request->headers[i];
		if (web_request_header(request, header->name) != header->value)
			continue;
		struct web_buffer joined = { 0 };
		web_buffer_append_text(&joined, header->value);
		for (size_t k = i + 1; k < request->header_count; k++)
			if (strcasecmp(request->headers[k].name, header->name) == 0)
				web_buffer_printf(&joined, ", %s", request->headers[k].value);
		size_t len = web_buffer_len(&joined);
		append_member(json, header->name, strlen(header->name),
			len > 0 ? web_buffer_bytes(&joined) : "", len, is_first);
		web_buffer_finish(&joined);
		is_first = false;
	}
}

static void append_environment(struct web_buffer *json)
{
	bool is_first = true;
	for (char **entry = environ; *entry; entry++) {
		const char *equals = strchr(*entry, '=');
		if (!equals)
			continue;
		append_member(json, *entry, (size_t)(equals - *entry), equals + 1,
			strlen(equals + 1), is_first);
		is_first = false;
	}
}

static void append_body(struct web_buffer *json, const struct web_request *request)
{
	size_t shown = request->body_len < MAX_SHOWN_BODY ? request->body_len : MAX_SHOWN_BODY;
	web_buffer_printf(json, ",\"body_bytes\":%zu,\"body\":", request->body_len);
	web_buffer_append_json(json, request->body, shown);
}

static void answer_json(
	struct web_connection *connection, const struct web_request *request, int64_t delay_ms)
{
	struct web_buffer json = { 0 };
	web_buffer_append_text(&json, "{");
	append_member(&json, "method", 6, request->method, strlen(request->method), true);
	append_member(&json, "path", 4, request->path, strlen(request->path), false);
	append_member(&json, "query", 5, request->query, strlen(request->query), false);
	web_buffer_append_text(&json, ",\"headers\":{");
	append_headers(&json, request);
	web_buffer_append_text(&json, "},\"env\":{");
	append_environment(&json);
	web_buffer_append_text(&json, "}");
	append_body(&json, request);
	web_buffer_append_text(&json, "}\n");
	web_connection_answer(connection, &(struct web_answer){ .status = 200,
						  .content_type = "application/json",
						  .headers = "cache-control: no-store\r\n",
						  .body = web_buffer_bytes(&json),
						  .body_len = web_buffer_len(&json),
						  .delay_ms = delay_ms });
	web_buffer_finish(&json);
}

/* A real fault: a signal sent to itself would not end the first process of a namespace. */
static void crash(void)
{
	char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		abort();
	*(volatile char *)page = 1;
}

static void hog(struct web_connection *connection, const struct web_request *request)
{
	static long held_mb;
	long mb = web_request_number(request, "mb", 64, MAX_HOG_MB);
	size_t len = (size_t)mb << 20;
	char *memory = len == 0 ? NULL
				: mmap(NULL, len, PROT_READ | PROT_WRITE,
					  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED) {
		web_connection_answer_text(connection, 503, "There is not so much memory.\n");
		return;
	}
	/* Different in every page, so that no kernel can merge them. */
	for (size_t at = 0; at < len; at += 4096)
		memcpy(memory + at, &at, sizeof(at));
	held_mb += mb;
	char text[64];
	(void)snprintf(text, sizeof(text), "holding %ld MB\n", held_mb); /* fits */
	web_connection_answer_text(connection, 200, text);
}

/* In a process of its own, so that the limits can be watched from within. */
static void spin(struct web_connection *connection, const struct web_request *request)
{
	long ms = web_request_number(request, "ms", 0, MAX_WAIT_MS);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		int64_t end_ms = ms > 0 ? web_now_ms() + ms : INT64_MAX;
		while (web_now_ms() < end_ms)
			;
		_exit(0);
	}
	char text[128];
	if (pid < 0)
		(void)snprintf(text, sizeof(text), "cannot fork: %s\n", strerror(errno));
	else
		(void)snprintf(text, sizeof(text), "process %d burns CPU\n", pid); /* both fit */
	web_connection_answer_text(connection, pid < 0 ? 503 : 200, text);
}

static void on_request(struct web_connection *connection, const struct web_request *request)
{
	const char *path = request->path;
	if (strcmp(path, "/ws") == 0) {
		(void)web_connection_upgrade(connection, request); /* else it has answered */
	} else if (strcmp(path, "/crash") == 0) {
		crash();
	} else if (strcmp(path, "/exit") == 0) {
		_exit((int)web_request_number(request, "code", 0, 255));
	} else if (strcmp(path, "/hog") == 0) {
		hog(connection, request);
	} else if (strcmp(path, "/spin") == 0) {
		spin(connection, request);
	} else if (strcmp(path, "/slow") == 0) {
		answer_json(
			connection, request, web_request_number(request, "ms", 1000, MAX_WAIT_MS));
	} else {
		answer_json(connection, request, 0);
	}
}

static void on_message(
	struct web_connection *connection, const char *bytes, size_t len, bool is_text)
{
	web_connection_send(connection, bytes, len, is_text);
}

int main(void)
{
	static const struct web_handlers handlers = { .on_request = on_request,
		.on_message = on_message };
	uint16_t port = web_port();
	if (port == 0) {
		fprintf(stderr, "PORT is no port: %s\n", getenv("PORT"));
		return 2;
	}
	signal(SIGCHLD, SIG_IGN);
	struct web_server *server = web_server_create(port, &handlers);
	if (!server)
		return 1;
	int status = web_server_run(server);
	web_server_destroy(server);
	return status;
}
