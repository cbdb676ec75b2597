/* The pool of parked sandboxes: filled in the background, emptied by spawns, which wait in a queue
 * when there is none. */
#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/log.h"
#include "runtime/native/native_internal.h"

#define TRIES_FOR_QUEUE 3 /* failures in a row after which waiting spawns are refused */
#define RETRY_MIN_MS 250
#define RETRY_MAX_MS 30000
#define LOW_WATER 2  /* parked sandboxes below which the pool is filled at once */
#define REFILL_MS 25 /* else a backend that starts now goes first */
#define BUILDS_MAX 8 /* at once; libuv's workers do them */

struct native_sandbox *native_parked(struct plane_native *native)
{
	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++)
		if (native->sandboxes[i] && native->sandboxes[i]->state == NATIVE_PARKED)
			return native->sandboxes[i];
	return NULL;
}

void native_tell_warm(struct plane_native *native, const struct plane_error *err)
{
	for (struct native_waiting *w = native->warm; err && w; w = w->next)
		w->error = *err;
	native_run_list(&native->warm);
}

static struct native_queued *dequeue(struct plane_native *native)
{
	struct native_queued *first = native->queue;
	native->queue = first->next;
	native->queued--;
	return first;
}

static void serve_queue(struct plane_native *native)
{
	struct native_sandbox *s;
	while (native->queue && (s = native_parked(native))) {
		struct native_queued *first = dequeue(native);
		native_start(s, &first->spawn, first->spawned, first->data);
		free(first);
	}
}

static void refuse_queue(struct plane_native *native)
{
	struct plane_error err = native->pool_error;
	(void)plane_error_prefix(&err, "no sandbox can be made");
	while (native->queue) {
		struct native_queued *first = dequeue(native);
		native_refuse(native, first->spawned, first->data, &err);
		free(first);
	}
}

/* ---- making ---- */

static void make_work(uv_work_t *work)
{
	struct native_sandbox *s = work->data;
	s->result = plane_sandbox_make(&s->native->host, s->index, &s->parts, &s->error);
}

static void on_retry(uv_timer_t *timer)
{
	native_fill(timer->data);
}

static void make_failed(struct native_sandbox *s)
{
	struct plane_native *native = s->native;
	uint64_t wait_ms = RETRY_MIN_MS;
	native->failures++;
	native->pool_error = s->error;
	plane_warn("make sandbox %u: %s", s->index, s->error.message);
	native_start_remove(s);
	if (native->is_closing)
		return;
	for (unsigned i = 1; i < native->failures && wait_ms < RETRY_MAX_MS; i++)
		wait_ms *= 2;
	(void)uv_timer_start(&native->retry, on_retry, wait_ms, 0); /* always succeeds */
	if (native->failures >= TRIES_FOR_QUEUE) {
		refuse_queue(native);
		native_tell_warm(native, &native->pool_error);
	}
}

static void make_done(uv_work_t *work, int status)
{
	struct native_sandbox *s = work->data;
	struct plane_native *native = s->native;

	(void)status; /* never cancelled */
	if (s->result < 0) {
		make_failed(s);
		return;
	}
	native->failures = 0;
	s->state = NATIVE_PARKED;
	native_follow(s);
	if (native->is_closing) {
		native_close_handles(s);
		return;
	}
	serve_queue(native);
	if (native_count(native, NATIVE_PARKED) >= native->pool_size)
		native_tell_warm(native, NULL);
	native_fill(native);
}

/* Not the one that was freed last: a proxy may still know its address for a moment. */
static int free_index(struct plane_native *native)
{
	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++) {
		unsigned index = (native->next_index + i) % PLANE_NETWORK_MAX_SANDBOXES;
		if (!native->sandboxes[index]) {
			native->next_index = index + 1;
			return (int)index;
		}
	}
	return -1;
}

void native_fill_soon(struct plane_native *native)
{
	bool is_urgent = native->queue || native_count(native, NATIVE_PARKED) < LOW_WATER;
	if (is_urgent)
		native_fill(native);
	else if (!native->is_closing && !uv_is_active((uv_handle_t *)&native->retry))
		(void)uv_timer_start(&native->retry, on_retry, REFILL_MS, 0); /* succeeds */
}

void native_fill(struct plane_native *native)
{
	unsigned making = native_count(native, NATIVE_MAKING);
	unsigned have = native_count(native, NATIVE_PARKED) + making;
	bool is_pausing = native->failures > 0 && uv_is_active((uv_handle_t *)&native->retry);
	if (native->is_closing || is_pausing)
		return;
	while (have < native->pool_size + native->queued && making < BUILDS_MAX) {
		int index = free_index(native);
		if (index < 0)
			break;
		struct native_sandbox *s = native_add(native, (unsigned)index);
		s->state = NATIVE_MAKING;
		s->work.data = s;
		(void)uv_queue_work(native->loop, &s->work, make_work, make_done);
		have++;
		making++;
	}
	/* all places are taken, and nobody knows when one gets free */
	if (native->queue && have == 0 && native_count(native, NATIVE_REMOVING) == 0) {
		plane_error_set(&native->pool_error, -EAGAIN, "this drone is full: %u backends",
			PLANE_NETWORK_MAX_SANDBOXES);
		refuse_queue(native);
	}
}

void native_pool_open(struct plane_native *native)
{
	(void)uv_timer_init(native->loop, &native->retry); /* always succeeds */
	native->retry.data = native;
	native->is_retry_open = true;
}

void native_pool_stop(struct plane_native *native)
{
	(void)uv_timer_stop(&native->retry);
	plane_error_set(&native->pool_error, -ECANCELED, "the drone stops");
	refuse_queue(native);
	native_tell_warm(native, &native->pool_error);
}

void native_pool_close(struct plane_native *native, uv_close_cb closed)
{
	native->is_retry_open = false;
	uv_close((uv_handle_t *)&native->retry, closed);
}
