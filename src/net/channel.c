/* The client of a typed channel: attempts, handshakes, liveness. One attempt is one `link`; it is
 * cut off from its channel when it fails, and freed once libuv has let go of it. */
#include "net/channel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/log.h"
#include "base/random.h"
#include "base/version.h"
#include "net/controller_url.h"
#include "net/http1.h"
#include "net/tls.h"
#include "net/websocket.h"

#define BACKOFF_FIRST_MS 50
#define STEADY_AFTER_MS 5000 /* a shorter connection does not make the next attempts hasty */
#define PATIENCE_MIN_MS 500
#define PATIENCE_MAX_MS 10000 /* also where nobody says another */
#define WAITING_MAX ((size_t)16 << 20)
#define ANSWER_HEAD_MAX 32768
#define FAILURE_SIZE 256
#define KEY_SIZE 25 /* 16 bytes in base64, and NUL */

enum link_phase { LINK_CONNECTING, LINK_UPGRADING, LINK_HANDSHAKING, LINK_CONNECTED };

struct link {
	struct plane_channel *channel; /* NULL once given up */
	enum link_phase phase;
	uv_tcp_t tcp;
	uv_getaddrinfo_t lookup;
	uv_connect_t connect;
	bool is_looking_up, is_handle_closed;
	struct plane_tls *tls;      /* NULL for plain TCP */
	struct plane_websocket *ws; /* from the upgrade on */
	struct plane_buffer head;   /* of the answer to the upgrade */
	char key[KEY_SIZE];
	char *bearer; /* NULL for none; never log it */
	int64_t heard_at_ms, connected_at_ms;
};

struct plane_channel {
	uv_loop_t *loop;
	uv_timer_t timer; /* next attempt; limit of the present one; pings */
	struct plane_controller_url url;
	struct plane_controller_credentials credentials;
	char *path;
	char *handshake; /* JSON */
	struct plane_channel_listener listener;
	struct link *link;   /* the present attempt */
	int64_t heard_at_ms; /* on the connection before the present one; 0: there was none */
	int64_t backoff_ms, patience_ms;
	unsigned slow_count;        /* attempts that took too long since the last connection */
	char failure[FAILURE_SIZE]; /* of the last attempts, which is told once; "" for none */
	void (*on_closed)(void *data);
	void *closed_data;
};

static void on_timer(uv_timer_t *timer);

static void free_link_if_done(struct link *link)
{
	if (link->is_looking_up || !link->is_handle_closed)
		return;
	plane_tls_destroy(link->tls);
	plane_websocket_destroy(link->ws);
	plane_buffer_finish(&link->head);
	free(link->bearer);
	free(link);
}

static void on_link_closed(uv_handle_t *handle)
{
	struct link *link = handle->data;
	link->is_handle_closed = true;
	free_link_if_done(link);
}

static void give_up_link(struct link *link)
{
	if (!link->channel)
		return;
	link->channel->link = NULL;
	link->channel = NULL;
	if (link->is_looking_up)
		(void)uv_cancel((uv_req_t *)&link->lookup); /* or its callback comes later */
	uv_close((uv_handle_t *)&link->tcp, on_link_closed);
}

static void schedule_attempt(struct plane_channel *channel)
{
	int64_t half = channel->backoff_ms / 2;
	uint64_t wait_ms = (uint64_t)half + plane_random_below((uint64_t)half + 1);
	(void)uv_timer_start(&channel->timer, on_timer, wait_ms, 0);
	channel->backoff_ms += half;
	if (channel->backoff_ms > channel->patience_ms)
		channel->backoff_ms = channel->patience_ms;
}

/* Ends the link; the channel tries again later. */
static void fail_link(struct link *link, const char *why)
{
	struct plane_channel *channel = link->channel;
	if (!channel)
		return;
	bool was_connected = link->phase == LINK_CONNECTED;
	if (was_connected)
		channel->heard_at_ms = link->heard_at_ms;
	give_up_link(link);
	if (was_connected)
		plane_warn("lost the controller at %s: %s", channel->url.authority, why);
	else if (strncmp(channel->failure, why, sizeof(channel->failure) - 1) != 0)
		plane_warn("cannot reach the controller at %s: %s; trying on",
			channel->url.authority, why);
	snprintf(channel->failure, sizeof(channel->failure), "%s", was_connected ? "" : why);
	if (was_connected &&
		(int64_t)uv_now(channel->loop) - link->connected_at_ms >= STEADY_AFTER_MS)
		channel->backoff_ms = BACKOFF_FIRST_MS;
	schedule_attempt(channel);
	if (was_connected)
		channel->listener.on_disconnected(channel->listener.data);
}

struct write_job {
	uv_write_t request;
	struct link *link;
	struct plane_buffer bytes;
};

static void on_written(uv_write_t *request, int status)
{
	struct write_job *job = request->data;
	if (status < 0)
		fail_link(job->link, uv_strerror(status));
	plane_buffer_finish(&job->bytes);
	free(job);
}

static void write_wire(struct link *link, struct plane_buffer *bytes)
{
	if (!bytes->len || !link->channel)
		return;
	struct write_job *job = PLANE_NEW(struct write_job);
	job->link = link;
	job->bytes = *bytes;
	*bytes = (struct plane_buffer){ 0 };
	job->request.data = job;
	uv_buf_t piece = uv_buf_init(job->bytes.data, (unsigned)job->bytes.len);
	if (uv_write(&job->request, (uv_stream_t *)&link->tcp, &piece, 1, on_written) < 0) {
		plane_buffer_finish(&job->bytes); /* reading reports the dead connection */
		free(job);
	}
}

static void write_plain(struct link *link, struct plane_buffer *bytes)
{
	struct plane_error err = { 0 };
	if (!link->tls) {
		write_wire(link, bytes);
		return;
	}
	if (plane_tls_write(link->tls, bytes->data, bytes->len, &err) < 0)
		plane_warn("%s", err.message);
	plane_buffer_clear(bytes);
	write_wire(link, plane_tls_output(link->tls));
}

static void flush(struct link *link)
{
	struct plane_buffer *output = plane_websocket_output(link->ws);
	if (output->len)
		write_plain(link, output);
}

/* The next step of an attempt is the far side's. After one that took too long there is more time: a
 * slow way must not be given up for ever. */
static void await_step(struct plane_channel *channel)
{
	int64_t limit_ms = channel->patience_ms;
	for (unsigned i = 0; i < channel->slow_count && limit_ms < PATIENCE_MAX_MS; i++)
		limit_ms *= 2;
	if (limit_ms > PATIENCE_MAX_MS)
		limit_ms = PATIENCE_MAX_MS;
	(void)uv_timer_start(&channel->timer, on_timer, (uint64_t)limit_ms, 0);
}

static void start_pings(struct plane_channel *channel)
{
	uint64_t period_ms = (uint64_t)channel->patience_ms;
	(void)uv_timer_start(&channel->timer, on_timer, period_ms, period_ms);
}

static void on_handshake(struct link *link, const json_t *json)
{
	struct plane_channel *channel = link->channel;
	struct plane_handshake peer;
	struct plane_error err = { 0 };
	char why[sizeof(err.message) + 32];
	if (plane_handshake_read(json, &peer, &err) < 0) {
		snprintf(why, sizeof(why), "its handshake is wrong: %s", err.message);
		fail_link(link, why);
		return;
	}
	if (strcmp(peer.version, PLANE_VERSION) != 0)
		plane_debug("the controller's version is %s, ours %s", peer.version, PLANE_VERSION);
	link->phase = LINK_CONNECTED;
	link->connected_at_ms = (int64_t)uv_now(channel->loop);
	channel->failure[0] = '\0';
	channel->slow_count = 0;
	start_pings(channel);
	channel->listener.on_connected(channel->listener.data, &peer);
}

static void on_text(void *data, const char *text, size_t len)
{
	struct link *link = data;
	struct plane_error err = { 0 };
	if (!link->channel)
		return;
	_cleanup_json_ json_t *json = plane_json_parse(text, len, &err);
	if (link->phase == LINK_HANDSHAKING)
		on_handshake(link, json);
	else if (!json)
		plane_warn("skipped a message of the controller: %s", err.message);
	else
		link->channel->listener.on_message(link->channel->listener.data, json);
}

static void fail_closed_link(struct link *link)
{
	char why[192];
	const char *reason;
	int code = plane_websocket_close_reason(link->ws, &reason);
	if (*reason)
		snprintf(why, sizeof(why), "it closed the connection (%d): %s", code, reason);
	else
		snprintf(why, sizeof(why), "it closed the connection");
	fail_link(link, why);
}

static void feed_websocket(struct link *link, const char *bytes, size_t len)
{
	int result = plane_websocket_feed(link->ws, bytes, len);
	if (!link->channel)
		return;
	flush(link);
	if (result < 0)
		fail_link(link, "it broke the WebSocket protocol");
	else if (plane_websocket_is_closed(link->ws))
		fail_closed_link(link);
}

static bool is_accepted(struct link *link, const struct plane_http1_head *head)
{
	char expected[PLANE_WEBSOCKET_ACCEPT_SIZE];
	plane_websocket_accept(link->key, expected);
	const struct plane_http1_header *accept = plane_http1_find(head, "sec-websocket-accept");
	return head->status == 101 && accept && plane_slice_equals(accept->value, expected);
}

static void refuse_answer(struct link *link, const struct plane_http1_head *head)
{
	char why[FAILURE_SIZE];
	const char *body = link->head.data + head->len;
	size_t rest = link->head.len - head->len;
	/* of an error of ours only what is the same each time */
	_cleanup_json_ json_t *json = plane_json_parse(body, rest, NULL);
	const char *message = json_string_value(json_object_get(json, "message"));
	if (message)
		snprintf(why, sizeof(why), "it answered %d %.160s", head->status, message);
	else
		snprintf(why, sizeof(why), "it answered %d %.*s", head->status,
			(int)(rest < 160 ? rest : 160), body);
	for (char *c = why; *c; c++)
		if ((unsigned char)*c < ' ')
			*c = ' ';
	fail_link(link, why);
}

static void feed_answer(struct link *link, const char *bytes, size_t len)
{
	struct plane_http1_head head;
	const char *problem = "";
	plane_buffer_add(&link->head, bytes, len);
	enum plane_http1_result result =
		plane_http1_parse_response(link->head.data, link->head.len, false, &head, &problem);
	if (result == PLANE_HTTP1_MORE && link->head.len < ANSWER_HEAD_MAX)
		return;
	if (result != PLANE_HTTP1_DONE) {
		fail_link(link, "its answer is no HTTP");
		return;
	}
	if (!is_accepted(link, &head)) {
		refuse_answer(link, &head);
		return;
	}
	link->phase = LINK_HANDSHAKING;
	await_step(link->channel);
	link->ws = plane_websocket_create(true, on_text, link);
	plane_websocket_send_text(
		link->ws, link->channel->handshake, strlen(link->channel->handshake));
	flush(link);
	struct plane_buffer rest = { 0 };
	plane_buffer_add(&rest, link->head.data + head.len, link->head.len - head.len);
	plane_buffer_finish(&link->head);
	if (rest.len)
		feed_websocket(link, rest.data, rest.len);
	plane_buffer_finish(&rest);
}

static void feed_plain(struct link *link, const char *bytes, size_t len)
{
	if (!len || !link->channel)
		return;
	if (link->phase == LINK_UPGRADING)
		feed_answer(link, bytes, len);
	else
		feed_websocket(link, bytes, len);
}

static void feed_tls(struct link *link, const char *bytes, size_t len)
{
	struct plane_buffer plain = { 0 };
	struct plane_error err = { 0 };
	int result = plane_tls_feed(link->tls, bytes, len, &plain, &err);
	write_wire(link, plane_tls_output(link->tls));
	feed_plain(link, plain.data, plain.len);
	plane_buffer_finish(&plain);
	if (result < 0)
		fail_link(link, err.message);
}

static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	static char bytes[65536]; /* used up before the loop thread reads again */
	*buffer = uv_buf_init(bytes, sizeof(bytes));
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer)
{
	struct link *link = stream->data;
	if (!link->channel)
		return;
	link->heard_at_ms = (int64_t)uv_now(link->channel->loop);
	if (len < 0)
		fail_link(link, uv_strerror((int)len));
	else if (link->tls)
		feed_tls(link, buffer->base, (size_t)len);
	else
		feed_plain(link, buffer->base, (size_t)len);
}

static void send_upgrade(struct link *link)
{
	struct plane_channel *channel = link->channel;
	unsigned char nonce[16];
	plane_random_bytes(nonce, sizeof(nonce));
	(void)EVP_EncodeBlock((unsigned char *)link->key, nonce, sizeof(nonce)); /* 24 + NUL */
	struct plane_buffer out = { 0 };
	plane_buffer_addf(&out,
		"GET %s HTTP/1.1\r\nHost: %s\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\nUser-Agent: plane/%s\r\n",
		channel->path, channel->url.authority, link->key, PLANE_VERSION);
	if (link->bearer)
		plane_buffer_addf(&out, "Authorization: Bearer %s\r\n", link->bearer);
	plane_buffer_add_text(&out, "\r\n");
	link->phase = LINK_UPGRADING;
	await_step(channel);
	write_plain(link, &out);
	plane_buffer_finish(&out);
}

static void on_connect(uv_connect_t *request, int status)
{
	struct link *link = request->data;
	if (!link->channel)
		return;
	if (status < 0) {
		fail_link(link, uv_strerror(status));
		return;
	}
	(void)uv_tcp_nodelay(&link->tcp, 1); /* slower, not wrong, without */
	(void)uv_read_start((uv_stream_t *)&link->tcp, on_allocate, on_read);
	send_upgrade(link);
	if (link->tls)
		feed_tls(link, NULL, 0);
}

static void on_lookup(uv_getaddrinfo_t *request, int status, struct addrinfo *result)
{
	struct link *link = request->data;
	link->is_looking_up = false;
	if (!link->channel) {
		free_link_if_done(link);
	} else if (status < 0) {
		fail_link(link, uv_strerror(status));
	} else {
		link->connect.data = link;
		int error = uv_tcp_connect(&link->connect, &link->tcp, result->ai_addr, on_connect);
		if (error < 0)
			fail_link(link, uv_strerror(error));
	}
	uv_freeaddrinfo(result);
}

static void attempt(struct plane_channel *channel)
{
	struct link *link = PLANE_NEW(struct link);
	struct plane_error err = { 0 };
	char port[8];
	snprintf(port, sizeof(port), "%u", (unsigned)channel->url.port & 0xffffU);
	link->channel = channel;
	channel->link = link;
	(void)uv_tcp_init(channel->loop, &link->tcp); /* cannot fail without a domain */
	link->tcp.data = link->lookup.data = link;
	await_step(channel);
	if (channel->url.is_tls && !(link->tls = plane_tls_client_create(
					     channel->url.host, &channel->credentials.tls, &err))) {
		fail_link(link, err.message);
		return;
	}
	if (plane_controller_bearer(&channel->url, &channel->credentials, &link->bearer, &err) <
		0) {
		fail_link(link, err.message);
		return;
	}
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
	int error = uv_getaddrinfo(
		channel->loop, &link->lookup, on_lookup, channel->url.host, port, &hints);
	link->is_looking_up = error == 0;
	if (error < 0)
		fail_link(link, uv_strerror(error));
}

static void check_liveness(struct plane_channel *channel)
{
	struct link *link = channel->link;
	if ((int64_t)uv_now(channel->loop) - link->heard_at_ms >= 2 * channel->patience_ms) {
		fail_link(link, "it has been silent for too long");
		return;
	}
	plane_websocket_send_ping(link->ws);
	flush(link);
}

static void give_up_slow(struct plane_channel *channel)
{
	channel->slow_count++;
	fail_link(channel->link, "it took too long");
}

static void on_timer(uv_timer_t *timer)
{
	struct plane_channel *channel = timer->data;
	if (!channel->link)
		attempt(channel);
	else if (channel->link->phase == LINK_CONNECTED)
		check_liveness(channel);
	else
		give_up_slow(channel);
}

struct plane_channel *plane_channel_connect(uv_loop_t *loop, const char *controller_url,
	const struct plane_controller_credentials *credentials, const char *path, const char *name,
	const char *const *extensions, const struct plane_channel_listener *listener,
	struct plane_error *err)
{
	struct plane_controller_url url;
	if (plane_controller_url_parse(controller_url, &url, err) < 0)
		return NULL;
	if (plane_controller_credentials_check(&url, credentials, err) < 0) {
		plane_controller_url_finish(&url);
		return NULL;
	}
	struct plane_channel *channel = PLANE_NEW(struct plane_channel);
	channel->loop = loop;
	channel->url = url;
	if (credentials)
		channel->credentials = *credentials;
	channel->path = plane_strdup(path);
	_cleanup_json_ json_t *handshake = plane_handshake_write(name, extensions);
	channel->handshake = plane_json_dump(handshake);
	channel->listener = *listener;
	channel->backoff_ms = BACKOFF_FIRST_MS;
	channel->patience_ms = PATIENCE_MAX_MS;
	(void)uv_timer_init(loop, &channel->timer); /* cannot fail */
	channel->timer.data = channel;
	(void)uv_timer_start(&channel->timer, on_timer, 0, 0);
	return channel;
}

void plane_channel_tell(struct plane_channel *channel, const char *field, json_t *owned_value)
{
	_cleanup_json_ json_t *handshake =
		plane_json_parse(channel->handshake, strlen(channel->handshake), NULL);
	json_object_set_new(handshake, field, owned_value);
	free(channel->handshake);
	channel->handshake = plane_json_dump(handshake);
}

bool plane_channel_is_connected(const struct plane_channel *channel)
{
	return channel->link && channel->link->phase == LINK_CONNECTED;
}

int64_t plane_channel_silence_ms(const struct plane_channel *channel)
{
	return channel->heard_at_ms ? (int64_t)uv_now(channel->loop) - channel->heard_at_ms : -1;
}

void plane_channel_set_patience(struct plane_channel *channel, int64_t patience_ms)
{
	if (patience_ms < PATIENCE_MIN_MS)
		patience_ms = PATIENCE_MIN_MS;
	if (patience_ms > PATIENCE_MAX_MS)
		patience_ms = PATIENCE_MAX_MS;
	if (patience_ms == channel->patience_ms)
		return;
	channel->patience_ms = patience_ms;
	if (plane_channel_is_connected(channel))
		start_pings(channel);
}

void plane_channel_drop(struct plane_channel *channel, const char *why)
{
	if (plane_channel_is_connected(channel))
		fail_link(channel->link, why);
}

bool plane_channel_send(struct plane_channel *channel, json_t *owned_message)
{
	_cleanup_json_ json_t *message = owned_message;
	struct link *link = channel->link;
	if (!plane_channel_is_connected(channel) ||
		uv_stream_get_write_queue_size((uv_stream_t *)&link->tcp) > WAITING_MAX)
		return false;
	_cleanup_free_ char *text = plane_json_dump(message);
	plane_websocket_send_text(link->ws, text, strlen(text));
	flush(link);
	return true;
}

static void on_timer_closed(uv_handle_t *handle)
{
	struct plane_channel *channel = handle->data;
	void (*on_closed)(void *data) = channel->on_closed;
	void *data = channel->closed_data;
	plane_controller_url_finish(&channel->url);
	free(channel->path);
	free(channel->handshake);
	free(channel);
	if (on_closed)
		on_closed(data);
}

/* Says goodbye without waiting: what the socket does not take at once is not sent. */
static void say_goodbye(struct link *link)
{
	struct plane_error err;
	/* the only code that makes the original's controller end the session */
	plane_websocket_send_close(link->ws, PLANE_WEBSOCKET_GOING_AWAY, NULL);
	struct plane_buffer *output = plane_websocket_output(link->ws);
	if (link->tls) {
		(void)plane_tls_write(link->tls, output->data, output->len, &err); /* polite only */
		output = plane_tls_output(link->tls);
	}
	uv_buf_t piece = uv_buf_init(output->data, (unsigned)output->len);
	(void)uv_try_write((uv_stream_t *)&link->tcp, &piece, 1); /* polite only */
}

void plane_channel_close(struct plane_channel *channel, void (*on_closed)(void *data), void *data)
{
	channel->on_closed = on_closed;
	channel->closed_data = data;
	if (plane_channel_is_connected(channel))
		say_goodbye(channel->link);
	if (channel->link)
		give_up_link(channel->link);
	uv_close((uv_handle_t *)&channel->timer, on_timer_closed);
}
