/* A shared drawing board: strokes and cursors of everybody who has the page open. The board lives
 * as long as the process does. Messages are JSON arrays, checked as they come in:
 *   client: ["line",x0,y0,x1,y1,color,width]  ["cursor",x,y]  ["clear"]
 *   server: ["hello",id,people]  ["line",...]  ["cursor",id,x,y]  ["clear"]  ["people",n]
 *           ["gone",id]
 * Coordinates are whole numbers from 0 to 10000 over the board's width and height. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/server.h"
#include "page.h" /* WHITEBOARD_PAGE, made from page.html */

#define MAX_LINES 100000 /* the oldest is forgotten then */
#define MAX_PEOPLE 500
#define COORDINATE_MAX 10000
#define WIDTH_MAX 60
#define COLORS 12
#define PING_MS 20000

struct line {
	unsigned short x0, y0, x1, y1;
	unsigned char color, width;
};

struct person {
	struct web_connection *connection;
	struct person *next;
	int id;
};

struct board {
	struct line lines[MAX_LINES];
	size_t first, count;
	struct person *people;
	int people_count, last_id;
};

static struct board board;

/* ---- reading messages ---- */

/* The numbers behind the name: `count` of them, each up to its maximum, and nothing else. */
static bool read_numbers(const char *text, const long *max, long *numbers, int count)
{
	for (int i = 0; i < count; i++) {
		char *end;
		if (*text != ',')
			return false;
		text += 1 + strspn(text + 1, " ");
		if (*text < '0' || *text > '9')
			return false;
		numbers[i] = strtol(text, &end, 10);
		if (numbers[i] > max[i])
			return false;
		text = end;
	}
	return strcmp(text, "]") == 0;
}

static const char *after_name(const char *text, const char *name)
{
	size_t len = strlen(name);
	return text[0] == '[' && text[1] == '"' && strncmp(text + 2, name, len) == 0 &&
			       text[2 + len] == '"'
		       ? text + 3 + len
		       : NULL;
}

/* ---- telling everybody ---- */

static void tell_all(const char *text, const struct person *except)
{
	for (struct person *person = board.people; person; person = person->next)
		if (person != except)
			web_connection_send(person->connection, text, strlen(text), true);
}

static void write_line(const struct line *line, char *text, size_t size)
{
	snprintf(text, size, "[\"line\",%u,%u,%u,%u,%u,%u]", line->x0, line->y0, line->x1, line->y1,
		line->color, line->width);
}

static void tell_people(void)
{
	char text[64];
	snprintf(text, sizeof(text), "[\"people\",%d]", board.people_count);
	tell_all(text, NULL);
}

/* ---- the board ---- */

static void add_line(const struct line *line)
{
	board.lines[(board.first + board.count) % MAX_LINES] = *line;
	if (board.count < MAX_LINES)
		board.count++;
	else
		board.first = (board.first + 1) % MAX_LINES;
}

static void on_line(const struct person *person, const char *rest)
{
	static const long max[] = { COORDINATE_MAX, COORDINATE_MAX, COORDINATE_MAX, COORDINATE_MAX,
		COLORS - 1, WIDTH_MAX };
	long n[6];
	char text[96];
	if (!read_numbers(rest, max, n, 6))
		return;
	struct line line = { (unsigned short)n[0], (unsigned short)n[1], (unsigned short)n[2],
		(unsigned short)n[3], (unsigned char)n[4], (unsigned char)n[5] };
	add_line(&line);
	write_line(&line, text, sizeof(text));
	tell_all(text, person);
}

static void on_cursor(const struct person *person, const char *rest)
{
	static const long max[] = { COORDINATE_MAX, COORDINATE_MAX };
	long n[2];
	char text[96];
	if (!read_numbers(rest, max, n, 2))
		return;
	snprintf(text, sizeof(text), "[\"cursor\",%d,%ld,%ld]", person->id, n[0], n[1]);
	tell_all(text, person);
}

static void on_message(
	struct web_connection *connection, const char *bytes, size_t len, bool is_text)
{
	const struct person *person = web_connection_own(connection);
	char text[128];
	const char *rest;
	if (!is_text || len >= sizeof(text) || memchr(bytes, '\0', len))
		return;
	memcpy(text, bytes, len);
	text[len] = '\0';
	if ((rest = after_name(text, "line"))) {
		on_line(person, rest);
	} else if ((rest = after_name(text, "cursor"))) {
		on_cursor(person, rest);
	} else if ((rest = after_name(text, "clear")) && strcmp(rest, "]") == 0) {
		board.first = board.count = 0;
		tell_all("[\"clear\"]", person);
	}
}

/* ---- people ---- */

/* What was drawn so far, in one message for many lines. */
static void send_board(struct web_connection *connection)
{
	struct web_buffer all = { 0 };
	web_buffer_append_text(&all, "[\"lines\"");
	for (size_t i = 0; i < board.count; i++) {
		const struct line *line = &board.lines[(board.first + i) % MAX_LINES];
		web_buffer_printf(&all, ",%u,%u,%u,%u,%u,%u", line->x0, line->y0, line->x1,
			line->y1, line->color, line->width);
	}
	web_buffer_append_text(&all, "]");
	web_connection_send(connection, web_buffer_bytes(&all), web_buffer_len(&all), true);
	web_buffer_finish(&all);
}

static void join(struct web_connection *connection)
{
	char text[64];
	struct person *person = calloc(1, sizeof(*person));
	if (!person) {
		web_connection_close(connection, 1013);
		return;
	}
	person->connection = connection;
	person->id = ++board.last_id;
	person->next = board.people;
	board.people = person;
	board.people_count++;
	web_connection_set_own(connection, person);
	snprintf(text, sizeof(text), "[\"hello\",%d,%d]", person->id, board.people_count);
	web_connection_send(connection, text, strlen(text), true);
	send_board(connection);
	tell_people();
}

static void on_close(struct web_connection *connection)
{
	struct person *person = web_connection_own(connection);
	char text[64];
	if (!person)
		return;
	for (struct person **at = &board.people; *at; at = &(*at)->next) {
		if (*at == person) {
			*at = person->next;
			break;
		}
	}
	board.people_count--;
	snprintf(text, sizeof(text), "[\"gone\",%d]", person->id);
	free(person);
	tell_all(text, NULL);
	tell_people();
}

static void on_request(struct web_connection *connection, const struct web_request *request)
{
	static const struct web_answer page = { .status = 200,
		.content_type = "text/html; charset=utf-8",
		.headers = "Cache-Control: no-cache\r\n",
		.body = WHITEBOARD_PAGE,
		.body_len = sizeof(WHITEBOARD_PAGE) - 1 };
	bool is_get = strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0;
	if (!is_get)
		web_connection_answer_text(connection, 405, "only GET\n");
	else if (strcmp(request->path, "/") == 0)
		web_connection_answer(connection, &page);
	else if (strcmp(request->path, "/ws") != 0)
		web_connection_answer_text(connection, 404, "there is only the board\n");
	else if (web_connection_upgrade(connection, request))
		join(connection);
}

int main(void)
{
	static const struct web_handlers handlers = { .on_request = on_request,
		.on_message = on_message,
		.on_close = on_close,
		.max_connections = MAX_PEOPLE * 2,
		.max_message_bytes = 128,
		.ping_after_ms = PING_MS };
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
