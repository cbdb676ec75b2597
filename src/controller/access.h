/* Who may ask what of the control API: bearer tokens and client certificates against the token
 * files. Thread-safe: pool threads decide while the files are read again. */
#ifndef PLANE_CONTROLLER_ACCESS_H
#define PLANE_CONTROLLER_ACCESS_H

#include "controller/token_file.h"

struct plane_access;

struct plane_access_config {
	/** Paths, NULL-terminated; NULL: there are none. Borrowed as long as the access. */
	const char *const *token_files;
	/** A verified client certificate counts. Without token files it may do everything. */
	bool has_client_ca;
};

/** Reads the files; NULL with `err` when one cannot be used. */
struct plane_access *plane_access_create(
	const struct plane_access_config *config, struct plane_error *err);
void plane_access_destroy(struct plane_access *access);

/**
 * Reads the files again; `*is_changed` when one has other text than before. A file that cannot be
 * used keeps the entries that it had: that is the error, which is returned once, until it is
 * another. One thread at a time; blocks.
 */
int plane_access_reload(struct plane_access *access, bool *is_changed, struct plane_error *err);

enum plane_access_verdict {
	PLANE_ACCESS_ALLOWED,
	PLANE_ACCESS_NO_CREDENTIAL,
	PLANE_ACCESS_UNKNOWN, /* a token that is in no file, or a certificate */
	PLANE_ACCESS_EXPIRED,
	PLANE_ACCESS_LACKS_SCOPE,
};

/** What a request has to show for itself. */
struct plane_access_request {
	const char *authorization; /* the header's value; NULL for none */
	const char *common_name;   /* of the verified client certificate; NULL for none */
	unsigned scopes;           /* one of them is needed; 0 is never allowed */
	int64_t now_ms;            /* wall clock */
};

/**
 * The Authorization header decides when there is one, else the certificate. When it is allowed,
 * `*ticket` stands for what allowed it, for plane_access_is_valid.
 */
enum plane_access_verdict plane_access_decide(
	struct plane_access *access, const struct plane_access_request *request, uint64_t *ticket);

/** Would what was allowed then be allowed now? A ticket of 0 always is. */
bool plane_access_is_valid(struct plane_access *access, uint64_t ticket, int64_t now_ms);

/** Which nodes may be served by what was allowed then: no limits for a ticket of 0. False when it
 * would not be allowed now. An entry whose limits change is another one: tickets of before are
 * void. */
bool plane_access_limits(struct plane_access *access, uint64_t ticket, int64_t now_ms,
	struct plane_node_limits *limits);

/** How many entries are in force. */
size_t plane_access_count(struct plane_access *access);

#endif
