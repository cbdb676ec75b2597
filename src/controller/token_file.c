/* The token file's text. Must never put a field into a message that may hold a token. */
#include "controller/token_file.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "base/alloc.h"
#include "base/text.h"

#define FIELDS_NEEDED 3
#define FIELDS_MAX 8
#define TIME_FORMAT "%Y-%m-%dT%H:%M:%SZ"

static const struct {
	enum plane_scope scope;
	const char *text;
} scope_names[PLANE_SCOPE_COUNT] = { { PLANE_SCOPE_CONNECT, "connect" },
	{ PLANE_SCOPE_ADMIN, "admin" }, { PLANE_SCOPE_NODE, "node" },
	{ PLANE_SCOPE_READ, "read" } };

struct field {
	const char *text;
	size_t len;
};

/* ---- scopes ---- */

const char *plane_scope_text(unsigned scope)
{
	for (size_t i = 0; i < PLANE_SCOPE_COUNT; i++)
		if (scope_names[i].scope == scope)
			return scope_names[i].text;
	return NULL;
}

static bool is_text(struct field field, const char *text)
{
	return field.len == strlen(text) && memcmp(field.text, text, field.len) == 0;
}

static unsigned scope_of(struct field word)
{
	for (size_t i = 0; i < PLANE_SCOPE_COUNT; i++)
		if (is_text(word, scope_names[i].text))
			return scope_names[i].scope;
	return 0;
}

bool plane_scopes_parse(const char *text, size_t len, unsigned *scopes)
{
	unsigned found = 0;
	const char *end = text + len;
	for (;;) {
		const char *comma = memchr(text, ',', (size_t)(end - text));
		const char *stop = comma ? comma : end;
		unsigned scope = scope_of((struct field){ text, (size_t)(stop - text) });
		if (!scope || (found & scope))
			return false;
		found |= scope;
		if (!comma)
			break;
		text = comma + 1;
	}
	*scopes = found;
	return true;
}

void plane_scopes_write(unsigned scopes, struct plane_buffer *out)
{
	const char *separator = "";
	for (size_t i = 0; i < PLANE_SCOPE_COUNT; i++) {
		if (!(scopes & scope_names[i].scope))
			continue;
		plane_buffer_addf(out, "%s%s", separator, scope_names[i].text);
		separator = ",";
	}
}

/* ---- fields ---- */

static bool is_name(const char *name, size_t len)
{
	if (len == 0 || len > PLANE_TOKEN_NAME_MAX || !isalnum((unsigned char)name[0]))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)name[i]) && !strchr("-_.", name[i]))
			return false;
	return true;
}

int plane_token_name_check(const char *name, struct plane_error *err)
{
	if (is_name(name, strlen(name)))
		return 0;
	return plane_error_set(err, EINVAL,
		"expected a name of at most %d letters, digits, '-', '_' and '.', which begins "
		"with a letter or digit",
		PLANE_TOKEN_NAME_MAX);
}

static bool is_common_name(const char *name, size_t len)
{
	if (len == 0 || len > PLANE_COMMON_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (name[i] <= ' ' || name[i] > '~' || name[i] == '#')
			return false;
	return true;
}

int plane_common_name_check(const char *name, struct plane_error *err)
{
	if (is_common_name(name, strlen(name)))
		return 0;
	return plane_error_set(err, EINVAL,
		"expected the common name of a certificate: 1 to %d printable ASCII characters, no "
		"space and no '#'",
		PLANE_COMMON_NAME_MAX);
}

void plane_token_time_write(int64_t time_ms, char text[PLANE_TOKEN_TIME_SIZE])
{
	time_t seconds = (time_t)(time_ms / 1000);
	struct tm parts = { 0 };
	text[0] = '\0';
	(void)gmtime_r(&seconds, &parts); /* the limits were checked */
	(void)strftime(text, PLANE_TOKEN_TIME_SIZE, TIME_FORMAT, &parts);
}

bool plane_token_time_parse(const char *text, size_t len, int64_t *time_ms)
{
	char copy[PLANE_TOKEN_TIME_SIZE], again[PLANE_TOKEN_TIME_SIZE];
	struct tm parts = { 0 };
	if (len != PLANE_TOKEN_TIME_SIZE - 1)
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	const char *end = strptime(copy, TIME_FORMAT, &parts);
	if (!end || *end)
		return false;
	int64_t parsed_ms = (int64_t)timegm(&parts) * 1000;
	if (parsed_ms <= 0)
		return false;
	plane_token_time_write(parsed_ms, again); /* strptime takes the 31st of February */
	if (strcmp(copy, again) != 0)
		return false;
	*time_ms = parsed_ms;
	return true;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex(struct field hex, unsigned char digest[PLANE_TOKEN_DIGEST_SIZE])
{
	if (hex.len != 2 * (size_t)PLANE_TOKEN_DIGEST_SIZE)
		return false;
	for (size_t i = 0; i < PLANE_TOKEN_DIGEST_SIZE; i++) {
		int high = hex_value(hex.text[2 * i]), low = hex_value(hex.text[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		digest[i] = (unsigned char)(high * 16 + low);
	}
	return true;
}

static bool cut_prefix(struct field *field, const char *prefix)
{
	size_t len = strlen(prefix);
	if (field->len < len || memcmp(field->text, prefix, len) != 0)
		return false;
	field->text += len;
	field->len -= len;
	return true;
}

static bool read_credential(struct field field, struct plane_credential *credential)
{
	*credential = (struct plane_credential){ 0 };
	if (cut_prefix(&field, "sha256:"))
		return read_hex(field, credential->digest);
	if (!cut_prefix(&field, "certificate:") || !is_common_name(field.text, field.len))
		return false;
	credential->is_certificate = true;
	memcpy(credential->common_name, field.text, field.len);
	return true;
}

/* ---- lines ---- */

/* The fields of a line, without its comment; FIELDS_MAX + 1 for too many. */
static size_t split(const char *line, size_t len, struct field fields[FIELDS_MAX])
{
	size_t count = 0;
	for (size_t i = 0; i < len;) {
		if (line[i] == ' ' || line[i] == '\t') {
			i++;
			continue;
		}
		if (line[i] == '#')
			break;
		size_t begin = i;
		while (i < len && line[i] != ' ' && line[i] != '\t')
			i++;
		if (count == FIELDS_MAX)
			return FIELDS_MAX + 1;
		fields[count++] = (struct field){ line + begin, i - begin };
	}
	return count;
}

static bool read_text(struct field field, char *text, size_t size)
{
	if (text[0] || field.len == 0 || field.len >= size)
		return false;
	memcpy(text, field.text, field.len);
	text[field.len] = '\0';
	return true;
}

/* NULL, or what is wrong. */
static const char *read_option(struct field field, struct plane_token_entry *entry)
{
	struct plane_node_limits *limits = &entry->limits;
	bool is_good;
	if (cut_prefix(&field, "expires:"))
		return !entry->expires_at_ms && plane_token_time_parse(field.text, field.len,
							&entry->expires_at_ms)
			       ? NULL
			       : "the expiry: expected expires: and a time in UTC, as "
				 "2030-01-31T00:00:00Z, once";
	if (cut_prefix(&field, "node-kind:"))
		is_good = read_text(field, limits->kind, sizeof(limits->kind));
	else if (cut_prefix(&field, "node-name:"))
		is_good = read_text(field, limits->name, sizeof(limits->name));
	else if (cut_prefix(&field, "cluster:"))
		is_good = read_text(field, limits->cluster, sizeof(limits->cluster));
	else if (cut_prefix(&field, "node-ip:"))
		is_good = read_text(field, limits->ip, sizeof(limits->ip));
	else
		return "behind the credential: expected expires:TIME, node-kind:KIND, "
		       "node-name:NAME, cluster:CLUSTER or node-ip:IP";
	if (!is_good)
		return "an option for nodes: expected a short text, once";
	return entry->scopes & PLANE_SCOPE_NODE ? NULL
						: "an option for nodes, without the scope \"node\"";
}

/* NULL, or what is wrong. */
static const char *read_entry(
	const struct field *fields, size_t count, struct plane_token_entry *entry)
{
	const char *problem = NULL;
	if (count < FIELDS_NEEDED || count > FIELDS_MAX)
		return "expected NAME SCOPES sha256:HEX or certificate:COMMON-NAME, and perhaps "
		       "options as expires:TIME";
	if (!is_name(fields[0].text, fields[0].len))
		return "the name: expected at most 64 letters, digits, '-', '_' and '.', the first "
		       "a letter or digit";
	memcpy(entry->name, fields[0].text, fields[0].len);
	if (!plane_scopes_parse(fields[1].text, fields[1].len, &entry->scopes))
		return "the scopes: expected some of connect, admin, node and read, each once, "
		       "with commas between";
	if (!read_credential(fields[2], &entry->credential))
		return "the credential: expected sha256: and 64 digits of 0-9a-f, or certificate: "
		       "and a common name";
	for (size_t i = FIELDS_NEEDED; i < count && !problem; i++)
		problem = read_option(fields[i], entry);
	if (!problem && plane_node_limits_check(&entry->limits, NULL) < 0)
		problem = "the options for nodes: expected node-kind:drone, proxy or dns, the name "
			  "of a node of that kind, a cluster (not for dns), an IP address (only "
			  "for drones)";
	return problem;
}

static bool is_same(const struct plane_credential *a, const struct plane_credential *b)
{
	/* all of it is compared, whatever differs first */
	int difference = a->is_certificate != b->is_certificate;
	difference |= CRYPTO_memcmp(a->digest, b->digest, sizeof(a->digest));
	difference |= CRYPTO_memcmp(a->common_name, b->common_name, sizeof(a->common_name));
	return difference == 0;
}

static const char *check_unique(
	const struct plane_token_file *file, const struct plane_token_entry *entry)
{
	if (plane_token_file_find_name(file, entry->name))
		return "there is an entry of this name above";
	if (plane_token_file_find(file, &entry->credential))
		return "there is an entry with this credential above";
	return NULL;
}

/* NULL, or what is wrong. */
static const char *read_line(struct plane_token_file *file, const char *line, size_t len)
{
	struct field fields[FIELDS_MAX];
	struct plane_token_entry entry = { 0 };
	if (len > PLANE_TOKEN_LINE_MAX)
		return "the line is longer than 1024 bytes";
	for (size_t i = 0; i < len; i++)
		if (line[i] != '\t' && ((unsigned char)line[i] < ' ' || line[i] == 0x7f))
			return "there is a control character";
	size_t count = split(line, len, fields);
	if (count == 0)
		return NULL;
	const char *problem = read_entry(fields, count, &entry);
	if (!problem)
		problem = check_unique(file, &entry);
	if (!problem && file->count == PLANE_TOKEN_ENTRIES_MAX)
		problem = "there are more than 1024 entries";
	if (!problem)
		file->entries[file->count++] = entry;
	return problem;
}

int plane_token_file_parse(
	const char *text, size_t len, struct plane_token_file *file, struct plane_error *err)
{
	struct plane_token_file found = { 0 };
	size_t lines = 1;
	if (len > PLANE_TOKEN_FILE_MAX)
		return plane_error_set(
			err, EINVAL, "it is longer than %zu bytes", PLANE_TOKEN_FILE_MAX);
	for (size_t i = 0; i < len; i++)
		lines += text[i] == '\n';
	size_t room = lines < PLANE_TOKEN_ENTRIES_MAX ? lines : PLANE_TOKEN_ENTRIES_MAX;
	found.entries = plane_alloc_zero(room, sizeof(*found.entries));
	size_t number = 1;
	for (size_t at = 0; at < len; number++) {
		const char *newline = memchr(text + at, '\n', len - at);
		size_t line_len = newline ? (size_t)(newline - text) - at : len - at;
		size_t known = found.count;
		const char *problem = read_line(&found, text + at, line_len);
		if (problem) {
			plane_token_file_finish(&found);
			return plane_error_set(err, EINVAL, "line %zu: %s", number, problem);
		}
		size_t end = at + line_len + (newline != NULL);
		if (found.count > known) {
			found.entries[known].begin = at;
			found.entries[known].end = end;
		}
		at = end;
	}
	*file = found;
	return 0;
}

void plane_token_file_finish(struct plane_token_file *file)
{
	free(file->entries);
	*file = (struct plane_token_file){ 0 };
}

/* ---- use ---- */

void plane_token_digest(
	const char *token, size_t len, unsigned char digest[PLANE_TOKEN_DIGEST_SIZE])
{
	(void)SHA256((const unsigned char *)token, len, digest); /* returns digest */
}

static void add_option(struct plane_buffer *out, const char *name, const char *value)
{
	if (value[0])
		plane_buffer_addf(out, " %s:%s", name, value);
}

void plane_token_entry_write(const struct plane_token_entry *entry, struct plane_buffer *out)
{
	plane_buffer_addf(out, "%s ", entry->name);
	plane_scopes_write(entry->scopes, out);
	if (entry->credential.is_certificate) {
		plane_buffer_addf(out, " certificate:%s", entry->credential.common_name);
	} else {
		plane_buffer_add_text(out, " sha256:");
		for (size_t i = 0; i < PLANE_TOKEN_DIGEST_SIZE; i++)
			plane_buffer_addf(out, "%02x", entry->credential.digest[i]);
	}
	add_option(out, "node-kind", entry->limits.kind);
	add_option(out, "node-name", entry->limits.name);
	add_option(out, "cluster", entry->limits.cluster);
	add_option(out, "node-ip", entry->limits.ip);
	if (entry->expires_at_ms) {
		char time[PLANE_TOKEN_TIME_SIZE];
		plane_token_time_write(entry->expires_at_ms, time);
		plane_buffer_addf(out, " expires:%s", time);
	}
	plane_buffer_add_text(out, "\n");
}

const struct plane_token_entry *plane_token_file_find_name(
	const struct plane_token_file *file, const char *name)
{
	for (size_t i = 0; i < file->count; i++)
		if (strcmp(file->entries[i].name, name) == 0)
			return &file->entries[i];
	return NULL;
}

const struct plane_token_entry *plane_token_file_find(
	const struct plane_token_file *file, const struct plane_credential *credential)
{
	const struct plane_token_entry *found = NULL;
	for (size_t i = 0; i < file->count; i++)
		if (is_same(&file->entries[i].credential, credential))
			found = &file->entries[i];
	return found;
}
