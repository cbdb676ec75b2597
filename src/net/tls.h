/* A TLS client without I/O: bytes of the wire in and out, plain bytes in and out. Trusts the
 * system's certificate authorities and checks the server's name. One thread. */
#ifndef PLANE_NET_TLS_H
#define PLANE_NET_TLS_H

#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"

struct plane_tls;

/** `host` is a DNS name or an IP address, which the certificate must be for. */
struct plane_tls *plane_tls_client_create(const char *host, struct plane_error *err);
void plane_tls_destroy(struct plane_tls *tls);

/**
 * Takes bytes of the wire (none to start the handshake) and adds what they decrypt to, to `plain`.
 * -EPROTO with a reason when the peer cannot be trusted or understood; the output then holds the
 * alert to send. The end of the stream is the owner's business.
 */
int plane_tls_feed(struct plane_tls *tls, const void *bytes, size_t len, struct plane_buffer *plain,
	struct plane_error *err);

/** Encrypts; before the handshake is done the bytes wait for it. */
int plane_tls_write(struct plane_tls *tls, const void *bytes, size_t len, struct plane_error *err);

/** Bytes for the wire; the owner sends and consumes or steals them. */
struct plane_buffer *plane_tls_output(struct plane_tls *tls);

#endif
