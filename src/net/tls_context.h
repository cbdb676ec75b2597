/* What TLS of this side goes by: certificates, keys and authorities from PEM files. TLS 1.2 and
 * later; no renegotiation, no compression, no resumption: each connection shows its certificate. */
#ifndef PLANE_NET_TLS_CONTEXT_H
#define PLANE_NET_TLS_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>

#include <openssl/types.h>

#include "base/error.h"

/** Paths; all may be NULL. A key is refused when others may read it (plane_file_check_private). */
struct plane_tls_client_files {
	const char *authorities; /* whom to trust; NULL: the system's authorities */
	/** Trust exactly this certificate (the first of the file), whatever names are in it, and
	 * none that it has issued: others fail with X509_V_ERR_CERT_REJECTED. */
	const char *pinned;
	const char *certificate, *key; /* of the client, with what leads to its authority */
};

/** Is one of them given? */
bool plane_tls_client_files_are_given(const struct plane_tls_client_files *files);

/**
 * Makes a context of OpenSSL for clients go by the files (NULL: none are given), which are read
 * now. Which name the certificate must have is not said here. -EINVAL for files that contradict
 * each other or are not what they should be.
 */
int plane_tls_configure_client(
	SSL_CTX *context, const struct plane_tls_client_files *files, struct plane_error *err);

/** A new reference to such a context, to be freed by plane_tls_context_free. Any thread. */
SSL_CTX *plane_tls_client_context(
	const struct plane_tls_client_files *files, struct plane_error *err);

struct plane_tls_server_files {
	const char *certificate, *key;  /* NULL: no TLS */
	const char *client_authorities; /* NULL: clients are not asked for certificates */
	bool requires_client_certificate;
};

/** -EINVAL for a combination that means nothing; the message names the flags. Reads nothing. */
int plane_tls_server_files_check(
	const struct plane_tls_server_files *files, struct plane_error *err);

#define PLANE_TLS_DIGEST_SIZE 32

/**
 * Reads the files. 1, with a new `*context`, when their text has another digest than `digest` (all
 * zero at first), which is then updated; 0 when it is the same. An error leaves both as they are.
 * Any thread; blocks.
 */
int plane_tls_server_context(const struct plane_tls_server_files *files,
	unsigned char digest[PLANE_TLS_DIGEST_SIZE], SSL_CTX **context, struct plane_error *err);

/** When the certificate of the context expires (wall clock, seconds); 0 without one. */
int64_t plane_tls_context_expires_at_s(const SSL_CTX *context);

/** Wall clock, seconds; 0 for what is no time. */
int64_t plane_tls_time_s(const ASN1_TIME *time);

/** Another reference. */
SSL_CTX *plane_tls_context_ref(SSL_CTX *context);
void plane_tls_context_free(SSL_CTX *context);

#endif
