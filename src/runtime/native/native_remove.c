/* Removing sandboxes: in the background, a few at a time, so that it never hurts those who start.
 */
#include <stdlib.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/log.h"
#include "runtime/native/native_internal.h"

#define REMOVALS_MAX 4  /* at once, on libuv's workers */
#define REMOVAL_NICE 19 /* of such a worker, meanwhile */
#define LOOK_MS 100     /* whether links are gone */
/* Until a link is removed that did not go with its namespace: something in the kernel still holds
 * it, such as a connection whose peer does not read what was sent. */
#define PATIENCE_MS 2000

void native_sandbox_free(struct native_sandbox *s)
{
	free(s->rootfs);
	free(s->backend);
	free(s->address);
	free(s);
}

static void forget(struct native_sandbox *s)
{
	struct plane_native *native = s->native;
	if (s->backend)
		native_place_freed(native, s->index);
	native->sandboxes[s->index] = NULL;
	native_sandbox_free(s);
	native_fill(native);
	native_maybe_closed(native);
}

static void start_next(struct plane_native *native)
{
	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++) {
		struct native_sandbox *s = native->sandboxes[i];
		if (s && s->state == NATIVE_DOOMED) {
			native_start_remove(s);
			return;
		}
	}
}

/* ---- links, which the kernel removes with their namespaces, many in one grace period ---- */

static void detach_work(uv_work_t *work)
{
	struct native_sandbox *s = work->data;
	s->result = plane_network_detach(s->native->host.network, s->index, &s->error);
}

static void detach_done(uv_work_t *work, int status)
{
	struct native_sandbox *s = work->data;
	(void)status; /* never cancelled */
	if (s->result < 0)
		plane_warn("remove the link of sandbox %u: %s", s->index, s->error.message);
	forget(s);
}

/* True when it stays. */
static bool look_at(struct native_sandbox *s)
{
	struct plane_native *native = s->native;
	if (!plane_network_has_link(native->host.network, s->index)) {
		forget(s);
		return false;
	}
	if (plane_clock_boot_ms() - s->leaving_since_ms < PATIENCE_MS)
		return true;
	s->state = NATIVE_REMOVING;
	(void)uv_queue_work(native->loop, &s->work, detach_work, detach_done);
	return false;
}

static void on_leaving(uv_timer_t *timer)
{
	struct plane_native *native = timer->data;
	bool has_any = false;
	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES && !native->is_closing; i++) {
		struct native_sandbox *s = native->sandboxes[i];
		if (s && s->state == NATIVE_LEAVING && look_at(s))
			has_any = true;
	}
	if (!has_any)
		(void)uv_timer_stop(timer); /* always succeeds */
}

static void leave(struct native_sandbox *s)
{
	struct plane_native *native = s->native;
	s->state = NATIVE_LEAVING;
	s->leaving_since_ms = plane_clock_boot_ms();
	if (!uv_is_active((uv_handle_t *)&native->leaving))
		(void)uv_timer_start(&native->leaving, on_leaving, LOOK_MS, LOOK_MS); /* succeeds */
	native_fill(native);
	native_maybe_closed(
		native); /* what leaves is not waited for: the next drone finds it gone */
}

/* ---- all the rest ---- */

static void remove_work(uv_work_t *work)
{
	struct native_sandbox *s = work->data;
	(void)setpriority(PRIO_PROCESS, 0, REMOVAL_NICE); /* of this thread */
	s->result = plane_sandbox_remove(&s->native->host, s->index, &s->error);
	(void)setpriority(PRIO_PROCESS, 0, 0);
}

static void remove_done(uv_work_t *work, int status)
{
	struct native_sandbox *s = work->data;
	struct plane_native *native = s->native;
	(void)status; /* never cancelled */
	native->removals--;
	if (s->result < 0) {
		plane_warn("remove sandbox %u: %s", s->index, s->error.message);
		forget(s);
	} else {
		leave(s);
	}
	start_next(native);
}

void native_start_remove(struct native_sandbox *s)
{
	struct plane_native *native = s->native;
	if (s->open_handles > 0 || s->state == NATIVE_REMOVING || s->state == NATIVE_ENDING)
		return;
	if (s->backend)
		native_place_freed(native, s->index);
	if (native->removals >= REMOVALS_MAX) {
		s->state = NATIVE_DOOMED;
		return;
	}
	native->removals++;
	s->state = NATIVE_REMOVING;
	s->work.data = s;
	(void)uv_queue_work(native->loop, &s->work, remove_work, remove_done);
}

void native_removal_open(struct plane_native *native)
{
	(void)uv_timer_init(native->loop, &native->leaving); /* always succeeds */
	native->leaving.data = native;
}
