/* TLS between memory buffers, by OpenSSL. */
#include "net/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/alloc.h"

#define READ_SIZE 16384

struct plane_tls {
	SSL *ssl;
	BIO *from_wire;              /* owned by ssl */
	BIO *to_wire;                /* owned by ssl */
	struct plane_buffer waiting; /* plain bytes until the handshake is done */
	struct plane_buffer output;
};

static SSL_CTX *client_context;

static void make_client_context(void)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	if (!context)
		return;
	SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	(void)SSL_CTX_set_default_verify_paths(context); /* nothing is trusted without */
	client_context = context;
}

static int fail(struct plane_error *err, SSL *ssl, const char *what)
{
	long verify = ssl ? SSL_get_verify_result(ssl) : X509_V_OK;
	const char *reason = verify != X509_V_OK ? X509_verify_cert_error_string(verify)
						 : ERR_reason_error_string(ERR_peek_error());
	ERR_clear_error();
	return plane_error_set(err, -EPROTO, "%s: %s", what, reason ? reason : "unknown reason");
}

static bool expect_host(SSL *ssl, const char *host)
{
	unsigned char address[sizeof(struct in6_addr)];
	bool is_address =
		inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
	if (is_address)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
	return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

struct plane_tls *plane_tls_client_create(const char *host, struct plane_error *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, make_client_context);
	struct plane_tls *tls = PLANE_NEW(struct plane_tls);
	tls->ssl = client_context ? SSL_new(client_context) : NULL;
	tls->from_wire = BIO_new(BIO_s_mem());
	tls->to_wire = BIO_new(BIO_s_mem());
	if (!tls->ssl || !tls->from_wire || !tls->to_wire || !expect_host(tls->ssl, host)) {
		(void)fail(err, NULL, "start TLS");
		BIO_free(tls->from_wire);
		BIO_free(tls->to_wire);
		SSL_free(tls->ssl);
		free(tls);
		return NULL;
	}
	SSL_set_bio(tls->ssl, tls->from_wire, tls->to_wire);
	SSL_set_connect_state(tls->ssl);
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

static int write_waiting(struct plane_tls *tls, struct plane_error *err)
{
	if (!SSL_is_init_finished(tls->ssl) || !tls->waiting.len)
		return 0;
	int result = SSL_write(tls->ssl, tls->waiting.data, (int)tls->waiting.len);
	if (result <= 0)
		return fail(err, tls->ssl, "encrypt");
	plane_buffer_clear(&tls->waiting);
	return 0;
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
	plane_buffer_add(&tls->waiting, bytes, len);
	int result = write_waiting(tls, err);
	collect_output(tls);
	return result;
}

struct plane_buffer *plane_tls_output(struct plane_tls *tls)
{
	return &tls->output;
}
