/* A backend for the fault tests. It proves that it is the only one of its key: as long as a process
 * of it lives, it holds a lock on a file that all backends of the key share (/plane-data). And it
 * does what the environment variable HOSTILE or a request says. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/server.h"

#define SHARED "/plane-data/"
#define LINE_BYTES 128
#define CHUNK_BYTES (1 << 20)
#define MAX_MB (1L << 20)
#define EXIT_DOUBLED 99

static const char *mine(const char *name)
{
	const char *value = getenv(name);
	return value ? value : "";
}

static void note(const char *path, const char *what)
{
	char line[256];
	int len = snprintf(line, sizeof(line), "%s %s %s\n", what, mine("SESSION_BACKEND_ID"),
		mine("SESSION_BACKEND_FENCING_TOKEN"));
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, line, (size_t)len) != len)
		fprintf(stderr, "note in %s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

/* The lock stays with this process and with all that it forks, until the last of them is gone. */
static void be_the_only_one(void)
{
	if (access(SHARED, F_OK) < 0)
		return;
	int fd = open(SHARED "alive", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0) {
		fprintf(stderr, "open " SHARED "alive: %s\n", strerror(errno));
		exit(1);
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		note(SHARED "doubled", "doubled");
		exit(EXIT_DOUBLED);
	}
	note(SHARED "starts", "start");
}

/* ---- what it does to its machine ---- */

static void print_much(long mb)
{
	static char line[LINE_BYTES];
	memset(line, 'x', sizeof(line));
	line[LINE_BYTES - 1] = '\n';
	for (long i = 0; i < mb * (1L << 20) / LINE_BYTES; i++)
		(void)fwrite(line, sizeof(line), 1, stdout); /* a full pipe only waits */
	(void)fflush(stdout);
}

static void fork_until_refused(struct web_connection *connection)
{
	char text[128];
	long count = 0;
	pid_t pid;
	while ((pid = fork()) > 0)
		count++;
	if (pid == 0)
		for (;;)
			pause();
	(void)snprintf(text, sizeof(text), "%ld %s\n", count, strerror(errno)); /* fits */
	web_connection_answer_text(connection, 200, text);
}

/* Writes until that much is written or an error comes; the file is nameless when told so. */
static void fill_disk(struct web_connection *connection, const struct web_request *request)
{
	static char chunk[CHUNK_BYTES];
	char path[64], text[128];
	static int files;
	long mb = web_request_number(request, "mb", MAX_MB, MAX_MB);
	(void)snprintf(path, sizeof(path), "/fill-%d", files++); /* fits */
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	long written = 0;
	memset(chunk, 'y', sizeof(chunk));
	if (fd >= 0 && web_request_number(request, "nameless", 0, 1) == 1)
		(void)unlink(path); /* the descriptor is never closed */
	while (fd >= 0 && written < mb && write(fd, chunk, sizeof(chunk)) == (ssize_t)sizeof(chunk))
		written++;
	(void)snprintf(text, sizeof(text), "%ld %s\n", written,
		written < mb ? strerror(errno) : "done"); /* fits */
	web_connection_answer_text(connection, 200, text);
}

static void crash(void)
{
	char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		abort();
	*(volatile char *)page = 1;
}

/* ---- serving ---- */

static void on_request(struct web_connection *connection, const struct web_request *request)
{
	const char *path = request->path;
	if (strcmp(path, "/ws") == 0) {
		(void)web_connection_upgrade(connection, request); /* else it has answered */
	} else if (strcmp(path, "/crash") == 0) {
		crash();
	} else if (strcmp(path, "/exit") == 0) {
		_exit((int)web_request_number(request, "code", 0, 255));
	} else if (strcmp(path, "/print") == 0) {
		print_much(web_request_number(request, "mb", 1, MAX_MB));
		web_connection_answer_text(connection, 200, "printed\n");
	} else if (strcmp(path, "/fork") == 0) {
		fork_until_refused(connection);
	} else if (strcmp(path, "/fill") == 0) {
		fill_disk(connection, request);
	} else {
		web_connection_answer_text(connection, 200, mine("SESSION_BACKEND_ID"));
	}
}

static void on_message(
	struct web_connection *connection, const char *bytes, size_t len, bool is_text)
{
	web_connection_send(connection, bytes, len, is_text);
}

static int serve(uint16_t port)
{
	static const struct web_handlers handlers = { .on_request = on_request,
		.on_message = on_message };
	struct web_server *server = web_server_create(port, &handlers);
	if (!server)
		return 1;
	int status = web_server_run(server);
	web_server_destroy(server);
	return status;
}

/* A signal for the first process says nothing to the one that serves. */
static int serve_deaf(uint16_t port)
{
	(void)signal(SIGTERM, SIG_IGN);
	pid_t pid = fork();
	if (pid < 0)
		return 1;
	if (pid == 0)
		return serve(port);
	for (;;)
		pause();
}

int main(void)
{
	const char *mode = mine("HOSTILE");
	uint16_t port = web_port();
	be_the_only_one();
	if (strcmp(mode, "exit") == 0)
		return 3;
	if (strcmp(mode, "crash") == 0)
		crash();
	if (strcmp(mode, "silent") == 0)
		for (;;)
			pause();
	if (strcmp(mode, "print") == 0)
		print_much(64);
	if (strcmp(mode, "deaf") == 0)
		return serve_deaf(port);
	return serve(strcmp(mode, "wrong-port") == 0 ? (uint16_t)(port + 1) : port);
}
