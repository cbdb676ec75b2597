/* What a drone finds again on its disk: the record, lease and exit status of a sandbox, states in
 * its journal, the record of an image. An input is those texts in that order, ended by bytes 0xff.
 * Damaged ones are refused, and what is accepted keeps to the rules for what made it. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/json.h"
#include "base/log.h"
#include "drone/journal.h"
#include "jail.h"
#include "model/names.h"
#include "runtime/image/record.h"
#include "runtime/native/cgroup_driver.h"
#include "runtime/native/native_internal.h"
#include "store/sqlite_db.h"

#define SEPARATOR 0xff
#define SANDBOX "/drone/sandboxes/0/"
#define JOURNAL "/drone/drone.db"

static struct plane_journal *journal;
static struct plane_db rows; /* a second connection to it, for what is not ours to write */

static int no_kills(const struct plane_cgroups *cgroups, const char *name, int64_t *count,
	struct plane_error *err)
{
	(void)cgroups;
	(void)name;
	(void)err;
	*count = 0;
	return 0;
}

static const struct plane_cgroup_driver driver = { .oom_kills = no_kills };
static struct plane_cgroups cgroups = { .driver = &driver };
static char directory[] = "/drone";
static struct plane_native native = { .host = { .directory = directory, .cgroups = &cgroups },
	.boot_id = "x" };

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char *const directories[] = { SANDBOX, "/images/index", NULL };
	struct plane_error err = { 0 };
	(void)argc;
	(void)argv;
	plane_log_init("fuzz", PLANE_LOG_ERROR, PLANE_LOG_PRETTY);
	jail_create(directories);
	jail_enter();
	journal = plane_journal_open(JOURNAL, &err);
	FUZZ_CHECK(journal && plane_db_open(&rows, JOURNAL, &err) == 0);
	jail_leave();
	return 0;
}

struct text {
	const char *bytes;
	size_t len;
};

static struct text next_text(struct fuzz_input *input)
{
	struct text text = { (const char *)input->at, input->left };
	const uint8_t *end = input->left ? memchr(input->at, SEPARATOR, input->left) : NULL;
	if (end)
		text.len = (size_t)(end - input->at);
	input->at += text.len + (end != NULL);
	input->left -= text.len + (end != NULL);
	return text;
}

static void check_record(struct text record, struct text lease)
{
	struct native_sandbox sandbox = { .native = &native };
	struct plane_error err = { 0 };
	jail_write(SANDBOX "record", record.bytes, record.len);
	jail_write(SANDBOX "lease", lease.bytes, lease.len);
	int result = native_record_read(&sandbox, &err);
	fuzz_check_error(result, &err);
	if (result == 0) {
		FUZZ_CHECK(plane_name_check(sandbox.backend, NULL, &err) == 0);
		FUZZ_CHECK(sandbox.address[0] && strlen(sandbox.address) < PLANE_ADDRESS_SIZE);
		FUZZ_CHECK(sandbox.parts.shim > 0 && sandbox.parts.init > 0);
		FUZZ_CHECK(lease.len == 8 || sandbox.deadline_ms == 0);
		FUZZ_CHECK(native_record_write(&sandbox, &err) == 0);
	}
	plane_closep(&sandbox.parts.pidfd);
	free(sandbox.backend);
	free(sandbox.address);
}

static void check_exit(struct text exit)
{
	struct native_sandbox sandbox = { .native = &native };
	struct plane_runtime_exit read;
	jail_write(SANDBOX "exit", exit.bytes, exit.len);
	native_exit_read(&sandbox, &read);
	FUZZ_CHECK(read.exit_code >= 0 && read.exit_code <= 255);
	FUZZ_CHECK(read.signal >= 0 && read.signal <= 127);
	FUZZ_CHECK(read.is_known || !read.exit_code);
}

static void put_row(const char *sql, const char *text)
{
	struct plane_error err = { 0 };
	FUZZ_CHECK(plane_db_run(&rows, NULL, &err, sql, "t", text) == 0);
}

static void check_events(const char *text)
{
	struct plane_journal_event events[2];
	struct plane_error err = { 0 };
	put_row("INSERT OR REPLACE INTO event VALUES (1, 'b', ?1, 5)", text);
	int count = plane_journal_events(journal, 0, events, 2, &err);
	fuzz_check_error(count, &err);
	if (count < 0)
		return;
	FUZZ_CHECK(count == 1 && events[0].id == 1 && strcmp(events[0].backend, "b") == 0);
	FUZZ_CHECK(plane_backend_status_text(events[0].state.status)[0] != 'u');
	free(events[0].backend);
}

static void check_backends(const char *text)
{
	struct plane_journal_backend *backends = NULL;
	struct plane_error err = { 0 };
	int count = 0;
	put_row("INSERT OR REPLACE INTO backend VALUES ('b', ?1)", text);
	put_row("INSERT OR REPLACE INTO lease VALUES ('b', 1, 2, length(?1), 0, 3, 4, 5)", text);
	int result = plane_journal_backends(journal, &backends, &count, &err);
	fuzz_check_error(result, &err);
	if (result < 0)
		return;
	FUZZ_CHECK(count == 1 && strcmp(backends[0].name, "b") == 0);
	FUZZ_CHECK(backends[0].deadlines.soft_terminate_at_ms == 2);
	free(backends[0].name);
	free(backends);
}

static void check_image(struct text record)
{
	struct plane_image image = PLANE_IMAGE_EMPTY, again = PLANE_IMAGE_EMPTY;
	struct plane_error err = { 0 };
	jail_write("/images/index/fuzz%3Alatest.json", record.bytes, record.len);
	int result = plane_image_record_read("/images", "fuzz:latest", &image, &err);
	fuzz_check_error(result, &err);
	if (result < 0)
		return;
	FUZZ_CHECK(plane_image_is_digest(image.digest) && image.argv[0]);
	FUZZ_CHECK(image.uid <= 65535 && image.gid <= 65535);
	FUZZ_CHECK(plane_image_record_write("/images", &image, &err) == 0);
	FUZZ_CHECK(plane_image_record_read("/images", "fuzz:latest", &again, &err) == 0);
	_cleanup_json_ json_t *first = plane_image_to_json(&image);
	_cleanup_json_ json_t *second = plane_image_to_json(&again);
	FUZZ_CHECK(first && json_equal(first, second));
	plane_image_finish(&image);
	plane_image_finish(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct fuzz_input input = { bytes, len };
	jail_enter();
	struct text record = next_text(&input), lease = next_text(&input);
	check_record(record, lease);
	check_exit(next_text(&input));
	struct text event = next_text(&input), state = next_text(&input);
	_cleanup_free_ char *event_text = fuzz_text(event.bytes, event.len);
	_cleanup_free_ char *state_text = fuzz_text(state.bytes, state.len);
	check_backends(state_text);
	check_events(event_text);
	check_image(next_text(&input));
	jail_check_untouched();
	jail_leave();
	return 0;
}
