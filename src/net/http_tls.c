/* TLS below the connections of the HTTP server: handshakes and their limits, what is encrypted, and
 * a new certificate while it runs. */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include <utlist.h>

#include "base/alloc.h"
#include "base/log.h"
#include "net/http_internal.h"

#define HANDSHAKE_TIMEOUT_MS 10000
#define HANDSHAKE_HURRY_MS 1000 /* instead, while others wait for their turn */

void plane_http_tls_begin(struct plane_http_connection *connection)
{
	struct plane_http_server *server = connection->server;
	struct plane_error err = { 0 };
	connection->tls = plane_tls_server_create(server->tls, &err);
	if (!connection->tls) {
		plane_warn("%s", err.message);
		plane_http_connection_abort(connection);
		return;
	}
	connection->phase = PLANE_HTTP_HANDSHAKING;
	connection->accepted_at_ms = (int64_t)uv_now(server->loop);
	connection->is_handshaking = true;
	server->handshake_count++;
	plane_http_connection_arm(connection, HANDSHAKE_TIMEOUT_MS);
	plane_http_connection_resume(connection);
}

void plane_http_tls_leave(struct plane_http_connection *connection)
{
	if (!connection->is_handshaking)
		return;
	connection->is_handshaking = false;
	connection->server->handshake_count--;
	plane_http_server_accept_again(connection->server);
}

void plane_http_tls_hurry(struct plane_http_server *server)
{
	struct plane_http_connection *connection;
	DL_FOREACH (server->connections, connection) /* the oldest first */
		if (connection->is_handshaking)
			break;
	if (!connection)
		return;
	int64_t left_ms =
		connection->accepted_at_ms + HANDSHAKE_HURRY_MS - (int64_t)uv_now(server->loop);
	plane_http_connection_arm(connection, left_ms > 1 ? (uint64_t)left_ms : 1);
}

static void flush(struct plane_http_connection *connection)
{
	struct plane_buffer *output = plane_tls_output(connection->tls);
	if (output->len && connection->phase != PLANE_HTTP_CLOSED)
		plane_http_write_wire(connection, output, NULL);
}

/* HTTP where HTTPS is spoken: said so in the only way that the client understands. */
static void refuse_plain(struct plane_http_connection *connection)
{
	plane_tls_destroy(connection->tls);
	connection->tls = NULL;
	plane_http_tls_leave(connection);
	plane_http_refuse(connection, 400,
		"This port speaks HTTPS: use a URL that begins with https:// or wss://");
}

static void fail(struct plane_http_connection *connection, const struct plane_error *err)
{
	plane_debug("connection from %s: %s", connection->peer_address, err->message);
	if (connection->phase == PLANE_HTTP_CLOSED)
		return;
	if (connection->phase != PLANE_HTTP_HANDSHAKING) {
		plane_http_connection_abort(connection);
		return;
	}
	plane_http_shut_down(connection); /* so that the alert arrives */
	plane_http_tls_leave(connection);
}

static void become_ready(struct plane_http_connection *connection)
{
	connection->peer_common_name = plane_tls_peer_common_name(connection->tls);
	connection->peer_expires_at_s = plane_tls_peer_expires_at_s(connection->tls);
	connection->is_peer_distrusted = /* what is trusted may have changed meanwhile */
		!plane_tls_peer_is_trusted_by(connection->tls, connection->server->tls);
	plane_http_connection_begin(connection);
	plane_http_tls_leave(connection);
}

void plane_http_tls_read(struct plane_http_connection *connection, const char *bytes, size_t len)
{
	struct plane_buffer plain = { 0 };
	struct plane_error err = { 0 };
	if (connection->phase == PLANE_HTTP_LINGERING)
		return; /* thrown away, and TLS may be over */
	int result = plane_tls_feed(connection->tls, bytes, len, &plain, &err);
	if (result == -EPROTONOSUPPORT) {
		plane_buffer_finish(&plain);
		refuse_plain(connection);
		return;
	}
	flush(connection);
	if (result == 0 && connection->phase == PLANE_HTTP_HANDSHAKING &&
		plane_tls_is_established(connection->tls))
		become_ready(connection);
	if (plain.len)
		plane_http_connection_take(connection, plain.data, plain.len);
	plane_buffer_finish(&plain);
	if (result < 0)
		fail(connection, &err);
	else if (plane_tls_is_ended(connection->tls) && connection->phase != PLANE_HTTP_CLOSED)
		plane_http_connection_on_eof(connection, UV_EOF);
}

int plane_http_tls_encrypt(struct plane_http_connection *connection, struct plane_buffer *bytes)
{
	struct plane_error err = { 0 };
	int result = plane_tls_write(connection->tls, bytes->data, bytes->len, &err);
	plane_buffer_finish(bytes);
	*bytes = *plane_tls_output(connection->tls);
	*plane_tls_output(connection->tls) = (struct plane_buffer){ 0 };
	if (result < 0)
		plane_debug("connection from %s: %s", connection->peer_address, err.message);
	return result;
}

void plane_http_tls_close(struct plane_http_connection *connection)
{
	if (!connection->tls)
		return;
	plane_tls_close(connection->tls);
	flush(connection);
}

bool plane_http_tls_peer_is_valid(const struct plane_http_connection *connection)
{
	return !connection->is_peer_distrusted &&
	       (!connection->peer_expires_at_s || time(NULL) < connection->peer_expires_at_s);
}

/* What is answered now still is. */
static void drop_distrusted(struct plane_http_connection *connection)
{
	connection->is_peer_distrusted = true;
	if (connection->phase <= PLANE_HTTP_BODY)
		plane_http_connection_abort(connection);
	else
		connection->must_close = true;
}

void plane_http_server_set_tls(struct plane_http_server *server, SSL_CTX *owned_context)
{
	struct plane_http_connection *connection, *next;
	plane_tls_context_free(server->tls);
	server->tls = owned_context;
	DL_FOREACH_SAFE (server->connections, connection, next)
		if (connection->peer_common_name &&
			!plane_tls_peer_is_trusted_by(connection->tls, owned_context))
			drop_distrusted(connection);
	plane_http_server_recheck(server);
}
