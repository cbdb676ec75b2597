/* base/file.c: whole files and trees. */
#include "../cmocka_all.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

static int make_directory(void **state)
{
	char template[] = "/tmp/plane-test-XXXXXX";
	*state = plane_strdup(mkdtemp(template));
	return 0;
}

static int remove_directory(void **state)
{
	struct plane_error err;
	int result = plane_file_remove_tree(*state, &err);
	free(*state);
	return result;
}

static void a_private_file_is_read_from_a_descriptor_too(void **state)
{
	_cleanup_free_ char *path = plane_strdupf("%s/private", (const char *)*state);
	_cleanup_(plane_buffer_finish) struct plane_buffer content = { 0 };
	struct plane_error err = { 0 };
	char name[16];
	assert_int_equal(plane_file_replace(path, "secret", 6, 0600, false, &err), 0);
	_cleanup_close_ int fd = open(path, O_RDONLY);
	assert_int_equal(lseek(fd, 3, SEEK_SET), 3);
	snprintf(name, sizeof(name), "fd:%d", fd);
	for (int i = 0; i < 2; i++) { /* whatever the offset, which others may move */
		plane_buffer_clear(&content);
		assert_int_equal(plane_file_read_private(name, 6, &content, &err), 0);
		assert_string_equal(plane_buffer_text(&content), "secret");
	}
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(plane_file_read_private(name, 5, &content, &err), -EFBIG);
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(plane_file_read_private(name, 6, &content, &err), -EPERM);
	assert_int_equal(plane_file_read_private(path, 6, &content, &err), -EPERM);
	assert_int_equal(plane_file_read_private("fd:1000000", 6, &content, &err), -EBADF);
	assert_int_equal(plane_file_read_private("fd:x", 6, &content, &err), -EBADF);
	assert_int_equal(plane_file_read_private("fd:-1", 6, &content, &err), -EBADF);
}

static void a_file_is_replaced_whole(void **state)
{
	struct plane_error err = { 0 };
	_cleanup_free_ char *path = plane_strdupf("%s/file", (char *)*state);
	assert_int_equal(plane_file_replace(path, "one", 3, 0600, true, &err), 0);
	assert_int_equal(plane_file_replace(path, "second", 6, 0600, false, &err), 0);
	struct plane_buffer content = { 0 };
	assert_int_equal(plane_file_read(path, 100, &content, &err), 0);
	assert_string_equal(plane_buffer_text(&content), "second");
	assert_true(plane_file_read(path, 3, &content, &err) < 0);
	plane_buffer_finish(&content);
	assert_true(plane_file_replace("/proc/none/x", "a", 1, 0600, false, &err) < 0);
}

static void removing_a_tree_does_not_follow_links(void **state)
{
	struct plane_error err = { 0 };
	const char *root = *state;
	_cleanup_free_ char *deep = plane_strdupf("%s/tree/a/b", root);
	_cleanup_free_ char *kept = plane_strdupf("%s/kept", root);
	_cleanup_free_ char *link = plane_strdupf("%s/tree/a/link", root);
	_cleanup_free_ char *tree = plane_strdupf("%s/tree", root);
	assert_int_equal(plane_file_make_directories(deep, 0755, &err), 0);
	assert_int_equal(plane_file_make_directories(kept, 0755, &err), 0);
	assert_int_equal(symlink(kept, link), 0);
	assert_int_equal(plane_file_remove_tree(tree, &err), 0);
	assert_int_not_equal(access(tree, F_OK), 0);
	assert_int_equal(access(kept, F_OK), 0);
	assert_int_equal(plane_file_remove_tree(tree, &err), 0);
}

/* A backend can make directories deeper than descriptors and stack reach. */
static void a_tree_of_any_depth_is_removed_with_few_descriptors(void **state)
{
	struct plane_error err = { 0 };
	struct rlimit before, few;
	_cleanup_free_ char *tree = plane_strdupf("%s/tree", (char *)*state);
	assert_int_equal(mkdir(tree, 0755), 0);
	int at = open(tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int depth = 0; depth < 3000; depth++) {
		assert_int_equal(mkdirat(at, ".plane-removed-1", 0755), 0);
		int next = openat(at, ".plane-removed-1", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(at);
		at = next;
	}
	close(at);
	getrlimit(RLIMIT_NOFILE, &before);
	few = (struct rlimit){ 64, before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	int code = plane_file_remove_tree(tree, &err);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_string_equal(err.message, "");
	assert_int_equal(code, 0);
	assert_int_not_equal(access(tree, F_OK), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_private_file_is_read_from_a_descriptor_too,
			make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(
			a_file_is_replaced_whole, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(
			removing_a_tree_does_not_follow_links, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(a_tree_of_any_depth_is_removed_with_few_descriptors,
			make_directory, remove_directory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
