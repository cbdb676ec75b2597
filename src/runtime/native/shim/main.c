/* The shim: makes the sandbox's namespaces, then waits for the drone, the logs, the deadline and
 * the end. It must never depend on the drone being alive. */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/securebits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shim.h"

#define MS_PRIVATE_REC (0x4000 | (1 << 18))
extern int mount(const char *, const char *, const char *, unsigned long, const void *);

static struct {
	int control, listener, init_socket, report, timer, pidfd, userns;
	int out_end, err_end; /* of the backend's streams, until it is started */
	pid_t init;
	uint32_t first_id;
	int signal;
	bool is_dressed, is_started, is_running, is_expired;
	volatile const int64_t *lease;
	struct shim_log log;
	struct shim_stream out, err;
} shim = { .control = PLANE_SHIM_FD_CONTROL, .listener = -1, .report = -1, .log = { .fd = -1 } };

/* Made anew for each sandbox, on its tmpfs, and bound over the image's. */
static const char *const etc_files[] = { "stage/etc/hosts", "stage/etc/hostname",
	"stage/etc/resolv.conf" };

static void die(const char *what)
{
	shim_fail(shim.control, "%s: %s", what, strerror(errno));
	_exit(1);
}

static int64_t boot_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void kill_sandbox(void)
{
	(void)syscall(SYS_pidfd_send_signal, shim.pidfd, SIGKILL, NULL, 0); /* gone is fine */
}

/* The drone makes the file when it gives the sandbox to a backend; many may share it. */
static bool map_lease(void)
{
	int fd = openat(PLANE_SHIM_FD_DIRECTORY, "lease", O_RDONLY | O_CLOEXEC);
	void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);

	if (fd >= 0)
		close(fd);
	if (at == MAP_FAILED)
		return false;
	shim.lease = at;
	return true;
}

/* False when the time is over. Else it is looked at again when it would be, unless the drone has
 * moved it meanwhile. */
static bool check_deadline(void)
{
	int64_t deadline;

	if (!shim.lease)
		return true; /* nothing runs yet */
	deadline = *shim.lease;
	if (boot_ms() >= deadline) {
		shim.is_expired = true;
		kill_sandbox();
		return false;
	}
	struct itimerspec at = { .it_value = { deadline / 1000, deadline % 1000 * 1000000 } };
	(void)timerfd_settime(shim.timer, TFD_TIMER_ABSTIME, &at, NULL);
	return true;
}

static void write_map(const char *name)
{
	char path[64], text[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", shim.init, name);
	int len = snprintf(text, sizeof(text), "0 %u %u\n", shim.first_id, PLANE_SHIM_IDS);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, (size_t)len) != len)
		die("map user ids");
	close(fd);
}

/* A descriptor from the host's mount namespace cannot be mounted on in ours. */
static bool reopen_disk(void)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/fd/7", path, sizeof(path) - 1);
	_Static_assert(PLANE_SHIM_FD_DISK == 7, "the path above names it");

	if (n < 0)
		return false;
	path[n] = 0;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || dup3(fd, PLANE_SHIM_FD_DISK, O_CLOEXEC) < 0)
		return false;
	close(fd);
	return fchdir(PLANE_SHIM_FD_DISK) == 0;
}

static bool prepare_upper(void)
{
	return chmod("upper", 0755) == 0 && chown("upper", shim.first_id, shim.first_id) == 0;
}

static bool prepare_etc(void)
{
	for (size_t i = 0; i < sizeof(etc_files) / sizeof(*etc_files); i++) {
		int fd = open(etc_files[i], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (fd < 0 || fchown(fd, shim.first_id, shim.first_id) < 0)
			return false;
		close(fd);
	}
	return true;
}

/* The working directory is from now on the one on disk, and all names are relative to it. */
static void prepare_mounts(void)
{
	static const char *const directories[] = { "stage/proc", "stage/sys", "stage/dev",
		"stage/root", "stage/lower", "stage/skeleton", "stage/etc" };

	if (setns(PLANE_SHIM_FD_NETNS, CLONE_NEWNET) < 0 || unshare(CLONE_NEWNS) < 0 ||
		mount(NULL, "/", NULL, MS_PRIVATE_REC, NULL) < 0 || !reopen_disk() ||
		!prepare_upper() ||
		mount("tmpfs", "stage", "tmpfs", 2 | 4, "mode=755,size=64k") < 0)
		die("prepare mounts");
	for (size_t i = 0; i < sizeof(directories) / sizeof(*directories); i++)
		if (mkdir(directories[i], 0755) < 0)
			die("prepare directories");
	if (!prepare_etc())
		die("prepare files of /etc");
	if (mount("sysfs", "stage/sys", "sysfs", 1 | 2 | 4 | 8, NULL) < 0)
		die("mount sysfs");
}

static void make_stream(struct shim_stream *stream, const char *name, int *write_end)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0 || fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0)
		die("make a pipe");
	stream->fd = ends[0];
	stream->name = name;
	*write_end = ends[1];
}

static void run_init(int socket, int report)
{
	struct shim_init init = { .socket = socket,
		.out = shim.out_end,
		.err = shim.err_end,
		.report = report,
		.seccomp = PLANE_SHIM_FD_SECCOMP };

	close(shim.control);
	close(PLANE_SHIM_FD_NETNS);
	close(PLANE_SHIM_FD_DIRECTORY);
	close(PLANE_SHIM_FD_DISK);
	close(shim.listener);
	close(shim.init_socket);
	close(shim.report);
	shim_init_main(&init);
}

/* The host's name is set by the shim, since init has no more rights than it needs. */
static void enter_uts(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/uts", shim.init);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWUTS) < 0)
		die("enter the sandbox's uts namespace");
	close(fd);
}

/* The kernel counts what a user namespace uses (inotify instances, queued signals, message queues)
 * also against its maker, in the host's own namespace: with root as the maker, one sandbox could
 * use up what all others and the host's root may have. user_namespaces(7), /proc/sys/user. */
static pid_t clone_as_owner(struct clone_args *args)
{
	/* Capabilities stay: some hosts let no others make user namespaces. */
	if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP) < 0 ||
		setresuid((uid_t)-1, shim.first_id, (uid_t)-1) < 0)
		die("become the sandbox's owner");
	pid_t pid = (pid_t)syscall(SYS_clone3, args, sizeof(*args));
	if (pid != 0 && setresuid((uid_t)-1, 0, (uid_t)-1) < 0)
		die("become root again");
	return pid;
}

static void make_init(void)
{
	struct clone_args args = { .flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS |
					    CLONE_NEWIPC | CLONE_NEWUTS | CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)&shim.pidfd,
		.exit_signal = SIGCHLD };
	char path[64], byte = 'G';
	int ends[2], report[2];

	make_stream(&shim.out, "stdout", &shim.out_end);
	make_stream(&shim.err, "stderr", &shim.err_end);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0 ||
		pipe2(report, O_CLOEXEC) < 0)
		die("make a socket");
	shim.init_socket = ends[0];
	shim.report = report[0];
	/* init begins where it may look around: the directory on disk is closed to it */
	if (chdir("stage") < 0)
		die("enter the stage");
	shim.init = clone_as_owner(&args);
	if (shim.init < 0)
		die("make namespaces");
	if (shim.init == 0)
		run_init(ends[1], report[1]);
	close(ends[1]);
	close(report[1]);
	if (fchdir(PLANE_SHIM_FD_DISK) < 0)
		die("leave the stage");
	write_map("uid_map");
	write_map("gid_map");
	enter_uts();
	snprintf(path, sizeof(path), "/proc/%d/ns/user", shim.init);
	shim.userns = open(path, O_RDONLY | O_CLOEXEC);
	if (shim.userns < 0 || shim_send(shim.init_socket, &byte, 1, NULL, 0) != 1)
		die("start the sandbox's init");
}

static bool write_etc(const char *path, const char *text)
{
	size_t len = strlen(text);
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	bool is_written = fd >= 0 && write(fd, text, len) == (ssize_t)len;

	if (fd >= 0)
		close(fd);
	return is_written;
}

static bool fill_etc(const struct shim_start *start)
{
	char hosts[512], hostname[128];

	snprintf(hosts, sizeof(hosts), "127.0.0.1\tlocalhost\n%s\t%s\n", start->address,
		start->backend);
	snprintf(hostname, sizeof(hostname), "%s\n", start->backend);
	return write_etc(etc_files[0], hosts) && write_etc(etc_files[1], hostname) &&
	       write_etc(etc_files[2], start->resolv);
}

/* Maps the ids of a detached mount: those of the disk, from 0, become those of the sandbox. */
static int idmapped(int tree)
{
	struct mount_attr attr = { .attr_set =
					   MOUNT_ATTR_IDMAP | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID,
		.userns_fd = (uint64_t)shim.userns };

	if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return -1;
	return tree;
}

static int configure(int fs, const char *key, const char *value)
{
	return (int)syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0);
}

/* Attaches a layer below the overlay. */
static bool add_lower(int owned_tree, const char *target)
{
	bool is_added = owned_tree >= 0 && idmapped(owned_tree) >= 0 &&
			syscall(SYS_move_mount, owned_tree, "", AT_FDCWD, target,
				MOVE_MOUNT_F_EMPTY_PATH) == 0;

	if (owned_tree >= 0)
		close(owned_tree);
	return is_added;
}

/* The skeleton is the upper of the two: what is mounted on must be no link of the image's. */
static int make_overlay(int owned_rootfs)
{
	int skeleton = (int)syscall(
		SYS_open_tree, AT_FDCWD, "../../skeleton", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (!add_lower(owned_rootfs, "stage/lower") || !add_lower(skeleton, "stage/skeleton"))
		return -1;
	int fs = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
	if (fs < 0)
		return -1;
	int tree = -1;
	if (configure(fs, "source", "plane") == 0 &&
		configure(fs, "lowerdir", "stage/skeleton:stage/lower") == 0 &&
		configure(fs, "upperdir", "upper") == 0 && configure(fs, "workdir", "work") == 0 &&
		configure(fs, "index", "off") == 0 &&
		syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
		tree = (int)syscall(
			SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID);
	close(fs);
	return tree;
}

static void give_up(const char *what)
{
	shim_fail(shim.control, "%s: %s", what, strerror(errno));
	kill_sandbox();
}

/* The image's tree, ahead of the start or just before it. `fds`: rootfs, lock[, mount]. */
static void dress(const int *fds, int count)
{
	int give[2] = { -1, -1 };
	char byte = PLANE_SHIM_DRESS;

	if (shim.is_dressed || count < 2)
		return shim_fail(shim.control, "bad message: dress");
	shim.is_dressed = true;
	give[0] = make_overlay(fds[0]);
	if (give[0] < 0)
		return give_up("make the overlay on the image");
	if (count > 2) {
		give[1] = idmapped(fds[2]);
		if (give[1] < 0 || (mkdir("upper/plane-data", 0755) < 0 && errno != EEXIST) ||
			chown("upper/plane-data", shim.first_id, shim.first_id) < 0)
			return give_up("map ids of the mount");
	}
	if (shim_send(shim.init_socket, &byte, 1, give, count > 2 ? 2 : 1) != 1)
		return give_up("dress the sandbox");
	for (int i = 0; i < 2; i++)
		if (give[i] >= 0)
			close(give[i]);
	/* fds[1], the image's lock, stays open as long as the shim lives */
}

static void start(const int *fds, int count)
{
	static struct shim_start start;
	char byte = PLANE_SHIM_START;

	if (!shim.is_dressed || shim.is_started || count < 1 || !shim_start_read(fds[0], &start))
		return shim_fail(shim.control, "bad message: start");
	shim.is_started = true;
	shim_log_open(&shim.log, start.log_path, start.head->log_max_bytes);
	uid_t owner = shim.first_id + start.head->uid;
	if (!fill_etc(&start) || sethostname(start.backend, strlen(start.backend)) < 0 ||
		fchown(shim.out_end, owner, (gid_t)-1) < 0 ||
		fchown(shim.err_end, owner, (gid_t)-1) < 0)
		return give_up("fill the sandbox");
	if (!map_lease())
		return give_up("map the lease");
	if (!check_deadline())
		return shim_fail(shim.control, "its lease is over");
	if (shim_send(shim.init_socket, &byte, 1, fds, 1) != 1)
		return give_up("start the backend");
	close(shim.out_end);
	close(shim.err_end);
	close(fds[0]);
}

/* The backend's process closed the pipe: by being executed, or with a text that tells why not. */
static void on_report(void)
{
	char text[PLANE_SHIM_TEXT_MAX], running = PLANE_SHIM_RUNNING;
	ssize_t n = read(shim.report, text, sizeof(text) - 1);

	close(shim.report);
	shim.report = -1;
	if (n > 0) {
		shim_fail(shim.control, "%.*s", (int)n, text);
	} else if (shim.is_started) {
		shim.is_running = true;
		(void)shim_send(shim.control, &running, 1, NULL, 0); /* the drone may be gone */
	}
}

static void on_control(void)
{
	char packet[64];
	int fds[4], count;
	long n = shim_receive(shim.control, packet, sizeof(packet), fds, 4, &count);

	if (n <= 0) {
		close(shim.control);
		shim.control = -1;
		if (!shim.is_started)
			kill_sandbox(); /* nobody can ever use a parked one whose drone is gone */
		return;
	}
	if (packet[0] == PLANE_SHIM_DRESS)
		dress(fds, count);
	else if (packet[0] == PLANE_SHIM_START)
		start(fds, count);
	else if (packet[0] == PLANE_SHIM_SIGNAL)
		(void)syscall(SYS_pidfd_send_signal, shim.pidfd, SIGTERM, NULL, 0);
	else if (packet[0] == PLANE_SHIM_KILL)
		kill_sandbox();
	else if (packet[0] == PLANE_SHIM_DEADLINE)
		(void)check_deadline();
}

static void on_init(void)
{
	char text[PLANE_SHIM_TEXT_MAX];
	int fds[1], count;
	long n = shim_receive(shim.init_socket, text, sizeof(text), fds, 0, &count);

	if (n <= 0) {
		close(shim.init_socket);
		shim.init_socket = -1;
		return;
	}
	if (text[0] == PLANE_SHIM_SIGNALED && n == 2) {
		shim.signal = (unsigned char)text[1];
		return;
	}
	if (text[0] == PLANE_SHIM_PARKED && n == 1) {
		int32_t pid = shim.init;
		memcpy(text + 1, &pid, sizeof(pid));
		n = 1 + (long)sizeof(pid);
	}
	(void)shim_send(shim.control, text, (size_t)n, NULL, 0); /* the drone may be gone */
}

static void finish(void)
{
	siginfo_t info = { 0 };
	struct shim_stream *streams[] = { &shim.out, &shim.err };
	char text[128];

	(void)waitid(P_PID, (id_t)shim.init, &info, WEXITED);
	if (shim.report >= 0)
		on_report();
	if (shim.is_started)
		for (int i = 0; i < 2; i++) {
			while (streams[i]->fd >= 0 && shim_log_take(&shim.log, streams[i]))
				;
			shim_log_flush(&shim.log, streams[i]);
		}
	while (shim.init_socket >= 0)
		on_init();
	int code = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
	int len = snprintf(text, sizeof(text),
		"{\"code\":%d,\"signal\":%d,\"expired\":%s,\"ran\":%s}\n", code,
		info.si_code == CLD_EXITED ? shim.signal : info.si_status,
		shim.is_expired ? "true" : "false", shim.is_running ? "true" : "false");
	int fd = openat(PLANE_SHIM_FD_DIRECTORY, "exit.tmp", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, text, (size_t)len) != len ||
		renameat(PLANE_SHIM_FD_DIRECTORY, "exit.tmp", PLANE_SHIM_FD_DIRECTORY, "exit") < 0)
		_exit(1);
	_exit(0);
}

static void listen_control(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/control",
		PLANE_SHIM_FD_DIRECTORY);
	shim.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (shim.listener < 0 ||
		bind(shim.listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		listen(shim.listener, 4) < 0)
		die("listen on the control socket");
	shim.timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (shim.timer < 0)
		die("make a timer");
}

static void turn(void)
{
	struct pollfd polls[] = { { shim.control, POLLIN, 0 }, { shim.listener, POLLIN, 0 },
		{ shim.init_socket, POLLIN, 0 }, { shim.timer, POLLIN, 0 },
		{ shim.pidfd, POLLIN, 0 }, { shim.is_started ? shim.out.fd : -1, POLLIN, 0 },
		{ shim.is_started ? shim.err.fd : -1, POLLIN, 0 }, { shim.report, POLLIN, 0 } };
	uint64_t ticks;

	if (poll(polls, sizeof(polls) / sizeof(*polls), -1) < 0)
		return;
	if (polls[7].revents)
		on_report();
	if (polls[5].revents)
		(void)shim_log_take(&shim.log, &shim.out);
	if (polls[6].revents)
		(void)shim_log_take(&shim.log, &shim.err);
	if (polls[2].revents)
		on_init();
	if (polls[3].revents) {
		(void)!read(shim.timer, &ticks, sizeof(ticks)); /* only wakes us */
		(void)check_deadline();
	}
	if (polls[0].revents)
		on_control();
	if (polls[1].revents) {
		int fd = accept4(shim.listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0 && shim.control >= 0)
			close(shim.control);
		if (fd >= 0)
			shim.control = fd;
	}
	if (polls[4].revents)
		finish();
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	shim.first_id = (uint32_t)strtoul(argv[1], NULL, 10);
	if (shim.first_id < PLANE_SHIM_IDS)
		return 2;
	for (int fd = PLANE_SHIM_FD_CONTROL; fd < PLANE_SHIM_FD_COUNT; fd++)
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	(void)syscall(SYS_close_range, PLANE_SHIM_FD_COUNT, ~0u, 0);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	listen_control();
	prepare_mounts();
	make_init();
	for (;;)
		turn();
}
