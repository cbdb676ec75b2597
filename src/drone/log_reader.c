/* A log reader: a timer that reads a piece of the file each time, more often while there is more.
 * The shim writes CRI log lines, "<time> <stream> F|P <text>": F ends a line, P does not. */
#include "drone/log_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/text.h"

#define CHUNK_BYTES (64 * 1024)
#define MORE_MS 1
#define BUSY_MS 20
#define FOLLOW_MS 100

struct plane_log_reader {
	struct plane_log_reader_listener listener;
	uv_timer_t timer;
	char *path, *backend;
	int64_t request_id;
	int64_t tail_lines; /* -1: all */
	int64_t lines_left; /* a tail that is not followed has no more, whatever is written
			       meanwhile */
	bool is_follow;
	bool is_positioned;
	bool was_ended; /* at the last end of file */
	int fd;         /* of the file that is read now; -1: none yet */
	bool is_old;    /* it is <path>.1, and <path> comes next */
	off_t offset;
	struct plane_buffer raw;  /* an unfinished line of the file */
	struct plane_buffer text; /* what waits to be taken */
};

static int open_log(const char *path, const char *suffix)
{
	_cleanup_free_ char *full = plane_strdupf("%s%s", path, suffix);
	return open(full, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

/* Does the file end in the middle of a line? */
static bool has_cut_line(int fd, off_t size)
{
	char last;
	return size > 0 && pread(fd, &last, 1, size - 1) == 1 && last != '\n';
}

/* Steps back from the end over `*lines` lines; false when the file has fewer, and how many are
 * left. In a file that is rotated away a last line without its end is one too. */
static bool seek_back(int fd, bool is_old, int64_t *lines, off_t *offset)
{
	char block[4096];
	struct stat status;
	if (fd < 0 || fstat(fd, &status) < 0)
		return false;
	off_t end = status.st_size;
	if (end == 0)
		return false; /* just rotated: no line begins here */
	/* the newline at the very end ends no line before it */
	bool is_last = !is_old || !has_cut_line(fd, end);
	while (end > 0) {
		size_t size = end > (off_t)sizeof(block) ? sizeof(block) : (size_t)end;
		off_t begin = end - (off_t)size;
		ssize_t got = pread(fd, block, size, begin);
		for (ssize_t i = got - 1; i >= 0; i--) {
			if (block[i] != '\n')
				continue;
			if (!is_last && --*lines <= 0) {
				*offset = begin + i + 1;
				return true;
			}
			is_last = false;
		}
		if (got <= 0)
			return false;
		end = begin;
	}
	--*lines; /* the first line of the file */
	return false;
}

/* Decides in which of the two files the first wanted line stands. */
static void position(struct plane_log_reader *reader)
{
	_cleanup_close_ int old = open_log(reader->path, ".1");
	_cleanup_close_ int new = open_log(reader->path, "");
	int64_t lines = reader->tail_lines;
	off_t offset = 0;
	struct stat status;
	reader->is_positioned = true;
	if (lines == 0 && new >= 0 && fstat(new, &status) == 0) {
		reader->offset = status.st_size;
		reader->fd = plane_steal_fd(&new);
		return;
	}
	if (lines > 0 && seek_back(new, false, &lines, &offset)) {
		reader->offset = offset;
		reader->fd = plane_steal_fd(&new);
		return;
	}
	if (lines != 0 && old >= 0) {
		if (lines > 0)
			(void)seek_back(old, true, &lines, &offset); /* else from its beginning */
		reader->is_old = true;
		reader->offset = offset;
		reader->fd = plane_steal_fd(&old);
		return;
	}
	reader->fd = plane_steal_fd(&new);
}

static void add_utf8(struct plane_buffer *text, const char *bytes, size_t len)
{
	if (plane_text_is_utf8(bytes, len) && !memchr(bytes, '\0', len)) {
		plane_buffer_add(text, bytes, len);
		return;
	}
	for (size_t i = 0; i < len; i++) {
		unsigned char byte = (unsigned char)bytes[i];
		if (byte >= 0x80 || byte == 0)
			plane_buffer_add_text(text, "\xef\xbf\xbd"); /* U+FFFD */
		else
			plane_buffer_add(text, &bytes[i], 1);
	}
}

/* "<time> <stream> F <text>"; other lines are passed on as they are. */
static void add_line(struct plane_log_reader *reader, const char *line, size_t len)
{
	const char *at = line, *end = line + len;
	for (int space = 0; space < 2 && at; space++) {
		at = memchr(at, ' ', (size_t)(end - at));
		at = at ? at + 1 : NULL;
	}
	bool is_cri = at && end - at >= 2 && (at[0] == 'F' || at[0] == 'P') && at[1] == ' ';
	bool is_partial = is_cri && at[0] == 'P';
	if (is_cri)
		at += 2;
	else
		at = line;
	add_utf8(&reader->text, at, (size_t)(end - at));
	if (!is_partial)
		plane_buffer_add_text(&reader->text, "\n");
}

static void add_lines(struct plane_log_reader *reader)
{
	struct plane_buffer *raw = &reader->raw;
	size_t done = 0;
	while (reader->lines_left > 0) {
		char *newline = memchr(raw->data + done, '\n', raw->len - done);
		if (!newline)
			break;
		add_line(reader, raw->data + done, (size_t)(newline - raw->data) - done);
		done = (size_t)(newline - raw->data) + 1;
		reader->lines_left--;
	}
	plane_buffer_consume(raw, done);
}

/* How many bytes came; 0 at the end of the file, for now. */
static ssize_t read_chunk(struct plane_log_reader *reader)
{
	if (reader->fd < 0)
		reader->fd = open_log(reader->path, "");
	if (reader->fd < 0)
		return 0;
	char *room = plane_buffer_reserve(&reader->raw, CHUNK_BYTES);
	ssize_t got = pread(reader->fd, room, CHUNK_BYTES, reader->offset);
	if (got > 0) {
		reader->offset += got;
		reader->raw.len += (size_t)got;
		add_lines(reader);
	}
	return got < 0 && errno == EINTR ? 1 : got;
}

/* True when another file comes after the end of this one: it was rotated away. */
static bool move_on(struct plane_log_reader *reader)
{
	struct stat mine, current;
	_cleanup_close_ int fd = open_log(reader->path, "");
	if (fd < 0 || reader->fd < 0)
		return false;
	if (fstat(reader->fd, &mine) < 0 || fstat(fd, &current) < 0 ||
		(mine.st_ino == current.st_ino && mine.st_dev == current.st_dev))
		return false;
	if (reader->raw.len) { /* whoever wrote it was killed there: the next file begins anew */
		add_line(reader, reader->raw.data, reader->raw.len);
		reader->lines_left--;
	}
	plane_buffer_clear(&reader->raw);
	(void)close(reader->fd); /* only read */
	reader->fd = plane_steal_fd(&fd);
	reader->offset = 0;
	reader->is_old = false;
	return true;
}

static void finish(struct plane_log_reader *reader, const char *error)
{
	struct plane_log_reader_listener listener = reader->listener;
	int64_t request_id = reader->request_id;
	plane_log_reader_destroy(reader);
	listener.on_end(listener.data, request_id, error);
}

/* True when nothing waits. */
static bool deliver(struct plane_log_reader *reader)
{
	if (reader->text.len == 0)
		return true;
	if (!reader->listener.on_text(
		    reader->listener.data, reader->request_id, plane_buffer_text(&reader->text)))
		return false;
	plane_buffer_clear(&reader->text);
	return true;
}

static void on_timer(uv_timer_t *timer)
{
	struct plane_log_reader *reader = timer->data;
	uint64_t next_ms = MORE_MS;
	if (!reader->is_positioned)
		position(reader);
	if (!deliver(reader)) {
		(void)uv_timer_start(timer, on_timer, BUSY_MS, 0);
		return;
	}
	ssize_t got = read_chunk(reader);
	if (got < 0) {
		finish(reader, "the log cannot be read");
		return;
	}
	bool is_delivered = deliver(reader);
	if (is_delivered && reader->lines_left == 0) {
		finish(reader, NULL);
		return;
	}
	if (got == 0 && is_delivered && !move_on(reader)) {
		bool is_over = !reader->is_follow || reader->was_ended;
		if (is_over) {
			finish(reader, NULL);
			return;
		}
		/* once more after it ended: what it wrote last */
		reader->was_ended =
			reader->listener.is_ended(reader->listener.data, reader->backend);
		next_ms = FOLLOW_MS;
	}
	(void)uv_timer_start(timer, on_timer, next_ms, 0);
}

struct plane_log_reader *plane_log_reader_create(uv_loop_t *loop, const char *path,
	const char *backend, int64_t request_id, int64_t tail_lines, bool is_follow,
	const struct plane_log_reader_listener *listener)
{
	struct plane_log_reader *reader = PLANE_NEW(struct plane_log_reader);
	reader->listener = *listener;
	reader->path = plane_strdup(path);
	reader->backend = plane_strdup(backend);
	reader->request_id = request_id;
	reader->tail_lines = tail_lines;
	reader->is_follow = is_follow;
	reader->lines_left = is_follow || tail_lines < 0 ? INT64_MAX : tail_lines;
	reader->fd = -1;
	(void)uv_timer_init(loop, &reader->timer); /* always succeeds, as does the start */
	reader->timer.data = reader;
	(void)uv_timer_start(&reader->timer, on_timer, 0, 0);
	return reader;
}

int64_t plane_log_reader_request_id(const struct plane_log_reader *reader)
{
	return reader->request_id;
}

static void on_timer_closed(uv_handle_t *handle)
{
	struct plane_log_reader *reader = handle->data;
	plane_closep(&reader->fd);
	plane_buffer_finish(&reader->raw);
	plane_buffer_finish(&reader->text);
	free(reader->path);
	free(reader->backend);
	free(reader);
}

void plane_log_reader_destroy(struct plane_log_reader *reader)
{
	if (reader)
		uv_close((uv_handle_t *)&reader->timer, on_timer_closed);
}
