/* Locks of a data directory: flock(2), so that the kernel lets go of them with the last process. */
#include "cli/serve_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

#define LOOK_MS 20

static int open_file(const char *path, struct plane_error *err)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? plane_error_errno(err, "open %s", path) : fd;
}

int plane_serve_lock(const char *data_dir, struct plane_error *err)
{
	_cleanup_free_ char *path = plane_strdupf("%s/serve.lock", data_dir);
	char owner[32] = "";
	_cleanup_close_ int fd = open_file(path, err);
	if (fd < 0)
		return fd;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		ssize_t got = pread(fd, owner, sizeof(owner) - 1, 0);
		owner[got > 0 ? got : 0] = '\0';
		return plane_error_set(err, -EBUSY,
			"the data directory %s is used by another `plane serve` (process %s): stop "
			"that one, or choose another with --data-dir",
			data_dir, owner);
	}
	snprintf(owner, sizeof(owner), "%d", getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, owner, strlen(owner), 0) < 0)
		return plane_error_errno(err, "write %s", path);
	return plane_steal_fd(&fd);
}

int plane_serve_lock_roles(const char *data_dir, int timeout_ms, struct plane_error *err)
{
	_cleanup_free_ char *path = plane_strdupf("%s/roles.lock", data_dir);
	int64_t until_ms = plane_clock_boot_ms() + timeout_ms;
	bool is_told = false;
	_cleanup_close_ int fd = open_file(path, err);
	if (fd < 0)
		return fd;
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return plane_error_errno(err, "lock %s", path);
		if (plane_clock_boot_ms() > until_ms)
			return plane_error_set(err, -EBUSY,
				"roles of a former `plane serve` still use the data directory %s",
				data_dir);
		if (!is_told)
			plane_info("waiting for the roles of a former `plane serve` to stop");
		is_told = true;
		(void)poll(NULL, 0, LOOK_MS); /* flock has no timeout */
	}
	return plane_steal_fd(&fd);
}
