/* The pool of parked sandboxes: filled in the background, emptied by spawns, which wait in a queue
 * when there is none. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/alloc.h"
#include "base/log.h"
#include "runtime/native/native_internal.h"

#define TRIES_FOR_QUEUE 3 /* failures in a row after which waiting spawns are refused */
#define RETRY_MIN_MS 250
#define RETRY_MAX_MS 30000
#define REFILL_MS                                                                                  \
	10 /* from a start until its sandbox is replaced, while half the pool is there             \
	    */
/* At once, by libuv's workers at a low priority. Most of a build is waiting: for a grace period of
 * the kernel's, which builds at the same time share. */
#define BUILDS_MAX 8
#define BUILDS_MAX_WAITED_FOR 12
#define BUILD_NICE 10

struct native_sandbox *native_parked(struct plane_native *native, const char *rootfs)
{
	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++) {
		struct native_sandbox *s = native->sandboxes[i];
		if (s && s->state == NATIVE_PARKED &&
			(rootfs ? s->rootfs && strcmp(s->rootfs, rootfs) == 0 : !s->rootfs))
			return s;
	}
	return NULL;
}

/* A mount belongs to one key: it is never there ahead. */
struct native_sandbox *native_choose(struct plane_native *native,
	const struct plane_runtime_spawn *spawn, const struct plane_image *image)
{
	struct native_sandbox *s = NULL;
	if (spawn->executable->mount == PLANE_MOUNT_NONE)
		s = native_parked(native, image->rootfs_path);
	return s ? s : native_parked(native, NULL);
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
	while (native->queue) {
		struct native_queued *first = native->queue;
		struct plane_error err = { 0 };
		const struct plane_image *image =
			native_image(native, first->spawn.executable->image, &err);
		struct native_sandbox *s =
			image ? native_choose(native, &first->spawn, image) : NULL;
		if (image && !s)
			return;
		first = dequeue(native);
		if (s)
			native_start(s, &first->spawn, image, first->spawned, first->data);
		else
			native_refuse(native, first->spawned, first->data, &err);
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
	(void)setpriority(
		PRIO_PROCESS, 0, BUILD_NICE); /* of this thread, and the shim's until its start */
	s->result = plane_sandbox_make(&s->native->host, s->index, &s->parts, &s->error);
	(void)setpriority(PRIO_PROCESS, 0, 0);
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
	native_dress_parked(native);
	if (native_count(native, NATIVE_PARKED) >= native->pool_size)
		native_tell_warm(native, NULL);
	native_fill(native);
}

void native_fill(struct plane_native *native)
{
	unsigned making = native_count(native, NATIVE_MAKING);
	unsigned have = native_count(native, NATIVE_PARKED) + making;
	bool is_pausing = native->failures > 0 && uv_is_active((uv_handle_t *)&native->retry);
	unsigned builds_max = native->queue ? BUILDS_MAX_WAITED_FOR : BUILDS_MAX;
	if (native->is_closing || is_pausing)
		return;
	while (have < native->pool_size + native->queued && making < builds_max) {
		int index = native_place_free(native);
		if (index < 0)
			break;
		struct native_sandbox *s = native_add(native, (unsigned)index);
		s->state = NATIVE_MAKING;
		s->work.data = s;
		(void)uv_queue_work(native->loop, &s->work, make_work, make_done);
		have++;
		making++;
	}
	if (have < native->pool_size + native->queued && native_place_rests(native) &&
		!uv_is_active((uv_handle_t *)&native->retry))
		(void)uv_timer_start(&native->retry, on_retry, RETRY_MIN_MS, 0); /* succeeds */
	/* all places are taken, and nobody knows when one gets free */
	if (native->queue && have == 0 && native_count(native, NATIVE_REMOVING) == 0 &&
		!native_place_rests(native)) {
		plane_error_set(&native->pool_error, -EAGAIN, "this drone is full: %u backends",
			plane_network_count(native->host.network));
		refuse_queue(native);
	}
}

void native_pool_open(struct plane_native *native)
{
	(void)uv_timer_init(native->loop, &native->retry); /* always succeeds */
	native->retry.data = native;
}

void native_pool_stop(struct plane_native *native)
{
	(void)uv_timer_stop(&native->retry);
	plane_error_set(&native->pool_error, -ECANCELED, "the drone stops");
	refuse_queue(native);
	native_tell_warm(native, &native->pool_error);
}
