/* Giving a parked sandbox to a backend: limits, image, arguments, and the word to start. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/native/native_internal.h"
#include "runtime/native/shim/protocol.h"

static int send_to_shim(
	struct native_sandbox *s, char kind, const int *fds, size_t count, struct plane_error *err)
{
	char control[CMSG_SPACE(sizeof(int) * 3)] = { 0 };
	size_t size = sizeof(int) * count;
	struct iovec part = { &kind, 1 };
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
		return plane_error_errno(err, "tell the shim");
	return 0;
}

int native_dress(struct native_sandbox *s, const struct plane_image *image, int mount,
	struct plane_error *err)
{
	_cleanup_close_ int root = (int)syscall(
		SYS_open_tree, AT_FDCWD, image->rootfs_path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (root < 0)
		return plane_error_errno(err, "open image %s", image->rootfs_path);
	int fds[3] = { root, image->lock_fd >= 0 ? image->lock_fd : root, mount };
	int code = send_to_shim(s, PLANE_SHIM_DRESS, fds, mount >= 0 ? 3 : 2, err);
	if (code == 0)
		s->rootfs = plane_strdup(image->rootfs_path);
	return code;
}

static bool has_variable(const char *const *env, const char *name, size_t name_len)
{
	for (; *env; env++)
		if (strncmp(*env, name, name_len) == 0 && (*env)[name_len] == '=')
			return true;
	return false;
}

/* The spawn's variables, then what the image says of others; HOME at last, as the image's users
 * say. Returns how many there are. */
static uint32_t add_environment(
	struct plane_buffer *bytes, const char *const *env, const struct plane_image *image)
{
	const char *const *image_env = (const char *const *)image->env;
	uint32_t count = 0;

	for (size_t i = 0; env[i]; i++, count++)
		plane_buffer_add(bytes, env[i], strlen(env[i]) + 1);
	for (size_t i = 0; image_env[i]; i++) {
		if (has_variable(env, image_env[i], strcspn(image_env[i], "=")))
			continue;
		plane_buffer_add(bytes, image_env[i], strlen(image_env[i]) + 1);
		count++;
	}
	if (!has_variable(env, "HOME", 4) && !has_variable(image_env, "HOME", 4)) {
		plane_buffer_addf(bytes, "HOME=%s", image->home);
		plane_buffer_add(bytes, "", 1);
		count++;
	}
	return count;
}

static int write_start(const struct native_sandbox *s, const struct plane_runtime_spawn *spawn,
	const struct plane_image *image, struct plane_error *err)
{
	_cleanup_(plane_buffer_finish) struct plane_buffer bytes = { 0 };
	struct plane_native *native = s->native;
	struct plane_shim_start head = { .magic = PLANE_SHIM_MAGIC,
		.uid = image->uid,
		.gid = image->gid,
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
	head.envc = add_environment(&bytes, spawn->env, image);
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
		.pids_max = PLANE_SANDBOX_PIDS };
	char group[16];

	if (wanted->disk_limit_bytes > 0)
		return plane_error_set(err, -ENOTSUP,
			"disk_limit_bytes cannot be enforced on this drone's file system");
	if (!wanted->memory_limit_bytes && !wanted->cpu_period_us && !wanted->cpu_period_percent)
		return 0; /* it was parked with the limits that all have */
	if (wanted->cpu_period_percent > 0)
		limits.cpu_quota_us = (wanted->cpu_period_us ? wanted->cpu_period_us : 100000) *
				      wanted->cpu_period_percent / 100;
	plane_sandbox_group(s->index, group);
	return plane_cgroup_limit(s->native->host.cgroups, group, &limits, err);
}

int native_give(struct native_sandbox *s, const struct plane_runtime_spawn *spawn,
	const struct plane_image *image, struct plane_error *err)
{
	int code = limit(s, &spawn->executable->limits, err);

	if (code < 0)
		return code;
	if (!s->rootfs) {
		_cleanup_close_ int mount = -1;
		if (spawn->executable->mount != PLANE_MOUNT_NONE &&
			(mount = open_mount(s->native, spawn, err)) < 0)
			return mount;
		if ((code = native_dress(s, image, mount, err)) < 0)
			return code;
	}
	_cleanup_close_ int start = write_start(s, spawn, image, err);
	if (start < 0)
		return start;
	if ((code = native_lease_give(s, err)) < 0 || (code = native_record_write(s, err)) < 0)
		return code;
	/* Parked at a low priority, the shim, init and the backend run at the ordinary one. A shim
	 * that just ended says so by the send. */
	(void)setpriority(PRIO_PGRP, (id_t)s->parts.shim, 0);
	return send_to_shim(s, PLANE_SHIM_START, &start, 1, err);
}
