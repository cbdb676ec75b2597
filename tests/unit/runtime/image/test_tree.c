/* runtime/image/tree.c: what untrusted entries can and cannot do to a tree. Needs root. */
#include "../../cmocka_all.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "runtime/image/tree.h"

static char base[] = "/tmp/plane-tree-XXXXXX";
static struct plane_tree tree;
static struct plane_error err;
static const struct plane_tree_meta plain = { .mode = 0755, .uid = 1, .gid = 2 };

static int set_up(void **state)
{
	(void)state;
	strcpy(base + strlen(base) - 6, "XXXXXX");
	assert_non_null(mkdtemp(base));
	tree = (struct plane_tree){ .root_fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
		.max_bytes = 1000 };
	assert_true(tree.root_fd >= 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(tree.root_fd);
	return plane_file_remove_tree(base, &err);
}

static void put_file(const char *path, const char *content)
{
	int fd = plane_tree_begin_file(&tree, path, &err);
	if (fd < 0)
		fail_msg("%s", err.message);
	assert_int_equal(plane_tree_write(&tree, fd, content, strlen(content), 0, path, &err), 0);
	assert_int_equal(plane_tree_end_file(&tree, fd, path, &plain, NULL, 0, &err), 0);
}

static mode_t kind_of(const char *path)
{
	struct stat status;
	return fstatat(tree.root_fd, path, &status, AT_SYMLINK_NOFOLLOW) < 0
		       ? 0
		       : status.st_mode & S_IFMT;
}

static void each_kind_replaces_each_other(void **state)
{
	(void)state;
	put_file("x", "file");
	assert_int_equal(plane_tree_put_directory(&tree, "x", &plain, &err), 0);
	put_file("x/below/deep/file", "content");
	assert_int_equal(plane_tree_put_directory(&tree, "x", &plain, &err), 0);
	assert_int_equal(kind_of("x/below/deep/file"), S_IFREG);
	put_file("x", "file again");
	assert_int_equal(kind_of("x"), S_IFREG);
	assert_int_equal(plane_tree_put_directory(&tree, "x", &plain, &err), 0);
	put_file("x/y", "below");
	assert_int_equal(plane_tree_put_symlink(&tree, "x", "/etc", &plain, &err), 0);
	assert_int_equal(kind_of("x"), S_IFLNK);
	assert_int_equal(plane_tree_put_fifo(&tree, "x", &plain, &err), 0);
	assert_int_equal(kind_of("x"), S_IFIFO);
	put_file("from", "linked");
	assert_int_equal(plane_tree_put_hardlink(&tree, "x", "from", &err), 0);
	assert_int_equal(plane_tree_put_hardlink(&tree, "x", "from", &err), 0);
	struct stat status;
	assert_int_equal(fstatat(tree.root_fd, "x", &status, 0), 0);
	assert_int_equal(status.st_nlink, 2);
	assert_int_equal(status.st_uid, 1);
	assert_int_equal(status.st_gid, 2);
}

static void removing_takes_all_below_and_follows_no_link(void **state)
{
	char outside[] = "/tmp/plane-outside-XXXXXX", file[64];
	(void)state;
	assert_non_null(mkdtemp(outside));
	snprintf(file, sizeof(file), "%s/kept", outside);
	close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	put_file("a/b/c/d", "1");
	put_file("a/e", "2");
	assert_int_equal(plane_tree_put_symlink(&tree, "a/b/out", outside, &plain, &err), 0);
	assert_int_equal(plane_tree_clear(&tree, "a", &err), 0);
	assert_int_equal(kind_of("a"), S_IFDIR);
	assert_int_equal(kind_of("a/b"), 0);
	assert_int_equal(plane_tree_clear(&tree, "a/nothing", &err), 0);
	put_file("a/b/c/d", "1");
	assert_int_equal(plane_tree_put_symlink(&tree, "a/b/out", outside, &plain, &err), 0);
	assert_int_equal(plane_tree_remove(&tree, "a", &err), 0);
	assert_int_equal(kind_of("a"), 0);
	assert_int_equal(plane_tree_remove(&tree, "a", &err), 0);
	assert_int_equal(plane_tree_put_symlink(&tree, "out", outside, &plain, &err), 0);
	assert_int_equal(
		plane_tree_clear(&tree, "out", &err), 0); /* in the tree it leads nowhere */
	assert_int_equal(plane_tree_remove(&tree, "out", &err), 0);
	assert_int_equal(access(file, F_OK), 0);
	assert_int_equal(plane_file_remove_tree(outside, &err), 0);
}

static void what_has_no_place_is_refused(void **state)
{
	const struct plane_tree_meta alien = { .mode = 0755, .uid = 65536 };
	char path[PLANE_TREE_MAX_PATH + 2];
	(void)state;
	assert_int_equal(plane_tree_remove(&tree, "/", &err), -EINVAL);
	assert_int_equal(plane_tree_remove(&tree, "a/../b", &err), -EINVAL);
	assert_int_equal(plane_tree_begin_file(&tree, "./", &err), -EINVAL);
	assert_int_equal(plane_tree_put_directory(&tree, "a", &alien, &err), -EINVAL);
	assert_int_equal(plane_tree_put_symlink(&tree, "a", "b", &alien, &err), -EINVAL);
	assert_int_equal(plane_tree_put_fifo(&tree, "a", &alien, &err), -EINVAL);
	assert_int_equal(plane_tree_put_directory(&tree, "d", &plain, &err), 0);
	assert_int_equal(plane_tree_put_hardlink(&tree, "a", "d", &err), -EINVAL);
	assert_int_equal(plane_tree_put_hardlink(&tree, "a", "nothing", &err), -EINVAL);
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = 0;
	assert_true(plane_tree_put_directory(&tree, path, &plain, &err) < 0);
	path[256] = 0; /* one name, a byte too long */
	assert_int_equal(plane_tree_put_directory(&tree, path, &plain, &err), -EINVAL);
	for (size_t i = 0; i < 2 * (PLANE_TREE_MAX_DEPTH + 2); i += 2)
		memcpy(path + i, "d/", 3);
	assert_int_equal(plane_tree_put_directory(&tree, path, &plain, &err), -EINVAL);
	assert_non_null(strstr(err.message, "too deep"));
	assert_int_equal(kind_of("a"), 0);
}

static void content_beyond_the_limit_is_refused(void **state)
{
	char bytes[600] = { 0 };
	(void)state;
	int fd = plane_tree_begin_file(&tree, "big", &err);
	assert_int_equal(plane_tree_write(&tree, fd, bytes, sizeof(bytes), 0, "big", &err), 0);
	assert_int_equal(
		plane_tree_write(&tree, fd, bytes, sizeof(bytes), 600, "big", &err), -E2BIG);
	close(fd);
	fd = plane_tree_begin_file(&tree, "sparse", &err);
	tree.bytes = 0;
	assert_int_equal(plane_tree_write(&tree, fd, bytes, 1, 1 << 20, "sparse", &err), -E2BIG);
	close(fd);
}

static atomic_bool is_over;

static void *rename_for_ever(void *data)
{
	char first[128], second[128];
	(void)data;
	snprintf(first, sizeof(first), "%s/left/moved", base);
	snprintf(second, sizeof(second), "%s/right/moved", base);
	while (!is_over)
		if (rename(first, second) < 0 || rename(second, first) < 0)
			return "rename";
	return NULL;
}

/* A rename anywhere on the machine makes the kernel give up on "..", which must not be seen. */
static void links_that_climb_are_resolved_while_others_rename(void **state)
{
	pthread_t thread;
	void *problem;
	(void)state;
	assert_int_equal(plane_tree_put_directory(&tree, "left/moved", &plain, &err), 0);
	assert_int_equal(plane_tree_put_directory(&tree, "right", &plain, &err), 0);
	assert_int_equal(plane_tree_put_directory(&tree, "a/b/c", &plain, &err), 0);
	assert_int_equal(
		plane_tree_put_symlink(&tree, "a/b/c/up", "../../../../../..", &plain, &err), 0);
	is_over = false;
	assert_int_equal(pthread_create(&thread, NULL, rename_for_ever, NULL), 0);
	int fd = 0, opened = 0;
	for (; opened < 20000 && fd >= 0; opened++) {
		fd = plane_tree_open(&tree, "a/b/c/up/a/b", O_RDONLY | O_DIRECTORY, &err);
		if (fd >= 0)
			close(fd);
	}
	is_over = true;
	assert_int_equal(pthread_join(thread, &problem), 0);
	assert_null(problem);
	if (fd < 0)
		fail_msg("after %d: %s", opened, err.message);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_kind_replaces_each_other),
		TEST(removing_takes_all_below_and_follows_no_link),
		TEST(what_has_no_place_is_refused),
		TEST(content_beyond_the_limit_is_refused),
		TEST(links_that_climb_are_resolved_while_others_rename),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
