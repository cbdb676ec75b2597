/* See threads.c. */
#ifndef PLANE_SIM_THREADS_H
#define PLANE_SIM_THREADS_H

#include <poll.h>
#include <pthread.h>
#include <sys/types.h>

#include "sim.h"

int sim_pthread_create(
	pthread_t *id, const pthread_attr_t *attributes, void *(*run)(void *), void *data);
int sim_pthread_join(pthread_t id, void **result);
int sim_eventfd(unsigned count, int flags);
ssize_t sim_write(int fd, const void *bytes, size_t len);
ssize_t sim_read(int fd, void *bytes, size_t len);
int sim_poll(struct pollfd *polled, nfds_t count, int timeout_ms);
int sim_close(int fd);
/** In a fiber: until somebody has written, or for `limit` microseconds. */
void sim_wait_readable(int fd, int64_t limit);

#endif
