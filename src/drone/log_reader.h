/* Reads a backend's log for somebody far away: the last lines, then what is added, as the text that
 * the backend wrote. Loop thread only. */
#ifndef PLANE_DRONE_LOG_READER_H
#define PLANE_DRONE_LOG_READER_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

struct plane_log_reader;

struct plane_log_reader_listener {
	void *data;
	/** Some whole lines (UTF-8). False: it cannot be taken now and is offered again later. */
	bool (*on_text)(void *data, int64_t request_id, const char *text);
	/** Nothing more comes; the reader is gone. `error` is NULL when all was read. */
	void (*on_end)(void *data, int64_t request_id, const char *error);
	/** Will the backend write no more? Asked when the end of its log is reached. */
	bool (*is_ended)(void *data, const char *backend);
};

/** Starts to read `path` and the file it was rotated to before, `path`.1. */
struct plane_log_reader *plane_log_reader_create(uv_loop_t *loop, const char *path,
	const char *backend, int64_t request_id, int64_t tail_lines, bool is_follow,
	const struct plane_log_reader_listener *listener);

int64_t plane_log_reader_request_id(const struct plane_log_reader *reader);

/** No callback comes after this. The memory goes when the loop has turned. */
void plane_log_reader_destroy(struct plane_log_reader *reader);

#endif
