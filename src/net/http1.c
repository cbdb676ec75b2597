/* HTTP/1.1 heads and bodies. */
#include "net/http1.h"

#define CONTENT_LENGTH_DIGITS_MAX 18
#define CHUNK_LINE_MAX 4096
#define TRAILERS_MAX 16384

/* tchar of RFC 9110 section 5.6.2. */
static const bool token_chars[256] = {
	['0' ... '9'] = true,
	['A' ... 'Z'] = true,
	['a' ... 'z'] = true,
	['!'] = true,
	['#'] = true,
	['$'] = true,
	['%'] = true,
	['&'] = true,
	['\''] = true,
	['*'] = true,
	['+'] = true,
	['-'] = true,
	['.'] = true,
	['^'] = true,
	['_'] = true,
	['`'] = true,
	['|'] = true,
	['~'] = true,
};

static bool is_token_char(unsigned char c)
{
	return token_chars[c];
}

/* field-vchar, space and tab: no control characters. */
static bool is_value_char(unsigned char c)
{
	return c == '\t' || (c >= ' ' && c != 0x7f);
}

/* Without a branch for each byte, so that the compiler takes many at once. */
bool plane_http1_is_value(const char *bytes, size_t len)
{
	unsigned char bad = 0;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)bytes[i];
		bad |= (unsigned char)((c < ' ') & (c != '\t')) | (unsigned char)(c == 0x7f);
	}
	return !bad;
}

static bool is_target(const char *begin, const char *end)
{
	bool is_bad = false;
	for (const char *c = begin; c < end; c++)
		is_bad |= (unsigned char)*c <= ' ' || *c == 0x7f;
	return !is_bad;
}

const struct plane_http1_header *plane_http1_find(
	const struct plane_http1_head *head, const char *name)
{
	for (size_t i = 0; i < head->header_count; i++)
		if (plane_slice_equals_nocase(head->headers[i].name, name))
			return &head->headers[i];
	return NULL;
}

static struct plane_slice trim(const char *begin, const char *end)
{
	while (begin < end && (*begin == ' ' || *begin == '\t'))
		begin++;
	while (end > begin && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	return (struct plane_slice){ begin, (size_t)(end - begin) };
}

/* The next element of a comma-separated list; false at its end. */
static bool next_element(struct plane_slice *list, struct plane_slice *element)
{
	if (!list->data || !list->len)
		return false;
	const char *end = list->data + list->len;
	const char *comma = memchr(list->data, ',', list->len);
	*element = trim(list->data, comma ? comma : end);
	list->data = comma ? comma + 1 : end;
	list->len = (size_t)(end - list->data);
	return true;
}

bool plane_http1_list_has(struct plane_slice list, const char *token)
{
	struct plane_slice element;
	while (next_element(&list, &element))
		if (plane_slice_equals_nocase(element, token))
			return true;
	return false;
}

bool plane_http1_is_named_by_connection(
	const struct plane_http1_head *head, struct plane_slice name)
{
	for (size_t i = 0; i < head->header_count; i++) {
		struct plane_slice list = head->headers[i].value;
		struct plane_slice element;
		if (!plane_slice_equals_nocase(head->headers[i].name, "connection"))
			continue;
		while (next_element(&list, &element))
			if (element.len == name.len &&
				strncasecmp(element.data, name.data, name.len) == 0)
				return true;
	}
	return false;
}

/* One line up to CRLF. `*line` is without it. A bare LF is refused. A bare CR is too: in a line
 * that is not complete yet here, otherwise by who reads the line, since it is allowed nowhere in
 * it. */
static enum plane_http1_result next_line(
	const char **next, const char *end, struct plane_slice *line, const char **problem)
{
	const char *lf = memchr(*next, '\n', (size_t)(end - *next));
	if (!lf) {
		const char *cr = memchr(*next, '\r', (size_t)(end - *next));
		*problem = "a CR without LF";
		return cr && cr + 1 < end ? PLANE_HTTP1_BAD : PLANE_HTTP1_MORE;
	}
	if (lf == *next || lf[-1] != '\r') {
		*problem = "a line that does not end in CRLF";
		return PLANE_HTTP1_BAD;
	}
	*line = (struct plane_slice){ *next, (size_t)(lf - 1 - *next) };
	*next = lf + 1;
	return PLANE_HTTP1_DONE;
}

static enum plane_http1_result parse_header(
	struct plane_slice line, struct plane_http1_header *header, const char **problem)
{
	if (line.data[0] == ' ' || line.data[0] == '\t') {
		*problem = "an obsolete folded header line";
		return PLANE_HTTP1_BAD;
	}
	const char *colon = line.data;
	while (is_token_char((unsigned char)*colon)) /* ends at the line's CR, if not before */
		colon++;
	if (*colon != ':' || colon == line.data) {
		*problem = *colon == ':' ? "a header line without a name"
					 : "a header name with a forbidden character";
		return PLANE_HTTP1_BAD;
	}
	header->name = (struct plane_slice){ line.data, (size_t)(colon - line.data) };
	header->value = trim(colon + 1, line.data + line.len);
	if (!plane_http1_is_value(header->value.data, header->value.len)) {
		*problem = "a header value with a control character";
		return PLANE_HTTP1_BAD;
	}
	return PLANE_HTTP1_DONE;
}

static enum plane_http1_result parse_headers(
	const char **next, const char *end, struct plane_http1_head *head, const char **problem)
{
	for (;;) {
		struct plane_slice line;
		enum plane_http1_result result = next_line(next, end, &line, problem);
		if (result != PLANE_HTTP1_DONE || !line.len)
			return result;
		if (head->header_count == PLANE_HTTP1_HEADERS_MAX) {
			*problem = "too many header fields";
			return PLANE_HTTP1_TOO_MANY;
		}
		result = parse_header(line, &head->headers[head->header_count], problem);
		if (result != PLANE_HTTP1_DONE)
			return result;
		head->header_count++;
	}
}

/* HTTP/1.0 or HTTP/1.1; -1 for anything else. */
static int parse_version(const char *text, size_t len)
{
	if (len != 8 || memcmp(text, "HTTP/1.", 7) != 0 || (text[7] != '0' && text[7] != '1'))
		return -1;
	return text[7] - '0';
}

static bool parse_content_length(struct plane_slice value, uint64_t *length)
{
	if (!value.len || value.len > CONTENT_LENGTH_DIGITS_MAX)
		return false;
	uint64_t number = 0;
	for (size_t i = 0; i < value.len; i++) {
		if (value.data[i] < '0' || value.data[i] > '9')
			return false;
		number = number * 10 + (uint64_t)(value.data[i] - '0');
	}
	*length = number;
	return true;
}

/* What the fields say about framing, before the rules for requests or responses are applied. */
struct framing_fields {
	bool has_length;
	bool has_coding;
	bool is_chunked;
	bool has_close;
	bool has_keep_alive;
	bool has_upgrade_option; /* in Connection */
	bool has_upgrade;        /* a protocol is named */
};

static void read_connection(
	struct plane_http1_head *head, struct plane_slice list, struct framing_fields *fields)
{
	struct plane_slice element;
	while (next_element(&list, &element)) {
		if (plane_slice_equals_nocase(element, "close"))
			fields->has_close = true;
		else if (plane_slice_equals_nocase(element, "keep-alive"))
			fields->has_keep_alive = true;
		else if (plane_slice_equals_nocase(element, "upgrade"))
			fields->has_upgrade_option = true;
		else if (element.len)
			head->names_fields = true;
	}
}

static bool read_field(struct plane_http1_head *head, const struct plane_http1_header *header,
	struct framing_fields *fields, const char **problem)
{
	if (plane_slice_equals_nocase(header->name, "content-length")) {
		*problem = fields->has_length ? "more than one Content-Length"
					      : "a Content-Length that is not a number";
		if (fields->has_length ||
			!parse_content_length(header->value, &head->content_length))
			return false;
		fields->has_length = true;
	} else if (plane_slice_equals_nocase(header->name, "transfer-encoding")) {
		*problem = "a Transfer-Encoding other than chunked";
		if (fields->has_coding || !plane_slice_equals_nocase(header->value, "chunked"))
			return false;
		fields->has_coding = fields->is_chunked = true;
	} else if (plane_slice_equals_nocase(header->name, "connection")) {
		read_connection(head, header->value, fields);
	} else if (plane_slice_equals_nocase(header->name, "upgrade")) {
		fields->has_upgrade |= header->value.len > 0;
	} else if (plane_slice_equals_nocase(header->name, "host")) {
		*problem = "more than one Host";
		if (head->host.data)
			return false;
		head->host = header->value;
	} else if (plane_slice_equals_nocase(header->name, "expect")) {
		head->expects_continue |= plane_slice_equals_nocase(header->value, "100-continue");
	}
	return true;
}

static bool read_fields(
	struct plane_http1_head *head, struct framing_fields *fields, const char **problem)
{
	for (size_t i = 0; i < head->header_count; i++)
		if (!read_field(head, &head->headers[i], fields, problem))
			return false;
	if (fields->has_coding && (fields->has_length || head->minor_version == 0)) {
		*problem = fields->has_length ? "both Content-Length and Transfer-Encoding"
					      : "Transfer-Encoding in HTTP/1.0";
		return false;
	}
	head->is_upgrade =
		head->minor_version == 1 && fields->has_upgrade_option && fields->has_upgrade;
	head->is_keep_alive =
		!fields->has_close && (head->minor_version == 1 || fields->has_keep_alive);
	return true;
}

static enum plane_http1_result parse_request_line(
	struct plane_slice line, struct plane_http1_head *head, const char **problem)
{
	const char *end = line.data + line.len;
	const char *space = memchr(line.data, ' ', line.len);
	const char *last = memrchr(line.data, ' ', line.len);
	*problem = "a malformed request line";
	if (!space || space == last || space == line.data || last == space + 1)
		return PLANE_HTTP1_BAD;
	for (const char *c = line.data; c < space; c++)
		if (!is_token_char((unsigned char)*c))
			return PLANE_HTTP1_BAD;
	if (!is_target(space + 1, last))
		return PLANE_HTTP1_BAD;
	head->method = (struct plane_slice){ line.data, (size_t)(space - line.data) };
	head->target = (struct plane_slice){ space + 1, (size_t)(last - space - 1) };
	if (plane_slice_equals(head->method, "CONNECT")) {
		*problem = "CONNECT, which only a forward proxy serves";
		return PLANE_HTTP1_BAD;
	}
	head->minor_version = parse_version(last + 1, (size_t)(end - last - 1));
	if (head->minor_version < 0) {
		*problem = "a version other than HTTP/1.0 and HTTP/1.1";
		return PLANE_HTTP1_BAD;
	}
	return PLANE_HTTP1_DONE;
}

enum plane_http1_result plane_http1_parse_request(
	const char *bytes, size_t len, struct plane_http1_head *head, const char **problem)
{
	const char *next = bytes;
	const char *end = bytes + len;
	head->header_count = 0;
	head->content_length = 0;
	head->is_upgrade = head->names_fields = head->expects_continue = false;
	head->host = (struct plane_slice){ 0 };
	struct plane_slice line;
	enum plane_http1_result result;
	do {
		result = next_line(&next, end, &line, problem);
		if (result != PLANE_HTTP1_DONE)
			return result;
	} while (!line.len);
	result = parse_request_line(line, head, problem);
	if (result == PLANE_HTTP1_DONE)
		result = parse_headers(&next, end, head, problem);
	if (result != PLANE_HTTP1_DONE)
		return result;
	struct framing_fields fields = { 0 };
	if (!read_fields(head, &fields, problem))
		return PLANE_HTTP1_BAD;
	head->framing = fields.is_chunked                           ? PLANE_HTTP1_CHUNKED
			: fields.has_length && head->content_length ? PLANE_HTTP1_LENGTH
								    : PLANE_HTTP1_NO_BODY;
	head->len = (size_t)(next - bytes);
	return PLANE_HTTP1_DONE;
}

static enum plane_http1_result parse_status_line(
	struct plane_slice line, struct plane_http1_head *head, const char **problem)
{
	*problem = "a malformed status line";
	if (line.len < 12 || line.data[8] != ' ' || (line.len > 12 && line.data[12] != ' '))
		return PLANE_HTTP1_BAD;
	head->minor_version = parse_version(line.data, 8);
	if (head->minor_version < 0)
		return PLANE_HTTP1_BAD;
	head->status = 0;
	for (int i = 9; i < 12; i++) {
		if (line.data[i] < '0' || line.data[i] > '9')
			return PLANE_HTTP1_BAD;
		head->status = head->status * 10 + (line.data[i] - '0');
	}
	if (head->status < 100)
		return PLANE_HTTP1_BAD;
	head->reason = line.len > 13 ? (struct plane_slice){ line.data + 13, line.len - 13 }
				     : (struct plane_slice){ line.data + line.len, 0 };
	return plane_http1_is_value(head->reason.data, head->reason.len) ? PLANE_HTTP1_DONE
									 : PLANE_HTTP1_BAD;
}

/* RFC 9112 section 6.3. */
static enum plane_http1_framing response_framing(const struct plane_http1_head *head,
	const struct framing_fields *fields, bool is_head_request)
{
	if (is_head_request || head->status < 200 || head->status == 204 || head->status == 304)
		return PLANE_HTTP1_NO_BODY;
	if (fields->is_chunked)
		return PLANE_HTTP1_CHUNKED;
	if (!fields->has_length)
		return PLANE_HTTP1_UNTIL_CLOSE;
	return head->content_length ? PLANE_HTTP1_LENGTH : PLANE_HTTP1_NO_BODY;
}

enum plane_http1_result plane_http1_parse_response(const char *bytes, size_t len,
	bool is_head_request, struct plane_http1_head *head, const char **problem)
{
	const char *next = bytes;
	head->header_count = 0;
	head->content_length = 0;
	head->is_upgrade = head->names_fields = head->expects_continue = false;
	head->host = (struct plane_slice){ 0 };
	struct plane_slice line;
	enum plane_http1_result result = next_line(&next, bytes + len, &line, problem);
	if (result == PLANE_HTTP1_DONE)
		result = parse_status_line(line, head, problem);
	if (result == PLANE_HTTP1_DONE)
		result = parse_headers(&next, bytes + len, head, problem);
	if (result != PLANE_HTTP1_DONE)
		return result;
	struct framing_fields fields = { 0 };
	if (!read_fields(head, &fields, problem))
		return PLANE_HTTP1_BAD;
	head->framing = response_framing(head, &fields, is_head_request);
	if (head->framing == PLANE_HTTP1_UNTIL_CLOSE)
		head->is_keep_alive = false;
	head->len = (size_t)(next - bytes);
	return PLANE_HTTP1_DONE;
}

enum chunked_state {
	CHUNK_SIZE,
	CHUNK_SIZE_SPACE,
	CHUNK_EXTENSION,
	CHUNK_SIZE_LF,
	CHUNK_DATA,
	CHUNK_DATA_CR,
	CHUNK_DATA_LF,
	TRAILER_START,
	TRAILER_NAME,
	TRAILER_VALUE,
	TRAILER_LF,
	END_LF,
	CHUNKED_DONE,
};

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One byte of a size line. False: malformed. */
static bool chunk_size_byte(struct plane_http1_chunked *chunked, char c)
{
	if (++chunked->line_len > CHUNK_LINE_MAX)
		return false;
	int digit = hex_digit(c);
	if (chunked->state == CHUNK_SIZE && digit >= 0) {
		if (chunked->left >> 56)
			return false;
		chunked->left = chunked->left * 16 + (uint64_t)digit;
		chunked->had_digit = true;
		return true;
	}
	if (!chunked->had_digit)
		return false;
	if (c == '\r' && chunked->state != CHUNK_SIZE_SPACE) {
		chunked->state = CHUNK_SIZE_LF;
		return true;
	}
	if (chunked->state == CHUNK_EXTENSION)
		return is_value_char((unsigned char)c);
	/* An extension begins with ';'; white space in front of it is let pass (RFC 9112
	 * section 7.1.1). */
	chunked->state = c == ';' ? CHUNK_EXTENSION : CHUNK_SIZE_SPACE;
	return c == ';' || c == ' ' || c == '\t';
}

/* A field line like those of a head. */
static bool trailer_byte(struct plane_http1_chunked *chunked, char c)
{
	if (++chunked->trailer_len > TRAILERS_MAX)
		return false;
	if (c == '\r' && chunked->state != TRAILER_NAME) {
		chunked->state = chunked->state == TRAILER_START ? END_LF : TRAILER_LF;
		return true;
	}
	if (chunked->state == TRAILER_VALUE)
		return is_value_char((unsigned char)c);
	if (chunked->state == TRAILER_NAME && c == ':') {
		chunked->state = TRAILER_VALUE;
		return true;
	}
	chunked->state = TRAILER_NAME;
	return is_token_char((unsigned char)c);
}

static bool line_feed(struct plane_http1_chunked *chunked, char c)
{
	if (c != '\n')
		return false;
	if (chunked->state == CHUNK_SIZE_LF)
		chunked->state = chunked->left ? CHUNK_DATA : TRAILER_START;
	else if (chunked->state == TRAILER_LF)
		chunked->state = TRAILER_START;
	else if (chunked->state == END_LF)
		chunked->state = CHUNKED_DONE;
	else {
		chunked->state = CHUNK_SIZE;
		chunked->line_len = 0;
		chunked->had_digit = false;
	}
	return true;
}

/* One byte that is not payload. False: malformed. */
static bool framing_byte(struct plane_http1_chunked *chunked, char c)
{
	switch (chunked->state) {
	case CHUNK_SIZE:
	case CHUNK_SIZE_SPACE:
	case CHUNK_EXTENSION:
		return chunk_size_byte(chunked, c);
	case CHUNK_DATA_CR:
		chunked->state = CHUNK_DATA_LF;
		return c == '\r';
	case TRAILER_START:
	case TRAILER_NAME:
	case TRAILER_VALUE:
		return trailer_byte(chunked, c);
	default:
		return line_feed(chunked, c);
	}
}

enum plane_http1_result plane_http1_chunked_next(struct plane_http1_chunked *chunked,
	const char *bytes, size_t len, size_t *taken, struct plane_slice *data)
{
	size_t at = 0;
	*data = (struct plane_slice){ 0 };
	while (at < len && chunked->state != CHUNKED_DONE) {
		if (chunked->state == CHUNK_DATA) {
			size_t piece = chunked->left < len - at ? (size_t)chunked->left : len - at;
			*data = (struct plane_slice){ bytes + at, piece };
			chunked->left -= piece;
			if (!chunked->left)
				chunked->state = CHUNK_DATA_CR;
			*taken = at + piece;
			return PLANE_HTTP1_MORE;
		}
		if (!framing_byte(chunked, bytes[at]))
			return PLANE_HTTP1_BAD;
		at++;
		if (chunked->state == TRAILER_START && !chunked->is_in_trailers) {
			chunked->is_in_trailers = true;
			break;
		}
	}
	*taken = at;
	return chunked->state == CHUNKED_DONE ? PLANE_HTTP1_DONE : PLANE_HTTP1_MORE;
}
