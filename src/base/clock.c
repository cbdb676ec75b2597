/* Clock readings. */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t read_us(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now); /* cannot fail for the clocks used here */
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t plane_clock_realtime_ms(void)
{
	return read_us(CLOCK_REALTIME) / 1000;
}

int64_t plane_clock_boot_ms(void)
{
	return read_us(CLOCK_BOOTTIME) / 1000;
}

int64_t plane_clock_monotonic_us(void)
{
	return read_us(CLOCK_MONOTONIC);
}

void plane_clock_format_rfc3339(int64_t realtime_ms, char text[PLANE_CLOCK_TEXT_SIZE])
{
	int64_t ms = realtime_ms % 1000;
	time_t seconds = (time_t)(realtime_ms / 1000);
	if (ms < 0) {
		ms += 1000;
		seconds -= 1;
	}
	struct tm parts = { 0 };
	gmtime_r(&seconds, &parts);
	char date[20];
	if (!strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &parts))
		date[0] = '\0';
	snprintf(text, PLANE_CLOCK_TEXT_SIZE, "%s.%03dZ", date, (int)ms);
}
