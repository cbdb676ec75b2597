/* Making and removing sandboxes: everything slow, none of it while a user waits. */
#include "runtime/native/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "runtime/native/shim/protocol.h"

extern const char plane_shim_bytes[], plane_shim_bytes_end[];

int plane_sandbox_shim_file(struct plane_error *err)
{
	_cleanup_close_ int fd = memfd_create("plane-shim", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	/* two symbols around one object */
	size_t len = (size_t)((uintptr_t)plane_shim_bytes_end - (uintptr_t)plane_shim_bytes);

	if (fd < 0)
		return plane_error_errno(err, "make a memory file");
	int code = plane_file_write_all(fd, plane_shim_bytes, len, err);
	if (code < 0)
		return code;
	if (fchmod(fd, 0500) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) <
			0)
		return plane_error_errno(err, "seal the shim");
	return plane_steal_fd(&fd);
}

static bool is_in_memory(const char *path)
{
	struct statfs fs;
	return statfs(path, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

char *plane_sandbox_memory(const char *instance_id, struct plane_error *err)
{
	bool uses_shm = !is_in_memory("/run") && is_in_memory("/dev/shm");
	_cleanup_free_ char *path = uses_shm ? plane_strdupf("/dev/shm/plane-%s", instance_id)
					     : plane_strdupf("/run/plane/%s", instance_id);
	struct stat st;

	/* open to others: the controller's state is mounted beside */
	if (!uses_shm && plane_file_make_directories("/run/plane", 0755, err) < 0)
		return NULL;
	if (mkdir(path, 0700) < 0 && errno != EEXIST) {
		(void)plane_error_errno(err, "make directory %s", path);
		return NULL;
	}
	if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
		(st.st_mode & 077) != 0) {
		(void)plane_error_set(err, -EPERM,
			"%s is not a directory of ours alone: remove it and start again", path);
		return NULL;
	}
	return STEAL(path);
}

int plane_sandbox_skeleton(const char *directory, struct plane_error *err)
{
	static const char *const directories[] = { "", "/proc", "/sys", "/dev", "/etc" };
	static const char *const files[] = { "hosts", "hostname", "resolv.conf" };

	for (size_t i = 0; i < sizeof(directories) / sizeof(*directories); i++) {
		_cleanup_free_ char *path =
			plane_strdupf("%s/skeleton%s", directory, directories[i]);
		if ((mkdir(path, 0755) < 0 && errno != EEXIST) || chmod(path, 0755) < 0)
			return plane_error_errno(err, "make directory %s", path);
	}
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		_cleanup_free_ char *path =
			plane_strdupf("%s/skeleton/etc/%s", directory, files[i]);
		int code = plane_file_replace(path, "", 0, 0644, false, err);
		if (code < 0)
			return code;
	}
	return 0;
}

int64_t plane_sandbox_start_time(pid_t pid)
{
	char path[32];
	_cleanup_(plane_buffer_finish) struct plane_buffer text = { 0 };
	unsigned long long ticks = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (plane_file_read(path, 4096, &text, NULL) < 0)
		return 0;
	char *at = strrchr(plane_buffer_text(&text), ')');
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	return at && sscanf(at, "%llu", &ticks) == 1 ? (int64_t)ticks : 0;
}

char *plane_sandbox_path(const struct plane_sandbox_host *host, unsigned index, const char *file)
{
	return plane_strdupf("%s/%u%s%s", host->memory, index, *file ? "/" : "", file);
}

char *plane_sandbox_disk(const struct plane_sandbox_host *host, unsigned index)
{
	return plane_strdupf("%s/sandboxes/%u", host->directory, index);
}

void plane_sandbox_group(unsigned index, char name[16])
{
	snprintf(name, 16, "s%u", index);
}

static int open_directory(const char *path, struct plane_error *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? plane_error_errno(err, "open %s", path) : fd;
}

static int make_memory(
	const struct plane_sandbox_host *host, unsigned index, struct plane_error *err)
{
	_cleanup_free_ char *path = plane_sandbox_path(host, index, "");

	if (mkdir(path, 0700) < 0)
		return plane_error_errno(err, "make directory %s", path);
	return open_directory(path, err);
}

static int take_disk(const struct plane_sandbox_host *host, unsigned index, struct plane_error *err)
{
	_cleanup_free_ char *path = plane_sandbox_disk(host, index);
	int code = plane_scratch_take(host->scratch, path, err);
	return code < 0 ? code : open_directory(path, err);
}

/* posix_spawn shares memory with the child until execve: it costs the same from a big process. */
static int start_shim(const struct plane_sandbox_host *host, const int fds[PLANE_SHIM_FD_COUNT],
	pid_t *pid, struct plane_error *err)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	char program[32], ids[16];
	char *argv[] = { "plane-shim", ids, NULL }, *env[] = { NULL };
	int high[PLANE_SHIM_FD_COUNT];
	sigset_t none;

	sigemptyset(&none);
	snprintf(ids, sizeof(ids), "%u", (unsigned)fds[0]);
	snprintf(program, sizeof(program), "/proc/self/fd/%d", host->shim_fd);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
	for (int fd = 0; fd < 3; fd++)
		posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
	for (int fd = PLANE_SHIM_FD_CONTROL; fd < PLANE_SHIM_FD_COUNT; fd++) {
		high[fd] = fcntl(fds[fd], F_DUPFD_CLOEXEC, 64); /* above all targets */
		posix_spawn_file_actions_adddup2(&actions, high[fd], fd);
	}
	int code = posix_spawn(pid, program, &actions, &attributes, argv, env);
	for (int fd = PLANE_SHIM_FD_CONTROL; fd < PLANE_SHIM_FD_COUNT; fd++)
		close(high[fd]);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	if (code != 0)
		return plane_error_set(err, code, "start the shim: %s", strerror(code));
	return 0;
}

static int await_parked(int control, pid_t *init, struct plane_error *err)
{
	char text[PLANE_SHIM_TEXT_MAX + 1];
	struct pollfd polls = { control, POLLIN, 0 };

	if (poll(&polls, 1, 10000) != 1)
		return plane_error_set(err, -ETIMEDOUT, "the shim did not answer");
	ssize_t n = recv(control, text, sizeof(text) - 1, 0);
	if (n == 5 && text[0] == PLANE_SHIM_PARKED) {
		int32_t pid;
		memcpy(&pid, text + 1, sizeof(pid));
		*init = pid;
		return 0;
	}
	text[n > 0 ? n : 0] = 0;
	return plane_error_set(
		err, -EIO, "the shim failed: %s", n > 1 ? text + 1 : "it ended early");
}

/* A link may be left from before: its namespace outlived a former drone. */
static int attach(const struct plane_sandbox_host *host, int netns,
	struct plane_sandbox_parts *parts, struct plane_error *err)
{
	int code = plane_network_attach(host->network, netns, parts->index, parts->address, err);

	if (code != -EEXIST)
		return code;
	code = plane_network_detach(host->network, parts->index, err);
	if (code == 0)
		code = plane_network_attach(
			host->network, netns, parts->index, parts->address, err);
	return code;
}

int plane_sandbox_make(const struct plane_sandbox_host *host, unsigned index,
	struct plane_sandbox_parts *parts, struct plane_error *err)
{
	_cleanup_close_ int directory = make_memory(host, index, err);
	if (directory < 0)
		return directory;
	_cleanup_close_ int disk = take_disk(host, index, err);
	if (disk < 0)
		return disk;
	_cleanup_close_ int netns = plane_netns_create(err);
	if (netns < 0)
		return netns;
	char group[16];
	int ends[2], code;
	plane_sandbox_group(index, group);
	*parts = (struct plane_sandbox_parts){ .index = index, .pidfd = -1, .control = -1 };
	if ((code = attach(host, netns, parts, err)) < 0 ||
		(code = plane_cgroup_make(host->cgroups, group, err)) < 0 ||
		(code = plane_cgroup_limit_pids(host->cgroups, group, PLANE_SANDBOX_PIDS, err)) < 0)
		return code;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return plane_error_errno(err, "make a socket");
	int fds[PLANE_SHIM_FD_COUNT] = { (int)(host->first_id + index * PLANE_SHIM_IDS), 0, 0,
		ends[1], netns, host->seccomp_fd, directory, disk };
	code = start_shim(host, fds, &parts->shim, err);
	close(ends[1]);
	_cleanup_close_ int control = ends[0];
	if (code < 0)
		return code;
	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, parts->shim, 0);
	if (pidfd < 0)
		return plane_error_errno(err, "open the shim's process");
	parts->shim_start = plane_sandbox_start_time(parts->shim);
	code = await_parked(control, &parts->init, err);
	if (code == 0)
		code = plane_cgroup_attach(host->cgroups, group, parts->init, err);
	if (code < 0) {
		(void)kill(parts->shim, SIGKILL); /* our own child, not yet waited for */
		(void)waitid(P_PIDFD, (id_t)pidfd, &(siginfo_t){ 0 }, WEXITED);
		return code;
	}
	parts->control = plane_steal_fd(&control);
	parts->pidfd = plane_steal_fd(&pidfd);
	return 0;
}

/* The shim is not in the group: it may be writing how the sandbox ended, in two steps, while its
 * directory is removed. */
static int remove_with_shim(const char *path, struct plane_error *err)
{
	int code = -ENOTEMPTY;
	for (int tries = 0; code == -ENOTEMPTY && tries < 4; tries++)
		code = plane_file_remove_tree(path, err);
	return code;
}

int plane_sandbox_remove(
	const struct plane_sandbox_host *host, unsigned index, struct plane_error *err)
{
	_cleanup_free_ char *path = plane_sandbox_path(host, index, "");
	_cleanup_free_ char *disk = plane_sandbox_disk(host, index);
	char group[16];

	plane_sandbox_group(index, group);
	int code = plane_cgroup_kill(host->cgroups, group, err);
	if (code == 0)
		code = plane_cgroup_remove(host->cgroups, group, 5000, err);
	plane_network_release(host->network, index);
	if (code == 0)
		code = plane_scratch_give_back(
			host->scratch, disk, host->first_id + index * PLANE_SHIM_IDS, err);
	/* the last, since it is what tells the next drone that something is left */
	if (code == 0)
		code = remove_with_shim(path, err);
	return code;
}

int plane_sandbox_await_end(const struct plane_sandbox_host *host, unsigned index, int timeout_ms,
	struct plane_error *err)
{
	int64_t until_ms = plane_clock_monotonic_us() / 1000 + timeout_ms;
	char group[16];

	plane_sandbox_group(index, group);
	int code = plane_cgroup_kill(host->cgroups, group, err);
	while (code == 0 && plane_cgroup_is_populated(host->cgroups, group)) {
		if (plane_clock_monotonic_us() / 1000 > until_ms)
			return plane_error_set(
				err, -EBUSY, "processes of sandbox %u do not end", index);
		(void)poll(NULL, 0, 1); /* nothing tells when a group of v1 is empty */
	}
	return code;
}

int plane_sandbox_connect(
	const struct plane_sandbox_host *host, unsigned index, struct plane_error *err)
{
	_cleanup_free_ char *path = plane_sandbox_path(host, index, "");
	_cleanup_close_ int directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	/* A path of any length fits when it goes through a descriptor. */
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/control", directory);
	if (directory < 0 || fd < 0 ||
		connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return plane_error_errno(err, "connect to the shim in %s", path);
	return plane_steal_fd(&fd);
}
