/* The native runtime on the real kernel: needs root. The image store is replaced by one image, a
 * directory with a small static program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "runtime/image/image.h"
#include "runtime/native/native.h"

static char directory[] = "/tmp/plane-native-XXXXXX";
static const char *command, *argument;

int plane_image_resolve(const char *images_dir, const char *name, struct plane_image *image,
	struct plane_error *err)
{
	*image = (struct plane_image){ .name = plane_strdup(name),
		.rootfs_path = plane_strdupf("%s/image", directory),
		.argv = plane_alloc_zero(3, sizeof(char *)),
		.env = plane_alloc_zero(1, sizeof(char *)),
		.workdir = plane_strdup("/"),
		.home = plane_strdup("/"),
		.lock_fd = -1 };
	image->argv[0] = plane_strdup(command);
	image->argv[1] = plane_strdup(argument);
	return 0;
}

char *plane_image_full_name(const char *name, struct plane_error *err)
{
	return plane_strdup(name);
}

/* Each spawn has a command of its own. */
bool plane_image_is_current(const char *images_dir, const struct plane_image *image)
{
	return false;
}

void plane_image_finish(struct plane_image *image)
{
	for (char **word = image->argv; word && *word; word++)
		free(*word);
	free(image->argv);
	free(image->env);
	free(image->name);
	free(image->rootfs_path);
	free(image->workdir);
	free(image->home);
}

struct result {
	bool is_spawned, is_ended, is_done;
	struct plane_error error;
	struct plane_runtime_exit exit;
	int64_t spawned_us;
};

static void on_exit_(void *data, const char *backend, const struct plane_runtime_exit *exit)
{
	struct result *result = data;
	result->exit = *exit;
	result->is_ended = true;
}

static void on_done(void *data, const struct plane_error *err)
{
	struct result *result = data;
	if (err)
		result->error = *err;
	result->is_done = true;
}

static void on_spawned(void *data, const char *address, const struct plane_error *err)
{
	struct result *result = data;
	result->spawned_us = plane_clock_monotonic_us();
	if (err)
		result->error = *err;
	result->is_spawned = true;
}

static void on_found(void *data, const struct plane_runtime_found *found)
{
}

static uv_loop_t loop;
static struct plane_runtime *runtime;
static struct result result;
static int64_t lease; /* of the drone, that backends are spawned under; 0: one of their own */

static void until(const bool *flag)
{
	while (!*flag)
		uv_run(&loop, UV_RUN_ONCE);
}

static void spawn(const char *program, const char *word, int64_t deadline_ms)
{
	static const char *const env[] = { "PORT=8080", NULL };
	struct plane_executable executable = { .image = "tool" };
	struct plane_runtime_spawn what = { .backend = "b1",
		.executable = &executable,
		.env = env,
		.lease = lease,
		.hard_deadline_boot_ms = plane_clock_boot_ms() + deadline_ms };

	command = program;
	argument = word;
	result = (struct result){ 0 };
	runtime->impl->when_warm(runtime, on_done, &result);
	until(&result.is_done);
	assert_string_equal(result.error.message, "");
	int64_t start = plane_clock_monotonic_us();
	runtime->impl->spawn(runtime, &what, on_spawned, &result);
	until(&result.is_spawned);
	print_message("spawn to exec: %ld us\n", (long)(result.spawned_us - start));
}

static void a_backend_runs_and_its_exit_code_is_known(void **state)
{
	spawn("/tool", "exit", 60000);
	assert_string_equal(result.error.message, "");
	until(&result.is_ended);
	assert_true(result.exit.is_known);
	assert_int_equal(result.exit.exit_code, 7);
	assert_int_equal(result.exit.signal, 0);
	runtime->impl->forget(runtime, "b1");
}

static void a_missing_command_is_named(void **state)
{
	spawn("/missing", NULL, 60000);
	assert_string_equal(result.error.message, "no such command /missing in image tool");
}

static void a_hard_stop_kills(void **state)
{
	spawn("/tool", "wait", 60000);
	assert_string_equal(result.error.message, "");
	assert_true(runtime->impl->terminate(runtime, "b1", true));
	until(&result.is_ended);
	assert_int_equal(result.exit.exit_code, 137);
	runtime->impl->forget(runtime, "b1");
}

static void the_deadline_kills(void **state)
{
	spawn("/tool", "wait", 1000);
	assert_string_equal(result.error.message, "");
	until(&result.is_ended);
	assert_true(result.exit.was_lease_expired);
	runtime->impl->forget(runtime, "b1");
}

static int64_t set_lease(int64_t after_ms)
{
	struct plane_error err = { 0 };
	int64_t deadline_ms = plane_clock_boot_ms() + after_ms;
	if (runtime->impl->set_lease(runtime, lease, deadline_ms, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(runtime->impl->get_lease(runtime, lease), deadline_ms);
	return deadline_ms;
}

static void under_a_lease_of_the_drone_its_deadline_kills(void **state)
{
	lease = 7;
	(void)set_lease(60000);
	spawn("/tool", "wait", 0); /* what would be its own means nothing */
	assert_string_equal(result.error.message, "");
	assert_false(result.is_ended);
	assert_int_equal(runtime->impl->get_lease(runtime, lease + 1), 0);
	struct plane_error err = { 0 };
	assert_int_equal(runtime->impl->end_lease(runtime, lease, &err), 0);
	until(&result.is_ended);
	assert_true(result.exit.was_lease_expired);
	assert_int_equal(runtime->impl->get_lease(runtime, lease), 0);
	runtime->impl->forget(runtime, "b1");
	lease = 0;
}

static void a_renewed_lease_of_the_drone_lets_live(void **state)
{
	lease = 8;
	(void)set_lease(2000);
	spawn("/tool", "wait", 0);
	assert_string_equal(result.error.message, "");
	int64_t deadline_ms = set_lease(2500);
	until(&result.is_ended);
	assert_true(plane_clock_boot_ms() >= deadline_ms);
	assert_true(result.exit.was_lease_expired);
	runtime->impl->forget(runtime, "b1");
	/* and nothing begins under one that is over */
	spawn("/tool", "exit", 60000);
	assert_string_equal(result.error.message, "its lease is over");
	lease = 0;
}

static void on_adopted(void *data, const struct plane_runtime_found *found)
{
	assert_string_equal(found->backend, "b1");
	assert_true(found->is_running);
	assert_int_equal(found->lease, 9);
	*(bool *)data = true;
}

static void a_backend_survives_its_drone_and_is_adopted(void **state)
{
	struct plane_runtime_listener listener = { &result, on_exit_ };
	struct plane_error err = { 0 };
	struct result closed = { 0 };
	bool is_found = false;
	char data[128];

	lease = 9;
	int64_t deadline_ms = set_lease(60000);
	spawn("/tool", "wait", 0);
	runtime->impl->close(runtime, on_done, &closed);
	until(&closed.is_done);
	plane_native_destroy(runtime);
	snprintf(data, sizeof(data), "%s/drone", directory);
	struct plane_native_config config = { .data_dir = data, .images_dir = data };
	runtime = plane_native_create(&loop, &config, &listener, &err);
	assert_non_null(runtime);
	assert_int_equal(runtime->impl->adopt(runtime, on_adopted, &is_found, &err), 0);
	assert_true(is_found);
	assert_int_equal(runtime->impl->get_lease(runtime, 9), deadline_ms);
	lease = 0;
	assert_true(runtime->impl->terminate(runtime, "b1", true));
	until(&result.is_ended);
	assert_true(result.exit.is_known);
	assert_int_equal(result.exit.signal, 9);
	runtime->impl->forget(runtime, "b1");
}

static int set_up(void **state)
{
	struct plane_runtime_listener listener = { &result, on_exit_ };
	struct plane_error err = { 0 };
	char path[128], data[128], build[512];

	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/image", directory);
	snprintf(data, sizeof(data), "%s/drone", directory);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(build, sizeof(build),
		"echo 'int pause(void); int main(int c, char **v) { while (v[1][0] == 119) "
		"pause(); "
		"return 7; }' | cc -static -x c - -o %s/tool",
		path);
	assert_int_equal(system(build), 0);
	uv_loop_init(&loop);
	struct plane_native_config config = {
		.data_dir = data, .images_dir = path, .pool_size = 2
	};
	runtime = plane_native_create(&loop, &config, &listener, &err);
	if (!runtime)
		fail_msg("%s", err.message);
	return runtime->impl->adopt(runtime, on_found, NULL, &err);
}

static int tear_down(void **state)
{
	struct plane_error err = { 0 };
	struct result done = { 0 };

	runtime->impl->remove_all(runtime, on_done, &done);
	until(&done.is_done);
	assert_string_equal(done.error.message, "");
	plane_native_destroy(runtime);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	return plane_file_remove_tree(directory, &err);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_backend_runs_and_its_exit_code_is_known),
		cmocka_unit_test(a_missing_command_is_named),
		cmocka_unit_test(a_hard_stop_kills),
		cmocka_unit_test(the_deadline_kills),
		cmocka_unit_test(under_a_lease_of_the_drone_its_deadline_kills),
		cmocka_unit_test(a_renewed_lease_of_the_drone_lets_live),
		cmocka_unit_test(a_backend_survives_its_drone_and_is_adopted),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
