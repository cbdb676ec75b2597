/* Where shims read until when their backends may run: a file for each backend whose lease is its
 * own, and one for all under a drone's lease, which has a name in each of their sandboxes too. A
 * shim maps its file once, so it is written in place, 8 aligned bytes at a time. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"
#include "runtime/native/native_internal.h"
#include "runtime/native/shim/protocol.h"

#define SHARED_PREFIX "lease."

static char *shared_path(const struct plane_native *native, int64_t lease)
{
	return plane_strdupf("%s/" SHARED_PREFIX "%" PRId64, native->host.memory, lease);
}

static int write_deadline(int fd, const char *path, int64_t deadline_ms, struct plane_error *err)
{
	if (pwrite(fd, &deadline_ms, sizeof(deadline_ms), 0) != sizeof(deadline_ms))
		return plane_error_errno(err, "write %s", path);
	return 0;
}

static int write_file(const char *path, int flags, int64_t deadline_ms, struct plane_error *err)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
	return fd < 0 ? plane_error_errno(err, "open %s", path)
		      : write_deadline(fd, path, deadline_ms, err);
}

int native_lease_give(const struct native_sandbox *s, struct plane_error *err)
{
	_cleanup_free_ char *path = plane_sandbox_path(native_host(s->native), s->index, "lease");
	if (!s->lease)
		return write_file(path, O_CREAT | O_EXCL, s->deadline_ms, err);
	_cleanup_free_ char *shared = shared_path(s->native, s->lease);
	if (link(shared, path) < 0)
		return plane_error_errno(err, "link %s to %s", path, shared);
	return 0;
}

int native_lease_read(const struct native_sandbox *s, int64_t *deadline_ms)
{
	_cleanup_free_ char *path = plane_sandbox_path(native_host(s->native), s->index, "lease");
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd >= 0 && pread(fd, deadline_ms, sizeof(*deadline_ms), 0) == sizeof(*deadline_ms)
		       ? 0
		       : -ENOENT;
}

/* A shim looks at its lease when its time has come; earlier when it is told to. */
static void tell(struct native_sandbox *s)
{
	char byte = PLANE_SHIM_DEADLINE;
	if (s->parts.control >= 0)
		(void)send(s->parts.control, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void native_set_deadline(struct native_sandbox *s, int64_t deadline_ms)
{
	_cleanup_free_ char *path = plane_sandbox_path(native_host(s->native), s->index, "lease");
	struct plane_error err = { 0 };
	bool is_earlier = deadline_ms < s->deadline_ms;
	s->deadline_ms = deadline_ms;
	if (write_file(path, 0, deadline_ms, &err) < 0)
		plane_warn_backend(s->backend, "%s", err.message);
	if (is_earlier)
		tell(s);
}

static void close_shared(struct plane_native *native)
{
	if (native->lease_fd >= 0)
		close(native->lease_fd);
	native->lease_fd = -1;
	native->lease = 0;
}

/* Sandboxes have names of their own for those that they are under. */
static void remove_shared(const struct plane_native *native, const char *but)
{
	DIR *directory = opendir(native->host.memory);
	struct dirent *entry;
	while (directory && (entry = readdir(directory)))
		if (strncmp(entry->d_name, SHARED_PREFIX, strlen(SHARED_PREFIX)) == 0 &&
			!(but && strcmp(entry->d_name, but) == 0))
			(void)unlinkat(dirfd(directory), entry->d_name, 0);
	if (directory)
		closedir(directory);
}

/* The file of the lease that is in force stays open: it is written often. What a killed drone left
 * of others goes. */
static int open_shared(struct plane_native *native, int64_t lease, struct plane_error *err)
{
	if (native->lease_fd >= 0 && native->lease == lease)
		return 0;
	_cleanup_free_ char *path = shared_path(native, lease);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return plane_error_errno(err, "open %s", path);
	close_shared(native);
	native->lease_fd = fd;
	native->lease = lease;
	remove_shared(native, strrchr(path, '/') + 1);
	return 0;
}

int native_set_lease(
	struct plane_native *native, int64_t lease, int64_t deadline_ms, struct plane_error *err)
{
	_cleanup_free_ char *path = shared_path(native, lease);
	int code = open_shared(native, lease, err);
	return code < 0 ? code : write_deadline(native->lease_fd, path, deadline_ms, err);
}

int64_t native_get_lease(struct plane_native *native, int64_t lease)
{
	_cleanup_free_ char *path = shared_path(native, lease);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int64_t deadline_ms = 0;
	if (fd < 0 || pread(fd, &deadline_ms, sizeof(deadline_ms), 0) != sizeof(deadline_ms))
		return 0;
	return deadline_ms;
}

int native_end_lease(struct plane_native *native, int64_t lease, struct plane_error *err)
{
	_cleanup_free_ char *path = shared_path(native, lease);
	int code = native_set_lease(native, lease, PLANE_SHIM_LEASE_OVER, err);
	for (unsigned i = 0; i < PLANE_NETWORK_MAX_SANDBOXES; i++) {
		struct native_sandbox *s = native->sandboxes[i];
		if (s && s->backend && s->lease == lease)
			tell(s);
	}
	close_shared(native);
	(void)unlink(path); /* the sandboxes' own names of it stay */
	return code;
}

void native_leases_remove(struct plane_native *native)
{
	close_shared(native);
	remove_shared(native, NULL);
}
