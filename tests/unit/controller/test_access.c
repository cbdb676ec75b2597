/* controller/access.c: who may ask what, and what becomes of it when the files change. */
#include "../cmocka_all.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "controller/access.h"

#define SECRET_DIGEST "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
#define WEB "web connect,read sha256:" SECRET_DIGEST "\n"
#define NOW_MS 1700000000000

static char directory[] = "/tmp/plane-test-access-XXXXXX";
static char paths[2][64];
static const char *const both[] = { paths[0], paths[1], NULL };
static const char *const one[] = { paths[0], NULL };

static int make_directory(void **state)
{
	if (!mkdtemp(directory))
		return -1;
	for (int i = 0; i < 2; i++)
		snprintf(paths[i], sizeof(paths[i]), "%s/%d", directory, i);
	return 0;
}

static int remove_directory(void **state)
{
	return plane_file_remove_tree(directory, NULL);
}

static void put(int index, const char *text)
{
	assert_int_equal(
		plane_file_replace(paths[index], text, strlen(text), 0600, false, NULL), 0);
}

static struct plane_access *open_access(const char *const *files, bool has_client_ca)
{
	struct plane_access_config config = { files, has_client_ca };
	struct plane_error err = { 0 };
	struct plane_access *access = plane_access_create(&config, &err);
	if (!access)
		fail_msg("%s", err.message);
	return access;
}

static enum plane_access_verdict decide(struct plane_access *access, const char *authorization,
	const char *common_name, unsigned scopes, uint64_t *ticket)
{
	uint64_t unused;
	struct plane_access_request request = { authorization, common_name, scopes, NOW_MS };
	return plane_access_decide(access, &request, ticket ? ticket : &unused);
}

static bool reload(struct plane_access *access)
{
	bool is_changed;
	struct plane_error err = { 0 };
	if (plane_access_reload(access, &is_changed, &err) < 0)
		fail_msg("%s", err.message);
	return is_changed;
}

static void a_token_gives_its_scopes_and_no_other(void **state)
{
	put(0, WEB);
	struct plane_access *access = open_access(one, false);
	const char *good = "Bearer secret";
	assert_int_equal(
		decide(access, good, NULL, PLANE_SCOPE_CONNECT, NULL), PLANE_ACCESS_ALLOWED);
	assert_int_equal(decide(access, good, NULL, PLANE_SCOPE_READ, NULL), PLANE_ACCESS_ALLOWED);
	assert_int_equal(
		decide(access, good, NULL, PLANE_SCOPE_ADMIN, NULL), PLANE_ACCESS_LACKS_SCOPE);
	assert_int_equal(
		decide(access, good, NULL, PLANE_SCOPE_NODE, NULL), PLANE_ACCESS_LACKS_SCOPE);
	assert_int_equal(decide(access, good, NULL, PLANE_SCOPES_ALL, NULL), PLANE_ACCESS_ALLOWED);
	assert_int_equal(decide(access, good, NULL, 0, NULL), PLANE_ACCESS_LACKS_SCOPE);
	assert_int_equal(
		decide(access, NULL, NULL, PLANE_SCOPE_READ, NULL), PLANE_ACCESS_NO_CREDENTIAL);
	plane_access_destroy(access);
}

static void the_header_has_one_form(void **state)
{
	put(0, WEB);
	struct plane_access *access = open_access(one, false);
	static const char *const good[] = { "Bearer secret", "bearer secret", "BEARER   secret" };
	static const char *const wrong[] = { "", "Bearer", "Bearer ", "secret", "Basic secret",
		"Bearersecret", "Bearer secret ", "Bearer secret x", "Bearer secre",
		"Bearer secrett", "Bearer Secret", "Bearer\tsecret" };
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_int_equal(decide(access, good[i], NULL, PLANE_SCOPE_READ, NULL),
			PLANE_ACCESS_ALLOWED);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(decide(access, wrong[i], NULL, PLANE_SCOPE_READ, NULL),
			PLANE_ACCESS_UNKNOWN);
	/* what stands in the file is no token */
	assert_int_equal(decide(access, "Bearer " SECRET_DIGEST, NULL, PLANE_SCOPE_READ, NULL),
		PLANE_ACCESS_UNKNOWN);
	plane_access_destroy(access);
}

static void a_certificate_counts_by_its_entry(void **state)
{
	put(0, "drones node certificate:drone-1\nweb connect sha256:" SECRET_DIGEST "\n");
	struct plane_access *access = open_access(one, true);
	assert_int_equal(
		decide(access, NULL, "drone-1", PLANE_SCOPE_NODE, NULL), PLANE_ACCESS_ALLOWED);
	assert_int_equal(
		decide(access, NULL, "drone-1", PLANE_SCOPE_ADMIN, NULL), PLANE_ACCESS_LACKS_SCOPE);
	assert_int_equal(
		decide(access, NULL, "drone-2", PLANE_SCOPE_NODE, NULL), PLANE_ACCESS_UNKNOWN);
	assert_int_equal(
		decide(access, NULL, "drone 1", PLANE_SCOPE_NODE, NULL), PLANE_ACCESS_UNKNOWN);
	/* a token decides, also beside a certificate that could do it */
	assert_int_equal(decide(access, "Bearer secret", "drone-1", PLANE_SCOPE_NODE, NULL),
		PLANE_ACCESS_LACKS_SCOPE);
	assert_int_equal(decide(access, "Bearer wrong", "drone-1", PLANE_SCOPE_NODE, NULL),
		PLANE_ACCESS_UNKNOWN);
	/* the name alone is no token */
	assert_int_equal(decide(access, "Bearer drone-1", NULL, PLANE_SCOPE_NODE, NULL),
		PLANE_ACCESS_UNKNOWN);
	plane_access_destroy(access);
	access = open_access(one, false); /* nobody has verified it */
	assert_int_equal(decide(access, NULL, "drone-1", PLANE_SCOPE_NODE, NULL),
		PLANE_ACCESS_NO_CREDENTIAL);
	plane_access_destroy(access);
}

static void without_files_the_authority_decides_alone(void **state)
{
	struct plane_access *access = open_access(NULL, true);
	assert_int_equal(
		decide(access, NULL, "any one", PLANE_SCOPE_ADMIN, NULL), PLANE_ACCESS_ALLOWED);
	assert_int_equal(decide(access, NULL, "any one", 0, NULL), PLANE_ACCESS_LACKS_SCOPE);
	assert_int_equal(
		decide(access, NULL, NULL, PLANE_SCOPE_ADMIN, NULL), PLANE_ACCESS_NO_CREDENTIAL);
	assert_int_equal(decide(access, "Bearer x", "any one", PLANE_SCOPE_ADMIN, NULL),
		PLANE_ACCESS_UNKNOWN);
	plane_access_destroy(access);
}

static void an_expiry_ends_it_and_what_was_opened(void **state)
{
	uint64_t ticket;
	put(0, "web read sha256:" SECRET_DIGEST " expires:2023-11-14T22:13:21Z\n"); /* NOW + 1 s */
	struct plane_access *access = open_access(one, false);
	assert_int_equal(decide(access, "Bearer secret", NULL, PLANE_SCOPE_READ, &ticket),
		PLANE_ACCESS_ALLOWED);
	assert_true(plane_access_is_valid(access, ticket, NOW_MS + 999));
	assert_false(plane_access_is_valid(access, ticket, NOW_MS + 1000));
	struct plane_access_request late = { "Bearer secret", NULL, PLANE_SCOPE_READ,
		NOW_MS + 1000 };
	assert_int_equal(plane_access_decide(access, &late, &ticket), PLANE_ACCESS_EXPIRED);
	plane_access_destroy(access);
}

static void a_ticket_lives_as_long_as_its_entry_and_scope(void **state)
{
	uint64_t ticket, node_ticket;
	put(0, WEB);
	put(1, "node node certificate:x\n");
	struct plane_access *access = open_access(both, true);
	assert_int_equal(plane_access_count(access), 2);
	(void)decide(access, "Bearer secret", NULL, PLANE_SCOPE_READ, &ticket);
	(void)decide(access, NULL, "x", PLANE_SCOPE_NODE, &node_ticket);
	assert_true(ticket != 0 && node_ticket != 0 && ticket != node_ticket);
	assert_false(reload(access));
	put(0, "# moved and renamed\nother read certificate:y\nsite read sha256:" SECRET_DIGEST);
	assert_true(reload(access));
	assert_true(plane_access_is_valid(access, ticket, NOW_MS));
	put(0, "site connect sha256:" SECRET_DIGEST);
	assert_true(reload(access));
	assert_false(plane_access_is_valid(access, ticket, NOW_MS));
	put(0, "");
	assert_true(reload(access));
	assert_false(plane_access_is_valid(access, ticket, NOW_MS));
	assert_true(plane_access_is_valid(access, node_ticket, NOW_MS));
	put(0, WEB); /* again: that is another one */
	assert_true(reload(access));
	assert_false(plane_access_is_valid(access, ticket, NOW_MS));
	assert_true(plane_access_is_valid(access, 0, NOW_MS));
	plane_access_destroy(access);
}

static void a_file_that_breaks_keeps_what_it_had(void **state)
{
	uint64_t ticket;
	bool is_changed;
	struct plane_error err = { 0 };
	put(0, WEB);
	struct plane_access *access = open_access(one, false);
	(void)decide(access, "Bearer secret", NULL, PLANE_SCOPE_READ, &ticket);
	put(0, "nonsense\n");
	assert_int_equal(plane_access_reload(access, &is_changed, &err), -EINVAL);
	assert_non_null(strstr(err.message, "line 1"));
	assert_false(is_changed);
	assert_int_equal(plane_access_reload(access, &is_changed, &err), 0); /* told once */
	assert_true(plane_access_is_valid(access, ticket, NOW_MS));
	assert_int_equal(unlink(paths[0]), 0);
	assert_int_equal(plane_access_reload(access, &is_changed, &err), -ENOENT);
	assert_true(plane_access_is_valid(access, ticket, NOW_MS));
	put(0, WEB);
	assert_int_equal(chmod(paths[0], 0644), 0);
	assert_int_equal(plane_access_reload(access, &is_changed, &err), -EPERM);
	put(0, "");
	assert_true(reload(access));
	assert_false(plane_access_is_valid(access, ticket, NOW_MS));
	plane_access_destroy(access);
}

static void a_bad_file_is_refused_at_the_start(void **state)
{
	struct plane_access_config config = { both, false };
	struct plane_error err = { 0 };
	put(0, WEB);
	put(1, "nonsense");
	assert_null(plane_access_create(&config, &err));
	assert_non_null(strstr(err.message, paths[1]));
}

static void tickets_know_for_which_nodes_they_are(void **state)
{
	uint64_t ticket = 0;
	struct plane_node_limits limits;
	put(0, "n node sha256:" SECRET_DIGEST " node-name:dr-one\n");
	struct plane_access *access = open_access(one, false);
	assert_int_equal(decide(access, "Bearer secret", NULL, PLANE_SCOPE_NODE, &ticket),
		PLANE_ACCESS_ALLOWED);
	assert_true(plane_access_limits(access, ticket, NOW_MS, &limits));
	assert_string_equal(limits.name, "dr-one");
	assert_true(plane_access_limits(access, 0, NOW_MS, &limits));
	assert_string_equal(limits.name, "");
	/* what else changes leaves it as it is */
	put(0, "m node,read sha256:" SECRET_DIGEST " node-name:dr-one\n");
	assert_true(reload(access));
	assert_true(plane_access_is_valid(access, ticket, NOW_MS));
	/* who was let in as one node must show that it may be another */
	put(0, "m node,read sha256:" SECRET_DIGEST " node-name:dr-two\n");
	assert_true(reload(access));
	assert_false(plane_access_is_valid(access, ticket, NOW_MS));
	assert_false(plane_access_limits(access, ticket, NOW_MS, &limits));
	plane_access_destroy(access);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tickets_know_for_which_nodes_they_are),
		cmocka_unit_test(a_token_gives_its_scopes_and_no_other),
		cmocka_unit_test(the_header_has_one_form),
		cmocka_unit_test(a_certificate_counts_by_its_entry),
		cmocka_unit_test(without_files_the_authority_decides_alone),
		cmocka_unit_test(an_expiry_ends_it_and_what_was_opened),
		cmocka_unit_test(a_ticket_lives_as_long_as_its_entry_and_scope),
		cmocka_unit_test(a_file_that_breaks_keeps_what_it_had),
		cmocka_unit_test(a_bad_file_is_refused_at_the_start),
	};
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
