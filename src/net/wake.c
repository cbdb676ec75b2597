/* An eventfd and a flag that tells whether it was written already. */
#include "net/wake.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct plane_wake *wake = (struct plane_wake *)poll;
	uint64_t count;
	(void)status; /* an error shows as nothing to read */
	(void)events;
	(void)!read(wake->fd, &count, sizeof(count)); /* only makes it unreadable again */
	/* before the callback looks: who sends from now on wakes us again */
	atomic_exchange(&wake->is_sent, false);
	wake->callback(wake);
}

int plane_wake_init(uv_loop_t *loop, struct plane_wake *wake,
	void (*callback)(struct plane_wake *wake), struct plane_error *err)
{
	_Static_assert(offsetof(struct plane_wake, poll) == 0, "cast from the poll handle");
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return plane_error_errno(err, "make an eventfd");
	int result = uv_poll_init(loop, &wake->poll, fd);
	if (result < 0) {
		(void)close(fd); /* nothing was written */
		return plane_error_set(err, result, "watch an eventfd: %s", uv_strerror(result));
	}
	wake->fd = fd;
	wake->callback = callback;
	atomic_init(&wake->is_sent, false);
	(void)uv_poll_start(&wake->poll, UV_READABLE, on_readable); /* succeeds after init */
	return 0;
}

void plane_wake_send(struct plane_wake *wake)
{
	uint64_t one = 1;
	if (!atomic_exchange(&wake->is_sent, true))
		(void)!write(
			wake->fd, &one, sizeof(one)); /* fails only when it is full, so readable */
}

void plane_wake_close(struct plane_wake *wake, uv_close_cb closed)
{
	(void)uv_poll_stop(&wake->poll); /* then libuv no longer knows the descriptor */
	(void)close(wake->fd);
	wake->fd = -1;
	uv_close((uv_handle_t *)&wake->poll, closed);
}

bool plane_wake_is_closing(const struct plane_wake *wake)
{
	return uv_is_closing((const uv_handle_t *)&wake->poll);
}
