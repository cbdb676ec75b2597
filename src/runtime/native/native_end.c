/* The end of a sandbox that was given to a backend. Nobody is told before its last process is gone:
 * then its key may be given to another backend. */
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "runtime/native/native_internal.h"

#define AWAIT_MS 5000

static void tell(struct native_sandbox *s, const struct plane_runtime_exit *exit)
{
	const struct plane_runtime_listener *listener = &s->native->listener;
	plane_runtime_spawned_fn spawned = STEAL(s->spawned);

	if (!spawned) {
		listener->on_exit(listener->data, s->backend, exit);
		return;
	}
	if (s->error.code == 0)
		plane_error_set(&s->error, -EIO, "start backend %s: its sandbox ended", s->backend);
	s->is_forgotten = true;
	spawned(s->spawned_data, NULL, &s->error);
}

static void await_work(uv_work_t *work)
{
	struct native_sandbox *s = work->data;
	const struct plane_sandbox_host *host = &s->native->host;
	_cleanup_free_ char *disk = plane_sandbox_disk(host, s->index);
	s->result = plane_sandbox_await_end(host, s->index, AWAIT_MS, NULL);
	/* at once, since recording the end may need the room; what fails here is tried again later
	 */
	if (s->result == 0 && s->is_disk_hog)
		(void)plane_file_remove_tree(disk, NULL);
}

static void await_done(uv_work_t *work, int status)
{
	struct native_sandbox *s = work->data;
	struct plane_runtime_exit exit;

	(void)status; /* never cancelled */
	if (s->result < 0 && !s->native->is_closing) {
		plane_warn_backend(
			s->backend, "its processes do not end: %s", strerror(-s->result));
		native_await_end(s);
		return;
	}
	s->state = NATIVE_ENDED;
	native_exit_read(s, &exit);
	if (s->result == 0) /* else the next run of the drone finds it */
		tell(s, &exit);
	if (s->is_forgotten)
		native_start_remove(s);
	native_maybe_closed(s->native);
}

void native_await_end(struct native_sandbox *s)
{
	s->state = NATIVE_ENDING;
	s->work.data = s;
	(void)uv_queue_work(s->native->loop, &s->work, await_work, await_done); /* succeeds */
}

void native_end(struct native_sandbox *s)
{
	struct plane_runtime_exit exit;

	native_exit_read(s, &exit);
	/* its shim was killed, and all in it dies in this moment; or its files go first */
	if (!exit.is_known || s->is_disk_hog) {
		native_await_end(s);
		return;
	}
	s->state = NATIVE_ENDED;
	tell(s, &exit);
}
