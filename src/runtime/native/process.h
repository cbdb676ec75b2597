/* Processes of the host, as /proc tells. */
#ifndef PLANE_RUNTIME_NATIVE_PROCESS_H
#define PLANE_RUNTIME_NATIVE_PROCESS_H

#include <sys/types.h>

typedef void (*plane_process_fn)(void *data, const char *pid, uid_t uid);

/** Calls back for each process with its number as text and its real user. Blocks: some 20 µs for
 * each. */
void plane_process_each(plane_process_fn each, void *data);

#endif
