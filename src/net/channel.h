/* Typed channels between roles: a WebSocket whose text frames carry one JSON message each, after a
 * handshake of both sides (reference: typed sockets). This is the client: it connects, repeats its
 * handshake on each connection, and reconnects with backoff until it is closed. Everything runs on
 * one libuv loop; callbacks come on it and never from inside a call. */
#ifndef PLANE_NET_CHANNEL_H
#define PLANE_NET_CHANNEL_H

#include <stdbool.h>

#include <jansson.h>
#include <uv.h>

#include "base/error.h"
#include "model/messages.h"

struct plane_channel;
struct plane_controller_credentials;

struct plane_channel_listener {
	void *data;
	/** Both handshakes are done; `peer` is the controller's (valid during the call). */
	void (*on_connected)(void *data, const struct plane_handshake *peer);
	/** One message; borrowed. Frames that are not JSON are logged and skipped before. */
	void (*on_message)(void *data, const json_t *message);
	/** The connection that was reported connected is gone; another attempt follows by itself.
	 */
	void (*on_disconnected)(void *data);
};

/**
 * Starts connecting to `controller_url` (http, https, ws or wss; the user part is the bearer token)
 * joined with `path` ("/ctrl/c/<cluster>/proxy-socket", query included). `name` is the node's name;
 * `extensions` a NULL-terminated list of what this side understands. All are copied, except for
 * what `credentials` (may be NULL) points to: files are read again for each attempt. First attempt
 * at once; then backoff from 50 ms by half more each time up to 10 s, with jitter. A connection
 * that lasted for 5 s starts it anew: two nodes of one name, which push each other out, do so
 * slowly. NULL with `err` when the URL or the credentials are not usable.
 */
struct plane_channel *plane_channel_connect(uv_loop_t *loop, const char *controller_url,
	const struct plane_controller_credentials *credentials, const char *path, const char *name,
	const char *const *extensions, const struct plane_channel_listener *listener,
	struct plane_error *err);

/** Adds a field to the handshakes from now on; `owned_value` is decref'd. The original ignores it.
 */
void plane_channel_tell(struct plane_channel *channel, const char *field, json_t *owned_value);

/** Sends one message; `owned_message` is decref'd. False (and nothing sent) when not connected or
 *  when 16 MiB are waiting already. */
bool plane_channel_send(struct plane_channel *channel, json_t *owned_message);

bool plane_channel_is_connected(const struct plane_channel *channel);
/** Since when nothing was heard on the connection that was lost last, in milliseconds: what the
 * peer sent from then on may be lost. -1 when none was lost yet. */
int64_t plane_channel_silence_ms(const struct plane_channel *channel);

/** How long the far side may keep us waiting: no step of an attempt takes longer (that is to
 * connect, to upgrade, the handshake; after one that did it is twice as long, up to 10 s), the
 * pause between two is no longer, and a connection on which nothing at all was heard for twice as
 * long is given up. */
void plane_channel_set_patience(struct plane_channel *channel, int64_t patience_ms);

/** Gives up the connection, if there is one, and begins anew; `why` is logged. on_disconnected
 * comes from inside this call. */
void plane_channel_drop(struct plane_channel *channel, const char *why);

/** Sends a Close frame if connected and stops reconnecting; `on_closed` (may be NULL) is called
 *  when the channel is freed. No other callback comes after this call. */
void plane_channel_close(struct plane_channel *channel, void (*on_closed)(void *data), void *data);

#endif
