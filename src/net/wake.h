/* Waking an event loop from other threads. libuv's own way (uv_async_t, 1.44) lets the loop spin
 * and yield while the sender is between its two steps; a sender that lost its core in between then
 * keeps the loop for a whole time slice. Here a send is one exchange and one write, and nobody
 * waits. */
#ifndef PLANE_NET_WAKE_H
#define PLANE_NET_WAKE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <uv.h>

#include "base/error.h"

struct plane_wake {
	uv_poll_t poll; /* `data` belongs to the caller, set after init */
	int fd;         /* eventfd(2) */
	atomic_bool is_sent;
	void (*callback)(struct plane_wake *wake);
};

/** Loop thread. The callback comes on the loop thread, once for any number of sends. */
int plane_wake_init(uv_loop_t *loop, struct plane_wake *wake,
	void (*callback)(struct plane_wake *wake), struct plane_error *err);
/** Any thread; never blocks. What the sender wrote before, the callback sees. */
void plane_wake_send(struct plane_wake *wake);
/** Loop thread. `closed` gets the poll handle; until then no other thread may send. */
void plane_wake_close(struct plane_wake *wake, uv_close_cb closed);
bool plane_wake_is_closing(const struct plane_wake *wake);

#endif
