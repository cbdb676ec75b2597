/* How text of others takes place on a terminal. */
#ifndef PLANE_CLI_DISPLAY_H
#define PLANE_CLI_DISPLAY_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

/** A copy in which '?' stands for each byte or character that would move the cursor, change colours
 *  or is no UTF-8. The caller frees it. */
char *plane_display_clean(const char *text);

/** How many columns cleaned text takes: wide characters two, combining ones none. */
int plane_display_width(const char *text);

/** How many bytes of the `len` at `text`, cleaned text without a newline, fit into `columns`. */
size_t plane_display_fit(const char *text, size_t len, int columns);

#define PLANE_DISPLAY_SIZE 40

/** An age in its largest unit only, as the original prints it: 3s, 2m, 1h, 4d. */
void plane_display_age(int64_t seconds, char text[PLANE_DISPLAY_SIZE]);
/** "512M", "1.5G": binary units, one digit behind the point below ten. */
void plane_display_bytes(int64_t bytes, char text[PLANE_DISPLAY_SIZE]);
/** Thousandths as "1.25" without zeros at the end. */
void plane_display_millis(int64_t millis, char text[PLANE_DISPLAY_SIZE]);
/** "2026-01-13 10:20:30.123 UTC", as the original's client prints it. */
void plane_display_time(int64_t time_ms, char text[PLANE_DISPLAY_SIZE]);

#endif
