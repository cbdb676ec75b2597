/* The one log call. Lines go to stderr, as text for people or as JSON for machines, one write(2)
 * a line so that processes and threads can share the stream. Never log tokens or credentials. */
#ifndef PLANE_BASE_LOG_H
#define PLANE_BASE_LOG_H

#include <stdbool.h>

enum plane_log_level { PLANE_LOG_DEBUG, PLANE_LOG_INFO, PLANE_LOG_WARN, PLANE_LOG_ERROR };
enum plane_log_format { PLANE_LOG_PRETTY, PLANE_LOG_JSON };

/** Set once at start, before threads. `role` (a literal) appears in each line. */
void plane_log_init(const char *role, enum plane_log_level level, enum plane_log_format format);

/** "debug", "info", "warn", "error"; false when it is none of them. */
bool plane_log_parse_level(const char *text, enum plane_log_level *level);
/** "pretty" or "json". */
bool plane_log_parse_format(const char *text, enum plane_log_format *format);

bool plane_log_enabled(enum plane_log_level level);

/** `backend` (may be NULL) names the backend that the line is about. Any thread. */
void plane_log_write(enum plane_log_level level, const char *backend, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#define plane_log_at_(level, ...)                                                                  \
	do {                                                                                       \
		if (plane_log_enabled(level))                                                      \
			plane_log_write(level, __VA_ARGS__);                                       \
	} while (0)

#define plane_debug(...) plane_log_at_(PLANE_LOG_DEBUG, NULL, __VA_ARGS__)
#define plane_info(...) plane_log_at_(PLANE_LOG_INFO, NULL, __VA_ARGS__)
#define plane_warn(...) plane_log_at_(PLANE_LOG_WARN, NULL, __VA_ARGS__)
#define plane_error(...) plane_log_at_(PLANE_LOG_ERROR, NULL, __VA_ARGS__)

#define plane_debug_backend(backend, ...) plane_log_at_(PLANE_LOG_DEBUG, backend, __VA_ARGS__)
#define plane_info_backend(backend, ...) plane_log_at_(PLANE_LOG_INFO, backend, __VA_ARGS__)
#define plane_warn_backend(backend, ...) plane_log_at_(PLANE_LOG_WARN, backend, __VA_ARGS__)
#define plane_error_backend(backend, ...) plane_log_at_(PLANE_LOG_ERROR, backend, __VA_ARGS__)

#endif
