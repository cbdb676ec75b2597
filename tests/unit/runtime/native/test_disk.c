/* Who is ended when the disk is nearly full, and what counts as held. */
#include "../../cmocka_all.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/native/disk.h"

#define MIB (1LL << 20)
#define GIB (1LL << 30)

static const struct plane_disk_room roomy = { 50 * GIB, 100 * GIB, 900000, 1000000 };
static const struct plane_disk_room full = { GIB - 1, 100 * GIB, 900000, 1000000 };
static const struct plane_disk_room many_files = { 50 * GIB, 100 * GIB, 10, 1000000 };

static void the_reserve_is_a_part_of_small_disks_and_bounded_on_large_ones(void **state)
{
	(void)state;
	struct plane_disk_room small = { 0, 200 * MIB, 0, 0 };
	assert_int_equal(plane_disk_reserve(&small), 10 * MIB);
	assert_int_equal(plane_disk_reserve(&full), GIB);
	assert_false(plane_disk_is_short(&roomy));
	assert_true(plane_disk_is_short(&full));
	assert_true(plane_disk_is_short(&many_files));
	small.free_bytes = 10 * MIB; /* a file system that does not count files */
	assert_false(plane_disk_is_short(&small));
}

static void who_holds_the_most_is_chosen(void **state)
{
	struct plane_disk_use users[4] = { { 300 * MIB, 10, false }, { 0, 0, false },
		{ 400 * MIB, 5, false }, { 399 * MIB, 90000, false } };
	(void)state;
	assert_int_equal(plane_disk_choose(&full, users, 4), 2);
	assert_int_equal(plane_disk_choose(&many_files, users, 4), 3);
	assert_int_equal(plane_disk_choose(&roomy, users, 4), -1);
	users[1].is_unbounded = true;
	assert_int_equal(plane_disk_choose(&full, users, 4), 1);
}

static void nobody_is_blamed_for_what_others_hold(void **state)
{
	const struct plane_disk_use users[2] = { { GIB / 16, 3000, false }, { MIB, 20, false } };
	(void)state;
	assert_int_equal(plane_disk_choose(&full, users, 2), -1);
	assert_int_equal(plane_disk_choose(&many_files, users, 2), -1);
	assert_int_equal(plane_disk_choose(&full, NULL, 0), -1);
}

static char directory[] = "/tmp/plane-test-disk-XXXXXX";

static int make_directory(void **state)
{
	(void)state;
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	(void)state;
	return plane_file_remove_tree(directory, NULL);
}

static void write_file(const char *name, size_t len)
{
	_cleanup_free_ char *path = plane_strdupf("%s/%s", directory, name);
	_cleanup_free_ char *bytes = plane_alloc_zero(1, len);
	assert_int_equal(plane_file_replace(path, bytes, len, 0600, true, NULL), 0);
}

static void make_subdirectory(const char *name)
{
	_cleanup_free_ char *path = plane_strdupf("%s/%s", directory, name);
	assert_int_equal(mkdir(path, 0700), 0);
}

static void a_tree_is_added_up_without_following_links(void **state)
{
	struct plane_disk_use use = { 0 };
	_cleanup_free_ char *tree = plane_strdupf("%s/tree", directory);
	(void)state;
	write_file("outside", 8 * MIB);
	make_subdirectory("tree");
	make_subdirectory("tree/deep");
	write_file("tree/deep/large", 3 * MIB);
	write_file("tree/small", 4096);
	_cleanup_free_ char *link = plane_strdupf("%s/link", tree);
	_cleanup_free_ char *hard = plane_strdupf("%s/hard", tree);
	_cleanup_free_ char *small = plane_strdupf("%s/small", tree);
	assert_int_equal(symlink("../outside", link), 0);
	assert_int_equal(linkat(AT_FDCWD, small, AT_FDCWD, hard, 0), 0);
	plane_disk_measure_tree(tree, &use);
	assert_int_equal(use.files, 5);
	assert_in_range(use.bytes, 3 * MIB, 3 * MIB + 64 * 1024);
	assert_false(use.is_unbounded);
}

static void a_tree_that_is_too_deep_is_said_to_be(void **state)
{
	struct plane_disk_use use = { 0 };
	_cleanup_free_ char *tree = plane_strdupf("%s/deep", directory);
	(void)state;
	make_subdirectory("deep");
	int fd = open(tree, O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(mkdirat(fd, "d", 0700), 0);
		int next = openat(fd, "d", O_RDONLY | O_DIRECTORY);
		close(fd);
		fd = next;
	}
	close(fd);
	plane_disk_measure_tree(tree, &use);
	assert_true(use.is_unbounded);
}

static bool is_kept(void *data, const char *backend)
{
	return strcmp(backend, data) == 0;
}

static void age(const char *name, time_t seconds)
{
	_cleanup_free_ char *path = plane_strdupf("%s/%s", directory, name);
	struct timespec times[2] = { { seconds, 0 }, { seconds, 0 } };
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static bool exists(const char *name)
{
	_cleanup_free_ char *path = plane_strdupf("%s/%s", directory, name);
	return access(path, F_OK) == 0;
}

static void the_oldest_logs_go_first_and_those_of_the_living_stay(void **state)
{
	static const char *const names[] = { "logs/alive.log", "logs/alive.log.1", "logs/new.log",
		"logs/old.log", "logs/older.log.1" };
	_cleanup_free_ char *logs = plane_strdupf("%s/logs", directory);
	char living[] = "alive";
	(void)state;
	make_subdirectory("logs");
	for (size_t i = 0; i < 5; i++) {
		write_file(names[i], MIB);
		age(names[i], 1000 - (time_t)i * 100);
	}
	assert_in_range(plane_disk_remove_logs(logs, 2 * MIB, is_kept, living), 2 * MIB, 3 * MIB);
	assert_true(exists(names[0]) && exists(names[1]) && exists(names[2]));
	assert_false(exists(names[3]) || exists(names[4]));
	assert_int_equal(plane_disk_remove_logs(logs, 0, is_kept, living), 0);
	assert_true(plane_disk_remove_logs(logs, INT64_MAX, is_kept, living) >= MIB);
	assert_true(exists(names[0]) && exists(names[1]));
	assert_false(exists(names[2]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_reserve_is_a_part_of_small_disks_and_bounded_on_large_ones),
		cmocka_unit_test(who_holds_the_most_is_chosen),
		cmocka_unit_test(nobody_is_blamed_for_what_others_hold),
		cmocka_unit_test(a_tree_is_added_up_without_following_links),
		cmocka_unit_test(a_tree_that_is_too_deep_is_said_to_be),
		cmocka_unit_test(the_oldest_logs_go_first_and_those_of_the_living_stay),
	};
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
