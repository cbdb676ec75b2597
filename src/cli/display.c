/* Widths, cleaning and short forms of values. */
#include "cli/display.h"

#include <inttypes.h>
#include <locale.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wchar.h>

#include "base/alloc.h"
#include "base/text.h"

/* The character at `text` and its bytes; 0 bytes when it is none or the text ends. */
static size_t decode(const char *text, size_t len, wchar_t *character)
{
	mbstate_t state = { 0 };
	size_t taken = len ? mbrtowc(character, text, len, &state) : 0;
	return taken == (size_t)-1 || taken == (size_t)-2 ? 0 : taken;
}

/* Columns are known only in a locale with UTF-8; the C library has one of its own, which is kept
 * once it was looked for. Gives what was in use before. */
static locale_t enter_utf8(void)
{
	static locale_t utf8;
	if (!utf8)
		utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
	return uselocale(utf8); /* without one: as it was, and only ASCII is shown */
}

/* Those that turn the direction of what follows move the cursor, too (Unicode TR 9). */
static bool is_shown(wchar_t character)
{
	bool is_turning = (character >= 0x202a && character <= 0x202e) ||
			  (character >= 0x2066 && character <= 0x2069);
	return wcwidth(character) >= 0 && !is_turning;
}

char *plane_display_clean(const char *text)
{
	locale_t before = enter_utf8();
	char *clean = plane_strdup(text);
	size_t len = strlen(clean);
	for (size_t at = 0; at < len;) {
		wchar_t character = 0;
		size_t taken = decode(clean + at, len - at, &character);
		if (taken && is_shown(character)) {
			at += taken;
			continue;
		}
		clean[at++] = '?';
		for (size_t i = 1; i < taken; i++) /* of what takes several bytes one stays */
			memmove(clean + at, clean + at + 1, len - at);
		len -= taken > 1 ? taken - 1 : 0;
		clean[len] = '\0';
	}
	(void)uselocale(before);
	return clean;
}

size_t plane_display_fit(const char *text, size_t len, int columns)
{
	locale_t before = enter_utf8();
	size_t at = 0;
	while (at < len) {
		wchar_t character = 0;
		size_t taken = decode(text + at, len - at, &character);
		int width = taken ? wcwidth(character) : 1;
		if (width > columns)
			break;
		columns -= width > 0 ? width : 0;
		at += taken ? taken : 1;
	}
	(void)uselocale(before);
	return at;
}

int plane_display_width(const char *text)
{
	locale_t before = enter_utf8();
	int columns = 0;
	size_t len = strlen(text);
	for (size_t at = 0; at < len;) {
		wchar_t character = 0;
		size_t taken = decode(text + at, len - at, &character);
		int width = taken ? wcwidth(character) : 1;
		columns += width > 0 ? width : 0;
		at += taken ? taken : 1;
	}
	(void)uselocale(before);
	return columns;
}

void plane_display_age(int64_t seconds, char text[PLANE_DISPLAY_SIZE])
{
	static const struct {
		int64_t seconds;
		char unit;
	} units[] = { { 86400, 'd' }, { 3600, 'h' }, { 60, 'm' }, { 1, 's' } };
	size_t i = 0;
	while (units[i].seconds > 1 && seconds < units[i].seconds)
		i++;
	snprintf(text, PLANE_DISPLAY_SIZE, "%" PRId64 "%c", seconds / units[i].seconds,
		units[i].unit);
}

void plane_display_bytes(int64_t bytes, char text[PLANE_DISPLAY_SIZE])
{
	static const char units[] = "BKMGTPE";
	double value = (double)bytes;
	size_t unit = 0;
	while (value >= 1024 && unit + 2 < sizeof(units)) {
		value /= 1024;
		unit++;
	}
	bool is_whole = unit == 0 || value >= 10 || value == (double)(int64_t)value;
	snprintf(text, PLANE_DISPLAY_SIZE, is_whole ? "%.0f%c" : "%.1f%c", value, units[unit]);
}

void plane_display_millis(int64_t millis, char text[PLANE_DISPLAY_SIZE])
{
	snprintf(text, PLANE_DISPLAY_SIZE, "%" PRId64 ".%03d", millis / 1000, (int)(millis % 1000));
	size_t len = strlen(text);
	while (text[len - 1] == '0')
		text[--len] = '\0';
	if (text[len - 1] == '.')
		text[len - 1] = '\0';
}

void plane_display_time(int64_t time_ms, char text[PLANE_DISPLAY_SIZE])
{
	struct tm parts;
	time_t seconds = time_ms / 1000;
	char date[24] = "";
	if (gmtime_r(&seconds, &parts))
		(void)strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &parts);
	snprintf(text, PLANE_DISPLAY_SIZE, "%s.%03d UTC", date, (int)(time_ms % 1000));
}
