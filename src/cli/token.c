/* `plane token`: makes, lists and revokes entries of a token file. The secret is printed once and
 * stored nowhere. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/table.h"
#include "controller/token_store.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TOKEN_PREFIX "plane_" /* so that programs that look for leaked secrets know it */
#define TOKEN_SIZE (sizeof(TOKEN_PREFIX) - 1 + PLANE_RANDOM_TOKEN_SIZE)
#define EXPIRY_MAX_S ((int64_t)100 * 365 * 86400)
#define FILE_FLAG(target)                                                                          \
	"file", PLANE_FLAG_TEXT, (target), "FILE", "the token file", .is_required = true

/* "90s", "15m", "12h", "30d". */
static bool read_duration(const char *text, int64_t *seconds)
{
	static const struct {
		char letter;
		int64_t seconds;
	} units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };
	char digits[16];
	int64_t number;
	size_t len = strlen(text);
	if (len < 2 || len > sizeof(digits))
		return false;
	memcpy(digits, text, len - 1);
	digits[len - 1] = '\0';
	if (!plane_text_parse_int(digits, 1, EXPIRY_MAX_S, &number))
		return false;
	for (size_t i = 0; i < COUNT(units); i++) {
		if (units[i].letter != text[len - 1] || number > EXPIRY_MAX_S / units[i].seconds)
			continue;
		*seconds = number * units[i].seconds;
		return true;
	}
	return false;
}

struct create_flags {
	const char *name, *scopes, *expires_in, *common_name, *file;
	const char *node_kind, *node_name, *cluster, *node_ip;
};

static bool copy_limit(char *limit, size_t size, const char *text)
{
	return !text || (text[0] && plane_text_copy(limit, size, text));
}

/* 0, or an exit status. */
static int read_limits(const struct create_flags *flags, struct plane_token_entry *entry)
{
	struct plane_node_limits *limits = &entry->limits;
	struct plane_error err = { 0 };
	bool is_any = flags->node_kind || flags->node_name || flags->cluster || flags->node_ip;
	if (is_any && !(entry->scopes & PLANE_SCOPE_NODE))
		return plane_fail("--node-kind, --node-name, --cluster and --node-ip are for the "
				  "scope \"node\"");
	if (!copy_limit(limits->kind, sizeof(limits->kind), flags->node_kind) ||
		!copy_limit(limits->name, sizeof(limits->name), flags->node_name) ||
		!copy_limit(limits->cluster, sizeof(limits->cluster), flags->cluster) ||
		!copy_limit(limits->ip, sizeof(limits->ip), flags->node_ip))
		return plane_fail("--node-kind, --node-name, --cluster, --node-ip: one is empty or "
				  "too long");
	if (plane_node_limits_check(limits, &err) < 0)
		return plane_fail(
			"--node-kind, --node-name, --cluster, --node-ip: %s", err.message);
	return 0;
}

/* 0, or an exit status. */
static int read_entry(const struct create_flags *flags, struct plane_token_entry *entry)
{
	struct plane_error err = { 0 };
	int64_t seconds = 0;
	if (plane_token_name_check(flags->name, &err) < 0)
		return plane_fail("--name: %s", err.message);
	strcpy(entry->name, flags->name); /* its length was checked */
	if (!plane_scopes_parse(flags->scopes, strlen(flags->scopes), &entry->scopes))
		return plane_fail("--scope: expected some of connect, admin, node and read, with "
				  "commas between");
	if (flags->expires_in && !read_duration(flags->expires_in, &seconds))
		return plane_fail("--expires-in: expected a number and s, m, h or d, as 30d; at "
				  "most 100 years");
	if (seconds)
		entry->expires_at_ms = plane_clock_realtime_ms() + seconds * 1000;
	int status = read_limits(flags, entry);
	if (status != 0 || !flags->common_name)
		return status;
	if (plane_common_name_check(flags->common_name, &err) < 0)
		return plane_fail("--certificate: %s", err.message);
	entry->credential.is_certificate = true;
	strcpy(entry->credential.common_name, flags->common_name); /* its length was checked */
	return 0;
}

static int create(const struct create_flags *flags)
{
	struct plane_token_entry entry = { 0 };
	struct plane_error err = { 0 };
	char secret[TOKEN_SIZE];
	int status = read_entry(flags, &entry);
	if (status != 0)
		return status;
	strcpy(secret, TOKEN_PREFIX);
	plane_random_token(secret + strlen(TOKEN_PREFIX));
	if (!entry.credential.is_certificate)
		plane_token_digest(secret, strlen(secret), entry.credential.digest);
	if (plane_token_store_add(flags->file, &entry, &err) < 0)
		return plane_fail("%s", err.message);
	if (!entry.credential.is_certificate)
		printf("%s\n", secret);
	explicit_bzero(secret, sizeof(secret));
	return fflush(stdout) == 0 ? 0 : plane_fail("print the token: %s", strerror(errno));
}

static int run_create(int argc, char **argv)
{
	struct create_flags target = { 0 };
	const struct plane_flag flags[] = {
		{ "name", PLANE_FLAG_TEXT, &target.name, "NAME", "what it is called in the file",
			.is_required = true },
		{ "scope", PLANE_FLAG_TEXT, &target.scopes, "SCOPE[,SCOPE]",
			"what it is good for: connect, admin, node, read", .is_required = true },
		{ FILE_FLAG(&target.file) },
		{ "expires-in", PLANE_FLAG_TEXT, &target.expires_in, "TIME",
			"as 90s, 15m, 12h, 30d (default: never)" },
		{ "node-kind", PLANE_FLAG_TEXT, &target.node_kind, "drone|proxy|dns",
			"with the scope node: for such nodes only" },
		{ "node-name", PLANE_FLAG_TEXT, &target.node_name, "NAME",
			"for the node of this name only, as dr-run-1" },
		{ "cluster", PLANE_FLAG_TEXT, &target.cluster, "CLUSTER",
			"for nodes of this cluster only" },
		{ "node-ip", PLANE_FLAG_TEXT, &target.node_ip, "IP",
			"for a drone with this --ip only" },
		{ "certificate", PLANE_FLAG_TEXT, &target.common_name, "COMMON-NAME",
			"no token: a client certificate of this name may do it" },
	};
	const struct plane_command command = {
		.usage = "plane token create --name NAME --scope SCOPES --file FILE [flags]",
		.summary = "Makes a token, adds its digest to the file and prints it: this once. A "
			   "controller\nthat uses the file knows it within a second.",
		.examples = "  plane token create --name web --scope connect,read --file tokens\n"
			    "  plane token create --name run-1 --scope node --node-kind drone "
			    "--node-name dr-run-1 --file tokens > node.token\n",
		.flags = flags,
		.flag_count = COUNT(flags),
	};
	int status = plane_command_parse(&command, argc, argv, NULL);
	return status >= 0 ? status : create(&target);
}

static void add_limit(struct plane_buffer *out, const char *limit)
{
	if (limit[0])
		plane_buffer_addf(out, "%s%s", out->len ? " " : "", limit);
}

static void add_row(struct plane_table *table, const struct plane_token_entry *entry)
{
	struct plane_buffer scopes = { 0 }, limits = { 0 };
	char expiry[PLANE_TOKEN_TIME_SIZE] = "never";
	bool is_over = entry->expires_at_ms && entry->expires_at_ms <= plane_clock_realtime_ms();
	plane_scopes_write(entry->scopes, &scopes);
	add_limit(&limits, entry->limits.kind);
	add_limit(&limits, entry->limits.name);
	add_limit(&limits, entry->limits.cluster);
	add_limit(&limits, entry->limits.ip);
	if (entry->expires_at_ms)
		plane_token_time_write(entry->expires_at_ms, expiry);
	plane_table_add(table, entry->name, plane_buffer_text(&scopes),
		entry->credential.is_certificate ? entry->credential.common_name : "",
		plane_buffer_text(&limits), expiry, is_over ? "expired" : "");
	plane_buffer_finish(&limits);
	plane_buffer_finish(&scopes);
}

static int run_list(int argc, char **argv)
{
	const char *path = NULL;
	struct plane_error err = { 0 };
	struct plane_token_file file = { 0 };
	const struct plane_flag flags[] = { { FILE_FLAG(&path) } };
	const struct plane_command command = {
		.usage = "plane token list --file FILE",
		.summary = "Lists the entries of a token file.",
		.flags = flags,
		.flag_count = COUNT(flags),
	};
	int status = plane_command_parse(&command, argc, argv, NULL);
	if (status >= 0)
		return status;
	if (plane_token_store_read(path, &file, &err) < 0)
		return plane_fail("%s", err.message);
	struct plane_table table = { .columns = 6 };
	plane_table_add(&table, "NAME", "SCOPES", "CERTIFICATE", "NODES", "EXPIRES", "");
	for (size_t i = 0; i < file.count; i++)
		add_row(&table, &file.entries[i]);
	plane_table_print(&table);
	plane_token_file_finish(&file);
	return 0;
}

static int run_revoke(int argc, char **argv)
{
	const char *words[PLANE_COMMAND_WORDS_MAX + 1], *path = NULL;
	struct plane_error err = { 0 };
	const struct plane_flag flags[] = { { FILE_FLAG(&path) } };
	const struct plane_command command = {
		.usage = "plane token revoke NAME --file FILE",
		.summary =
			"Removes an entry from a token file. Controllers that use the file close "
			"what was\nopened with it within a second.",
		.flags = flags,
		.flag_count = COUNT(flags),
		.min_words = 1,
		.max_words = 1,
	};
	int status = plane_command_parse(&command, argc, argv, words);
	if (status >= 0)
		return status;
	return plane_token_store_remove(path, words[0], &err) < 0 ? plane_fail("%s", err.message)
								  : 0;
}

int plane_command_token(int argc, char **argv)
{
	static const struct plane_subcommand table[] = {
		{ "create", run_create, "make a token and print it, once" },
		{ "list", run_list, "names, scopes and expiry" },
		{ "revoke", run_revoke, "remove one" },
		{ 0 },
	};
	return plane_subcommand_run(
		table, "plane token", "Tokens of the control API, in a file.", argc, argv);
}
