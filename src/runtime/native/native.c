/* The native runtime: keeps a pool of parked sandboxes, gives them to backends, follows their
 * ends and removes what they leave. Slow work runs on libuv's workers. */
#include "runtime/native/native.h"

#include <fcntl.h>
#include <limits.h>
#include <openssl/sha.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "runtime/native/machine.h"
#include "runtime/native/native_internal.h"
#include "runtime/native/shim/protocol.h"
#include "runtime/native/syscall_filter.h"

const struct plane_sandbox_host *native_host(const struct plane_native *native)
{
	return &native->host;
}

static struct plane_native *from(struct plane_runtime *runtime)
{
	return (struct plane_native *)runtime;
}

static void push(struct native_waiting **list, plane_runtime_done_fn done, void *data,
	const struct plane_error *err)
{
	struct native_waiting *item = PLANE_NEW(struct native_waiting);

	item->done = done;
	item->data = data;
	if (err)
		item->error = *err;
	while (*list)
		list = &(*list)->next;
	*list = item;
}

void native_run_list(struct native_waiting **list)
{
	struct native_waiting *item = STEAL(*list);

	while (item) {
		struct native_waiting *next = item->next;
		item->done(item->data, item->error.code ? &item->error : NULL);
		free(item);
		item = next;
	}
}

static void call_later(struct plane_native *native, plane_runtime_done_fn done, void *data,
	const struct plane_error *err)
{
	push(&native->later, done, data, err);
	uv_async_send(&native->wake);
}

static struct native_sandbox *find(struct plane_native *native, const char *backend)
{
	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++) {
		struct native_sandbox *s = native->sandboxes[i];
		if (s && s->backend && !s->is_forgotten && strcmp(s->backend, backend) == 0)
			return s;
	}
	return NULL;
}

unsigned native_count(const struct plane_native *native, enum native_state state)
{
	unsigned n = 0;

	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++)
		n += native->sandboxes[i] && native->sandboxes[i]->state == state;
	return n;
}

static void on_handle_closed(uv_handle_t *handle)
{
	struct native_sandbox *s = handle->data;

	if (--s->open_handles > 0)
		return;
	close(s->parts.pidfd);
	if (s->parts.control >= 0)
		close(s->parts.control);
	s->parts.pidfd = s->parts.control = -1;
	if (s->is_forgotten || !s->backend)
		native_start_remove(s);
	native_maybe_closed(s->native);
}

void native_close_handles(struct native_sandbox *s)
{
	if (s->open_handles == 0)
		return;
	if (!uv_is_closing((uv_handle_t *)&s->process))
		uv_close((uv_handle_t *)&s->process, on_handle_closed);
	if (s->parts.control >= 0 && !uv_is_closing((uv_handle_t *)&s->control))
		uv_close((uv_handle_t *)&s->control, on_handle_closed);
}

/* Kills the shim, with which all in the sandbox dies. Its end is told by its pidfd: closing that
 * instead would leave a child that nobody waits for. */
static void kill_shim(struct native_sandbox *s)
{
	(void)syscall(SYS_pidfd_send_signal, s->parts.pidfd, SIGKILL, NULL, 0); /* gone is fine */
}

static void tell_running(struct native_sandbox *s)
{
	plane_runtime_spawned_fn spawned = STEAL(s->spawned);

	s->state = NATIVE_RUNNING;
	native_images_started(s->native, s->rootfs);
	spawned(s->spawned_data, s->address, NULL);
}

/* The shim's end was noticed before its last word was read: whether the backend ran. */
static bool did_run(struct native_sandbox *s)
{
	char text[PLANE_SHIM_TEXT_MAX + 1];
	if (s->error.code)
		return false; /* it was refused */
	ssize_t n = recv(s->parts.control, text, sizeof(text) - 1, MSG_DONTWAIT);

	if (n > 1 && text[0] == PLANE_SHIM_FAILED) {
		text[n] = 0;
		plane_error_set(&s->error, -EINVAL, "%s", text + 1);
	}
	return n == 1 && text[0] == PLANE_SHIM_RUNNING;
}

static void on_process(uv_poll_t *poll, int status, int events)
{
	struct native_sandbox *s = poll->data;

	(void)waitid(P_PIDFD, (id_t)s->parts.pidfd, &(siginfo_t){ 0 }, WEXITED | WNOHANG);
	if (s->probe) {
		plane_probe_cancel(STEAL(s->probe));
	}
	if (s->state == NATIVE_STARTING && did_run(s))
		tell_running(s); /* and it ended at once */
	if (s->state == NATIVE_STARTING || s->state == NATIVE_RUNNING)
		native_end(s);
	else
		s->state = NATIVE_ENDED;
	native_close_handles(s);
}

static void on_control(uv_poll_t *poll, int status, int events)
{
	struct native_sandbox *s = poll->data;
	char text[PLANE_SHIM_TEXT_MAX + 1];
	ssize_t n = recv(s->parts.control, text, sizeof(text) - 1, MSG_DONTWAIT);

	if (n <= 0) {
		uv_poll_stop(poll); /* the process's end is told by its pidfd */
		return;
	}
	text[n] = 0;
	if (s->state == NATIVE_PARKED && text[0] == PLANE_SHIM_FAILED) {
		plane_warn("dress sandbox %u: %s", s->index, text + 1);
		if (s->rootfs)
			native_images_failed(s->native, s->rootfs);
	}
	if (s->state != NATIVE_STARTING)
		return;
	/* one that was refused is killed, and the end of its socket looks as if it ran */
	if (text[0] == PLANE_SHIM_RUNNING && s->error.code == 0) {
		tell_running(s);
	} else if (text[0] == PLANE_SHIM_FAILED) {
		plane_error_set(&s->error, -EINVAL, "%s", text + 1);
		kill_shim(s);
	}
}

void native_follow(struct native_sandbox *s)
{
	s->control.data = s->process.data = s;
	uv_poll_init(s->native->loop, &s->process, s->parts.pidfd);
	uv_poll_start(&s->process, UV_READABLE, on_process);
	s->open_handles = 1;
	if (s->parts.control < 0)
		return;
	uv_poll_init(s->native->loop, &s->control, s->parts.control);
	uv_poll_start(&s->control, UV_READABLE, on_control);
	s->open_handles = 2;
}

struct native_sandbox *native_add(struct plane_native *native, unsigned index)
{
	struct native_sandbox *s = PLANE_NEW(struct native_sandbox);

	s->native = native;
	s->index = index;
	s->parts.pidfd = s->parts.control = -1;
	native->sandboxes[index] = s;
	return s;
}

struct spawn_failure {
	plane_runtime_spawned_fn spawned;
	void *data;
};

static void tell_failure(void *data, const struct plane_error *err)
{
	struct spawn_failure *failure = data;
	failure->spawned(failure->data, NULL, err);
	free(failure);
}

void native_refuse(struct plane_native *native, plane_runtime_spawned_fn spawned, void *data,
	const struct plane_error *err)
{
	struct spawn_failure *failure = PLANE_NEW(struct spawn_failure);
	*failure = (struct spawn_failure){ spawned, data };
	call_later(native, tell_failure, failure, err);
}

void native_retire(struct native_sandbox *s)
{
	s->state = NATIVE_ENDED;
	kill_shim(s);
}

void native_start(struct native_sandbox *s, const struct plane_runtime_spawn *spawn,
	const struct plane_image *image, plane_runtime_spawned_fn spawned, void *data)
{
	struct plane_native *native = s->native;
	char published[PLANE_NETWORK_ENDPOINT_SIZE];
	struct plane_error err = { 0 };

	s->backend = plane_strdup(spawn->backend);
	plane_network_published(native->host.network, s->index, published);
	s->address = plane_strdup(published);
	s->lease = spawn->lease;
	s->deadline_ms = spawn->hard_deadline_boot_ms;
	if (native_give(s, spawn, image, &err) < 0) {
		s->is_forgotten = true;
		native_retire(s);
		native_refuse(native, spawned, data, &err);
		return;
	}
	s->state = NATIVE_STARTING;
	s->spawned = spawned;
	s->spawned_data = data;
}

static void enqueue(struct plane_native *native, const struct plane_runtime_spawn *spawn,
	plane_runtime_spawned_fn spawned, void *data)
{
	struct native_queued *item = PLANE_NEW(struct native_queued);
	struct native_queued **end = &native->queue;

	item->spawn = *spawn;
	item->spawned = spawned;
	item->data = data;
	while (*end)
		end = &(*end)->next;
	*end = item;
	native->queued++;
}

static void native_spawn(struct plane_runtime *runtime, const struct plane_runtime_spawn *spawn,
	plane_runtime_spawned_fn spawned, void *data)
{
	struct plane_native *native = from(runtime);
	const struct plane_image *image = NULL;
	struct native_sandbox *s = NULL;
	struct plane_error err = { 0 };

	if (native->is_closing)
		plane_error_set(&err, -ECANCELED, "the drone stops");
	else if (find(native, spawn->backend))
		plane_error_set(&err, -EEXIST, "backend %s exists", spawn->backend);
	else
		image = native_image(native, spawn->executable->image, &err);
	if (!image) {
		native_refuse(native, spawned, data, &err);
		return;
	}
	s = native_choose(native, spawn, image);
	if (s)
		native_start(s, spawn, image, spawned, data);
	else
		enqueue(native, spawn, spawned, data);
	native_fill(native);
}

static void native_prepare(struct plane_runtime *runtime, const struct plane_executable *executable,
	plane_runtime_done_fn done, void *data)
{
	struct plane_error err = { 0 };
	bool is_there = native_image(from(runtime), executable->image, &err);

	call_later(from(runtime), done, data, is_there ? NULL : &err);
}

static void on_ready(void *data, const struct plane_error *err)
{
	struct native_sandbox *s = data;
	s->probe = NULL;
	s->ready(s->ready_data, err);
}

static void native_wait_ready(struct plane_runtime *runtime, const char *backend,
	int64_t timeout_ms, plane_runtime_done_fn done, void *data)
{
	struct native_sandbox *s = find(from(runtime), backend);
	char endpoint[PLANE_NETWORK_ENDPOINT_SIZE];
	struct plane_error err = { 0 };

	if (s && s->state == NATIVE_RUNNING && !s->probe) {
		s->ready = done;
		s->ready_data = data;
		plane_network_endpoint(s->native->host.network, s->index, endpoint);
		s->probe =
			plane_probe_start(s->native->loop, endpoint, timeout_ms, on_ready, s, &err);
		if (s->probe)
			return;
	} else {
		plane_error_set(&err, -ECANCELED, "backend %s is not running", backend);
	}
	call_later(from(runtime), done, data, &err);
}

bool native_kill(struct native_sandbox *s)
{
	char byte = PLANE_SHIM_KILL;
	return send(s->parts.control, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
}

static bool native_terminate(struct plane_runtime *runtime, const char *backend, bool is_hard)
{
	struct native_sandbox *s = find(from(runtime), backend);
	char byte = is_hard ? PLANE_SHIM_KILL : PLANE_SHIM_SIGNAL;

	if (!s || (s->state != NATIVE_RUNNING && s->state != NATIVE_STARTING))
		return false;
	return send(s->parts.control, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
}

static void move_deadline(
	struct plane_runtime *runtime, const char *backend, int64_t hard_deadline_boot_ms)
{
	struct native_sandbox *s = find(from(runtime), backend);

	if (s)
		native_set_deadline(s, hard_deadline_boot_ms);
}

static int set_lease(struct plane_runtime *runtime, int64_t lease, int64_t hard_deadline_boot_ms,
	struct plane_error *err)
{
	return native_set_lease(from(runtime), lease, hard_deadline_boot_ms, err);
}

static int64_t get_lease(struct plane_runtime *runtime, int64_t lease)
{
	return native_get_lease(from(runtime), lease);
}

static int end_lease(struct plane_runtime *runtime, int64_t lease, struct plane_error *err)
{
	return native_end_lease(from(runtime), lease, err);
}

static void native_forget(struct plane_runtime *runtime, const char *backend)
{
	struct native_sandbox *s = find(from(runtime), backend);

	if (!s || s->state != NATIVE_ENDED)
		return;
	s->is_forgotten = true;
	native_start_remove(s);
}

static bool native_metrics(
	struct plane_runtime *runtime, const char *backend, struct plane_runtime_metrics *metrics)
{
	struct native_sandbox *s = find(from(runtime), backend);
	char group[16];

	if (!s || s->state != NATIVE_RUNNING)
		return false;
	plane_sandbox_group(s->index, group);
	return plane_cgroup_metrics(s->native->host.cgroups, group, metrics, NULL) == 0;
}

static int native_capacity(struct plane_runtime *runtime, struct plane_runtime_capacity *capacity,
	struct plane_error *err)
{
	return plane_cgroups_capacity(from(runtime)->host.cgroups, capacity, err);
}

static bool native_log_path(
	struct plane_runtime *runtime, const char *backend, char *path, size_t size)
{
	int n = snprintf(path, size, "%s/logs/%s.log", from(runtime)->host.directory, backend);
	return n > 0 && (size_t)n < size;
}

static void native_when_warm(struct plane_runtime *runtime, plane_runtime_done_fn done, void *data)
{
	struct plane_native *native = from(runtime);

	if (native_count(native, NATIVE_PARKED) >= native->pool_size)
		call_later(native, done, data, NULL);
	else
		push(&native->warm, done, data, NULL);
}

/* It was published as flags said that are others now. Its address is known to the controller and
 * does not change: what is open goes on. */
static void warn_if_elsewhere(const struct native_sandbox *s)
{
	char published[PLANE_NETWORK_ENDPOINT_SIZE];

	plane_network_published(s->native->host.network, s->index, published);
	if (strcmp(s->address, published) != 0)
		plane_warn_backend(s->backend,
			"proxies were told %s for it, this drone now publishes %s: new connections "
			"to "
			"it may fail until it ends, or until the drone has its former flags",
			s->address, published);
}

static void adopt_one(
	struct plane_native *native, unsigned index, plane_runtime_found_fn found, void *data)
{
	struct native_sandbox *s = native_add(native, index);
	struct plane_error err = { 0 };

	if (native_record_read(s, &err) < 0) {
		native_start_remove(s); /* parked, or never complete */
		return;
	}
	if (s->parts.pidfd >= 0) {
		s->parts.control = plane_sandbox_connect(&native->host, index, &err);
		warn_if_elsewhere(s);
	}
	struct plane_runtime_found what = { .backend = s->backend,
		.address = s->address,
		.lease = s->lease,
		.hard_deadline_boot_ms = s->deadline_ms };
	native_exit_read(s, &what.exit);
	/* without a shim, and nobody saw its end: its processes may not be gone yet */
	what.is_running = s->parts.pidfd >= 0 || !what.exit.is_known;
	s->state = s->parts.pidfd >= 0 ? NATIVE_RUNNING : NATIVE_ENDED;
	if (s->parts.pidfd >= 0)
		native_follow(s);
	else if (what.is_running)
		native_await_end(s);
	found(data, &what);
}

static int native_adopt(struct plane_runtime *runtime, plane_runtime_found_fn found, void *data,
	struct plane_error *err)
{
	struct plane_native *native = from(runtime);

	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++) {
		_cleanup_free_ char *path = plane_sandbox_path(&native->host, i, "");
		_cleanup_free_ char *disk = plane_sandbox_disk(&native->host, i);
		if (access(path, F_OK) == 0 || access(disk, F_OK) == 0)
			adopt_one(native, i, found, data);
	}
	native_fill(native);
	return 0;
}

/* What stays for a reason of its own is told, and no more: whether backends have ended is another
 * matter. Their addresses and disks stay while their processes may still run. */
static void remove_the_rest(struct plane_native *native, bool has_all_ended)
{
	struct plane_error err = { 0 };

	if (has_all_ended && plane_network_remove(native->id, &err) < 0)
		plane_error("%s", err.message);
	if (has_all_ended && plane_scratch_remove(native->host.scratch, &err) < 0)
		plane_error("%s", err.message);
	native_leases_remove(native);
	if (has_all_ended && rmdir(native->host.memory) < 0)
		plane_error("remove %s: %s", native->host.memory, strerror(errno));
	native_uids_release(native->host.directory);
}

static void on_all_closed(uv_handle_t *handle)
{
	struct plane_native *native = handle->data;
	struct plane_error err = { 0 };
	int code = 0;

	/* one after the other: what is freed at the end must have no handle left */
	if (native->has_retry) {
		native->has_retry = false;
		uv_close((uv_handle_t *)&native->retry, on_all_closed);
		return;
	}
	if (native_disk_close(native, on_all_closed))
		return;
	if (native->has_sweep) {
		native->has_sweep = false;
		uv_close((uv_handle_t *)&native->sweep, on_all_closed);
		return;
	}
	if (native->has_leaving) {
		native->has_leaving = false;
		uv_close((uv_handle_t *)&native->leaving, on_all_closed);
		return;
	}
	if (native->is_removing) {
		code = plane_cgroups_remove(native->host.cgroups, 5000, &err);
		remove_the_rest(native, code == 0);
	}
	native->closed(native->closed_data, code < 0 ? &err : NULL);
}

void native_maybe_closed(struct plane_native *native)
{
	if (!native->is_closing || uv_is_closing((uv_handle_t *)&native->wake) ||
		native_disk_is_working(native))
		return;
	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++) {
		struct native_sandbox *s = native->sandboxes[i];
		if (s && (s->open_handles > 0 || s->state == NATIVE_MAKING ||
				 s->state == NATIVE_ENDING || s->state == NATIVE_DOOMED ||
				 s->state == NATIVE_REMOVING))
			return;
	}
	native_run_list(&native->later);
	uv_close((uv_handle_t *)&native->wake, on_all_closed);
}

static void begin_close(struct plane_native *native, plane_runtime_done_fn done, void *data)
{
	native->is_closing = true;
	native_pool_stop(native);
	native->closed = done;
	native->closed_data = data;
	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++) {
		struct native_sandbox *s = native->sandboxes[i];
		if (!s)
			continue;
		if (native->is_removing && s->backend)
			s->is_forgotten = true;
		if (s->probe)
			plane_probe_cancel(STEAL(s->probe));
		native_close_handles(s);
		if (native->is_removing && s->state == NATIVE_ENDED)
			native_start_remove(s);
	}
	uv_async_send(&native->wake);
}

static void native_close(struct plane_runtime *runtime, plane_runtime_done_fn done, void *data)
{
	begin_close(from(runtime), done, data);
}

static void native_remove_all(struct plane_runtime *runtime, plane_runtime_done_fn done, void *data)
{
	from(runtime)->is_removing = true;
	begin_close(from(runtime), done, data);
}

static const struct plane_runtime_impl native_impl = { .adopt = native_adopt,
	.prepare = native_prepare,
	.spawn = native_spawn,
	.wait_ready = native_wait_ready,
	.terminate = native_terminate,
	.set_deadline = move_deadline,
	.set_lease = set_lease,
	.get_lease = get_lease,
	.end_lease = end_lease,
	.forget = native_forget,
	.metrics = native_metrics,
	.capacity = native_capacity,
	.log_path = native_log_path,
	.when_warm = native_when_warm,
	.close = native_close,
	.remove_all = native_remove_all };

static void on_wake(uv_async_t *wake)
{
	struct plane_native *native = wake->data;
	native_run_list(&native->later);
	native_maybe_closed(native);
}

static int set_up(struct plane_native *native, const struct plane_native_config *config,
	struct plane_error *err)
{
	_cleanup_free_ char *sandboxes = plane_strdupf("%s/sandboxes", config->data_dir);
	_cleanup_free_ char *logs = plane_strdupf("%s/logs", config->data_dir);
	unsigned char digest[SHA256_DIGEST_LENGTH];
	char real[PATH_MAX];
	int code;

	if (geteuid() != 0)
		return plane_error_set(err, -EPERM,
			"plane drone needs root to make sandboxes: run it as root or with sudo");
	if ((code = plane_file_make_directories(config->data_dir, 0700, err)) < 0)
		return code;
	plane_file_spread_directories(config->data_dir); /* logs from sandboxes */
	if ((code = plane_file_make_directories(sandboxes, 0700, err)) < 0 ||
		(code = plane_file_make_directories(logs, 0700, err)) < 0)
		return code;
	plane_file_spread_directories(sandboxes);
	if (!realpath(config->data_dir, real))
		return plane_error_errno(err, "resolve %s", config->data_dir);
	SHA256((const unsigned char *)real, strlen(real), digest);
	snprintf(native->id, sizeof(native->id), "%02x%02x%02x%02x", digest[0], digest[1],
		digest[2], digest[3]);
	native->host.directory = plane_strdup(real);
	native->host.memory = plane_sandbox_memory(native->id, err);
	if (!native->host.memory)
		return -EIO;
	if ((code = plane_sandbox_skeleton(real, err)) < 0 ||
		(code = native_places_open(native, err)) < 0)
		return code;
	native->host.scratch = plane_scratch_create(real, err);
	if (!native->host.scratch)
		return -EIO;
	if ((code = native_uids_claim(real, digest[0], &native->host.first_id, err)) < 0)
		return code;
	native->resolv = native_resolv_read();
	if ((native->host.shim_fd = plane_sandbox_shim_file(err)) < 0)
		return native->host.shim_fd;
	if ((native->host.seccomp_fd = plane_seccomp_export(err)) < 0)
		return native->host.seccomp_fd;
	native->host.network =
		plane_network_create(native->id, config->egress, config->publish, err);
	if (!native->host.network)
		return -EIO;
	native->host.cgroups = plane_cgroups_open(native->id, PLANE_CGROUP_AUTO, NULL, err);
	return native->host.cgroups ? 0 : -EIO;
}

struct plane_runtime *plane_native_create(uv_loop_t *loop, const struct plane_native_config *config,
	const struct plane_runtime_listener *listener, struct plane_error *err)
{
	struct plane_native *native = PLANE_NEW(struct plane_native);

	native->base.impl = &native_impl;
	native->loop = loop;
	native->listener = *listener;
	native->host.shim_fd = native->host.seccomp_fd = native->places_fd = -1;
	native->lease_fd = -1;
	native->images_dir = plane_strdup(config->images_dir);
	native->mount_base = plane_strdup(config->mount_base);
	native->pool_size = config->pool_size ? config->pool_size : 16;
	native->log_max_bytes = config->log_max_bytes ? config->log_max_bytes : 10 << 20;
	if (set_up(native, config, err) < 0 || uv_async_init(loop, &native->wake, on_wake) < 0) {
		plane_native_destroy(&native->base);
		return NULL;
	}
	native->wake.data = native;
	native->has_retry = native->has_sweep = native->has_leaving = true;
	native_boot_id(native->boot_id);
	native_pool_open(native);
	native_images_open(native);
	native_removal_open(native);
	native_disk_open(native);
	return &native->base;
}

void plane_native_destroy(struct plane_runtime *runtime)
{
	struct plane_native *native = runtime ? from(runtime) : NULL;

	if (!native)
		return;
	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++) {
		if (native->sandboxes[i])
			native_sandbox_free(native->sandboxes[i]);
	}
	plane_network_destroy(native->host.network);
	plane_cgroups_destroy(native->host.cgroups);
	plane_closep(&native->host.shim_fd);
	plane_closep(&native->host.seccomp_fd);
	plane_closep(&native->places_fd);
	plane_closep(&native->lease_fd);
	native_disk_destroy(native);
	plane_scratch_destroy(native->host.scratch);
	native_images_finish(native);
	free(native->host.directory);
	free(native->host.memory);
	free(native->images_dir);
	free(native->mount_base);
	free(native->resolv);
	free(native);
}
