/* The backend of the cluster tests. It writes what it does into a file that all backends of its key
 * share, many times a second, so that the order of the lines shows whether two ever ran at once:
 *   start|beat|doubled BACKEND FENCING-TOKEN MICROSECONDS, of CLOCK_BOOTTIME of its machine
 * "doubled": another one held the lock that each holds for its life; it goes on, as a real one
 * would. It answers with its name and echoes WebSocket messages. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "common/server.h"

#define SHARED "/plane-data/"
#define BEAT_NS 20000000L
#define LINE_BYTES 128 /* divides a page: a kill never leaves half of one */

static pthread_mutex_t recording = PTHREAD_MUTEX_INITIALIZER;
static int record_fd;

static const char *own(const char *name)
{
	const char *value = getenv(name);
	return value ? value : "-";
}

/* One write in append mode: lines of several writers do not mix. Those of this one stand in the
 * order of their times. */
static void record(const char *what)
{
	char text[LINE_BYTES], line[LINE_BYTES + 1];
	struct timespec now;
	pthread_mutex_lock(&recording);
	clock_gettime(CLOCK_BOOTTIME, &now);
	(void)snprintf(text, sizeof(text), "%s %s %s %" PRId64, what, own("SESSION_BACKEND_ID"),
		own("SESSION_BACKEND_FENCING_TOKEN"),
		(int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000); /* fits */
	(void)snprintf(line, sizeof(line), "%-*s\n", LINE_BYTES - 1, text);
	if (write(record_fd, line, LINE_BYTES) != LINE_BYTES) {
		fprintf(stderr, "write " SHARED "record: %s\n", strerror(errno));
		_exit(1); /* what is not written down must not run */
	}
	pthread_mutex_unlock(&recording);
}

static void *beat(void *unused)
{
	struct timespec pause = { .tv_nsec = BEAT_NS };
	(void)unused;
	for (;;) {
		record("beat");
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static int open_shared(const char *path, int flags)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | flags, 0644);
	if (fd < 0) {
		fprintf(stderr, "open %s: %s\n", path, strerror(errno));
		exit(1);
	}
	return fd;
}

static void on_request(struct web_connection *connection, const struct web_request *request)
{
	if (strcmp(request->path, "/ws") == 0)
		(void)web_connection_upgrade(connection, request); /* else it has answered */
	else
		web_connection_answer_text(connection, 200, own("SESSION_BACKEND_ID"));
}

static void on_message(
	struct web_connection *connection, const char *bytes, size_t len, bool is_text)
{
	web_connection_send(connection, bytes, len, is_text);
}

int main(void)
{
	static const struct web_handlers handlers = { .on_request = on_request,
		.on_message = on_message };
	pthread_t thread;
	int lock_fd = open_shared(SHARED "lock", 0);
	record_fd = open_shared(SHARED "record", O_APPEND);
	record(flock(lock_fd, LOCK_EX | LOCK_NB) < 0 ? "doubled" : "start");
	/* its signals are the server's, which blocks them before there is a second thread */
	struct web_server *server = web_server_create(web_port(), &handlers);
	if (!server || pthread_create(&thread, NULL, beat, NULL) != 0)
		return 1;
	int status = web_server_run(server);
	record("beat");
	web_server_destroy(server);
	return status;
}
