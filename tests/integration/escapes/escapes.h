/* Attempts to get out of a sandbox. Each runs in a process of its own and must fail, for a reason
 * that shows that it was refused and not merely badly asked. */
#ifndef TESTS_INTEGRATION_ESCAPES_ESCAPES_H
#define TESTS_INTEGRATION_ESCAPES_ESCAPES_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPECTED_MAX 6

struct attempt {
	const char *name;
	long (*run)(void);          /* negative with errno: it failed */
	int expected[EXPECTED_MAX]; /* errno values that are a refusal; 0 ends the list */
};

#define ATTEMPT(name, ...)                                                                         \
	{                                                                                          \
#name, try_##name,                                                                 \
		{                                                                                  \
			__VA_ARGS__                                                                \
		}                                                                                  \
	}

/* What a refusal looks like. */
#define BY_FILTER EPERM, ENOSYS /* a killed process counts as ENOSYS */
#define BY_PERMISSION EPERM, EACCES, EROFS
#define NOT_THERE ENOENT
#define NO_WAY EHOSTUNREACH, ENETUNREACH, ETIMEDOUT, ECONNREFUSED, EADDRNOTAVAIL

extern const struct attempt kernel_attempts[], process_attempts[], file_attempts[],
	network_attempts[], network_controls[],
	bound_attempts[]; /* each ends with an entry without name */

/** -1 with errno `why` when it is refused, else 0. */
long refused_if(bool is_refused, int why);
/** Sets what is reported beside the result. */
void detail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** Closes a descriptor and keeps errno; returns `result`. */
long close_with(int fd, long result);

long write_file(const char *path, const char *text);
/** A file that is empty counts as masked: ENODATA. */
long read_file(const char *path);

/** neighbour.c: leaves behind what others could find (LEAVE=1), and what it heard from them. */
void leave_traces(void);
void heard_text(char *text, size_t size);
/** Files that were open when the program began, without standard input and output. */
void note_descriptors(void);

#define TRACE_KEY 0x506c616e /* of System V objects */
#define TRACE_NAME "plane-escapes"
#define TRACE_TCP_PORT 8081
#define TRACE_UDP_PORT 8082

#endif
