/* One HTTP/1.1 request, see request.h. */
#include "common/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_CHUNK_LINE 256
#define MAX_TRAILER_BYTES (8 << 10)

long web_head_end(const char *bytes, size_t len, size_t *scanned)
{
	for (size_t i = *scanned; i < len; i++) {
		if (bytes[i] == '\0')
			return -1;
		if (bytes[i] != '\n')
			continue;
		if (i == 0 || bytes[i - 1] != '\r')
			return -1;
		if (i >= 3 && bytes[i - 2] == '\n')
			return (long)i + 1;
	}
	*scanned = len;
	return 0;
}

/* RFC 9110, section 5.6.2. */
static bool is_token(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];
		bool is_alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
		if (!is_alnum && (c == '\0' || !strchr("!#$%&'*+-.^_`|~", c)))
			return false;
	}
	return len > 0;
}

/* The path of "/path?query", "*" or "http://host/path?query". NULL for anything else. */
static char *find_path(char *target)
{
	for (const char *at = target; *at; at++)
		if ((unsigned char)*at <= ' ' || *at == 0x7f)
			return NULL;
	if (target[0] == '/' || strcmp(target, "*") == 0)
		return target;
	if (strncasecmp(target, "http://", 7) != 0)
		return NULL;
	return strchr(target + 7, '/');
}

static int parse_request_line(struct web_request *request, char *line)
{
	char *target = strchr(line, ' ');
	char *version = target ? strchr(target + 1, ' ') : NULL;
	if (!version)
		return 400;
	*target++ = '\0';
	*version++ = '\0';
	if (!is_token(line, strlen(line)))
		return 400;
	if (strncmp(version, "HTTP/", 5) != 0)
		return 400;
	if (strcmp(version, "HTTP/1.1") != 0 && strcmp(version, "HTTP/1.0") != 0)
		return 505;
	char *path = find_path(target);
	if (!path)
		return 400;
	char *query = strchr(path, '?');
	if (query)
		*query++ = '\0';
	request->method = line;
	request->path = path;
	request->query = query ? query : "";
	request->keeps_alive = version[7] == '1';
	return 0;
}

static int parse_header_line(struct web_request *request, char *line)
{
	char *colon = strchr(line, ':');
	if (!colon || !is_token(line, (size_t)(colon - line)))
		return 400;
	if (request->header_count == WEB_MAX_HEADERS)
		return 431;
	*colon = '\0';
	char *value = colon + 1 + strspn(colon + 1, " \t");
	char *end = value + strlen(value);
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		*--end = '\0';
	for (const char *at = value; at < end; at++)
		if (((unsigned char)*at < ' ' && *at != '\t') || *at == 0x7f)
			return 400;
	request->headers[request->header_count++] = (struct web_header){ line, value };
	return 0;
}

const char *web_request_header(const struct web_request *request, const char *name)
{
	for (size_t i = 0; i < request->header_count; i++)
		if (strcasecmp(request->headers[i].name, name) == 0)
			return request->headers[i].value;
	return NULL;
}

static bool list_has(const char *list, const char *word)
{
	while (*list) {
		list += strspn(list, " \t,");
		size_t len = strcspn(list, ",");
		size_t used = len;
		while (used > 0 && (list[used - 1] == ' ' || list[used - 1] == '\t'))
			used--;
		if (used > 0 && used == strlen(word) && strncasecmp(list, word, used) == 0)
			return true;
		list += len;
	}
	return false;
}

bool web_request_header_has(const struct web_request *request, const char *name, const char *word)
{
	for (size_t i = 0; i < request->header_count; i++)
		if (strcasecmp(request->headers[i].name, name) == 0 &&
			list_has(request->headers[i].value, word))
			return true;
	return false;
}

/* Digits only; -1 when it is none or above `max`. */
static int64_t parse_number(const char *text, size_t len, uint64_t max)
{
	uint64_t number = 0;
	if (len == 0 || len > 18)
		return -1;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -1;
		number = number * 10 + (uint64_t)(text[i] - '0');
	}
	return number <= max ? (int64_t)number : -1;
}

long web_request_number(
	const struct web_request *request, const char *name, long fallback, long max)
{
	size_t name_len = strlen(name);
	for (const char *at = request->query; *at;) {
		size_t len = strcspn(at, "&");
		if (len > name_len && strncmp(at, name, name_len) == 0 && at[name_len] == '=') {
			int64_t number =
				parse_number(at + name_len + 1, len - name_len - 1, (uint64_t)max);
			return number < 0 ? fallback : (long)number;
		}
		at += len + (at[len] == '&');
	}
	return fallback;
}

/* How the body is delimited (RFC 9112, section 6.3). */
static int find_body(struct web_request *request)
{
	const char *length = NULL;
	const char *coding = NULL;
	for (size_t i = 0; i < request->header_count; i++) {
		const struct web_header *header = &request->headers[i];
		if (strcasecmp(header->name, "content-length") == 0) {
			if (length && strcmp(length, header->value) != 0)
				return 400;
			length = header->value;
		} else if (strcasecmp(header->name, "transfer-encoding") == 0) {
			if (coding)
				return 400;
			coding = header->value;
		}
	}
	if (length && coding)
		return 400;
	if (coding && strcasecmp(coding, "chunked") != 0)
		return 501;
	request->is_chunked = coding != NULL;
	if (length) {
		int64_t number = parse_number(length, strlen(length), INT64_MAX);
		if (number < 0)
			return 400;
		if (number > WEB_MAX_BODY_BYTES)
			return 413;
		request->content_length = (uint64_t)number;
	}
	return 0;
}

int web_request_parse(struct web_request *request, char *head, size_t len)
{
	*request = (struct web_request){ .body = "" };
	head[len - 2] = '\0';
	char *line = head;
	int status = 400;
	while (*line) {
		char *end = strstr(line, "\r\n");
		if (!end)
			return 400;
		*end = '\0';
		/* The next line is there: the empty one is now its own end. */
		status = request->method ? parse_header_line(request, line)
					 : parse_request_line(request, line);
		if (status != 0)
			return status;
		line = end + 2;
	}
	if (status != 0)
		return status;
	bool is_new = request->keeps_alive;
	if (is_new && !web_request_header(request, "host"))
		return 400;
	if (web_request_header_has(request, "connection", "close"))
		request->keeps_alive = false;
	else if (web_request_header_has(request, "connection", "keep-alive"))
		request->keeps_alive = true;
	request->expects_continue =
		is_new && web_request_header_has(request, "expect", "100-continue");
	return find_body(request);
}

/* One line of the chunked coding, without its end, consumed by the caller. Its length with the
 * end, 0 when it is not there yet, -1 when it is none or too long. */
static long chunk_line(const struct web_buffer *input, size_t max)
{
	size_t len = web_buffer_len(input);
	const char *bytes = web_buffer_bytes(input);
	const char *end = len > 0 ? memchr(bytes, '\n', len < max ? len : max) : NULL;
	if (!end)
		return len < max ? 0 : -1;
	return end > bytes && end[-1] == '\r' ? end - bytes + 1 : -1;
}

/* "1a;name=value" */
static int parse_chunk_size(const char *line, size_t len, uint64_t *size)
{
	uint64_t number = 0;
	size_t digits = 0;
	for (; digits < len; digits++) {
		unsigned char c = (unsigned char)line[digits];
		unsigned char lower = c | 0x20;
		if (c >= '0' && c <= '9')
			number = number * 16 + (uint64_t)(c - '0');
		else if (lower >= 'a' && lower <= 'f')
			number = number * 16 + (uint64_t)(lower - 'a') + 10;
		else
			break;
		if (number > WEB_MAX_BODY_BYTES)
			return -413;
	}
	if (digits == 0 || (digits < len && !strchr("; \t", line[digits])))
		return -400;
	*size = number;
	return 0;
}

static void move_data(struct web_body *body, struct web_buffer *input, struct web_buffer *into)
{
	size_t len = web_buffer_len(input);
	if (len > body->left)
		len = (size_t)body->left;
	web_buffer_append(into, web_buffer_bytes(input), len);
	web_buffer_consume(input, len);
	body->left -= len;
}

static int read_chunk_line(struct web_body *body, struct web_buffer *input, size_t received)
{
	size_t max = body->step == WEB_CHUNK_TRAILER ? MAX_TRAILER_BYTES : MAX_CHUNK_LINE;
	long len = chunk_line(input, max);
	if (len <= 0)
		return len < 0 ? -400 : 0;
	int status = 0;
	if (body->step == WEB_CHUNK_SIZE) {
		status = parse_chunk_size(web_buffer_bytes(input), (size_t)len - 2, &body->left);
		if (status == 0 && received + body->left > WEB_MAX_BODY_BYTES)
			status = -413;
		body->step = body->left > 0 ? WEB_CHUNK_DATA : WEB_CHUNK_TRAILER;
	} else if (body->step == WEB_CHUNK_END) {
		status = len == 2 ? 0 : -400;
		body->step = WEB_CHUNK_SIZE;
	} else {
		body->trailer_bytes += (size_t)len;
		if (body->trailer_bytes > MAX_TRAILER_BYTES)
			status = -431;
		else if (len == 2)
			status = 1;
	}
	web_buffer_consume(input, (size_t)len);
	return status;
}

int web_body_read(struct web_body *body, const struct web_request *request,
	struct web_buffer *input, struct web_buffer *into)
{
	if (!request->is_chunked) {
		body->left = request->content_length - web_buffer_len(into);
		move_data(body, input, into);
		return body->left == 0;
	}
	while (web_buffer_len(input) > 0) {
		if (body->step == WEB_CHUNK_DATA) {
			move_data(body, input, into);
			if (body->left == 0)
				body->step = WEB_CHUNK_END;
			continue;
		}
		size_t before = web_buffer_len(input);
		int status = read_chunk_line(body, input, web_buffer_len(into));
		if (status != 0)
			return status;
		if (web_buffer_len(input) == before)
			break;
	}
	return 0;
}
