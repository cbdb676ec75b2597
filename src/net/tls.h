/* One end of TLS without I/O: bytes of the wire in and out, plain bytes in and out. One thread. */
#ifndef PLANE_NET_TLS_H
#define PLANE_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "net/tls_context.h"

struct plane_tls;

/**
 * A client. `host` is a DNS name or an IP address, which the certificate must be for, unless the
 * files (NULL: none) pin one. They are read now.
 */
struct plane_tls *plane_tls_client_create(
	const char *host, const struct plane_tls_client_files *files, struct plane_error *err);
/** A server by a context of plane_tls_server_context, which may be freed before. */
struct plane_tls *plane_tls_server_create(SSL_CTX *context, struct plane_error *err);
void plane_tls_destroy(struct plane_tls *tls);

/**
 * Takes bytes of the wire (none to start the handshake) and adds what they decrypt to, to `plain`.
 * -EPROTO with a reason when the peer cannot be trusted or understood; the output then holds the
 * alert to send. -EPROTONOSUPPORT when a client speaks HTTP without TLS. The end of the stream is
 * the owner's business.
 */
int plane_tls_feed(struct plane_tls *tls, const void *bytes, size_t len, struct plane_buffer *plain,
	struct plane_error *err);

/** Encrypts; before the handshake is done the bytes wait for it. */
int plane_tls_write(struct plane_tls *tls, const void *bytes, size_t len, struct plane_error *err);

/** Says that nothing more is written (close_notify), if there is anybody to say it to. */
void plane_tls_close(struct plane_tls *tls);

/** Bytes for the wire; the owner sends and consumes or steals them. */
struct plane_buffer *plane_tls_output(struct plane_tls *tls);

bool plane_tls_is_established(const struct plane_tls *tls);
/** The peer writes no more, and said so. */
bool plane_tls_is_ended(const struct plane_tls *tls);

/* The client's certificate, on a server, once established: */

/** The common name of the subject; "" when it has none, or not one that is clear. NULL without a
 *  certificate that was verified. The caller frees it. */
char *plane_tls_peer_common_name(const struct plane_tls *tls);
/** When it expires: wall clock, seconds; 0 without one. */
int64_t plane_tls_peer_expires_at_s(const struct plane_tls *tls);
/** Would it be accepted by this context? True without one, and for the context that did. */
bool plane_tls_peer_is_trusted_by(const struct plane_tls *tls, SSL_CTX *context);

#endif
