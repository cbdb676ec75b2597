/* Looks at what the far ends got. The reference is what net/http1.c reads in all that was sent, at
 * once; that reading is compared with llhttp's. */
#include "proxy_check.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "llhttp_peer.h"

#define MESSAGES_MAX 64

/* One message as it stands in a stream. */
struct message {
	struct plane_http1_head head;
	struct plane_buffer body; /* without chunks */
	bool is_complete, has_trailers;
	bool is_used; /* something was made of it already */
	size_t begin; /* in the stream */
	bool is_head_request;
};

struct messages {
	struct message *list;
	size_t count;
	size_t end;  /* where reading ended */
	bool is_bad; /* because of what stands there */
};

static void messages_finish(struct messages *messages)
{
	for (size_t i = 0; i < messages->count; i++)
		plane_buffer_finish(&messages->list[i].body);
	free(messages->list);
}

/* ---- reading streams ---- */

/* Returns where the body ends; SIZE_MAX when it is malformed. */
static size_t read_body(
	struct message *message, const char *bytes, size_t at, size_t len, bool is_over)
{
	struct plane_http1_chunked chunked = { 0 };
	size_t rest = len - at;
	switch (message->head.framing) {
	case PLANE_HTTP1_NO_BODY:
		message->is_complete = true;
		return at;
	case PLANE_HTTP1_LENGTH:
		message->is_complete = message->head.content_length <= rest;
		if (message->is_complete)
			rest = (size_t)message->head.content_length;
		plane_buffer_add(&message->body, bytes + at, rest);
		return at + rest;
	case PLANE_HTTP1_UNTIL_CLOSE:
		message->is_complete = is_over;
		plane_buffer_add(&message->body, bytes + at, rest);
		return len;
	case PLANE_HTTP1_CHUNKED:
		break;
	}
	while (at < len && !message->is_complete) {
		size_t taken = 0;
		struct plane_slice data = { 0 };
		enum plane_http1_result result =
			plane_http1_chunked_next(&chunked, bytes + at, len - at, &taken, &data);
		if (result == PLANE_HTTP1_BAD)
			return SIZE_MAX;
		plane_buffer_add(&message->body, data.data, data.len);
		at += taken;
		message->is_complete = result == PLANE_HTTP1_DONE;
	}
	message->has_trailers = chunked.trailer_len > 1; /* one is the end */
	return at;
}

/* The next message from `messages->end`; false when there is no whole head, or it is bad. */
static bool read_one(struct messages *messages, const struct plane_buffer *stream, bool is_response,
	bool is_head_request, bool is_over)
{
	struct message *message = &messages->list[messages->count];
	const char *problem;
	size_t len = stream->len - messages->end;
	if (messages->count == MESSAGES_MAX || len == 0)
		return false;
	const char *bytes = stream->data + messages->end;
	enum plane_http1_result result =
		is_response ? plane_http1_parse_response(
				      bytes, len, is_head_request, &message->head, &problem)
			    : plane_http1_parse_request(bytes, len, &message->head, &problem);
	messages->is_bad = result == PLANE_HTTP1_BAD || result == PLANE_HTTP1_TOO_MANY;
	if (result != PLANE_HTTP1_DONE)
		return false;
	messages->count++;
	message->begin = messages->end;
	message->is_head_request = is_head_request;
	size_t end = read_body(message, bytes, message->head.len, len, is_over);
	messages->is_bad = end == SIZE_MAX;
	if (end != SIZE_MAX)
		messages->end += end;
	return end != SIZE_MAX && message->is_complete;
}

static void begin_reading(struct messages *messages)
{
	*messages = (struct messages){ .list = plane_alloc_zero(
					       MESSAGES_MAX, sizeof(*messages->list)) };
}

static void read_requests(struct messages *messages, const struct plane_buffer *stream)
{
	begin_reading(messages);
	while (read_one(messages, stream, false, false, false))
		;
}

static bool is_method(const struct messages *requests, size_t index, const char *method)
{
	return index < requests->count &&
	       plane_slice_equals(requests->list[index].head.method, method);
}

/* A head that is late is refused before anybody knows what it will be: with a body, always. */
static bool read_refusal(struct messages *messages, const struct plane_buffer *stream, bool is_over)
{
	struct message *refusal = &messages->list[--messages->count];
	messages->end = refusal->begin;
	plane_buffer_finish(&refusal->body);
	*refusal = (struct message){ 0 };
	return read_one(messages, stream, true, false, is_over);
}

/* Answers to `requests`, up to and with one that changes the protocol. */
static void read_responses(struct messages *messages, const struct plane_buffer *stream,
	const struct messages *requests, bool is_over)
{
	size_t answered = 0;
	begin_reading(messages);
	while (read_one(messages, stream, true, is_method(requests, answered, "HEAD"), is_over)) {
		const struct message *last = &messages->list[messages->count - 1];
		int status = last->head.status;
		if (status == 101)
			return;
		if (status == 408 && last->is_head_request &&
			!read_refusal(messages, stream, is_over))
			return;
		answered += status >= 200;
	}
}

static struct plane_slice of_buffer(const struct plane_buffer *buffer)
{
	return (struct plane_slice){ buffer->data, buffer->len };
}

/* Does `whole` begin with `part`, and are they the same when `part` is complete? A body that lasts
 * until the end of the connection looks complete here even when it was cut. */
static bool is_beginning(const struct message *part, const struct message *whole)
{
	struct plane_slice a = of_buffer(&part->body), b = of_buffer(&whole->body);
	bool must_be_whole = part->is_complete &&
			     (whole->is_complete || part->head.framing != PLANE_HTTP1_UNTIL_CLOSE);
	if (a.len > b.len || (must_be_whole && a.len != b.len))
		return false;
	b.len = a.len;
	return fuzz_same(a, b);
}

/* ---- what a backend gets ---- */

/* As many servers read names: without case, '_' as '-'. */
static bool is_like(struct plane_slice name, const char *wanted, bool is_prefix)
{
	size_t len = strlen(wanted);
	if (is_prefix ? name.len < len : name.len != len)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = name.data[i] == '_' ? '-' : name.data[i];
		if (strncasecmp(&c, &wanted[i], 1) != 0)
			return false;
	}
	return true;
}

/* There is exactly this one value, or none when it is NULL. */
static void check_only(const struct plane_http1_head *head, const char *name, const char *value)
{
	size_t count = 0;
	for (size_t i = 0; i < head->header_count; i++) {
		if (!is_like(head->headers[i].name, name, false))
			continue;
		count++;
		FUZZ_CHECK(value && plane_slice_equals(head->headers[i].value, value));
	}
	FUZZ_CHECK(count == (value != NULL));
}

static size_t count_like(const struct plane_http1_head *head, const char *name, bool is_prefix)
{
	size_t count = 0;
	for (size_t i = 0; i < head->header_count; i++)
		count += is_like(head->headers[i].name, name, is_prefix);
	return count;
}

static void check_verified(
	const struct plane_http1_head *head, const struct plane_route_info *route)
{
	check_only(head, "x-verified-backend", route->backend);
	check_only(head, "x-verified-secret", route->secret_token);
	check_only(head, "x-verified-username", route->user);
	check_only(head, "x-verified-user-data", route->user_data ? WORLD_USER_DATA : NULL);
	check_only(head, "x-forwarded-for", WORLD_CLIENT_IP);
	check_only(head, "x-forwarded-proto", "http");
	FUZZ_CHECK(count_like(head, "x-verified-path", false) == 1);
	FUZZ_CHECK(count_like(head, "x-verified-", true) ==
		   (size_t)(4 + (route->user != NULL) + (route->user_data != NULL) - 1));
}

static void check_connection_fields(const struct plane_http1_head *head)
{
	static const char *const gone[] = { "keep-alive", "proxy-connection", "te",
		"proxy-authorization", "proxy-authenticate" };
	for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++)
		FUZZ_CHECK(!plane_http1_find(head, gone[i]));
	check_only(head, "connection", head->is_upgrade ? "upgrade" : NULL);
	FUZZ_CHECK(head->is_upgrade || !plane_http1_find(head, "upgrade"));
	FUZZ_CHECK(!plane_slice_equals(head->method, "CONNECT"));
	FUZZ_CHECK(head->target.data[0] == '/');
	FUZZ_CHECK(head->host.data && head->minor_version == 1);
}

/* The token of x-verified-path. */
static char *token_of(const struct plane_http1_head *head)
{
	struct plane_slice path = plane_http1_find(head, "x-verified-path")->value;
	FUZZ_CHECK(path.len > 1 && path.data[0] == '/');
	const char *slash = memchr(path.data + 1, '/', path.len - 1);
	return plane_strndup(path.data + 1, slash ? (size_t)(slash - path.data - 1) : path.len - 1);
}

static bool is_idempotent(const struct plane_http1_head *head)
{
	return plane_slice_equals(head->method, "GET") ||
	       plane_slice_equals(head->method, "HEAD") ||
	       plane_slice_equals(head->method, "OPTIONS");
}

/* A request of a client that this one can be: same method, path and query, same body. */
static struct message *find_origin(const struct message *request, struct messages *clients)
{
	const struct plane_http1_head *head = &request->head;
	struct plane_slice path = plane_http1_find(head, "x-verified-path")->value;
	for (size_t c = 0; c < WORLD_CLIENTS; c++) {
		for (size_t i = 0; i < clients[c].count; i++) {
			struct message *origin = &clients[c].list[i];
			struct plane_target target = plane_target_read(origin->head.target);
			struct plane_slice rest = head->target;
			rest.data += target.needs_slash;
			rest.len -= target.needs_slash;
			if (target.kind == PLANE_TARGET_TOKEN &&
				fuzz_same(origin->head.method, head->method) &&
				fuzz_same(target.original_path, path) &&
				fuzz_same(target.forwarded, rest) &&
				(!origin->is_used || is_idempotent(head)) &&
				is_beginning(request, origin))
				return origin;
		}
	}
	return NULL;
}

static bool is_switching(const struct messages *responses)
{
	return responses->count && responses->list[responses->count - 1].head.status == 101;
}

static void check_request(const struct message *request, struct messages *clients)
{
	FUZZ_CHECK(count_like(&request->head, "x-verified-path", false) == 1);
	_cleanup_free_ char *token = token_of(&request->head);
	bool exists;
	struct plane_route_info route = world_route_of(token, &exists);
	FUZZ_CHECK(exists);
	check_verified(&request->head, &route);
	check_connection_fields(&request->head);
	FUZZ_CHECK(!request->has_trailers); /* they might say what only the proxy may */
	FUZZ_CHECK(
		plane_target_check_host(request->head.host, route.cluster, route.subdomain) == 0);
	struct message *origin = find_origin(request, clients);
	FUZZ_CHECK(origin); /* nobody asked for it: smuggled */
	// cppcheck-suppress nullPointerRedundantCheck
	origin->is_used = true;
}

/* Requests on one connection. Where its protocol changed, what follows is not ours to read. */
static void check_requests(const struct world_peer *backend, struct messages *clients,
	struct messages *requests, struct messages *responses)
{
	read_requests(requests, &backend->received);
	read_responses(responses, &backend->sent, requests, backend->fd < 0);
	for (size_t i = 0; i < requests->count; i++) {
		check_request(&requests->list[i], clients);
		size_t at = requests->list[i].begin;
		fuzz_compare_request(backend->received.data + at, backend->received.len - at);
		if (requests->list[i].head.is_upgrade && is_switching(responses))
			return;
	}
	FUZZ_CHECK(!requests->is_bad);
}

/* ---- what a client gets ---- */

/* An error or redirect of the proxy's own. */
static bool is_own(const struct message *response)
{
	static const int statuses[] = { 200, 301, 400, 403, 408, 410, 431, 502, 503, 504 };
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
		if (response->head.status == statuses[i])
			return !response->body.len ||
			       response->body.data[response->body.len - 1] == '\n';
	return false;
}

/* An answer that a backend gave, and that was not passed on before. */
static struct message *find_answer(
	const struct message *response, struct messages *answers, size_t count)
{
	for (size_t b = 0; b < count; b++) {
		for (size_t i = 0; i < answers[b].count; i++) {
			struct message *answer = &answers[b].list[i];
			if (!answer->is_used && answer->head.status == response->head.status &&
				fuzz_same(answer->head.reason, response->head.reason) &&
				is_beginning(response, answer))
				return answer;
		}
	}
	return NULL;
}

static void check_response(const struct message *response, struct messages *answers, size_t count)
{
	const struct plane_http1_head *head = &response->head;
	struct message *answer = find_answer(response, answers, count);
	FUZZ_CHECK(answer || is_own(response)); /* else split, or of another */
	if (answer)
		answer->is_used = true;
	FUZZ_CHECK(count_like(head, "x-plane-backend-id", false) <= 1);
	FUZZ_CHECK(!answer || head->status < 200 || head->status == 101 ||
		   plane_http1_find(head, "x-plane-backend-id") || is_own(response));
	FUZZ_CHECK(
		count_like(head, "server", false) == (head->status >= 200 || head->status == 101));
	check_only(head, "keep-alive", NULL);
	check_only(head, "proxy-connection", NULL);
}

/* Everything behind the last head of the answers on a connection. */
static void check_responses(const struct world_peer *client, const struct messages *requests,
	struct messages *answers, size_t count)
{
	struct messages responses;
	size_t finals = 0;
	read_responses(&responses, &client->received, requests, client->is_ended);
	for (size_t i = 0; i < responses.count; i++) {
		const struct plane_http1_head *head = &responses.list[i].head;
		size_t at = responses.list[i].begin;
		check_response(&responses.list[i], answers, count);
		fuzz_compare_response(client->received.data + at, client->received.len - at,
			responses.list[i].is_head_request);
		finals += head->status >= 200 || head->status == 101;
		/* one that says it is the last one is, and the others are told apart */
		if (head->status >= 200 && !head->is_keep_alive)
			FUZZ_CHECK(
				i + 1 == responses.count && responses.end == client->received.len);
	}
	/* one more for what was no request */
	FUZZ_CHECK(finals <= requests->count + 1);
	FUZZ_CHECK(!responses.is_bad);
	messages_finish(&responses);
}

/* Behind a switch of the protocol there may be anything, but not in the body of its request. */
static bool is_malformed(const struct messages *messages, bool is_switched)
{
	const struct message *last = messages->count ? &messages->list[messages->count - 1] : NULL;
	return messages->is_bad &&
	       !(is_switched && last && last->is_complete && last->head.is_upgrade);
}

static bool was_switched(const struct world_peer *client, const struct messages *requests)
{
	struct messages responses;
	read_responses(&responses, &client->received, requests, client->is_ended);
	bool is_switched = is_switching(&responses);
	messages_finish(&responses);
	return is_switched;
}

/* A backend that says more than it was asked: whether the proxy sees that before it asks for more
 * on the same connection depends on when it comes. */
static bool speaks_unasked(const struct world_peer *backend, const struct messages *requests,
	const struct messages *answers)
{
	size_t begun = backend->sent.len > answers->end;
	if (is_switching(answers))
		return false;
	for (size_t i = 0; i < answers->count; i++)
		begun += answers->list[i].head.status >= 200;
	return begun > requests->count;
}

bool proxy_check(const struct world *world)
{
	bool is_well_formed = true;
	struct messages clients[WORLD_CLIENTS], requests[WORLD_BACKENDS], answers[WORLD_BACKENDS];
	for (size_t i = 0; i < WORLD_CLIENTS; i++)
		read_requests(&clients[i], &world->clients[i].sent);
	for (size_t i = 0; i < world->backend_count; i++)
		check_requests(&world->backends[i], clients, &requests[i], &answers[i]);
	for (size_t i = 0; i < WORLD_CLIENTS; i++)
		check_responses(&world->clients[i], &clients[i], answers, world->backend_count);
	for (size_t i = 0; i < WORLD_CLIENTS; i++)
		is_well_formed =
			is_well_formed &&
			!is_malformed(&clients[i], was_switched(&world->clients[i], &clients[i]));
	for (size_t i = 0; i < world->backend_count; i++) {
		is_well_formed = is_well_formed && !is_malformed(&answers[i], true) &&
				 !speaks_unasked(&world->backends[i], &requests[i], &answers[i]);
		/* a proxy that stops cuts tunnels, wherever they are just then */
		is_well_formed =
			is_well_formed && !(world->is_stopping && is_switching(&answers[i]));
		messages_finish(&requests[i]);
		messages_finish(&answers[i]);
	}
	for (size_t i = 0; i < WORLD_CLIENTS; i++)
		messages_finish(&clients[i]);
	return is_well_formed;
}

/* Up to the answer that a request is malformed: what is said about it depends on how much of it was
 * seen. */
static struct plane_slice without_refusal(const struct plane_buffer *received)
{
	static const char refusal[] = "HTTP/1.1 400 Bad Request\r\n";
	struct plane_slice all = of_buffer(received);
	const char *at = all.len ? memmem(all.data, all.len, refusal, strlen(refusal)) : NULL;
	if (at)
		all.len = (size_t)(at - all.data);
	return all;
}

static void check_same_peer(const struct world_peer *a, const struct world_peer *b)
{
	FUZZ_CHECK(fuzz_same(without_refusal(&a->received), without_refusal(&b->received)));
}

void proxy_check_same(const struct world *a, const struct world *b)
{
	FUZZ_CHECK(a->backend_count == b->backend_count);
	for (size_t i = 0; i < a->backend_count; i++)
		check_same_peer(&a->backends[i], &b->backends[i]);
	for (size_t i = 0; i < WORLD_CLIENTS; i++)
		check_same_peer(&a->clients[i], &b->clients[i]);
}
