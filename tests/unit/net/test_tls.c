/* net/tls.c and net/tls_context.c: a client and a server in memory, with certificates made here. */
#include "../cmocka_all.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "net/tls.h"

#define LARGE ((size_t)3 << 20)

struct name_part {
	const char *field, *text;
	int len; /* -1: of the text */
};

/* A certificate with its key, as files too. */
struct identity {
	X509 *certificate;
	EVP_PKEY *key;
	char *certificate_path, *key_path;
};

static char directory[] = "/tmp/plane-test-tls-XXXXXX";
static struct identity authority, other_authority, server, client;

static void sign(struct identity *made, const struct identity *issuer, const char *alternative)
{
	X509_set_issuer_name(made->certificate, X509_get_subject_name(issuer->certificate));
	X509V3_CTX context;
	X509V3_set_ctx(&context, issuer->certificate, made->certificate, NULL, NULL, 0);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context,
		alternative ? NID_subject_alt_name : NID_basic_constraints,
		alternative ? alternative : "critical,CA:TRUE");
	assert_non_null(extension);
	assert_int_equal(X509_add_ext(made->certificate, extension, -1), 1);
	X509_EXTENSION_free(extension);
	assert_true(X509_sign(made->certificate, issuer->key, EVP_sha256()) > 0);
}

static void write_files(struct identity *made, const char *name)
{
	free(made->certificate_path);
	free(made->key_path);
	made->certificate_path = plane_strdupf("%s/%s.pem", directory, name);
	made->key_path = plane_strdupf("%s/%s.key", directory, name);
	FILE *file = fopen(made->certificate_path, "w");
	assert_int_equal(PEM_write_X509(file, made->certificate), 1);
	fclose(file);
	file = fopen(made->key_path, "w");
	assert_int_equal(fchmod(fileno(file), 0600), 0);
	assert_int_equal(PEM_write_PrivateKey(file, made->key, NULL, NULL, 0, NULL, NULL), 1);
	fclose(file);
}

/* Issued by itself without issuer, and then an authority. */
static struct identity make(const char *name, const struct name_part *subject,
	const struct identity *issuer, const char *alternative)
{
	static long serial;
	struct identity made = { .certificate = X509_new(), .key = EVP_EC_gen("P-256") };
	X509_set_version(made.certificate, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(made.certificate), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(made.certificate), -3600);
	X509_gmtime_adj(X509_getm_notAfter(made.certificate), 3600);
	X509_set_pubkey(made.certificate, made.key);
	for (; subject && subject->field; subject++)
		assert_int_equal(X509_NAME_add_entry_by_txt(X509_get_subject_name(made.certificate),
					 subject->field, MBSTRING_UTF8,
					 (const unsigned char *)subject->text, subject->len, -1, 0),
			1);
	sign(&made, issuer ? issuer : &made, alternative);
	write_files(&made, name);
	return made;
}

static void drop(struct identity *identity)
{
	X509_free(identity->certificate);
	EVP_PKEY_free(identity->key);
	free(identity->certificate_path);
	free(identity->key_path);
}

static int set_up(void **state)
{
	static const struct name_part own[] = { { "CN", "authority", -1 }, { 0 } };
	static const struct name_part others[] = { { "CN", "other", -1 }, { 0 } };
	static const struct name_part node[] = { { "O", "nodes", -1 }, { "CN", "node-1", -1 },
		{ 0 } };
	assert_non_null(mkdtemp(directory));
	authority = make("authority", own, NULL, NULL);
	other_authority = make("other", others, NULL, NULL);
	server = make("server", NULL, &authority, "DNS:plane.test,IP:127.0.0.1");
	client = make("client", node, &authority, "DNS:client.test");
	return 0;
}

static int tear_down(void **state)
{
	struct identity *all[] = { &authority, &other_authority, &server, &client };
	for (size_t i = 0; i < 4; i++)
		drop(all[i]);
	return plane_file_remove_tree(directory, NULL);
}

/* ---- two ends ---- */

struct pair {
	struct plane_tls *client, *server;
	struct plane_buffer to_client, to_server; /* plain */
	int client_result, server_result;
	struct plane_error client_err, server_err;
};

static SSL_CTX *server_context(const struct identity *identity, const char *client_authorities)
{
	unsigned char digest[PLANE_TLS_DIGEST_SIZE] = { 0 };
	struct plane_tls_server_files files = { .certificate = identity->certificate_path,
		.key = identity->key_path,
		.client_authorities = client_authorities };
	struct plane_error err = { 0 };
	SSL_CTX *context = NULL;
	if (plane_tls_server_context(&files, digest, &context, &err) != 1)
		fail_msg("%s", err.message);
	return context;
}

/* Moves what one end wrote to the other, `step` bytes at a time. */
static bool move(struct plane_tls *from, struct plane_tls *to, size_t step,
	struct plane_buffer *plain, int *result, struct plane_error *err)
{
	struct plane_buffer *wire = plane_tls_output(from);
	bool has_moved = wire->len > 0;
	for (size_t at = 0; at < wire->len && *result == 0; at += step) {
		size_t len = wire->len - at < step ? wire->len - at : step;
		*result = plane_tls_feed(to, wire->data + at, len, plain, err);
	}
	plane_buffer_clear(wire);
	return has_moved;
}

static void settle(struct pair *pair, size_t step)
{
	bool has_moved = true;
	while (has_moved) {
		has_moved = move(pair->client, pair->server, step, &pair->to_server,
			&pair->server_result, &pair->server_err);
		has_moved |= move(pair->server, pair->client, step, &pair->to_client,
			&pair->client_result, &pair->client_err);
	}
}

static void open_pair(struct pair *pair, const char *host,
	const struct plane_tls_client_files *files, SSL_CTX *context, size_t step)
{
	*pair = (struct pair){ 0 };
	pair->client = plane_tls_client_create(host, files, &pair->client_err);
	pair->server = plane_tls_server_create(context, &pair->server_err);
	if (!pair->client || !pair->server)
		fail_msg("%s%s", pair->client_err.message, pair->server_err.message);
	pair->client_result =
		plane_tls_feed(pair->client, NULL, 0, &pair->to_client, &pair->client_err);
	settle(pair, step);
}

static void close_pair(struct pair *pair)
{
	plane_tls_destroy(pair->client);
	plane_tls_destroy(pair->server);
	plane_buffer_finish(&pair->to_client);
	plane_buffer_finish(&pair->to_server);
}

static void bytes_go_both_ways_in_pieces_of_any_size(void **state)
{
	static const size_t steps[] = { 1, 7, 16384 + 300, LARGE };
	struct plane_tls_client_files files = { .authorities = authority.certificate_path };
	SSL_CTX *context = server_context(&server, NULL);
	_cleanup_free_ char *large = plane_alloc_zero(1, LARGE);
	for (size_t i = 0; i < LARGE; i++)
		large[i] = (char)(i * 31 >> 3);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct pair pair;
		size_t len = steps[i] < 1000 ? 20000 : LARGE;
		open_pair(&pair, i % 2 ? "127.0.0.1" : "plane.test", &files, context, steps[i]);
		assert_true(plane_tls_is_established(pair.client));
		assert_true(plane_tls_is_established(pair.server));
		assert_int_equal(plane_tls_write(pair.client, large, len, NULL), 0);
		assert_int_equal(plane_tls_write(pair.server, large, len / 2, NULL), 0);
		plane_tls_close(pair.server);
		settle(&pair, steps[i]);
		assert_int_equal(pair.to_server.len, len);
		assert_memory_equal(pair.to_server.data, large, len);
		assert_int_equal(pair.to_client.len, len / 2);
		assert_memory_equal(pair.to_client.data, large, len / 2);
		assert_true(plane_tls_is_ended(pair.client));
		assert_false(plane_tls_is_ended(pair.server));
		assert_null(plane_tls_peer_common_name(pair.server));
		close_pair(&pair);
	}
	plane_tls_context_free(context);
}

static void what_is_written_early_waits_for_the_handshake(void **state)
{
	struct plane_tls_client_files files = { .authorities = authority.certificate_path };
	SSL_CTX *context = server_context(&server, NULL);
	struct pair pair = { .client = plane_tls_client_create("plane.test", &files, NULL),
		.server = plane_tls_server_create(context, NULL) };
	plane_tls_context_free(context); /* the connection keeps it */
	assert_int_equal(plane_tls_write(pair.client, "early", 5, NULL), 0);
	assert_int_equal(plane_tls_output(pair.client)->len, 0);
	assert_int_equal(plane_tls_feed(pair.client, NULL, 0, &pair.to_client, NULL), 0);
	settle(&pair, 100);
	assert_string_equal(plane_buffer_text(&pair.to_server), "early");
	close_pair(&pair);
}

static void http_without_tls_is_recognised(void **state)
{
	SSL_CTX *context = server_context(&server, NULL);
	struct plane_tls *tls = plane_tls_server_create(context, NULL);
	struct plane_buffer plain = { 0 };
	struct plane_error err = { 0 };
	assert_int_equal(plane_tls_feed(tls, "GE", 2, &plain, &err), 0);
	assert_int_equal(
		plane_tls_feed(tls, "T / HTTP/1.1\r\n", 14, &plain, &err), -EPROTONOSUPPORT);
	plane_tls_destroy(tls);
	tls = plane_tls_server_create(context, NULL);
	assert_int_equal(plane_tls_feed(tls, "\x17\x03\x01\x00\x02xx", 7, &plain, &err), -EPROTO);
	plane_tls_close(tls); /* nobody to say it to */
	plane_tls_destroy(tls);
	plane_buffer_finish(&plain);
	plane_tls_context_free(context);
}

static void expect_distrust(const char *host, const struct plane_tls_client_files *files,
	const struct identity *shown, const char *why)
{
	struct pair pair;
	SSL_CTX *context = server_context(shown, NULL);
	open_pair(&pair, host, files, context, 1000);
	assert_int_equal(pair.client_result, -EPROTO);
	assert_non_null(strstr(pair.client_err.message, "not trusted"));
	if (!strstr(pair.client_err.message, why))
		fail_msg("no \"%s\" in: %s", why, pair.client_err.message);
	assert_int_equal(pair.server_result, -EPROTO); /* it got the alert */
	assert_int_equal(pair.to_server.len, 0);
	close_pair(&pair);
	plane_tls_context_free(context);
}

static void a_client_trusts_its_authorities_or_one_certificate(void **state)
{
	struct plane_tls_client_files files = { .authorities = authority.certificate_path };
	struct plane_tls_client_files others = { .authorities = other_authority.certificate_path };
	struct plane_tls_client_files pinned = { .pinned = server.certificate_path };
	struct identity sibling = make("sibling", NULL, &authority, "DNS:plane.test");
	expect_distrust("other.test", &files, &server, "mismatch");
	expect_distrust("127.0.0.2", &files, &server, "mismatch");
	expect_distrust("plane.test", &others, &server, "issuer");
	expect_distrust("plane.test", NULL, &server, "issuer");
	/* what follows in a pinned file is not trusted: it may have issued others */
	_cleanup_(plane_buffer_finish) struct plane_buffer text = { 0 };
	_cleanup_free_ char *path = plane_strdupf("%s/chain.pem", directory);
	assert_int_equal(plane_file_read(server.certificate_path, 100000, &text, NULL), 0);
	assert_int_equal(plane_file_read(authority.certificate_path, 100000, &text, NULL), 0);
	assert_int_equal(plane_file_replace(path, text.data, text.len, 0644, false, NULL), 0);
	pinned.pinned = path;
	expect_distrust("plane.test", &pinned, &sibling, "pinned");
	struct pair pair;
	SSL_CTX *context = server_context(&server, NULL);
	open_pair(&pair, "any.name.test", &pinned, context, 1000);
	assert_int_equal(pair.client_result, 0);
	assert_true(plane_tls_is_established(pair.client));
	close_pair(&pair);
	plane_tls_context_free(context);
	drop(&sibling);
}

static void a_pinned_certificate_is_trusted_and_none_that_it_issued(void **state)
{
	struct plane_tls_client_files pinned = { .pinned = authority.certificate_path };
	struct identity old = make("old", NULL, &authority, "DNS:plane.test");
	expect_distrust("plane.test", &pinned, &server, "pinned");
	SSL_CTX *context = server_context(&authority, NULL);
	struct pair pair;
	open_pair(&pair, "plane.test", &pinned, context, 1000);
	assert_int_equal(pair.client_result, 0);
	assert_true(plane_tls_is_established(pair.client));
	close_pair(&pair);
	plane_tls_context_free(context);
	/* being the right one does not make it good for ever */
	X509_gmtime_adj(X509_getm_notAfter(old.certificate), -60);
	assert_true(X509_sign(old.certificate, authority.key, EVP_sha256()) > 0);
	write_files(&old, "old");
	pinned.pinned = old.certificate_path;
	expect_distrust("plane.test", &pinned, &old, "expired");
	drop(&old);
}

/* ---- client certificates ---- */

static void expect_name(const struct identity *shown, const char *expected)
{
	struct pair pair;
	struct plane_tls_client_files files = { .authorities = authority.certificate_path,
		.certificate = shown->certificate_path,
		.key = shown->key_path };
	SSL_CTX *context = server_context(&server, authority.certificate_path);
	open_pair(&pair, "plane.test", &files, context, 1000);
	assert_int_equal(pair.server_result, 0);
	_cleanup_free_ char *name = plane_tls_peer_common_name(pair.server);
	assert_string_equal(name, expected);
	assert_true(plane_tls_peer_expires_at_s(pair.server) > time(NULL) + 3000);
	assert_true(plane_tls_peer_is_trusted_by(pair.server, context));
	SSL_CTX *others = server_context(&server, other_authority.certificate_path);
	assert_false(plane_tls_peer_is_trusted_by(pair.server, others));
	SSL_CTX *same = server_context(&server, authority.certificate_path);
	assert_true(plane_tls_peer_is_trusted_by(pair.server, same));
	plane_tls_context_free(others);
	plane_tls_context_free(same);
	plane_tls_context_free(context);
	close_pair(&pair);
}

static void only_a_clear_common_name_counts(void **state)
{
	static const struct name_part cut[] = { { "CN", "node-1\0.test", 12 }, { 0 } };
	static const struct name_part two[] = { { "CN", "node-1", -1 }, { "CN", "node-2", -1 },
		{ 0 } };
	static const struct name_part none[] = { { "O", "node-1", -1 }, { 0 } };
	static const struct name_part foreign[] = { { "CN",
							    "n\xc3\xb6"
							    "de",
							    -1 },
		{ 0 } };
	static const struct {
		const struct name_part *subject;
		const char *expected;
	} cases[] = { { cut, "" }, { two, "" }, { none, "" }, { NULL, "" },
		{ foreign, "n\xc3\xb6"
			   "de" } };
	expect_name(&client, "node-1");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct identity made = make("case", cases[i].subject, &authority, "DNS:x.test");
		expect_name(&made, cases[i].expected);
		drop(&made);
	}
}

static void a_stranger_is_not_let_in(void **state)
{
	struct pair pair;
	struct plane_tls_client_files files = { .authorities = authority.certificate_path,
		.certificate = client.certificate_path,
		.key = client.key_path };
	SSL_CTX *context = server_context(&server, other_authority.certificate_path);
	open_pair(&pair, "plane.test", &files, context, 1000);
	assert_int_equal(pair.server_result, -EPROTO);
	assert_non_null(strstr(pair.server_err.message, "not trusted"));
	assert_null(plane_tls_peer_common_name(pair.server));
	assert_int_equal(pair.client_result, -EPROTO);
	assert_non_null(strstr(pair.client_err.message, "alert"));
	close_pair(&pair);
	plane_tls_context_free(context);
}

/* ---- files ---- */

static void a_context_is_made_only_of_files_that_changed(void **state)
{
	unsigned char digest[PLANE_TLS_DIGEST_SIZE] = { 0 }, before[PLANE_TLS_DIGEST_SIZE];
	struct identity live = make("live", NULL, &authority, "DNS:plane.test");
	struct plane_tls_server_files files = { .certificate = live.certificate_path,
		.key = live.key_path };
	struct plane_error err = { 0 };
	SSL_CTX *context = NULL, *unused = NULL;
	assert_int_equal(plane_tls_server_context(&files, digest, &context, &err), 1);
	assert_true(plane_tls_context_expires_at_s(context) > time(NULL) + 3000);
	assert_int_equal(plane_tls_server_context(&files, digest, &unused, &err), 0);
	memcpy(before, digest, sizeof(before));
	drop(&live);
	live = make("live", NULL, &authority, "DNS:plane.test");
	files = (struct plane_tls_server_files){ live.certificate_path, server.key_path, NULL,
		false };
	assert_int_equal(plane_tls_server_context(&files, digest, &unused, &err), -EINVAL);
	assert_non_null(strstr(err.message, "does not belong"));
	assert_null(unused);
	assert_memory_equal(before, digest, sizeof(before));
	files.key = live.key_path;
	assert_int_equal(chmod(live.key_path, 0604), 0);
	assert_true(plane_tls_server_context(&files, digest, &unused, &err) < 0);
	assert_non_null(strstr(err.message, "chmod"));
	assert_int_equal(chmod(live.key_path, 0640), 0);
	plane_tls_context_free(context);
	assert_int_equal(plane_tls_server_context(&files, digest, &context, &err), 1);
	plane_tls_context_free(context);
	drop(&live);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_go_both_ways_in_pieces_of_any_size),
		cmocka_unit_test(what_is_written_early_waits_for_the_handshake),
		cmocka_unit_test(http_without_tls_is_recognised),
		cmocka_unit_test(a_client_trusts_its_authorities_or_one_certificate),
		cmocka_unit_test(a_pinned_certificate_is_trusted_and_none_that_it_issued),
		cmocka_unit_test(only_a_clear_common_name_counts),
		cmocka_unit_test(a_stranger_is_not_let_in),
		cmocka_unit_test(a_context_is_made_only_of_files_that_changed),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
