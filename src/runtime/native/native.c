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
#include "runtime/native/native_internal.h"
#include "runtime/native/shim/protocol.h"
#include "runtime/native/syscall_filter.h"

#define BACKEND_PORT 8080
#define DEFAULT_PIDS 1024
#define MAX_FAILURES 3

struct waiting {
	struct waiting *next;
	plane_runtime_done_fn done;
	void *data;
	struct plane_error error;
};

struct plane_native {
	struct plane_runtime base;
	uv_loop_t *loop;
	struct plane_sandbox_host host;
	struct plane_runtime_listener listener;
	char id[9];
	char *images_dir, *mount_base, *resolv;
	unsigned pool_size, failures;
	int64_t log_max_bytes;
	struct native_sandbox *sandboxes[PLANE_NETWORK_MAX_SANDBOXES];
	struct waiting *later; /* callbacks for the next turn of the loop */
	struct waiting *warm;
	uv_async_t wake;
	bool is_closing, is_removing;
	plane_runtime_done_fn closed;
	void *closed_data;
	struct plane_error pool_error;
};

const struct plane_sandbox_host *native_host(const struct plane_native *native)
{
	return &native->host;
}

static struct plane_native *from(struct plane_runtime *runtime)
{
	return (struct plane_native *)runtime;
}

static void fill(struct plane_native *native);
static void maybe_closed(struct plane_native *native);

static void push(struct waiting **list, plane_runtime_done_fn done, void *data,
	const struct plane_error *err)
{
	struct waiting *item = PLANE_NEW(struct waiting);

	item->done = done;
	item->data = data;
	if (err)
		item->error = *err;
	while (*list)
		list = &(*list)->next;
	*list = item;
}

static void run_list(struct waiting **list)
{
	struct waiting *item = STEAL(*list);

	while (item) {
		struct waiting *next = item->next;
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

static unsigned count(const struct plane_native *native, enum native_state state)
{
	unsigned n = 0;

	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++)
		n += native->sandboxes[i] && native->sandboxes[i]->state == state;
	return n;
}

static void remove_work(uv_work_t *work)
{
	struct native_sandbox *s = work->data;
	s->result = plane_sandbox_remove(&s->native->host, s->index, &s->error);
}

static void remove_done(uv_work_t *work, int status)
{
	struct native_sandbox *s = work->data;
	struct plane_native *native = s->native;

	if (s->result < 0)
		plane_warn("remove sandbox %u: %s", s->index, s->error.message);
	native->sandboxes[s->index] = NULL;
	free(s->backend);
	free(s->address);
	free(s);
	fill(native);
	maybe_closed(native);
}

static void start_remove(struct native_sandbox *s)
{
	if (s->open_handles > 0 || s->state == NATIVE_REMOVING)
		return;
	s->state = NATIVE_REMOVING;
	s->work.data = s;
	uv_queue_work(s->native->loop, &s->work, remove_work, remove_done);
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
		start_remove(s);
	maybe_closed(s->native);
}

static void close_handles(struct native_sandbox *s)
{
	if (s->open_handles == 0)
		return;
	if (!uv_is_closing((uv_handle_t *)&s->process))
		uv_close((uv_handle_t *)&s->process, on_handle_closed);
	if (s->parts.control >= 0 && !uv_is_closing((uv_handle_t *)&s->control))
		uv_close((uv_handle_t *)&s->control, on_handle_closed);
}

static void start_failed(struct native_sandbox *s)
{
	plane_runtime_spawned_fn spawned = STEAL(s->spawned);

	if (s->error.code == 0)
		plane_error_set(&s->error, -EIO, "start backend %s: its sandbox ended", s->backend);
	s->is_forgotten = true;
	s->state = NATIVE_ENDED;
	close_handles(s);
	if (spawned)
		spawned(s->spawned_data, NULL, &s->error);
}

static void on_process(uv_poll_t *poll, int status, int events)
{
	struct native_sandbox *s = poll->data;
	struct plane_runtime_exit exit;
	enum native_state state = s->state;

	(void)waitid(P_PIDFD, (id_t)s->parts.pidfd, &(siginfo_t){ 0 }, WEXITED | WNOHANG);
	if (s->probe) {
		plane_probe_cancel(STEAL(s->probe));
	}
	if (state == NATIVE_STARTING) {
		char text[PLANE_SHIM_TEXT_MAX + 1];
		ssize_t n = recv(s->parts.control, text, sizeof(text) - 1, MSG_DONTWAIT);
		if (n > 1 && text[0] == PLANE_SHIM_FAILED) {
			text[n] = 0;
			plane_error_set(&s->error, -EINVAL, "%s", text + 1);
		}
		if (n != 1 || text[0] != PLANE_SHIM_RUNNING)
			return start_failed(s);
		plane_runtime_spawned_fn spawned = STEAL(s->spawned);
		spawned(s->spawned_data, s->address, NULL); /* it ran, and ended at once */
		state = NATIVE_RUNNING;
	}
	s->state = NATIVE_ENDED;
	close_handles(s);
	if (state != NATIVE_RUNNING)
		return;
	native_exit_read(s, &exit);
	s->native->listener.on_exit(s->native->listener.data, s->backend, &exit);
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
	if (s->state != NATIVE_STARTING)
		return;
	if (text[0] == PLANE_SHIM_RUNNING) {
		plane_runtime_spawned_fn spawned = STEAL(s->spawned);
		s->state = NATIVE_RUNNING;
		spawned(s->spawned_data, s->address, NULL);
	} else if (text[0] == PLANE_SHIM_FAILED) {
		plane_error_set(&s->error, -EINVAL, "%s", text + 1);
		start_failed(s);
	}
}

static void follow(struct native_sandbox *s)
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

static void make_work(uv_work_t *work)
{
	struct native_sandbox *s = work->data;
	s->result = plane_sandbox_make(&s->native->host, s->index, &s->parts, &s->error);
}

static void make_done(uv_work_t *work, int status)
{
	struct native_sandbox *s = work->data;
	struct plane_native *native = s->native;

	if (s->result < 0) {
		native->failures++;
		native->pool_error = s->error;
		plane_warn("make sandbox %u: %s", s->index, s->error.message);
		start_remove(s);
		if (native->failures >= MAX_FAILURES) {
			for (struct waiting *w = native->warm; w; w = w->next)
				w->error = native->pool_error;
			run_list(&native->warm);
		}
		return;
	}
	native->failures = 0;
	s->state = NATIVE_PARKED;
	follow(s);
	if (native->is_closing)
		close_handles(s);
	else if (count(native, NATIVE_PARKED) >= native->pool_size)
		run_list(&native->warm);
	fill(native);
}

static struct native_sandbox *add(struct plane_native *native, unsigned index)
{
	struct native_sandbox *s = PLANE_NEW(struct native_sandbox);

	s->native = native;
	s->index = index;
	s->parts.pidfd = s->parts.control = -1;
	native->sandboxes[index] = s;
	return s;
}

static void fill(struct plane_native *native)
{
	unsigned have = count(native, NATIVE_PARKED) + count(native, NATIVE_MAKING);

	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES && have < native->pool_size &&
			     !native->is_closing && native->failures < MAX_FAILURES;
		i++) {
		if (native->sandboxes[i])
			continue;
		struct native_sandbox *s = add(native, i);
		s->state = NATIVE_MAKING;
		s->work.data = s;
		uv_queue_work(native->loop, &s->work, make_work, make_done);
		have++;
	}
}

static int write_start(const struct native_sandbox *s, const struct plane_runtime_spawn *spawn,
	const struct plane_image *image, struct plane_error *err)
{
	_cleanup_(plane_buffer_finish) struct plane_buffer bytes = { 0 };
	struct plane_native *native = s->native;
	struct plane_shim_start head = { .magic = PLANE_SHIM_MAGIC,
		.uid = image->uid,
		.gid = image->gid,
		.has_mount = spawn->executable->mount != PLANE_MOUNT_NONE,
		.log_max_bytes = native->log_max_bytes,
		.cpu_seconds = spawn->executable->limits.cpu_time_limit_seconds };
	_cleanup_free_ char *log =
		plane_strdupf("%s/logs/%s.log", native->host.directory, spawn->backend);
	const char *texts[] = { spawn->backend, image->name, image->workdir, log, s->parts.address,
		native->resolv };

	if (image->group_count > PLANE_SHIM_GROUPS_MAX)
		return plane_error_set(err, -E2BIG, "image %s: too many groups", image->name);
	head.group_count = (uint32_t)image->group_count;
	for (size_t i = 0; i < image->group_count; i++)
		head.groups[i] = image->groups[i];
	plane_buffer_add(&bytes, &head, sizeof(head));
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		plane_buffer_add(&bytes, texts[i], strlen(texts[i]) + 1);
	for (; image->argv[head.argc]; head.argc++)
		plane_buffer_add(
			&bytes, image->argv[head.argc], strlen(image->argv[head.argc]) + 1);
	for (; spawn->env[head.envc]; head.envc++)
		plane_buffer_add(&bytes, spawn->env[head.envc], strlen(spawn->env[head.envc]) + 1);
	if (bytes.len > PLANE_SHIM_START_MAX)
		return plane_error_set(err, -E2BIG, "arguments and environment are too large");
	head.size = (uint32_t)bytes.len;
	memcpy(bytes.data, &head, sizeof(head));
	_cleanup_close_ int fd = memfd_create("plane-start", MFD_CLOEXEC);
	if (fd < 0)
		return plane_error_errno(err, "make a memory file");
	int code = plane_file_write_all(fd, bytes.data, bytes.len, err);
	return code < 0 ? code : plane_steal_fd(&fd);
}

/* Walks below the base one part at a time: a link that a backend or a user made cannot lead out. */
static int open_mount(struct plane_native *native, const struct plane_runtime_spawn *spawn,
	struct plane_error *err)
{
	const char *path = spawn->executable->mount == PLANE_MOUNT_KEY_NAME
				   ? spawn->key_name
				   : spawn->executable->mount_path;
	char part[NAME_MAX + 1];

	if (!native->mount_base || !path)
		return plane_error_set(
			err, -EINVAL, "mount: the drone has no mount base, or no key is given");
	_cleanup_close_ int fd = open(native->mount_base, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return plane_error_errno(err, "open mount base %s", native->mount_base);
	for (const char *at = path; *at;) {
		size_t len = strcspn(at, "/");
		if (len > NAME_MAX || (len == 2 && at[0] == '.' && at[1] == '.'))
			return plane_error_set(err, -EINVAL, "mount: bad path %s", path);
		snprintf(part, sizeof(part), "%.*s", (int)len, at);
		at += len + (at[len] == '/');
		if (len == 0 || strcmp(part, ".") == 0)
			continue;
		if (mkdirat(fd, part, 0700) < 0 && errno != EEXIST)
			return plane_error_errno(err, "make mount directory %s", path);
		int next = openat(fd, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			return plane_error_errno(err, "open mount directory %s", path);
		close(fd);
		fd = next;
	}
	int tree = (int)syscall(
		SYS_open_tree, fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	return tree < 0 ? plane_error_errno(err, "clone the mount of %s", path) : tree;
}

static int limit(struct native_sandbox *s, const struct plane_resource_limits *wanted,
	struct plane_error *err)
{
	struct plane_cgroup_limits limits = { .memory_bytes = wanted->memory_limit_bytes,
		.cpu_period_us = wanted->cpu_period_us,
		.pids_max = DEFAULT_PIDS };
	char group[16];

	if (wanted->disk_limit_bytes > 0)
		return plane_error_set(err, -ENOTSUP,
			"disk_limit_bytes cannot be enforced on this drone's file system");
	if (wanted->cpu_period_percent > 0)
		limits.cpu_quota_us = (wanted->cpu_period_us ? wanted->cpu_period_us : 100000) *
				      wanted->cpu_period_percent / 100;
	plane_sandbox_group(s->index, group);
	return plane_cgroup_limit(s->native->host.cgroups, group, &limits, err);
}

static int give(struct native_sandbox *s, const struct plane_runtime_spawn *spawn,
	struct plane_image *image, struct plane_error *err)
{
	_cleanup_close_ int mount = -1;
	int code = limit(s, &spawn->executable->limits, err);

	if (code < 0)
		return code;
	if (spawn->executable->mount != PLANE_MOUNT_NONE &&
		(mount = open_mount(s->native, spawn, err)) < 0)
		return mount;
	_cleanup_close_ int start = write_start(s, spawn, image, err);
	if (start < 0)
		return start;
	_cleanup_close_ int root = (int)syscall(
		SYS_open_tree, AT_FDCWD, image->rootfs_path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (root < 0)
		return plane_error_errno(err, "open image %s", image->rootfs_path);
	if ((code = native_lease_write(s, err)) < 0 || (code = native_record_write(s, err)) < 0)
		return code;
	int fds[4] = { start, root, image->lock_fd >= 0 ? image->lock_fd : root, mount };
	char byte = PLANE_SHIM_START, control[CMSG_SPACE(sizeof(fds))] = { 0 };
	size_t size = sizeof(int) * (mount >= 0 ? 4 : 3);
	struct iovec part = { &byte, 1 };
	struct msghdr message = { .msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = CMSG_SPACE(size) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(size);
	memcpy(CMSG_DATA(c), fds, size);
	if (sendmsg(s->parts.control, &message, MSG_NOSIGNAL) != 1)
		return plane_error_errno(err, "tell the shim to start");
	return 0;
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

static void native_spawn(struct plane_runtime *runtime, const struct plane_runtime_spawn *spawn,
	plane_runtime_spawned_fn spawned, void *data)
{
	struct plane_native *native = from(runtime);
	_cleanup_(plane_image_finish) struct plane_image image = PLANE_IMAGE_EMPTY;
	struct native_sandbox *s = NULL;
	struct plane_error err = { 0 };
	int code = plane_image_resolve(native->images_dir, spawn->executable->image, &image, &err);

	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES && !s; i++)
		if (native->sandboxes[i] && native->sandboxes[i]->state == NATIVE_PARKED)
			s = native->sandboxes[i];
	if (code == 0 && (native->is_closing || find(native, spawn->backend)))
		code = plane_error_set(&err, -EEXIST, "backend %s exists", spawn->backend);
	if (code == 0 && !s) {
		native->failures = 0;
		fill(native);
		code = plane_error_set(&err, -EAGAIN, "no sandbox is ready: %s",
			native->pool_error.code ? native->pool_error.message : "pool is empty");
	}
	if (code == 0) {
		s->backend = plane_strdup(spawn->backend);
		s->address = plane_strdupf("%s:%d", s->parts.address, BACKEND_PORT);
		s->deadline_ms = spawn->hard_deadline_boot_ms;
		code = give(s, spawn, &image, &err);
		s->state = code == 0 ? NATIVE_STARTING : NATIVE_ENDED;
		if (code < 0) {
			s->is_forgotten = true;
			close_handles(s);
		}
	}
	if (code < 0) {
		struct spawn_failure *failure = PLANE_NEW(struct spawn_failure);
		*failure = (struct spawn_failure){ spawned, data };
		call_later(native, tell_failure, failure, &err);
		return;
	}
	s->spawned = spawned;
	s->spawned_data = data;
	fill(native);
}

static void native_prepare(struct plane_runtime *runtime, const struct plane_executable *executable,
	plane_runtime_done_fn done, void *data)
{
	_cleanup_(plane_image_finish) struct plane_image image = PLANE_IMAGE_EMPTY;
	struct plane_error err = { 0 };

	int code = plane_image_resolve(from(runtime)->images_dir, executable->image, &image, &err);
	call_later(from(runtime), done, data, code < 0 ? &err : NULL);
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
	struct plane_error err = { 0 };

	if (s && s->state == NATIVE_RUNNING && !s->probe) {
		s->ready = done;
		s->ready_data = data;
		s->probe = plane_probe_start(
			s->native->loop, s->address, timeout_ms, on_ready, s, &err);
		if (s->probe)
			return;
	} else {
		plane_error_set(&err, -ECANCELED, "backend %s is not running", backend);
	}
	call_later(from(runtime), done, data, &err);
}

static bool native_terminate(struct plane_runtime *runtime, const char *backend, bool is_hard)
{
	struct native_sandbox *s = find(from(runtime), backend);
	char byte = is_hard ? PLANE_SHIM_KILL : PLANE_SHIM_SIGNAL;

	if (!s || (s->state != NATIVE_RUNNING && s->state != NATIVE_STARTING))
		return false;
	return send(s->parts.control, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
}

static void native_set_deadline(
	struct plane_runtime *runtime, const char *backend, int64_t hard_deadline_boot_ms)
{
	struct native_sandbox *s = find(from(runtime), backend);
	struct plane_error err = { 0 };
	char byte = PLANE_SHIM_DEADLINE;

	if (!s)
		return;
	s->deadline_ms = hard_deadline_boot_ms;
	if (native_lease_write(s, &err) < 0)
		plane_warn_backend(backend, "%s", err.message);
	(void)send(s->parts.control, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT); /* or its timer does */
}

static void native_forget(struct plane_runtime *runtime, const char *backend)
{
	struct native_sandbox *s = find(from(runtime), backend);

	if (!s || s->state != NATIVE_ENDED)
		return;
	s->is_forgotten = true;
	start_remove(s);
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

static bool native_log_path(
	struct plane_runtime *runtime, const char *backend, char *path, size_t size)
{
	int n = snprintf(path, size, "%s/logs/%s.log", from(runtime)->host.directory, backend);
	return n > 0 && (size_t)n < size;
}

static void native_when_warm(struct plane_runtime *runtime, plane_runtime_done_fn done, void *data)
{
	struct plane_native *native = from(runtime);

	if (count(native, NATIVE_PARKED) > 0)
		call_later(native, done, data, NULL);
	else if (native->failures >= MAX_FAILURES)
		call_later(native, done, data, &native->pool_error);
	else
		push(&native->warm, done, data, NULL);
}

static void adopt_one(
	struct plane_native *native, unsigned index, plane_runtime_found_fn found, void *data)
{
	struct native_sandbox *s = add(native, index);
	struct plane_error err = { 0 };

	if (native_record_read(s, &err) < 0) {
		start_remove(s); /* parked, or never complete */
		return;
	}
	if (s->parts.pidfd >= 0)
		s->parts.control = plane_sandbox_connect(&native->host, index, &err);
	struct plane_runtime_found what = { .backend = s->backend,
		.address = s->address,
		.is_running = s->parts.pidfd >= 0,
		.hard_deadline_boot_ms = s->deadline_ms };
	s->state = what.is_running ? NATIVE_RUNNING : NATIVE_ENDED;
	if (what.is_running)
		follow(s);
	else
		native_exit_read(s, &what.exit);
	found(data, &what);
}

static int native_adopt(struct plane_runtime *runtime, plane_runtime_found_fn found, void *data,
	struct plane_error *err)
{
	struct plane_native *native = from(runtime);

	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++) {
		_cleanup_free_ char *path = plane_sandbox_path(&native->host, i, "");
		if (access(path, F_OK) == 0)
			adopt_one(native, i, found, data);
	}
	fill(native);
	return 0;
}

static void on_all_closed(uv_handle_t *handle)
{
	struct plane_native *native = handle->data;
	struct plane_error err = { 0 };

	int code = 0;
	if (native->is_removing) {
		code = plane_cgroups_remove(native->host.cgroups, 5000, &err);
		if (code == 0)
			code = plane_network_remove(native->id, &err);
	}
	native->closed(native->closed_data, code < 0 ? &err : NULL);
}

static void maybe_closed(struct plane_native *native)
{
	if (!native->is_closing || uv_is_closing((uv_handle_t *)&native->wake))
		return;
	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++) {
		struct native_sandbox *s = native->sandboxes[i];
		if (s && (s->open_handles > 0 || s->state == NATIVE_MAKING ||
				 s->state == NATIVE_REMOVING))
			return;
	}
	run_list(&native->later);
	uv_close((uv_handle_t *)&native->wake, on_all_closed);
}

static void begin_close(struct plane_native *native, plane_runtime_done_fn done, void *data)
{
	native->is_closing = true;
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
		close_handles(s);
		if (native->is_removing && s->state == NATIVE_ENDED)
			start_remove(s);
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
	.set_deadline = native_set_deadline,
	.forget = native_forget,
	.metrics = native_metrics,
	.log_path = native_log_path,
	.when_warm = native_when_warm,
	.close = native_close,
	.remove_all = native_remove_all };

static void on_wake(uv_async_t *wake)
{
	struct plane_native *native = wake->data;
	run_list(&native->later);
	maybe_closed(native);
}

static int set_up(struct plane_native *native, const struct plane_native_config *config,
	struct plane_error *err)
{
	_cleanup_free_ char *sandboxes = plane_strdupf("%s/sandboxes", config->data_dir);
	_cleanup_free_ char *logs = plane_strdupf("%s/logs", config->data_dir);
	_cleanup_(plane_buffer_finish) struct plane_buffer resolv = { 0 };
	unsigned char digest[SHA256_DIGEST_LENGTH];
	char real[PATH_MAX];
	int code;

	if (geteuid() != 0)
		return plane_error_set(err, -EPERM,
			"plane drone needs root to make sandboxes: run it as root or with sudo");
	if ((code = plane_file_make_directories(sandboxes, 0700, err)) < 0 ||
		(code = plane_file_make_directories(logs, 0700, err)) < 0)
		return code;
	if (!realpath(config->data_dir, real))
		return plane_error_errno(err, "resolve %s", config->data_dir);
	SHA256((const unsigned char *)real, strlen(real), digest);
	snprintf(native->id, sizeof(native->id), "%02x%02x%02x%02x", digest[0], digest[1],
		digest[2], digest[3]);
	native->host.directory = plane_strdup(real);
	native->host.first_id = 0x10000000u + digest[0] % 24u * 1024u * PLANE_SHIM_IDS;
	(void)plane_file_read("/etc/resolv.conf", 65536, &resolv, NULL); /* none is fine */
	native->resolv = plane_strdup(plane_buffer_text(&resolv));
	if ((native->host.shim_fd = plane_sandbox_shim_file(err)) < 0)
		return native->host.shim_fd;
	if ((native->host.seccomp_fd = plane_seccomp_export(err)) < 0)
		return native->host.seccomp_fd;
	native->host.network = plane_network_create(native->id, config->egress, err);
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
	native->host.shim_fd = native->host.seccomp_fd = -1;
	native->images_dir = plane_strdup(config->images_dir);
	native->mount_base = plane_strdup(config->mount_base);
	native->pool_size = config->pool_size ? config->pool_size : 4;
	native->log_max_bytes = config->log_max_bytes ? config->log_max_bytes : 10 << 20;
	if (set_up(native, config, err) < 0 || uv_async_init(loop, &native->wake, on_wake) < 0) {
		plane_native_destroy(&native->base);
		return NULL;
	}
	native->wake.data = native;
	return &native->base;
}

void plane_native_destroy(struct plane_runtime *runtime)
{
	struct plane_native *native = runtime ? from(runtime) : NULL;

	if (!native)
		return;
	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++) {
		if (!native->sandboxes[i])
			continue;
		free(native->sandboxes[i]->backend);
		free(native->sandboxes[i]->address);
		free(native->sandboxes[i]);
	}
	plane_network_destroy(native->host.network);
	plane_cgroups_destroy(native->host.cgroups);
	plane_closep(&native->host.shim_fd);
	plane_closep(&native->host.seccomp_fd);
	free(native->host.directory);
	free(native->images_dir);
	free(native->mount_base);
	free(native->resolv);
	free(native);
}
