/* Who may use the control API: the token file, read and written as text. Pure: no I/O, no clock.
 *
 * A line is an entry, empty, or a comment that begins with '#' (also behind an entry, after a
 * space). An entry is
 *
 *     NAME  SCOPE[,SCOPE...]  sha256:HEX | certificate:COMMON-NAME  [OPTION...]
 *
 * with options, each once at most: expires:YYYY-MM-DDTHH:MM:SSZ, and, where there is the scope
 * "node", node-kind:drone|proxy|dns, node-name:NAME, cluster:CLUSTER, node-ip:IP.
 *
 * The digest is that of the token's bytes: the file never holds the secret. A token is 256 random
 * bits, so neither salt nor a slow digest would make it harder to guess. */
#ifndef PLANE_CONTROLLER_TOKEN_FILE_H
#define PLANE_CONTROLLER_TOKEN_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "controller/node_limits.h"

/** What a request may be about. No scope contains another. */
enum plane_scope {
	PLANE_SCOPE_CONNECT = 1, /* links to backends, and backends for them */
	PLANE_SCOPE_ADMIN = 2,   /* terminate, drain, revoke */
	PLANE_SCOPE_NODE = 4,    /* the sockets of drones, proxies and DNS servers */
	PLANE_SCOPE_READ = 8,    /* lists, states, logs, metrics */
};
#define PLANE_SCOPES_ALL 15u
#define PLANE_SCOPE_COUNT 4

/** The name of a single scope; NULL for anything else. */
const char *plane_scope_text(unsigned scope);
/** "connect,read" and the like: no spaces, each at most once. False for anything else. */
bool plane_scopes_parse(const char *text, size_t len, unsigned *scopes);
/** Appends what plane_scopes_parse reads. */
void plane_scopes_write(unsigned scopes, struct plane_buffer *out);

#define PLANE_TOKEN_NAME_MAX 64
#define PLANE_COMMON_NAME_MAX 64 /* RFC 5280: ub-common-name */
#define PLANE_TOKEN_DIGEST_SIZE 32
#define PLANE_TOKEN_FILE_MAX ((size_t)1 << 20)
#define PLANE_TOKEN_ENTRIES_MAX 1024
#define PLANE_TOKEN_LINE_MAX 1024

/** A bearer token by its digest, or the common name of a client certificate. */
struct plane_credential {
	bool is_certificate;
	char common_name[PLANE_COMMON_NAME_MAX + 1];
	unsigned char digest[PLANE_TOKEN_DIGEST_SIZE];
};

struct plane_token_entry {
	char name[PLANE_TOKEN_NAME_MAX + 1];
	unsigned scopes;
	struct plane_credential credential;
	struct plane_node_limits limits;
	int64_t expires_at_ms; /* wall clock; 0: never */
	size_t begin, end;     /* its line in the text, the newline included */
	int64_t id;            /* the controller's own; not in the file */
};

struct plane_token_file {
	struct plane_token_entry *entries;
	size_t count;
};

/**
 * -EINVAL with the number of the line for anything that is not exactly as above, for a name or a
 * credential that stands there twice, and for a text above the limits. Nothing is secret in the
 * messages: a word that may be a token is not repeated.
 */
int plane_token_file_parse(
	const char *text, size_t len, struct plane_token_file *file, struct plane_error *err);
void plane_token_file_finish(struct plane_token_file *file);

/** Letters, digits, '-', '_' and '.', the first a letter or digit; at most 64. */
int plane_token_name_check(const char *name, struct plane_error *err);
/** What may stand behind "certificate:": 1 to 64 printable ASCII characters but space and '#'. */
int plane_common_name_check(const char *name, struct plane_error *err);
/** "YYYY-MM-DDTHH:MM:SSZ", a time that exists, from 1970 on. */
bool plane_token_time_parse(const char *text, size_t len, int64_t *time_ms);
#define PLANE_TOKEN_TIME_SIZE 21
void plane_token_time_write(int64_t time_ms, char text[PLANE_TOKEN_TIME_SIZE]);

void plane_token_digest(
	const char *token, size_t len, unsigned char digest[PLANE_TOKEN_DIGEST_SIZE]);
/** Appends the entry's line. Its fields must be valid. */
void plane_token_entry_write(const struct plane_token_entry *entry, struct plane_buffer *out);
const struct plane_token_entry *plane_token_file_find_name(
	const struct plane_token_file *file, const char *name);
/** Looks at every entry, in time that does not depend on how much of a digest is the same. */
const struct plane_token_entry *plane_token_file_find(
	const struct plane_token_file *file, const struct plane_credential *credential);

#endif
