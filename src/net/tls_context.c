/* PEM files into contexts of OpenSSL. Must never ask a terminal for a passphrase, and never put
 * anything of a key into a message. */
#include "net/tls_context.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/file.h"

#define FILE_MAX ((size_t)1 << 20)
#define CERTIFICATES_MAX ((size_t)32 << 10) /* bytes of what a client shows */
#define CHAIN_MAX 8
#define CIPHERS_1_2 "ECDHE+AESGCM:ECDHE+CHACHA20" /* forward secrecy and authenticated only */

static void bio_freep(BIO **bio)
{
	BIO_free(*bio);
}

static void x509_freep(X509 **certificate)
{
	X509_free(*certificate);
}

static void key_freep(EVP_PKEY **key)
{
	EVP_PKEY_free(*key);
}

static void store_freep(X509_STORE **store)
{
	X509_STORE_free(*store);
}

static void context_freep(SSL_CTX **context)
{
	SSL_CTX_free(*context);
}

static void wipe(struct plane_buffer *buffer)
{
	if (buffer->data)
		explicit_bzero(buffer->data, buffer->capacity);
	plane_buffer_finish(buffer);
}

/* The text of one file, and where it came from. */
struct pem {
	const char *path;
	struct plane_buffer text;
};

static void pem_finish(struct pem *pem)
{
	wipe(&pem->text);
}

static int pem_read(struct pem *pem, const char *path, bool is_private, struct plane_error *err)
{
	pem->path = path;
	return is_private ? plane_file_read_private(path, FILE_MAX, &pem->text, err)
			  : plane_file_read(path, FILE_MAX, &pem->text, err);
}

static BIO *pem_open(const struct pem *pem)
{
	return BIO_new_mem_buf(pem->text.data ? pem->text.data : "", (int)pem->text.len);
}

static int fail(struct plane_error *err, const char *path, const char *what)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());
	ERR_clear_error();
	return reason ? plane_error_set(err, EINVAL, "%s: %s: %s", path, what, reason)
		      : plane_error_set(err, EINVAL, "%s: %s", path, what);
}

/* Instead of a question on the terminal. */
static int no_passphrase(char *buffer, int size, int is_writing, void *was_asked)
{
	(void)buffer;
	(void)size;
	(void)is_writing;
	*(bool *)was_asked = true;
	return -1;
}

/* The next certificate; NULL with 0 at the end, else with an error. */
static int next_certificate(
	BIO *bio, const struct pem *pem, X509 **certificate, struct plane_error *err)
{
	bool was_asked = false;
	ERR_clear_error();
	*certificate = PEM_read_bio_X509(bio, NULL, no_passphrase, &was_asked);
	if (*certificate)
		return 0;
	unsigned long code = ERR_peek_last_error();
	bool is_end =
		ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
	if (!is_end)
		return fail(err, pem->path, "read a certificate");
	ERR_clear_error();
	return 0;
}

/* The first certificate of the file, which must be there. */
static int first_certificate(
	BIO *bio, const struct pem *pem, X509 **certificate, struct plane_error *err)
{
	int result = next_certificate(bio, pem, certificate, err);
	if (result == 0 && !*certificate)
		return fail(err, pem->path, "there is no certificate in PEM form in it");
	return result;
}

static int use_certificate(SSL_CTX *context, const struct pem *pem, struct plane_error *err)
{
	_cleanup_(bio_freep) BIO *bio = pem_open(pem);
	_cleanup_(x509_freep) X509 *first = NULL;
	int result = first_certificate(bio, pem, &first, err);
	if (result < 0)
		return result;
	if (SSL_CTX_use_certificate(context, first) != 1)
		return fail(err, pem->path, "use its certificate");
	for (;;) {
		X509 *next;
		result = next_certificate(bio, pem, &next, err);
		if (result < 0 || !next)
			return result;
		if (SSL_CTX_add0_chain_cert(context, next) != 1) {
			X509_free(next);
			return fail(err, pem->path, "use its chain");
		}
	}
}

static int use_key(SSL_CTX *context, const struct pem *pem, const struct pem *certificate,
	struct plane_error *err)
{
	_cleanup_(bio_freep) BIO *bio = pem_open(pem);
	bool was_asked = false;
	ERR_clear_error();
	_cleanup_(key_freep) EVP_PKEY *key =
		PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &was_asked);
	if (was_asked)
		ERR_clear_error();
	if (was_asked)
		return fail(err, pem->path, "the key has a passphrase: expected one without");
	if (!key)
		return fail(err, pem->path, "read a private key in PEM form");
	if (SSL_CTX_use_PrivateKey(context, key) == 1 && SSL_CTX_check_private_key(context) == 1)
		return 0;
	ERR_clear_error();
	return plane_error_set(err, EINVAL,
		"the key in %s does not belong to the certificate in %s", pem->path,
		certificate->path);
}

static int use_identity(SSL_CTX *context, const struct pem *certificate, const struct pem *key,
	struct plane_error *err)
{
	int result = use_certificate(context, certificate, err);
	return result < 0 ? result : use_key(context, key, certificate, err);
}

/* Trusts all certificates of the file, or the first one only; `names` (may be NULL) are told to
 * clients. */
static int trust(X509_STORE *store, const struct pem *pem, bool is_only_first, SSL_CTX *names,
	struct plane_error *err)
{
	_cleanup_(bio_freep) BIO *bio = pem_open(pem);
	X509 *next = NULL;
	int result = first_certificate(bio, pem, &next, err);
	while (result == 0 && next) {
		_cleanup_(x509_freep) X509 *certificate = next;
		next = NULL;
		if (X509_STORE_add_cert(store, certificate) != 1 ||
			(names && SSL_CTX_add_client_CA(names, certificate) != 1))
			return fail(err, pem->path, "trust its certificates");
		if (!is_only_first)
			result = next_certificate(bio, pem, &next, err);
	}
	return result;
}

static int set_common(SSL_CTX *context, struct plane_error *err)
{
	if (SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 ||
		SSL_CTX_set_cipher_list(context, CIPHERS_1_2) != 1)
		return fail(err, "TLS", "choose versions and ciphers");
	SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
					     SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE |
					     SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_verify_depth(context, CHAIN_MAX);
	return 0;
}

/* ---- clients ---- */

bool plane_tls_client_files_are_given(const struct plane_tls_client_files *files)
{
	return files && (files->authorities || files->pinned || files->certificate || files->key);
}

static int check_client_files(const struct plane_tls_client_files *files, struct plane_error *err)
{
	if (files->authorities && files->pinned)
		return plane_error_set(err, EINVAL,
			"trust the authorities in %s or the certificate in %s, not both",
			files->authorities, files->pinned);
	if (!files->certificate != !files->key)
		return plane_error_set(err, EINVAL,
			"a client certificate and its key belong together: give both or none");
	return 0;
}

/* The server's certificate must be the one that the store has: a chain that ends in it, if it is an
 * authority's, is not enough. */
static int verify_pinned(X509_STORE_CTX *check, void *unused)
{
	(void)unused;
	const STACK_OF(X509_OBJECT) *trusted =
		X509_STORE_get0_objects(X509_STORE_CTX_get0_store(check));
	const X509 *shown = X509_STORE_CTX_get0_cert(check);
	const X509 *pinned = sk_X509_OBJECT_num(trusted) == 1
				     ? X509_OBJECT_get0_X509(sk_X509_OBJECT_value(trusted, 0))
				     : NULL;
	if (pinned && shown && X509_cmp(shown, pinned) == 0)
		return X509_verify_cert(check); /* it has expired, perhaps */
	X509_STORE_CTX_set_error(check, X509_V_ERR_CERT_REJECTED);
	return 0;
}

static int trust_server(
	SSL_CTX *context, const struct plane_tls_client_files *files, struct plane_error *err)
{
	_cleanup_(pem_finish) struct pem pem = { 0 };
	_cleanup_(store_freep) X509_STORE *store = X509_STORE_new();
	const char *path = files->pinned ? files->pinned : files->authorities;
	if (!store)
		return plane_error_set(err, ENOMEM, "start TLS");
	if (!path) {
		(void)X509_STORE_set_default_paths(store); /* nobody is trusted without */
	} else {
		int result = pem_read(&pem, path, false, err);
		if (result == 0)
			result = trust(store, &pem, files->pinned != NULL, NULL, err);
		if (result < 0)
			return result;
	}
	if (files->pinned) { /* it need not be an authority's */
		X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
		SSL_CTX_set_cert_verify_callback(context, verify_pinned, NULL);
	}
	SSL_CTX_set_cert_store(context, STEAL(store));
	return 0;
}

int plane_tls_configure_client(
	SSL_CTX *context, const struct plane_tls_client_files *files, struct plane_error *err)
{
	static const struct plane_tls_client_files none;
	_cleanup_(pem_finish) struct pem certificate = { 0 };
	_cleanup_(pem_finish) struct pem key = { 0 };
	files = files ? files : &none;
	int result = check_client_files(files, err);
	if (result == 0)
		result = set_common(context, err);
	if (result == 0)
		result = trust_server(context, files, err);
	if (result < 0)
		return result;
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	if (!files->certificate)
		return 0;
	result = pem_read(&certificate, files->certificate, false, err);
	if (result == 0)
		result = pem_read(&key, files->key, true, err);
	return result < 0 ? result : use_identity(context, &certificate, &key, err);
}

static SSL_CTX *make_client_context(
	const struct plane_tls_client_files *files, struct plane_error *err)
{
	_cleanup_(context_freep) SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	if (!context) {
		(void)fail(err, "TLS", "start");
		return NULL;
	}
	return plane_tls_configure_client(context, files, err) < 0 ? NULL : STEAL(context);
}

/* The system's authorities are many: they are read once. */
static SSL_CTX *system_context;

static void make_system_context(void)
{
	system_context = make_client_context(NULL, NULL);
}

SSL_CTX *plane_tls_client_context(
	const struct plane_tls_client_files *files, struct plane_error *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	if (plane_tls_client_files_are_given(files))
		return make_client_context(files, err);
	pthread_once(&once, make_system_context);
	if (!system_context || SSL_CTX_up_ref(system_context) != 1) {
		plane_error_set(err, ENOMEM, "start TLS");
		return NULL;
	}
	return system_context;
}

/* ---- servers ---- */

int plane_tls_server_files_check(
	const struct plane_tls_server_files *files, struct plane_error *err)
{
	if (!files->certificate != !files->key)
		return plane_error_set(
			err, EINVAL, "--tls-cert and --tls-key belong together: give both or none");
	if (files->client_authorities && !files->certificate)
		return plane_error_set(err, EINVAL,
			"--tls-client-ca needs TLS: give --tls-cert and --tls-key too");
	if (files->requires_client_certificate && !files->client_authorities)
		return plane_error_set(err, EINVAL,
			"--tls-require-client-cert needs --tls-client-ca FILE, the authority of "
			"these certificates");
	return 0;
}

/* HTTP/1.1 or nothing: bytes for one protocol are not taken for another's (RFC 7301). */
static int choose_protocol(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_len,
	const unsigned char *offered, unsigned offered_len, void *data)
{
	static const unsigned char known[] = "\x08http/1.1";
	unsigned char *found;
	(void)ssl;
	(void)data;
	int result = SSL_select_next_proto(
		&found, chosen_len, known, sizeof(known) - 1, offered, offered_len);
	*chosen = found;
	return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

struct server_texts {
	struct pem certificate, key, client_authorities;
};

static void server_texts_finish(struct server_texts *texts)
{
	pem_finish(&texts->certificate);
	pem_finish(&texts->key);
	pem_finish(&texts->client_authorities);
}

static int read_texts(const struct plane_tls_server_files *files, struct server_texts *texts,
	struct plane_error *err)
{
	int result = pem_read(&texts->certificate, files->certificate, false, err);
	if (result == 0)
		result = pem_read(&texts->key, files->key, true, err);
	if (result == 0 && files->client_authorities)
		result =
			pem_read(&texts->client_authorities, files->client_authorities, false, err);
	return result;
}

static int digest_texts(const struct server_texts *texts,
	unsigned char digest[PLANE_TLS_DIGEST_SIZE], struct plane_error *err)
{
	const struct plane_buffer *parts[] = { &texts->certificate.text, &texts->key.text,
		&texts->client_authorities.text };
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool is_done = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;
	for (size_t i = 0; is_done && i < sizeof(parts) / sizeof(parts[0]); i++)
		is_done = EVP_DigestUpdate(context, &parts[i]->len, sizeof(parts[i]->len)) == 1 &&
			  EVP_DigestUpdate(context, parts[i]->data, parts[i]->len) == 1;
	is_done = is_done && EVP_DigestFinal_ex(context, digest, NULL) == 1;
	EVP_MD_CTX_free(context);
	return is_done ? 0 : plane_error_set(err, ENOMEM, "digest TLS files");
}

static int configure_server(SSL_CTX *context, const struct plane_tls_server_files *files,
	const struct server_texts *texts, struct plane_error *err)
{
	int result = set_common(context, err);
	if (result == 0)
		result = use_identity(context, &texts->certificate, &texts->key, err);
	if (result < 0)
		return result;
	(void)SSL_CTX_set_num_tickets(context, 0); /* always succeeds */
	SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
	SSL_CTX_set_max_cert_list(context, CERTIFICATES_MAX);
	if (!files->client_authorities)
		return 0;
	SSL_CTX_set_verify(context,
		SSL_VERIFY_PEER |
			(files->requires_client_certificate ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
		NULL);
	return trust(
		SSL_CTX_get_cert_store(context), &texts->client_authorities, false, context, err);
}

int plane_tls_server_context(const struct plane_tls_server_files *files,
	unsigned char digest[PLANE_TLS_DIGEST_SIZE], SSL_CTX **context, struct plane_error *err)
{
	_cleanup_(server_texts_finish) struct server_texts texts = { 0 };
	unsigned char now[PLANE_TLS_DIGEST_SIZE] = { 0 };
	int result = read_texts(files, &texts, err);
	if (result == 0)
		result = digest_texts(&texts, now, err);
	if (result < 0 || memcmp(now, digest, sizeof(now)) == 0)
		return result;
	_cleanup_(context_freep) SSL_CTX *new = SSL_CTX_new(TLS_server_method());
	if (!new)
		return fail(err, "TLS", "start");
	result = configure_server(new, files, &texts, err);
	if (result < 0)
		return result;
	memcpy(digest, now, sizeof(now));
	*context = STEAL(new);
	return 1;
}

int64_t plane_tls_time_s(const ASN1_TIME *time)
{
	struct tm parts;
	return time && ASN1_TIME_to_tm(time, &parts) == 1 ? (int64_t)timegm(&parts) : 0;
}

int64_t plane_tls_context_expires_at_s(const SSL_CTX *context)
{
	const X509 *certificate = context ? SSL_CTX_get0_certificate(context) : NULL;
	return certificate ? plane_tls_time_s(X509_get0_notAfter(certificate)) : 0;
}

SSL_CTX *plane_tls_context_ref(SSL_CTX *context)
{
	(void)SSL_CTX_up_ref(context); /* cannot fail: it is held by the caller */
	return context;
}

void plane_tls_context_free(SSL_CTX *context)
{
	SSL_CTX_free(context);
}
