/* In place of threads and of the calls of the system that the roles make: names are exchanged when
 * their sources are compiled (see meson.build). A thread is a fiber. */
#include "threads.h"

#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"

#define FIRST_FD 1000
#define FDS_MAX 4096

/* eventfd(2). */
static struct {
	uint64_t count;
	struct sim_fiber *waiting;
} fds[FDS_MAX];
static int fd_count;

struct thread {
	struct sim_fiber *fiber;
	void *(*run)(void *data);
	void *data;
};

static void run_thread(void *data)
{
	struct thread *thread = data;
	thread->fiber = sim_fiber_current();
	(void)thread->run(thread->data);
	thread->fiber = NULL;
}

struct beginning {
	struct sim_process *process;
	struct thread *thread;
};

static void begin_thread(void *data)
{
	struct beginning beginning = *(struct beginning *)data;
	free(data);
	sim_fiber_start(beginning.process, run_thread, beginning.thread);
}

int sim_pthread_create(
	pthread_t *id, const pthread_attr_t *attributes, void *(*run)(void *), void *data)
{
	struct thread *thread = PLANE_NEW(struct thread);
	struct beginning *beginning = PLANE_NEW(struct beginning);
	(void)attributes;
	thread->run = run;
	thread->data = data;
	beginning->process = sim_current();
	beginning->thread = thread;
	*id = (pthread_t)thread;
	(void)sim_after(&sim_current()->owner, sim_between(1, 300), begin_thread, beginning);
	return 0;
}

/* From the loop of a controller that stops, which cannot wait in here: the thread goes no further.
 */
int sim_pthread_join(pthread_t id, void **result)
{
	struct thread *thread = (struct thread *)id;
	(void)result;
	if (thread->fiber)
		sim_fiber_abandon(thread->fiber);
	return 0;
}

int sim_eventfd(unsigned count, int flags)
{
	(void)flags;
	if (fd_count == FDS_MAX)
		abort();
	fds[fd_count].count = count;
	return FIRST_FD + fd_count++;
}

ssize_t sim_write(int fd, const void *bytes, size_t len)
{
	if (fd < FIRST_FD)
		return -1;
	(void)bytes;
	fds[fd - FIRST_FD].count++;
	if (fds[fd - FIRST_FD].waiting)
		sim_fiber_wake(fds[fd - FIRST_FD].waiting);
	fds[fd - FIRST_FD].waiting = NULL;
	return (ssize_t)len;
}

ssize_t sim_read(int fd, void *bytes, size_t len)
{
	(void)bytes;
	if (fd < FIRST_FD || !fds[fd - FIRST_FD].count)
		return -1;
	fds[fd - FIRST_FD].count = 0;
	return (ssize_t)len;
}

void sim_wait_readable(int fd, int64_t limit)
{
	if (fds[fd - FIRST_FD].count)
		return;
	fds[fd - FIRST_FD].waiting = sim_fiber_current();
	sim_fiber_wait(limit);
	fds[fd - FIRST_FD].waiting = NULL;
}

int sim_poll(struct pollfd *polled, nfds_t count, int timeout_ms)
{
	if (count != 1)
		abort();
	sim_wait_readable(polled->fd, timeout_ms * SIM_MS);
	return fds[polled->fd - FIRST_FD].count > 0;
}

int sim_close(int fd)
{
	(void)fd;
	return 0;
}
