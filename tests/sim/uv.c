/* What the roles use of libuv, of their thread pool and of their clocks, in virtual time. The
 * simulator is not linked with libuv: whatever is not here, nobody can call. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "net/http_pool.h"
#include "net/wake.h"
#include "sim.h"

static struct sim_process *process_of(const uv_loop_t *loop)
{
	return loop->data;
}

static struct sim_owner *owner_of(const uv_handle_t *handle)
{
	return &process_of(handle->loop)->owner;
}

/* ---- loops ---- */

int uv_loop_init(uv_loop_t *loop)
{
	memset(loop, 0, sizeof(*loop));
	loop->data = sim_current();
	sim_current()->loop = loop;
	return 0;
}

int uv_loop_close(uv_loop_t *loop)
{
	return loop->active_handles ? UV_EBUSY : 0;
}

int uv_run(uv_loop_t *loop, uv_run_mode mode)
{
	(void)mode;
	while (loop->active_handles) {
		process_of(loop)->runner = sim_fiber_current();
		sim_fiber_wait(-1);
	}
	process_of(loop)->runner = NULL;
	return 0;
}

uint64_t uv_now(const uv_loop_t *loop)
{
	return (uint64_t)(sim_boot_us(process_of(loop)->machine) / SIM_MS);
}

uint64_t uv_hrtime(void)
{
	return (uint64_t)sim_boot_us(sim_current()->machine) * 1000;
}

const char *uv_strerror(int code)
{
	(void)code;
	return "an error";
}

static void hold(uv_loop_t *loop, uv_handle_t *handle, uv_handle_type type)
{
	handle->type = type;
	handle->loop = loop;
	loop->active_handles++;
}

static void let_go(uv_loop_t *loop)
{
	if (--loop->active_handles == 0 && process_of(loop)->runner)
		sim_fiber_wake(process_of(loop)->runner);
}

static void on_handle_closed(void *data)
{
	uv_handle_t *handle = data;
	uv_loop_t *loop = handle->loop;
	if (handle->close_cb)
		handle->close_cb(handle); /* may free it */
	let_go(loop);
}

void uv_close(uv_handle_t *handle, uv_close_cb on_closed)
{
	if (handle->type == UV_TIMER)
		(void)uv_timer_stop((uv_timer_t *)handle);
	if (handle->type == UV_SIGNAL)
		(void)uv_signal_stop((uv_signal_t *)handle);
	if (handle->type == UV_ASYNC)
		sim_cancel(handle->u.reserved[0]);
	handle->close_cb = on_closed;
	handle->flags = 1;
	(void)sim_after(owner_of(handle), 0, on_handle_closed, handle);
}

int uv_is_closing(const uv_handle_t *handle)
{
	return handle->flags != 0;
}

/* ---- timers: the event is kept in the handle ---- */

#define TIMER_EVENT(timer) ((timer)->u.reserved[0])

int uv_timer_init(uv_loop_t *loop, uv_timer_t *timer)
{
	void *data = timer->data;
	memset(timer, 0, sizeof(*timer));
	timer->data = data;
	hold(loop, (uv_handle_t *)timer, UV_TIMER);
	return 0;
}

static void on_timer(void *data);

static void schedule(uv_timer_t *timer, uint64_t after_ms)
{
	int64_t delay = sim_true_us(process_of(timer->loop)->machine, (int64_t)after_ms * SIM_MS);
	TIMER_EVENT(timer) = sim_after(owner_of((uv_handle_t *)timer), delay, on_timer, timer);
}

static void on_timer(void *data)
{
	uv_timer_t *timer = data;
	TIMER_EVENT(timer) = NULL;
	if (timer->repeat)
		schedule(timer, timer->repeat);
	timer->timer_cb(timer); /* may close it */
}

int uv_timer_start(uv_timer_t *timer, uv_timer_cb callback, uint64_t timeout, uint64_t repeat)
{
	(void)uv_timer_stop(timer);
	timer->timer_cb = callback;
	timer->repeat = repeat;
	schedule(timer, timeout);
	return 0;
}

int uv_timer_again(uv_timer_t *timer)
{
	return uv_timer_start(timer, timer->timer_cb, timer->repeat, timer->repeat);
}

int uv_timer_stop(uv_timer_t *timer)
{
	sim_cancel(TIMER_EVENT(timer));
	TIMER_EVENT(timer) = NULL;
	return 0;
}

int uv_is_active(const uv_handle_t *handle)
{
	return handle->type == UV_TIMER && TIMER_EVENT((const uv_timer_t *)handle) != NULL;
}

/* ---- signals ---- */

int uv_signal_init(uv_loop_t *loop, uv_signal_t *handle)
{
	memset(handle, 0, sizeof(*handle));
	hold(loop, (uv_handle_t *)handle, UV_SIGNAL);
	return 0;
}

int uv_signal_start(uv_signal_t *handle, uv_signal_cb callback, int number)
{
	handle->signal_cb = callback;
	handle->signum = number;
	process_of(handle->loop)->signals[number == SIGINT] = handle;
	return 0;
}

int uv_signal_stop(uv_signal_t *handle)
{
	if (handle->signum)
		process_of(handle->loop)->signals[handle->signum == SIGINT] = NULL;
	handle->signum = 0;
	return 0;
}

void sim_uv_give_signal(void *data)
{
	uv_signal_t *handle = data;
	if (handle->signum)
		handle->signal_cb(handle, handle->signum);
}

/* ---- libuv's threads ---- */

static void on_work_done(void *data)
{
	uv_work_t *work = data;
	uv_loop_t *loop = work->loop;
	work->after_work_cb(work, 0);
	let_go(loop);
}

static void on_work(void *data)
{
	uv_work_t *work = data;
	work->work_cb(work);
	(void)sim_after(
		&process_of(work->loop)->owner, sim_between(10, 2 * SIM_MS), on_work_done, work);
}

int uv_queue_work(uv_loop_t *loop, uv_work_t *work, uv_work_cb run, uv_after_work_cb after)
{
	work->loop = loop;
	work->work_cb = run;
	work->after_work_cb = after;
	loop->active_handles++;
	(void)sim_after(&process_of(loop)->owner, sim_between(10, 10 * SIM_MS), on_work, work);
	return 0;
}

/* ---- locks: one fiber runs at a time and none waits with a lock, but on a condition ---- */

int uv_mutex_init(uv_mutex_t *mutex)
{
	(void)mutex;
	return 0;
}

void uv_mutex_destroy(uv_mutex_t *mutex)
{
	(void)mutex;
}

void uv_mutex_lock(uv_mutex_t *mutex)
{
	(void)mutex;
}

void uv_mutex_unlock(uv_mutex_t *mutex)
{
	(void)mutex;
}

struct condition {
	struct sim_fiber *waiting[64];
	size_t count;
};

_Static_assert(sizeof(uv_cond_t) >= sizeof(void *), "a pointer must fit");

static struct condition *condition_of(uv_cond_t *condition)
{
	void *own;
	memcpy(&own, condition, sizeof(own));
	return own;
}

int uv_cond_init(uv_cond_t *condition)
{
	void *own = PLANE_NEW(struct condition);
	memcpy(condition, &own, sizeof(own));
	return 0;
}

void uv_cond_destroy(uv_cond_t *condition)
{
	free(condition_of(condition));
}

void uv_cond_broadcast(uv_cond_t *condition)
{
	struct condition *own = condition_of(condition);
	for (size_t i = 0; i < own->count; i++)
		sim_fiber_wake(own->waiting[i]);
	own->count = 0;
}

int uv_cond_timedwait(uv_cond_t *condition, uv_mutex_t *mutex, uint64_t timeout_ns)
{
	struct condition *own = condition_of(condition);
	struct sim_fiber *self = sim_fiber_current();
	(void)mutex;
	if (own->count == sizeof(own->waiting) / sizeof(own->waiting[0]))
		abort();
	own->waiting[own->count++] = self;
	sim_fiber_wait(sim_true_us(sim_current()->machine, (int64_t)(timeout_ns / 1000)));
	for (size_t i = 0; i < own->count; i++)
		if (own->waiting[i] == self) {
			own->waiting[i] = own->waiting[--own->count];
			return UV_ETIMEDOUT;
		}
	return 0;
}

/* ---- the pools of threads of net/ ---- */

struct plane_http_pool {
	struct sim_process *process;
	int threads, busy;
	struct plane_http_job *first, *last; /* wait for a thread */
	bool is_closing;
	void (*on_closed)(void *data);
	void *data;
	uv_loop_t *loop;
};

struct pool_run {
	struct plane_http_pool *pool;
	struct plane_http_job *job;
};

struct plane_http_pool *plane_http_pool_create(
	uv_loop_t *loop, int threads, struct plane_error *err)
{
	struct plane_http_pool *pool = PLANE_NEW(struct plane_http_pool);
	(void)err;
	pool->process = process_of(loop);
	pool->threads = threads;
	pool->loop = loop;
	loop->active_handles++;
	return pool;
}

static void close_if_idle(struct plane_http_pool *pool)
{
	if (!pool->is_closing || pool->busy || pool->first)
		return;
	void (*on_closed)(void *data) = pool->on_closed;
	void *data = pool->data;
	uv_loop_t *loop = pool->loop;
	free(pool);
	if (on_closed)
		on_closed(data);
	let_go(loop);
}

static void start_next(struct plane_http_pool *pool);

static void on_job_done(void *data)
{
	struct pool_run run = *(struct pool_run *)data;
	free(data);
	run.pool->busy--;
	start_next(run.pool);
	run.job->done(run.job); /* may close the pool */
	close_if_idle(run.pool);
}

static void run_job(void *data)
{
	struct pool_run *run = data;
	if (run->job->run)
		run->job->run(run->job);
	(void)sim_after(&run->pool->process->owner, sim_between(1, 300), on_job_done, run);
}

static void start_job(void *data)
{
	struct pool_run *run = data;
	sim_fiber_start(run->pool->process, run_job, run);
}

static void start_next(struct plane_http_pool *pool)
{
	if (!pool->first || pool->busy == pool->threads)
		return;
	struct pool_run *run = PLANE_NEW(struct pool_run);
	run->pool = pool;
	run->job = pool->first;
	pool->first = run->job->next;
	pool->busy++;
	(void)sim_after(&pool->process->owner, sim_between(1, 300), start_job, run);
}

void plane_http_pool_submit(struct plane_http_pool *pool, struct plane_http_job *job)
{
	job->next = NULL;
	if (pool->first)
		pool->last->next = job;
	else
		pool->first = job;
	pool->last = job;
	start_next(pool);
}

static void on_pool_close(void *data)
{
	close_if_idle(data);
}

void plane_http_pool_close(struct plane_http_pool *pool, void (*on_closed)(void *data), void *data)
{
	pool->is_closing = true;
	pool->on_closed = on_closed;
	pool->data = data;
	if (!pool->busy && !pool->first)
		(void)sim_after(&pool->process->owner, 0, on_pool_close, pool);
}

/* ---- waking a loop ---- */

#define WAKE_EVENT(wake) ((wake)->poll.u.reserved[0])

int plane_wake_init(uv_loop_t *loop, struct plane_wake *wake,
	void (*callback)(struct plane_wake *wake), struct plane_error *err)
{
	(void)err;
	memset(&wake->poll, 0, sizeof(wake->poll));
	wake->callback = callback;
	hold(loop, (uv_handle_t *)&wake->poll, UV_POLL);
	return 0;
}

static void on_wake(void *data)
{
	struct plane_wake *wake = data;
	WAKE_EVENT(wake) = NULL;
	wake->callback(wake);
}

void plane_wake_send(struct plane_wake *wake)
{
	if (!WAKE_EVENT(wake))
		WAKE_EVENT(wake) = sim_after(
			owner_of((uv_handle_t *)&wake->poll), sim_between(1, 100), on_wake, wake);
}

void plane_wake_close(struct plane_wake *wake, uv_close_cb closed)
{
	sim_cancel(WAKE_EVENT(wake));
	WAKE_EVENT(wake) = NULL;
	uv_close((uv_handle_t *)&wake->poll, closed);
}

bool plane_wake_is_closing(const struct plane_wake *wake)
{
	return uv_is_closing((const uv_handle_t *)&wake->poll);
}

static void on_async(void *data)
{
	uv_async_t *async = data;
	async->u.reserved[0] = NULL;
	async->async_cb(async);
}

int uv_async_init(uv_loop_t *loop, uv_async_t *async, uv_async_cb callback)
{
	void *data = async->data;
	memset(async, 0, sizeof(*async));
	async->data = data;
	async->async_cb = callback;
	hold(loop, (uv_handle_t *)async, UV_ASYNC);
	return 0;
}

int uv_async_send(uv_async_t *async)
{
	if (!async->u.reserved[0] && !async->flags)
		async->u.reserved[0] = sim_after(
			owner_of((uv_handle_t *)async), sim_between(1, 100), on_async, async);
	return 0;
}

/* ---- clocks ---- */

int64_t plane_clock_boot_ms(void)
{
	return sim_boot_us(sim_current()->machine) / SIM_MS;
}

int64_t plane_clock_realtime_ms(void)
{
	return plane_clock_boot_ms() + sim_current()->machine->wall_offset_ms;
}

int64_t plane_clock_monotonic_us(void)
{
	return sim_boot_us(sim_current()->machine);
}
