/* runtime/native/scratch.c: what of a backend keeps a directory from being used again. */
#include "../../cmocka_all.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/native/scratch.h"

#define OWNER 12345

struct fixture {
	char *root, *path, *upper;
	struct plane_scratch *scratch;
	ino_t inode;
};

static int set_up(void **state)
{
	char template[] = "/var/tmp/plane-test-XXXXXX";
	struct fixture *f = PLANE_NEW(struct fixture);
	struct plane_error err = { 0 };
	struct stat st;

	f->root = plane_strdup(mkdtemp(template));
	f->path = plane_strdupf("%s/one", f->root);
	f->upper = plane_strdupf("%s/upper", f->path);
	f->scratch = plane_scratch_create(f->root, &err);
	*state = f;
	if (!f->scratch || plane_scratch_take(f->scratch, f->path, &err) < 0 ||
		chmod(f->upper, 0755) < 0 || chown(f->upper, OWNER, OWNER) < 0 ||
		stat(f->upper, &st) < 0)
		return -1;
	f->inode = st.st_ino;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	struct plane_error err = { 0 };

	int code = plane_file_remove_tree(f->root, &err);
	plane_scratch_destroy(f->scratch);
	free(f->root);
	free(f->path);
	free(f->upper);
	free(f);
	return code;
}

/* Gives the directory back and says whether it was kept for the next. */
static bool is_used_again(struct fixture *f)
{
	struct plane_error err = { 0 };
	_cleanup_free_ char *spare = plane_strdupf("%s/spare/0/upper", f->root);
	struct stat st;

	assert_int_equal(plane_scratch_give_back(f->scratch, f->path, OWNER, &err), 0);
	assert_int_not_equal(access(f->path, F_OK), 0);
	return stat(spare, &st) == 0 && st.st_ino == f->inode;
}

static void a_clean_directory_is_used_again(void **state)
{
	assert_true(is_used_again(*state));
}

static void a_file_of_a_backend_is_removed(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *file = plane_strdupf("%s/secret", f->upper);
	_cleanup_close_ int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_false(is_used_again(f));
}

static void attributes_do_not_reach_the_next_backend(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(setxattr(f->upper, "trusted.plane", "x", 1, 0), 0);
	assert_false(is_used_again(f));
}

static void flags_do_not_reach_the_next_backend(void **state)
{
	struct fixture *f = *state;
	int flags = 0;
	_cleanup_close_ int fd = open(f->upper, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		return; /* a file system without flags */
	flags |= FS_SYNC_FL;
	assert_int_equal(ioctl(fd, FS_IOC_SETFLAGS, &flags), 0);
	assert_false(is_used_again(f));
}

/* ext4 never makes a directory smaller: the next backend would read through the empty blocks. */
static void a_directory_that_was_full_is_not_used_again(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	char name[300];
	_cleanup_close_ int fd = open(f->upper, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "%0240d", i);
		assert_int_equal(mkdirat(fd, name, 0700), 0);
	}
	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "%0240d", i);
		assert_int_equal(unlinkat(fd, name, AT_REMOVEDIR), 0);
	}
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(is_used_again(f), st.st_size <= 4096);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_clean_directory_is_used_again),
		TEST(a_file_of_a_backend_is_removed),
		TEST(attributes_do_not_reach_the_next_backend),
		TEST(flags_do_not_reach_the_next_backend),
		TEST(a_directory_that_was_full_is_not_used_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
