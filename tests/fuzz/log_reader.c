/* drone/log_reader.c: any bytes as a backend's log. The first byte says how many lines are wanted
 * (0xff: all), bytes up to 0xfe are the file that was rotated away. What is read is UTF-8, whole
 * lines, no more of them than wanted, and the end of what is there. */
#include "drone/log_reader.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"
#include "jail.h"

#define ALL 0xff
#define SEPARATOR 0xfe

struct reading {
	struct plane_buffer text;
	int refusals; /* still to come: nobody is ready to take text */
	bool is_ended;
};

int __real_uv_timer_start(uv_timer_t *timer, uv_timer_cb run, uint64_t after_ms, uint64_t every_ms);
int __wrap_uv_timer_start(uv_timer_t *timer, uv_timer_cb run, uint64_t after_ms, uint64_t every_ms);

/* Nobody waits here. */
int __wrap_uv_timer_start(uv_timer_t *timer, uv_timer_cb run, uint64_t after_ms, uint64_t every_ms)
{
	(void)after_ms;
	return __real_uv_timer_start(timer, run, 0, every_ms);
}

static bool on_text(void *data, int64_t request_id, const char *text)
{
	struct reading *reading = data;
	FUZZ_CHECK(request_id == 7 && text[0]);
	FUZZ_CHECK(plane_text_is_utf8(text, strlen(text)));
	if (reading->refusals > 0) {
		reading->refusals--;
		return false;
	}
	plane_buffer_add_text(&reading->text, text);
	return true;
}

static void on_end(void *data, int64_t request_id, const char *error)
{
	struct reading *reading = data;
	FUZZ_CHECK(request_id == 7 && !error);
	reading->is_ended = true;
}

static bool is_ended(void *data, const char *backend)
{
	(void)data;
	return strcmp(backend, "b") == 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char *const directories[] = { "/logs", NULL };
	(void)argc;
	(void)argv;
	plane_log_init("fuzz", PLANE_LOG_ERROR, PLANE_LOG_PRETTY);
	jail_create(directories);
	return 0;
}

static void read_log(struct reading *reading, int64_t tail_lines)
{
	const struct plane_log_reader_listener listener = { reading, on_text, on_end, is_ended };
	uv_loop_t loop;
	FUZZ_CHECK(uv_loop_init(&loop) == 0);
	(void)plane_log_reader_create(&loop, "/logs/b.log", "b", 7, tail_lines, false, &listener);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	FUZZ_CHECK(reading->is_ended && uv_loop_close(&loop) == 0);
}

static size_t count_lines(const void *bytes, size_t len)
{
	size_t count = 0;
	for (size_t i = 0; i < len; i++)
		count += ((const char *)bytes)[i] == '\n';
	return count;
}

/* Whoever wants all gets all; whoever wants a part gets the end of that. */
static void check_tail(int64_t tail_lines, size_t stored_lines)
{
	struct reading all = { 0 }, part = { .refusals = 1 };
	read_log(&all, -1);
	read_log(&part, tail_lines);
	FUZZ_CHECK(part.text.len <= all.text.len);
	FUZZ_CHECK(!part.text.len || memcmp(all.text.data + all.text.len - part.text.len,
					     part.text.data, part.text.len) == 0);
	FUZZ_CHECK(count_lines(all.text.data, all.text.len) <= stored_lines);
	if (tail_lines >= 0)
		FUZZ_CHECK(count_lines(part.text.data, part.text.len) <= (size_t)tail_lines);
	else
		FUZZ_CHECK(part.text.len == all.text.len);
	plane_buffer_finish(&all.text);
	plane_buffer_finish(&part.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct fuzz_input input = { bytes, len };
	uint8_t wanted = fuzz_byte(&input);
	const uint8_t *end = input.left ? memchr(input.at, SEPARATOR, input.left) : NULL;
	size_t old_len = end ? (size_t)(end - input.at) : 0;
	/* a line that the rotated file ends in is whole */
	size_t lines = count_lines(input.at, input.left) + (end != NULL);
	jail_enter();
	if (end)
		jail_write("/logs/b.log.1", input.at, old_len);
	jail_write("/logs/b.log", input.at + old_len + (end != NULL),
		input.left - old_len - (end != NULL));
	check_tail(wanted == ALL ? -1 : wanted, lines);
	(void)unlink("/logs/b.log.1"); /* there may be none */
	jail_check_untouched();
	jail_leave();
	return 0;
}
