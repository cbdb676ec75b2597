/* Log lines. */
#include "base/log.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/text.h"

static struct {
	const char *role;
	enum plane_log_level level;
	enum plane_log_format format;
	bool is_colored;
} config = { .role = "plane", .level = PLANE_LOG_INFO };

static const char *const level_names[] = { "debug", "info", "warn", "error" };

void plane_log_init(const char *role, enum plane_log_level level, enum plane_log_format format)
{
	config.role = role;
	config.level = level;
	config.format = format;
	config.is_colored =
		format == PLANE_LOG_PRETTY && isatty(STDERR_FILENO) && !getenv("NO_COLOR");
}

bool plane_log_parse_level(const char *text, enum plane_log_level *level)
{
	for (int i = PLANE_LOG_DEBUG; i <= PLANE_LOG_ERROR; i++)
		if (strcmp(text, level_names[i]) == 0) {
			*level = (enum plane_log_level)i;
			return true;
		}
	return false;
}

bool plane_log_parse_format(const char *text, enum plane_log_format *format)
{
	bool is_json = strcmp(text, "json") == 0;
	if (!is_json && strcmp(text, "pretty") != 0)
		return false;
	*format = is_json ? PLANE_LOG_JSON : PLANE_LOG_PRETTY;
	return true;
}

bool plane_log_enabled(enum plane_log_level level)
{
	return level >= config.level;
}

static void format_json(struct plane_buffer *line, enum plane_log_level level, const char *time,
	const char *backend, const char *message)
{
	json_t *object = json_pack("{s:s, s:s, s:s, s:s*, s:s}", "time", time, "level",
		level_names[level], "role", config.role, "backend", backend, "message", message);
	char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	plane_buffer_add_text(line, text ? text : "{\"message\":\"log line is not UTF-8\"}");
	free(text);
	json_decref(object);
}

static void format_pretty(struct plane_buffer *line, enum plane_log_level level, const char *time,
	const char *backend, const char *message)
{
	static const char *const colors[] = { "\033[2m", "\033[32m", "\033[33m", "\033[31m" };
	plane_buffer_addf(line, "%s %s%-5s%s %s: %s%s%s", time,
		config.is_colored ? colors[level] : "", level_names[level],
		config.is_colored ? "\033[0m" : "", config.role, backend ? backend : "",
		backend ? ": " : "", message);
}

/* What came from outside must not forge lines or move a terminal's cursor. */
static void blank_control_characters(char *message)
{
	for (char *c = message; *c; c++)
		if (iscntrl((unsigned char)*c))
			*c = ' ';
}

void plane_log_write(enum plane_log_level level, const char *backend, const char *format, ...)
{
	char message[2048];
	va_list args;
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args); /* a long line is cut */
	va_end(args);
	blank_control_characters(message);
	plane_text_make_utf8(message);

	char time[PLANE_CLOCK_TEXT_SIZE];
	plane_clock_format_rfc3339(plane_clock_realtime_ms(), time);
	struct plane_buffer line = { 0 };
	if (config.format == PLANE_LOG_JSON)
		format_json(&line, level, time, backend, message);
	else
		format_pretty(&line, level, time, backend, message);
	plane_buffer_add_text(&line, "\n");
	ssize_t written = write(STDERR_FILENO, line.data, line.len);
	(void)written; /* there is no other place to complain to */
	plane_buffer_finish(&line);
}
