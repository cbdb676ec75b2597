/* The clocks. Only I/O code reads them; decisions are given the time as an argument. */
#ifndef PLANE_BASE_CLOCK_H
#define PLANE_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/** Wall clock, milliseconds since the Unix epoch (CLOCK_REALTIME). May jump. */
int64_t plane_clock_realtime_ms(void);
/** Milliseconds since boot, suspended time included (CLOCK_BOOTTIME). Never jumps back. */
int64_t plane_clock_boot_ms(void);
/** Microseconds for measuring short spans (CLOCK_MONOTONIC). */
int64_t plane_clock_monotonic_us(void);

/** Writes "YYYY-MM-DDTHH:MM:SS.mmmZ" (24 characters and NUL) for a wall-clock time. */
#define PLANE_CLOCK_TEXT_SIZE 25
void plane_clock_format_rfc3339(int64_t realtime_ms, char text[PLANE_CLOCK_TEXT_SIZE]);

#endif
