/* Lines of a backend as CRI log lines, in a file that is rotated once: <log> and <log>.1. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shim.h"

static void reopen(struct shim_log *log)
{
	struct stat st;

	log->fd = open(log->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
	log->size = log->fd >= 0 && fstat(log->fd, &st) == 0 ? st.st_size : 0;
}

void shim_log_open(struct shim_log *log, const char *path, int64_t max)
{
	snprintf(log->path, sizeof(log->path), "%s", path);
	log->max = max;
}

static void rotate(struct shim_log *log)
{
	char old[sizeof(log->path) + 3];

	snprintf(old, sizeof(old), "%s.1", log->path);
	close(log->fd);
	if (rename(log->path, old) < 0)
		(void)unlink(log->path); /* bounded disk matters more than old lines */
	reopen(log);
}

static void write_line(
	struct shim_log *log, const char *stream, const char *text, size_t len, char tag)
{
	char line[sizeof(((struct shim_stream *)0)->line) + 80];
	struct timespec now;
	struct tm tm;
	size_t at;

	if (log->fd < 0)
		reopen(log);
	if (log->fd < 0)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	at = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
	at += (size_t)snprintf(
		line + at, sizeof(line) - at, ".%09ldZ %s %c ", now.tv_nsec, stream, tag);
	memcpy(line + at, text, len);
	at += len;
	line[at++] = '\n';
	if (log->max > 0 && log->size + (int64_t)at > log->max && log->size > 0)
		rotate(log);
	if (log->fd < 0)
		return;
	ssize_t n = write(log->fd, line, at); /* a full disk loses lines, never the backend */
	if (n > 0)
		log->size += n;
}

bool shim_log_take(struct shim_log *log, struct shim_stream *stream)
{
	size_t start = 0;
	ssize_t n =
		read(stream->fd, stream->line + stream->len, sizeof(stream->line) - stream->len);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		shim_log_flush(log, stream);
		close(stream->fd);
		stream->fd = -1;
		return false;
	}
	stream->len += (size_t)n;
	for (;;) {
		char *end = memchr(stream->line + start, '\n', stream->len - start);
		if (!end)
			break;
		size_t next = (size_t)(end - stream->line) + 1;
		write_line(log, stream->name, stream->line + start, next - 1 - start, 'F');
		start = next;
	}
	if (start == 0 && stream->len == sizeof(stream->line)) {
		write_line(log, stream->name, stream->line, stream->len, 'P');
		start = stream->len;
	}
	stream->len -= start;
	memmove(stream->line, stream->line + start, stream->len);
	return true;
}

void shim_log_flush(struct shim_log *log, struct shim_stream *stream)
{
	if (stream->len > 0)
		write_line(log, stream->name, stream->line, stream->len, 'F');
	stream->len = 0;
}
