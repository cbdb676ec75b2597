/* The shim of one sandbox: a small static program that outlives the drone. It holds the logs, the
 * hard deadline and the exit of its backend, and nothing else. */
#ifndef PLANE_RUNTIME_NATIVE_SHIM_SHIM_H
#define PLANE_RUNTIME_NATIVE_SHIM_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol.h"

/* The start file, mapped. All texts point into it. */
struct shim_start {
	const struct plane_shim_start *head;
	const char *backend, *image, *workdir, *log_path, *address, *resolv;
	char **argv, **env;
};

/** False when the file is not what the drone would have written. */
bool shim_start_read(int fd, struct shim_start *start);

struct shim_stream {
	int fd; /* read end of the pipe; -1 at its end */
	const char *name;
	size_t len;
	char line[16384];
};

struct shim_log {
	int fd;
	int64_t size, max;
	char path[4096];
};

/** The file is made with the first line: it takes time, and a start does not wait for it. */
void shim_log_open(struct shim_log *log, const char *path, int64_t max);
/** Takes what is there (the pipe is non-blocking); true when there may be more. */
bool shim_log_take(struct shim_log *log, struct shim_stream *stream);
/** Writes a last line without newline. */
void shim_log_flush(struct shim_log *log, struct shim_stream *stream);

/** Sends a failure's text; used on both sockets. */
void shim_fail(int socket, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Receives a packet with up to `max` descriptors; returns its length or -1. */
long shim_receive(int socket, void *bytes, size_t size, int *fds, int max, int *count);
long shim_send(int socket, const void *bytes, size_t size, const int *fds, int count);

/* What init is made with: write ends of the backend's standard streams; where the backend's
 * process reports why it cannot be executed (closed by execve); the system call filter. */
struct shim_init {
	int socket, out, err, report, seccomp;
};

/** pid 1 of the sandbox; never returns. */
void shim_init_main(const struct shim_init *init) __attribute__((noreturn));
/** The process that becomes the backend: waits on the socket for the start file. */
void shim_backend_main(const struct shim_init *init) __attribute__((noreturn));
/** Bounds the capabilities of this process and its children; then no new privileges. */
int shim_drop_capabilities(void);
int shim_clear_capabilities(void);

#endif
