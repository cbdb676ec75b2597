/* controller/token_file.c and controller/token_store.c: what a token file may say, and how it is
 * changed. */
#include "../cmocka_all.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "controller/token_store.h"

/* SHA-256 of "secret" */
#define DIGEST "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
#define OTHER_DIGEST "1bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"

static struct plane_token_file parse(const char *text)
{
	struct plane_token_file file = { 0 };
	struct plane_error err = { 0 };
	if (plane_token_file_parse(text, strlen(text), &file, &err) < 0)
		fail_msg("%s", err.message);
	return file;
}

static void assert_refused(const char *text, const char *why)
{
	struct plane_token_file file = { 0 };
	struct plane_error err = { 0 };
	assert_int_equal(plane_token_file_parse(text, strlen(text), &file, &err), -EINVAL);
	assert_null(file.entries);
	if (!strstr(err.message, why))
		fail_msg("\"%s\" is not in: %s", why, err.message);
}

static void entries_comments_and_empty_lines_are_read(void **state)
{
	struct plane_token_file file = parse("# who may what\n"
					     "\n"
					     "web connect,read sha256:" DIGEST " # the site\n"
					     "  \t \n"
					     "Dr.1_a\tnode\tcertificate:drone-1.example "
					     "expires:2030-01-31T12:34:56Z\n"
					     "#x admin sha256:" OTHER_DIGEST);
	assert_int_equal(file.count, 2);
	const struct plane_token_entry *web = &file.entries[0], *node = &file.entries[1];
	assert_string_equal(web->name, "web");
	assert_int_equal(web->scopes, PLANE_SCOPE_CONNECT | PLANE_SCOPE_READ);
	assert_false(web->credential.is_certificate);
	assert_int_equal(web->credential.digest[0], 0x2b);
	assert_int_equal(web->credential.digest[31], 0x5b);
	assert_int_equal(web->expires_at_ms, 0);
	assert_string_equal(node->name, "Dr.1_a");
	assert_true(node->credential.is_certificate);
	assert_string_equal(node->credential.common_name, "drone-1.example");
	assert_int_equal(node->expires_at_ms, 1896093296000);
	plane_token_file_finish(&file);
	file = parse("");
	assert_int_equal(file.count, 0);
	plane_token_file_finish(&file);
}

static void what_is_wrong_is_told_with_its_line_and_without_the_secret(void **state)
{
	assert_refused("\n# x\nweb connect\n", "line 3: expected NAME SCOPES");
	assert_refused("web connect sha256:" DIGEST " expires:2030-01-31T12:34:56Z more", "line 1");
	assert_refused("-web connect sha256:" DIGEST, "the name");
	assert_refused("w\xc3\xa9 connect sha256:" DIGEST, "the name");
	assert_refused("web Connect sha256:" DIGEST, "the scopes");
	assert_refused("web connect,connect sha256:" DIGEST, "the scopes");
	assert_refused("web connect, sha256:" DIGEST, "the scopes");
	assert_refused("web , sha256:" DIGEST, "the scopes");
	assert_refused("web all sha256:" DIGEST, "the scopes");
	assert_refused("web connect sha256:" DIGEST "0", "the credential");
	assert_refused("web connect sha256:2BB80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97b"
		       "f527a25b",
		"the credential");
	assert_refused("web connect certificate:", "the credential");
	assert_refused("web connect certificate:caf\xc3\xa9", "the credential");
	assert_refused("web connect sha256:" DIGEST " expires:2030-02-31T12:34:56Z", "the expiry");
	assert_refused("web connect sha256:" DIGEST " expires:2030-01-31", "the expiry");
	assert_refused("web connect sha256:" DIGEST " expires:2030-01-31T12:34:56+", "the expiry");
	assert_refused("web connect sha256:" DIGEST " expires:1970-01-01T00:00:00Z", "the expiry");
	assert_refused("web connect sha256:" DIGEST "\r\n", "a control character");
	assert_refused("a read sha256:" DIGEST "\na read sha256:" OTHER_DIGEST, "line 2: there is");
	assert_refused("a read sha256:" DIGEST "\nb node sha256:" DIGEST, "with this credential");
	assert_refused("a read certificate:x\nb node certificate:x", "with this credential");

	struct plane_token_file file = { 0 };
	struct plane_error err = { 0 };
	const char *token_in_the_wrong_place = "web connect plane_SECRETSECRET";
	assert_true(plane_token_file_parse(token_in_the_wrong_place,
			    strlen(token_in_the_wrong_place), &file, &err) < 0);
	assert_null(strstr(err.message, "SECRET"));
	assert_true(plane_token_file_parse("a\0b", 3, &file, &err) < 0);
}

static void an_entry_may_be_for_some_nodes_only(void **state)
{
	static const char line[] = "a node sha256:" DIGEST " node-kind:drone node-name:dr-one "
				   "cluster:localhost:9090 node-ip:10.0.0.21 "
				   "expires:2030-01-31T12:34:56Z\n";
	struct plane_token_file file = parse(line);
	struct plane_buffer text = { 0 };
	assert_string_equal(file.entries[0].limits.kind, "drone");
	assert_string_equal(file.entries[0].limits.name, "dr-one");
	assert_string_equal(file.entries[0].limits.cluster, "localhost:9090");
	assert_string_equal(file.entries[0].limits.ip, "10.0.0.21");
	plane_token_entry_write(&file.entries[0], &text);
	assert_string_equal(plane_buffer_text(&text), line);
	plane_buffer_finish(&text);
	plane_token_file_finish(&file);
	file = parse(
		"a read,node sha256:" DIGEST " expires:2030-01-31T12:34:56Z cluster:c.example\n"
		"b node sha256:" OTHER_DIGEST " node-name:ns-x node-kind:dns\n"
		"c node certificate:x node-ip:fd00::1\n");
	assert_string_equal(file.entries[0].limits.kind, "");
	plane_token_file_finish(&file);
	static const char *const wrong[] = { "node-kind:Drone", "node-kind:controller",
		"node-kind:", "node-kind:drone node-kind:drone", "node-name:x", "node-name:co-x",
		"node-name:dr-NOT", "node-kind:proxy node-name:dr-x", "cluster:a/b",
		"node-kind:dns cluster:c.example", "node-name:ns-x cluster:c.example",
		"node-ip:host.example", "node-ip:10.0.0.1:80", "node-kind:proxy node-ip:10.0.0.1" };
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		_cleanup_free_ char *entry = plane_strdupf("a node sha256:" DIGEST " %s", wrong[i]);
		assert_refused(entry, "for nodes");
	}
	assert_refused("a read sha256:" DIGEST " node-kind:drone", "without the scope");
	assert_refused("a node sha256:" DIGEST " node:drone", "behind the credential");
}

static void a_file_has_limits(void **state)
{
	struct plane_buffer text = { 0 };
	for (int i = 0; i < PLANE_TOKEN_ENTRIES_MAX; i++)
		plane_buffer_addf(&text, "n%d read certificate:c%d\n", i, i);
	struct plane_token_file file = parse(plane_buffer_text(&text));
	assert_int_equal(file.count, PLANE_TOKEN_ENTRIES_MAX);
	plane_token_file_finish(&file);
	plane_buffer_add_text(&text, "more read certificate:more\n");
	assert_refused(plane_buffer_text(&text), "more than 1024 entries");
	static const size_t sizes[] = { PLANE_TOKEN_LINE_MAX + 1, PLANE_TOKEN_FILE_MAX + 1 };
	static const char *const problems[] = { "longer than 1024 bytes",
		"longer than 1048576 bytes" };
	for (int i = 0; i < 2; i++) {
		plane_buffer_clear(&text);
		memset(plane_buffer_reserve(&text, sizes[i]), '#', sizes[i]);
		text.len = sizes[i];
		assert_refused(plane_buffer_text(&text), problems[i]);
	}
	plane_buffer_finish(&text);
}

static void what_is_written_is_read_again(void **state)
{
	struct plane_token_file file = parse("a connect,admin,node,read sha256:" DIGEST "\n"
					     "b node certificate:x expires:2030-01-31T12:34:56Z\n");
	struct plane_buffer text = { 0 };
	for (size_t i = 0; i < file.count; i++)
		plane_token_entry_write(&file.entries[i], &text);
	assert_string_equal(plane_buffer_text(&text),
		"a connect,admin,node,read sha256:" DIGEST "\n"
		"b node certificate:x expires:2030-01-31T12:34:56Z\n");
	plane_buffer_finish(&text);
	plane_token_file_finish(&file);
}

static void a_credential_is_found_by_all_of_it(void **state)
{
	struct plane_token_file file =
		parse("a read sha256:" DIGEST "\nb read certificate:x\nc read certificate:xy\n");
	struct plane_credential credential = { 0 };
	plane_token_digest("secret", 6, credential.digest);
	assert_string_equal(plane_token_file_find(&file, &credential)->name, "a");
	credential.digest[31] ^= 1;
	assert_null(plane_token_file_find(&file, &credential));
	credential = (struct plane_credential){ .is_certificate = true, .common_name = "xy" };
	assert_string_equal(plane_token_file_find(&file, &credential)->name, "c");
	credential.is_certificate = false;
	assert_null(plane_token_file_find(&file, &credential));
	plane_token_file_finish(&file);
}

/* ---- on the disk ---- */

static char directory[] = "/tmp/plane-test-tokens-XXXXXX";
static char path[64];

static int make_directory(void **state)
{
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/tokens", directory);
	return 0;
}

static int remove_directory(void **state)
{
	return plane_file_remove_tree(directory, NULL);
}

static struct plane_token_entry entry_of(const char *name)
{
	struct plane_token_entry entry = { .scopes = PLANE_SCOPE_READ };
	strcpy(entry.name, name);
	plane_token_digest(name, strlen(name), entry.credential.digest);
	return entry;
}

static void put(const char *text, mode_t mode)
{
	(void)unlink(path);
	assert_int_equal(plane_file_replace(path, text, strlen(text), 0600, false, NULL), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static void a_file_open_to_others_is_refused(void **state)
{
	struct plane_token_file file = { 0 };
	struct plane_error err = { 0 };
	static const mode_t wrong[] = { 0604, 0644, 0602, 0620, 0601 };
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		put("", wrong[i]);
		assert_int_equal(plane_token_store_read(path, &file, &err), -EPERM);
		assert_non_null(strstr(err.message, "chmod 600"));
	}
	put("a read certificate:x", 0640);
	assert_int_equal(plane_token_store_read(path, &file, &err), 0);
	assert_int_equal(file.count, 1);
	plane_token_file_finish(&file);
	assert_int_equal(plane_token_store_read(directory, &file, &err), -EINVAL);
	assert_int_equal(plane_token_store_read("/nonexistent/x", &file, &err), -ENOENT);
	(void)unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0); /* would wait for a writer */
	assert_int_equal(plane_token_store_read(path, &file, &err), -EINVAL);
	(void)unlink(path);
}

static void a_change_keeps_the_rest_and_the_permissions(void **state)
{
	struct plane_error err = { 0 };
	struct plane_token_entry entry = entry_of("b");
	_cleanup_(plane_buffer_finish) struct plane_buffer text = { 0 };
	struct stat status;
	put("# first\na read certificate:x # why\n# last, without a newline", 0640);
	assert_int_equal(chown(path, 12, 34), geteuid() == 0 ? 0 : -1);
	assert_int_equal(plane_token_store_add(path, &entry, &err), 0);
	assert_int_equal(plane_token_store_add(path, &entry, &err), -EEXIST);
	strcpy(entry.name, "c");
	assert_int_equal(plane_token_store_add(path, &entry, &err), -EEXIST);
	assert_int_equal(plane_token_store_remove(path, "a", &err), 0);
	assert_int_equal(plane_token_store_remove(path, "a", &err), -ENOENT);
	assert_int_equal(plane_file_read(path, 10000, &text, &err), 0);
	assert_non_null(
		strstr(plane_buffer_text(&text), "# first\n# last, without a newline\nb read "
						 "sha256:3e23e8160039594a33894f6564e1b1348"
						 "bbd7a0088d42c4acb73eeaed59c009d\n"));
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0640);
	if (geteuid() == 0)
		assert_true(status.st_uid == 12 && status.st_gid == 34);
	put("a read nonsense", 0600); /* is not made worse */
	assert_int_equal(plane_token_store_add(path, &entry, &err), -EINVAL);
}

static void a_new_file_is_closed_to_others(void **state)
{
	struct plane_error err = { 0 };
	struct plane_token_entry entry = entry_of("a");
	struct stat status;
	(void)unlink(path);
	mode_t old = umask(0);
	assert_int_equal(plane_token_store_remove(path, "a", &err), -ENOENT);
	assert_int_equal(plane_token_store_add(path, &entry, &err), 0);
	umask(old);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
}

static void a_link_stays_a_link(void **state)
{
	struct plane_error err = { 0 };
	struct plane_token_entry entry = entry_of("a");
	struct plane_token_file file = { 0 };
	struct stat status;
	_cleanup_free_ char *link = plane_strdupf("%s/link", directory);
	put("", 0600);
	assert_int_equal(symlink("tokens", link), 0);
	assert_int_equal(plane_token_store_add(link, &entry, &err), 0);
	assert_int_equal(lstat(link, &status), 0);
	assert_true(S_ISLNK(status.st_mode));
	assert_int_equal(plane_token_store_read(path, &file, &err), 0);
	assert_int_equal(file.count, 1);
	plane_token_file_finish(&file);
}

#define WRITERS 4
#define ENTRIES_EACH 10

static void writers_at_once_lose_nothing(void **state)
{
	struct plane_token_file file = { 0 };
	struct plane_error err = { 0 };
	pid_t writers[WRITERS];
	(void)unlink(path);
	for (int w = 0; w < WRITERS; w++) {
		writers[w] = fork();
		if (writers[w] == 0) {
			int problems = 0;
			for (int i = 0; i < ENTRIES_EACH; i++) {
				char name[16];
				snprintf(name, sizeof(name), "n%d-%d", w, i);
				struct plane_token_entry entry = entry_of(name);
				problems += plane_token_store_add(path, &entry, NULL) < 0;
			}
			_exit(problems);
		}
	}
	for (int w = 0; w < WRITERS; w++) {
		int status = -1;
		assert_int_equal(waitpid(writers[w], &status, 0), writers[w]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(plane_token_store_read(path, &file, &err), 0);
	assert_int_equal(file.count, WRITERS * ENTRIES_EACH);
	plane_token_file_finish(&file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries_comments_and_empty_lines_are_read),
		cmocka_unit_test(what_is_wrong_is_told_with_its_line_and_without_the_secret),
		cmocka_unit_test(an_entry_may_be_for_some_nodes_only),
		cmocka_unit_test(a_file_has_limits),
		cmocka_unit_test(what_is_written_is_read_again),
		cmocka_unit_test(a_credential_is_found_by_all_of_it),
		cmocka_unit_test(a_file_open_to_others_is_refused),
		cmocka_unit_test(a_change_keeps_the_rest_and_the_permissions),
		cmocka_unit_test(a_new_file_is_closed_to_others),
		cmocka_unit_test(a_link_stays_a_link),
		cmocka_unit_test(writers_at_once_lose_nothing),
	};
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
