/* A backend that tells what it was asked, and misbehaves when it is asked to. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/server.h"

#define MAX_HOG_MB (1 << 20)
#define MAX_SLOW_MS 3600000
#define STEP_BYTES ((size_t)1 << 20)

extern char **environ;

static void add_member(struct web_buffer *json, const char *name, size_t name_len,
	const char *value, bool is_first)
{
	web_buffer_append_text(json, is_first ? "" : ",");
	web_buffer_append_json(json, name, name_len);
	web_buffer_append_text(json, ":");
	web_buffer_append_json(json, value, strlen(value));
}

static void add_headers(struct web_buffer *json, const struct web_request *request)
{
	web_buffer_append_text(json, ",\"headers\":{");
	for (size_t i = 0; i < request->header_count; i++)
		add_member(json, request->headers[i].name, strlen(request->headers[i].name),
			request->headers[i].value, i == 0);
	web_buffer_append_text(json, "}");
}

static void add_environment(struct web_buffer *json)
{
	web_buffer_append_text(json, ",\"env\":{");
	for (char **variable = environ; *variable; variable++) {
		size_t len = strcspn(*variable, "=");
		const char *value = (*variable)[len] ? *variable + len + 1 : "";
		add_member(json, *variable, len, value, variable == environ);
	}
	web_buffer_append_text(json, "}");
}

static void answer_echo(struct web_connection *connection, const struct web_request *request)
{
	struct web_buffer json = { 0 };
	web_buffer_append_text(&json, "{\"method\":");
	web_buffer_append_json(&json, request->method, strlen(request->method));
	web_buffer_append_text(&json, ",\"path\":");
	web_buffer_append_json(&json, request->path, strlen(request->path));
	web_buffer_append_text(&json, ",\"query\":");
	web_buffer_append_json(&json, request->query, strlen(request->query));
	add_headers(&json, request);
	web_buffer_append_text(&json, ",\"body\":");
	web_buffer_append_json(&json, request->body, request->body_len);
	add_environment(&json);
	web_buffer_append_text(&json, "}\n");
	struct web_answer answer = { .status = 200,
		.content_type = "application/json",
		.body = web_buffer_bytes(&json),
		.body_len = web_buffer_len(&json) };
	web_connection_answer(connection, &answer);
	web_buffer_finish(&json);
}

/* The memory is touched, and never given back. */
static void hog(struct web_connection *connection, const struct web_request *request)
{
	long megabytes = web_request_number(request, "mb", 100, MAX_HOG_MB);
	for (long i = 0; i < megabytes; i++) {
		char *step = malloc(STEP_BYTES);
		if (!step) {
			web_connection_answer_text(connection, 200, "no more memory is given\n");
			return;
		}
		for (size_t at = 0; at < STEP_BYTES; at += 4096)
			*(volatile char *)(step + at) = 1;
	}
	web_connection_answer_text(connection, 200, "hogged\n");
}

static void slow(struct web_connection *connection, const struct web_request *request)
{
	struct web_answer answer = { .status = 200,
		.body = "at last\n",
		.body_len = strlen("at last\n"),
		.delay_ms = web_request_number(request, "ms", 1000, MAX_SLOW_MS) };
	web_connection_answer(connection, &answer);
}

static void on_request(struct web_connection *connection, const struct web_request *request)
{
	const char *path = request->path;
	printf("%s %s\n", request->method, path);
	fflush(stdout);
	if (strcmp(path, "/ws") == 0) {
		(void)web_connection_upgrade(connection, request); /* or it was answered */
	} else if (strcmp(path, "/crash") == 0) {
		(void)signal(SIGSEGV, SIG_DFL); /* the default ends it */
		(void)raise(SIGSEGV);           /* which is what this is for */
		abort();
	} else if (strcmp(path, "/exit") == 0) {
		_Exit((int)web_request_number(request, "code", 0, 255));
	} else if (strcmp(path, "/hog") == 0) {
		hog(connection, request);
	} else if (strcmp(path, "/spin") == 0) {
		for (volatile int turns = 0;; turns = turns + 1)
			;
	} else if (strcmp(path, "/slow") == 0) {
		slow(connection, request);
	} else {
		answer_echo(connection, request);
	}
}

static void on_message(
	struct web_connection *connection, const char *bytes, size_t len, bool is_text)
{
	web_connection_send(connection, bytes, len, is_text);
}

int main(void)
{
	static const struct web_handlers handlers = {
		.on_request = on_request, .on_message = on_message, .max_connections = 10000
	};
	uint16_t port = web_port();
	if (port == 0) {
		fprintf(stderr, "PORT is no port number\n");
		return 2;
	}
	struct web_server *server = web_server_create(port, &handlers);
	if (!server)
		return 1;
	int status = web_server_run(server);
	web_server_destroy(server);
	return status;
}
