/* Decisions about who may ask what. Must never log an Authorization header or a part of one. */
#include "controller/access.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

#define SCOPE_BITS 8 /* of a ticket; the rest is the entry's id */

struct table {
	const char *path;
	struct plane_token_file file;
	unsigned char digest[PLANE_TOKEN_DIGEST_SIZE]; /* of the text that was read last */
	struct plane_error problem;                    /* of the last reading; code 0: none */
};

struct plane_access {
	struct plane_access_config config;
	pthread_rwlock_t lock; /* of the tables' files */
	struct table *tables;
	size_t count;
	int64_t last_id;
};

/* An entry that goes on with its credential and its limits keeps its id, so that tickets stay
 * valid. */
static void give_ids(struct plane_access *access, struct plane_token_file *new,
	const struct plane_token_file *old)
{
	for (size_t i = 0; i < new->count; i++) {
		struct plane_token_entry *entry = &new->entries[i];
		const struct plane_token_entry *former =
			plane_token_file_find(old, &entry->credential);
		bool is_same = former &&
			       memcmp(&former->limits, &entry->limits, sizeof(entry->limits)) == 0;
		entry->id = is_same ? former->id : ++access->last_id;
	}
}

static void put_in_force(
	struct plane_access *access, struct table *table, const struct plane_token_file *new)
{
	pthread_rwlock_wrlock(&access->lock);
	struct plane_token_file old = table->file;
	table->file = *new;
	pthread_rwlock_unlock(&access->lock);
	plane_token_file_finish(&old);
}

/* 1 when there is something new, 0 when not. */
static int load(struct plane_access *access, struct table *table, struct plane_error *err)
{
	struct plane_token_file new = { 0 };
	unsigned char digest[PLANE_TOKEN_DIGEST_SIZE];
	_cleanup_(plane_buffer_finish) struct plane_buffer text = { 0 };
	int result = plane_file_read_private(table->path, PLANE_TOKEN_FILE_MAX, &text, err);
	if (result < 0)
		return result;
	plane_token_digest(plane_buffer_text(&text), text.len, digest);
	if (table->file.entries && memcmp(digest, table->digest, sizeof(digest)) == 0)
		return 0;
	result = plane_token_file_parse(plane_buffer_text(&text), text.len, &new, err);
	if (result < 0)
		return plane_error_prefix(err, "%s", table->path);
	give_ids(access, &new, &table->file);
	memcpy(table->digest, digest, sizeof(digest));
	put_in_force(access, table, &new);
	return 1;
}

struct plane_access *plane_access_create(
	const struct plane_access_config *config, struct plane_error *err)
{
	struct plane_access *access = PLANE_NEW(struct plane_access);
	access->config = *config;
	pthread_rwlock_init(&access->lock, NULL);
	for (const char *const *path = config->token_files; path && *path; path++)
		access->count++;
	access->tables = plane_alloc_zero(access->count, sizeof(struct table));
	for (size_t i = 0; i < access->count; i++) {
		access->tables[i].path = config->token_files[i];
		if (load(access, &access->tables[i], err) < 0) {
			plane_access_destroy(access);
			return NULL;
		}
	}
	return access;
}

void plane_access_destroy(struct plane_access *access)
{
	if (!access)
		return;
	for (size_t i = 0; i < access->count; i++)
		plane_token_file_finish(&access->tables[i].file);
	free(access->tables);
	pthread_rwlock_destroy(&access->lock);
	free(access);
}

int plane_access_reload(struct plane_access *access, bool *is_changed, struct plane_error *err)
{
	int result = 0;
	*is_changed = false;
	for (size_t i = 0; i < access->count; i++) {
		struct table *table = &access->tables[i];
		struct plane_error problem = { 0 };
		int code = load(access, table, &problem);
		bool is_news = code < 0 && strcmp(problem.message, table->problem.message) != 0;
		table->problem = problem;
		*is_changed |= code > 0;
		if (is_news) {
			result = code;
			if (err)
				*err = problem;
		}
	}
	return result;
}

/* ---- deciding ---- */

/* The token of "Bearer TOKEN" (RFC 6750 section 2.1); false for any other scheme or form. */
static bool read_bearer(const char *authorization, const char **token, size_t *len)
{
	static const char scheme[] = "Bearer ";
	if (strncasecmp(authorization, scheme, strlen(scheme)) != 0)
		return false;
	const char *begin = authorization + strlen(scheme);
	begin += strspn(begin, " ");
	*len = strcspn(begin, " \t");
	*token = begin;
	return *len > 0 && begin[*len] == '\0';
}

static enum plane_access_verdict find_credential(const struct plane_access *access,
	const struct plane_access_request *request, struct plane_credential *credential)
{
	const char *token;
	size_t len;
	*credential = (struct plane_credential){ 0 };
	if (request->authorization) {
		if (!read_bearer(request->authorization, &token, &len))
			return PLANE_ACCESS_UNKNOWN;
		plane_token_digest(token, len, credential->digest);
		return PLANE_ACCESS_ALLOWED;
	}
	if (!access->config.has_client_ca || !request->common_name)
		return PLANE_ACCESS_NO_CREDENTIAL;
	if (plane_common_name_check(request->common_name, NULL) < 0)
		return PLANE_ACCESS_UNKNOWN;
	credential->is_certificate = true;
	strcpy(credential->common_name, request->common_name); /* its length was checked */
	return PLANE_ACCESS_ALLOWED;
}

/* All tables are looked at, wherever it is found. */
static const struct plane_token_entry *find_entry(
	const struct plane_access *access, const struct plane_credential *credential)
{
	const struct plane_token_entry *found = NULL;
	for (size_t i = 0; i < access->count; i++) {
		const struct plane_token_entry *entry =
			plane_token_file_find(&access->tables[i].file, credential);
		found = found ? found : entry;
	}
	return found;
}

static enum plane_access_verdict judge(
	const struct plane_token_entry *entry, unsigned scopes, int64_t now_ms)
{
	if (!entry)
		return PLANE_ACCESS_UNKNOWN;
	if (entry->expires_at_ms && now_ms >= entry->expires_at_ms)
		return PLANE_ACCESS_EXPIRED;
	return entry->scopes & scopes ? PLANE_ACCESS_ALLOWED : PLANE_ACCESS_LACKS_SCOPE;
}

enum plane_access_verdict plane_access_decide(
	struct plane_access *access, const struct plane_access_request *request, uint64_t *ticket)
{
	struct plane_credential credential;
	*ticket = 0;
	/* without token files the client authority's word is enough */
	if (access->count == 0 && !request->authorization && access->config.has_client_ca &&
		request->common_name)
		return request->scopes ? PLANE_ACCESS_ALLOWED : PLANE_ACCESS_LACKS_SCOPE;
	enum plane_access_verdict verdict = find_credential(access, request, &credential);
	if (verdict != PLANE_ACCESS_ALLOWED)
		return verdict;
	pthread_rwlock_rdlock(&access->lock);
	const struct plane_token_entry *entry = find_entry(access, &credential);
	verdict = judge(entry, request->scopes, request->now_ms);
	if (verdict == PLANE_ACCESS_ALLOWED)
		*ticket = (uint64_t)entry->id << SCOPE_BITS | request->scopes;
	pthread_rwlock_unlock(&access->lock);
	return verdict;
}

bool plane_access_is_valid(struct plane_access *access, uint64_t ticket, int64_t now_ms)
{
	struct plane_node_limits unused;
	return plane_access_limits(access, ticket, now_ms, &unused);
}

bool plane_access_limits(struct plane_access *access, uint64_t ticket, int64_t now_ms,
	struct plane_node_limits *limits)
{
	const struct plane_token_entry *found = NULL;
	int64_t id = (int64_t)(ticket >> SCOPE_BITS);
	unsigned scopes = (unsigned)(ticket & ((1u << SCOPE_BITS) - 1));
	*limits = (struct plane_node_limits){ 0 };
	if (ticket == 0)
		return true;
	pthread_rwlock_rdlock(&access->lock);
	for (size_t t = 0; t < access->count && !found; t++) {
		const struct plane_token_file *file = &access->tables[t].file;
		for (size_t i = 0; i < file->count && !found; i++)
			if (file->entries[i].id == id)
				found = &file->entries[i];
	}
	enum plane_access_verdict verdict = judge(found, scopes, now_ms);
	if (verdict == PLANE_ACCESS_ALLOWED)
		*limits = found->limits;
	pthread_rwlock_unlock(&access->lock);
	return verdict == PLANE_ACCESS_ALLOWED;
}

size_t plane_access_count(struct plane_access *access)
{
	size_t count = 0;
	pthread_rwlock_rdlock(&access->lock);
	for (size_t i = 0; i < access->count; i++)
		count += access->tables[i].file.count;
	pthread_rwlock_unlock(&access->lock);
	return count;
}
