/* Control groups on the real kernel: needs root. Own instance ids, removed at the end. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "runtime/native/cgroup.h"

static struct plane_cgroups *open_groups(enum plane_cgroup_version version)
{
	struct plane_error err = { 0 };
	char id[9];

	snprintf(id, sizeof(id), "%08x", (unsigned)plane_random_below(1ull << 32));
	struct plane_cgroups *groups = plane_cgroups_open(id, version, NULL, &err);
	if (!groups && err.code == -ENOTSUP)
		skip();
	assert_non_null(groups);
	assert_int_equal(plane_cgroup_make(groups, "one", &err), 0);
	assert_int_equal(plane_cgroup_make(groups, "one", &err), 0);
	return groups;
}

static void close_groups(struct plane_cgroups *groups)
{
	struct plane_error err = { 0 };

	if (plane_cgroups_remove(groups, 5000, &err) < 0)
		fail_msg("%s", err.message);
	plane_cgroups_destroy(groups);
}

/* A child that runs `work` once it is in the group. */
static pid_t start_in(struct plane_cgroups *groups, int (*work)(void))
{
	struct plane_error err = { 0 };
	int gate[2];
	char byte;

	assert_int_equal(pipe(gate), 0);
	pid_t pid = _Fork(); /* fork() under ThreadSanitizer starts a thread, which counts */
	if (pid == 0) {
		close(gate[1]);
		if (read(gate[0], &byte, 1) != 0)
			_exit(99);
		_exit(work());
	}
	close(gate[0]);
	int code = plane_cgroup_attach(groups, "one", pid, &err);
	close(gate[1]);
	assert_int_equal(code, 0);
	return pid;
}

static int use_memory(void)
{
	size_t size = 64 << 20;
	volatile char *bytes = malloc(size);

	for (size_t i = 0; bytes && i < size; i += 4096)
		bytes[i] = 1;
	return 0;
}

static int fork_many(void)
{
	int count = 0;

	for (pid_t pid = 1; count < 20; count++) {
		pid = _Fork();
		if (pid < 0)
			break;
		if (pid == 0)
			for (;;)
				pause();
	}
	return count;
}

__attribute__((noreturn)) static int wait_for_ever(void)
{
	for (;;)
		pause();
}

static void memory_over_the_limit_is_killed_and_counted(void **state)
{
	struct plane_cgroups *groups = open_groups(PLANE_CGROUP_AUTO);
	const struct plane_cgroup_limits limits = { .memory_bytes = 16 << 20,
		.cpu_quota_us = 50000 };
	struct plane_runtime_metrics metrics;
	struct plane_error err = { 0 };
	int64_t kills = -1;
	int status;

	(void)state;
	assert_int_equal(plane_cgroup_limit(groups, "one", &limits, &err), 0);
	pid_t pid = start_in(groups, use_memory);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(plane_cgroup_oom_kills(groups, "one", &kills, &err), 0);
	assert_int_equal(kills, 1);
	assert_int_equal(plane_cgroup_metrics(groups, "one", &metrics, &err), 0);
	assert_int_equal(metrics.mem_limit, 16 << 20);
	assert_true(metrics.cpu_total_ns > 0);
	close_groups(groups);
}

static void processes_are_limited_and_all_are_killed(void **state)
{
	struct plane_cgroups *groups = open_groups(PLANE_CGROUP_AUTO);
	const struct plane_cgroup_limits limits = { .pids_max = 6 };
	struct plane_error err = { 0 };
	int status;

	(void)state;
	assert_int_equal(plane_cgroup_limit(groups, "one", &limits, &err), 0);
	pid_t pid = start_in(groups, fork_many);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 5);
	assert_true(plane_cgroup_is_populated(groups, "one"));
	assert_int_equal(plane_cgroup_kill(groups, "one", &err), 0);
	assert_int_equal(plane_cgroup_remove(groups, "one", 5000, &err), 0);
	assert_false(plane_cgroup_is_populated(groups, "one"));
	assert_int_equal(plane_cgroup_kill(groups, "one", &err), 0);
	close_groups(groups);
}

static void v2_kills_and_lists_without_controllers(void **state)
{
	struct plane_cgroups *groups = open_groups(PLANE_CGROUP_V2);
	struct plane_error err = { 0 };
	int status;

	(void)state;
	pid_t pid = start_in(groups, wait_for_ever);
	int fd = plane_cgroup_open_directory(groups, "one", &err);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(plane_cgroup_kill(groups, "one", &err), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WTERMSIG(status), SIGKILL);
	close_groups(groups);
}

static void bad_names_and_limits_are_refused(void **state)
{
	struct plane_cgroups *groups = open_groups(PLANE_CGROUP_AUTO);
	const struct plane_cgroup_limits limits = { .memory_bytes = -1 };
	struct plane_error err = { 0 };

	(void)state;
	assert_int_equal(plane_cgroup_make(groups, "../x", &err), -EINVAL);
	assert_int_equal(plane_cgroup_make(groups, "", &err), -EINVAL);
	assert_int_equal(plane_cgroup_limit(groups, "one", &limits, &err), -EINVAL);
	assert_null(plane_cgroups_open("nothex00", PLANE_CGROUP_AUTO, NULL, &err));
	close_groups(groups);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_over_the_limit_is_killed_and_counted),
		cmocka_unit_test(processes_are_limited_and_all_are_killed),
		cmocka_unit_test(v2_kills_and_lists_without_controllers),
		cmocka_unit_test(bad_names_and_limits_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
