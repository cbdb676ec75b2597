/* TLS between memory buffers, by OpenSSL. */
#include "net/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/alloc.h"

#define READ_SIZE 16384
#define RECORD_SIZE ((size_t)16384)

struct plane_tls {
	SSL *ssl;
	BIO *from_wire;              /* owned by ssl */
	BIO *to_wire;                /* owned by ssl */
	struct plane_buffer waiting; /* plain bytes until the handshake is done */
	struct plane_buffer output;
};

static int fail(struct plane_error *err, SSL *ssl, const char *what)
{
	long verify = ssl ? SSL_get_verify_result(ssl) : X509_V_OK;
	unsigned long code = ERR_peek_error();
	const char *reason = ERR_reason_error_string(code);
	int number = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
	ERR_clear_error();
	if (verify == X509_V_ERR_CERT_REJECTED)
		return plane_error_set(err, EPROTO,
			"%s: the certificate of the other side is not trusted: it is not the one "
			"that is pinned",
			what);
	if (verify != X509_V_OK)
		return plane_error_set(err, EPROTO,
			"%s: the certificate of the other side is not trusted: %s", what,
			X509_verify_cert_error_string(verify));
	if (number == SSL_R_HTTP_REQUEST)
		return plane_error_set(
			err, EPROTONOSUPPORT, "%s: the client speaks HTTP without TLS", what);
	return plane_error_set(err, EPROTO, "%s: %s%s", what, reason ? reason : "unknown reason",
		number == SSL_R_WRONG_VERSION_NUMBER ? " (the other side may not speak TLS)" : "");
}

/* Takes a reference of the context. */
static struct plane_tls *create(SSL_CTX *context, struct plane_error *err)
{
	struct plane_tls *tls = PLANE_NEW(struct plane_tls);
	tls->ssl = SSL_new(context);
	tls->from_wire = BIO_new(BIO_s_mem());
	tls->to_wire = BIO_new(BIO_s_mem());
	if (tls->ssl && tls->from_wire && tls->to_wire) {
		SSL_set_bio(tls->ssl, tls->from_wire, tls->to_wire);
		return tls;
	}
	(void)fail(err, NULL, "start TLS");
	BIO_free(tls->from_wire);
	BIO_free(tls->to_wire);
	SSL_free(tls->ssl);
	free(tls);
	return NULL;
}

static bool expect_host(SSL *ssl, const char *host, bool is_pinned)
{
	unsigned char address[sizeof(struct in6_addr)];
	bool is_address =
		inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
	if (!is_address && SSL_set_tlsext_host_name(ssl, host) != 1)
		return false;
	if (is_pinned)
		return true;
	return is_address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1
			  : SSL_set1_host(ssl, host) == 1;
}

struct plane_tls *plane_tls_client_create(
	const char *host, const struct plane_tls_client_files *files, struct plane_error *err)
{
	SSL_CTX *context = plane_tls_client_context(files, err);
	struct plane_tls *tls = context ? create(context, err) : NULL;
	plane_tls_context_free(context);
	if (!tls)
		return NULL;
	SSL_set_connect_state(tls->ssl);
	if (expect_host(tls->ssl, host, files && files->pinned))
		return tls;
	(void)fail(err, NULL, "start TLS");
	plane_tls_destroy(tls);
	return NULL;
}

struct plane_tls *plane_tls_server_create(SSL_CTX *context, struct plane_error *err)
{
	struct plane_tls *tls = create(context, err);
	if (tls)
		SSL_set_accept_state(tls->ssl);
	return tls;
}

void plane_tls_destroy(struct plane_tls *tls)
{
	if (!tls)
		return;
	SSL_free(tls->ssl);
	plane_buffer_finish(&tls->waiting);
	plane_buffer_finish(&tls->output);
	free(tls);
}

static void collect_output(struct plane_tls *tls)
{
	char *bytes;
	long len = BIO_get_mem_data(tls->to_wire, &bytes);
	if (len > 0)
		plane_buffer_add(&tls->output, bytes, (size_t)len);
	(void)BIO_reset(tls->to_wire);
}

/* Does the call need more bytes of the wire, which is no failure? */
static bool is_waiting(struct plane_tls *tls, int result)
{
	int error = SSL_get_error(tls->ssl, result);
	return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ||
	       error == SSL_ERROR_ZERO_RETURN;
}

/* Record by record: a memory BIO keeps the size that it once had, and clears all of it each time.
 */
static int encrypt(struct plane_tls *tls, const char *bytes, size_t len, struct plane_error *err)
{
	while (len > 0) {
		size_t written, piece = len < RECORD_SIZE ? len : RECORD_SIZE;
		if (SSL_write_ex(tls->ssl, bytes, piece, &written) != 1)
			return fail(err, tls->ssl, "encrypt");
		collect_output(tls);
		bytes += written; /* all of the piece: a memory BIO takes everything */
		len -= written;
	}
	return 0;
}

static int write_waiting(struct plane_tls *tls, struct plane_error *err)
{
	if (!SSL_is_init_finished(tls->ssl) || !tls->waiting.len)
		return 0;
	int result = encrypt(tls, tls->waiting.data, tls->waiting.len, err);
	plane_buffer_finish(&tls->waiting);
	return result;
}

static int read_plain(struct plane_tls *tls, struct plane_buffer *plain, struct plane_error *err)
{
	for (;;) {
		int result = SSL_read(tls->ssl, plane_buffer_reserve(plain, READ_SIZE), READ_SIZE);
		if (result <= 0)
			return is_waiting(tls, result) ? 0 : fail(err, tls->ssl, "TLS");
		plain->len += (size_t)result;
	}
}

int plane_tls_feed(struct plane_tls *tls, const void *bytes, size_t len, struct plane_buffer *plain,
	struct plane_error *err)
{
	int result = 0;
	ERR_clear_error(); /* what others of this thread left there */
	if (len)
		(void)BIO_write(tls->from_wire, bytes, (int)len); /* a memory BIO takes all */
	if (!SSL_is_init_finished(tls->ssl)) {
		int status = SSL_do_handshake(tls->ssl);
		if (status <= 0 && !is_waiting(tls, status))
			result = fail(err, tls->ssl, "TLS handshake");
	}
	if (result == 0 && SSL_is_init_finished(tls->ssl))
		result = read_plain(tls, plain, err);
	if (result == 0)
		result = write_waiting(tls, err);
	collect_output(tls);
	return result;
}

int plane_tls_write(struct plane_tls *tls, const void *bytes, size_t len, struct plane_error *err)
{
	int result = 0;
	ERR_clear_error();
	if (SSL_is_init_finished(tls->ssl))
		result = encrypt(tls, bytes, len, err);
	else
		plane_buffer_add(&tls->waiting, bytes, len);
	collect_output(tls);
	return result;
}

void plane_tls_close(struct plane_tls *tls)
{
	ERR_clear_error();
	if (SSL_is_init_finished(tls->ssl) && !(SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN))
		(void)SSL_shutdown(tls->ssl); /* polite only */
	ERR_clear_error();
	collect_output(tls);
}

struct plane_buffer *plane_tls_output(struct plane_tls *tls)
{
	return &tls->output;
}

bool plane_tls_is_established(const struct plane_tls *tls)
{
	return SSL_is_init_finished(tls->ssl);
}

bool plane_tls_is_ended(const struct plane_tls *tls)
{
	return SSL_get_shutdown(tls->ssl) & SSL_RECEIVED_SHUTDOWN;
}

/* ---- the peer's certificate ---- */

char *plane_tls_peer_common_name(const struct plane_tls *tls)
{
	const X509 *certificate = SSL_get0_peer_certificate(tls->ssl);
	if (!certificate || SSL_get_verify_result(tls->ssl) != X509_V_OK)
		return NULL;
	const X509_NAME *subject = X509_get_subject_name(certificate);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
		return plane_strdup(""); /* none, or more than one */
	unsigned char *text;
	int len = ASN1_STRING_to_UTF8(
		&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
	if (len < 0)
		return plane_strdup("");
	bool is_text = memchr(text, '\0', (size_t)len) == NULL;
	char *name = is_text ? plane_strndup((const char *)text, (size_t)len) : plane_strdup("");
	OPENSSL_free(text);
	return name;
}

int64_t plane_tls_peer_expires_at_s(const struct plane_tls *tls)
{
	const X509 *certificate = SSL_get0_peer_certificate(tls->ssl);
	return certificate ? plane_tls_time_s(X509_get0_notAfter(certificate)) : 0;
}

bool plane_tls_peer_is_trusted_by(const struct plane_tls *tls, SSL_CTX *context)
{
	X509 *certificate = SSL_get0_peer_certificate(tls->ssl);
	if (!certificate || SSL_get_SSL_CTX(tls->ssl) == context)
		return true;
	X509_STORE_CTX *check = X509_STORE_CTX_new();
	bool is_trusted = check &&
			  X509_STORE_CTX_init(check, SSL_CTX_get_cert_store(context), certificate,
				  SSL_get_peer_cert_chain(tls->ssl)) == 1 &&
			  X509_STORE_CTX_set_default(check, "ssl_client") == 1 &&
			  X509_verify_cert(check) == 1;
	X509_STORE_CTX_free(check);
	ERR_clear_error();
	return is_trusted;
}
