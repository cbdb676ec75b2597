/* The local clock and where it is kept. */
#include "drone/local_clock.h"

#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"

#define BOOT_ID_SIZE 37

static int read_boot_id(char boot_id[BOOT_ID_SIZE], struct plane_error *err)
{
	struct plane_buffer text = { 0 };
	int result = plane_file_read("/proc/sys/kernel/random/boot_id", 64, &text, err);
	if (result == 0)
		snprintf(boot_id, BOOT_ID_SIZE, "%.36s", plane_buffer_text(&text));
	plane_buffer_finish(&text);
	return result;
}

static int begin(struct plane_local_clock *clock, struct plane_journal *journal,
	const char *boot_id, struct plane_error *err)
{
	char text[32];
	clock->offset_ms = plane_clock_realtime_ms() - plane_clock_boot_ms();
	snprintf(text, sizeof(text), "%lld", (long long)clock->offset_ms);
	int result = plane_journal_set(journal, "clock_offset_ms", text, err);
	return result < 0 ? result : plane_journal_set(journal, "boot_id", boot_id, err);
}

int plane_local_clock_open(
	struct plane_local_clock *clock, struct plane_journal *journal, struct plane_error *err)
{
	char boot_id[BOOT_ID_SIZE], last_boot_id[BOOT_ID_SIZE], offset[32];
	int result = read_boot_id(boot_id, err);
	if (result == 0)
		result = plane_journal_get(
			journal, "boot_id", last_boot_id, sizeof(last_boot_id), err);
	if (result == 0)
		result = plane_journal_get(journal, "clock_offset_ms", offset, sizeof(offset), err);
	if (result < 0)
		return plane_error_prefix(err, "the drone's clock");
	bool is_same_boot = strcmp(boot_id, last_boot_id) == 0;
	if (is_same_boot &&
		plane_text_parse_int(offset, INT64_MIN / 2, INT64_MAX / 2, &clock->offset_ms))
		return 0;
	return begin(clock, journal, boot_id, err);
}

int64_t plane_local_clock_now_ms(const struct plane_local_clock *clock)
{
	return plane_clock_boot_ms() + clock->offset_ms;
}
