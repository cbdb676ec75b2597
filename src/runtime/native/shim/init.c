/* pid 1 of a sandbox: mounts, waits parked, starts the backend, reaps, ends with its status. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim.h"

static const struct {
	const char *source, *target, *type;
	unsigned long flags;
	const char *options;
} mounts[] = {
	{ "proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL },
	{ "tmpfs", "dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755,size=64k" },
};

static const struct {
	const char *source, *target, *type;
	unsigned long flags;
	const char *options;
} device_mounts[] = {
	{ "devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
		"newinstance,ptmxmode=0666,mode=0620,max=256" }, /* of the machine's 4096 */
	{ "shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=64m" },
	{ "mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL },
};

static const char *const devices[] = { "null", "zero", "full", "random", "urandom", "tty" };
static const char *const links[][2] = { { "/proc/self/fd", "dev/fd" },
	{ "/proc/self/fd/0", "dev/stdin" }, { "/proc/self/fd/1", "dev/stdout" },
	{ "/proc/self/fd/2", "dev/stderr" }, { "pts/ptmx", "dev/ptmx" } };
static const char *const masked_files[] = { "proc/kcore", "proc/keys", "proc/timer_list",
	"proc/timer_stats", "proc/latency_stats", "proc/sched_debug", "proc/interrupts",
	"proc/kmsg", "proc/kallsyms", "proc/sysrq-trigger", "proc/modules" };
static const char *const masked_directories[] = { "proc/asound", "proc/acpi", "proc/scsi",
	"sys/firmware", "sys/kernel", "sys/fs", "sys/devices/virtual/powercap" };
static const char *const read_only[] = { "proc/bus", "proc/fs", "proc/irq", "proc/pressure",
	"proc/sys" };

static int make_devices(void)
{
	char source[64], target[64];

	if (mkdir("dev/pts", 0755) < 0 || mkdir("dev/shm", 0755) < 0 ||
		mkdir("dev/mqueue", 0755) < 0)
		return -1;
	for (size_t i = 0; i < sizeof(device_mounts) / sizeof(*device_mounts); i++)
		if (mount(device_mounts[i].source, device_mounts[i].target, device_mounts[i].type,
			    device_mounts[i].flags, device_mounts[i].options) < 0)
			return -1;
	for (size_t i = 0; i < sizeof(devices) / sizeof(*devices); i++) {
		snprintf(source, sizeof(source), "/dev/%s", devices[i]);
		snprintf(target, sizeof(target), "dev/%s", devices[i]);
		int fd = open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
		if (fd < 0 || mount(source, target, NULL, MS_BIND, NULL) < 0)
			return -1;
		close(fd);
	}
	for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++)
		if (symlink(links[i][0], links[i][1]) < 0)
			return -1;
	return 0;
}

static int mask(void)
{
	for (size_t i = 0; i < sizeof(masked_files) / sizeof(*masked_files); i++)
		if (mount("/dev/null", masked_files[i], NULL, MS_BIND, NULL) < 0 && errno != ENOENT)
			return -1;
	for (size_t i = 0; i < sizeof(masked_directories) / sizeof(*masked_directories); i++)
		if (mount("tmpfs", masked_directories[i], "tmpfs", MS_RDONLY, "size=0") < 0 &&
			errno != ENOENT)
			return -1;
	for (size_t i = 0; i < sizeof(read_only) / sizeof(*read_only); i++) {
		if (mount(read_only[i], read_only[i], NULL, MS_BIND | MS_REC, NULL) < 0) {
			if (errno == ENOENT)
				continue;
			return -1;
		}
		if (mount(NULL, read_only[i], NULL,
			    MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
			    NULL) < 0)
			return -1;
	}
	return 0;
}

static int make_mounts(void)
{
	umask(0);
	for (size_t i = 0; i < sizeof(mounts) / sizeof(*mounts); i++)
		if (mount(mounts[i].source, mounts[i].target, mounts[i].type, mounts[i].flags,
			    mounts[i].options) < 0)
			return -1;
	int result = make_devices() < 0 || mask() < 0 ? -1 : 0;
	umask(022);
	return result;
}

/* Attaches the overlay and, in it, what was mounted ahead; then nothing of the host is left. */
static int enter_root(int root, int mount_fd)
{
	static const char *const parts[] = { "proc", "sys", "dev", "etc/hosts", "etc/hostname",
		"etc/resolv.conf" };
	char target[32];

	if (syscall(SYS_move_mount, root, "", AT_FDCWD, "root", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -1;
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		snprintf(target, sizeof(target), "root/%s", parts[i]);
		if (mount(parts[i], target, NULL, MS_BIND | MS_REC, NULL) < 0)
			return -1;
	}
	if (mount_fd >= 0 && syscall(SYS_move_mount, mount_fd, "", AT_FDCWD, "root/plane-data",
				     MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -1;
	if (chdir("root") < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
		umount2(".", MNT_DETACH) < 0)
		return -1;
	return chdir("/");
}

static void try_exec(const struct shim_start *start, const char *path, int *error)
{
	execve(path, start->argv, start->env);
	if (errno != ENOENT || *error == 0)
		*error = *error == EACCES ? EACCES : errno;
}

static int exec_backend(const struct shim_start *start)
{
	const char *path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	char full[4096];
	int error = 0;

	if (strchr(start->argv[0], '/')) {
		try_exec(start, start->argv[0], &error);
		return error;
	}
	for (char **e = start->env; *e; e++)
		if (strncmp(*e, "PATH=", 5) == 0)
			path = *e + 5;
	while (*path) {
		size_t len = strcspn(path, ":");
		if ((size_t)snprintf(full, sizeof(full), "%.*s/%s", (int)len, path,
			    start->argv[0]) < sizeof(full))
			try_exec(start, full, &error);
		path += len + (path[len] == ':');
	}
	return error ? error : ENOENT;
}

static int set_limits(const struct shim_start *start)
{
	/* 1, not 0: then the kernel runs no handler of the host's either. core(5) */
	struct rlimit files = { 20000, 20000 }, core = { 1, 1 };

	if (setrlimit(RLIMIT_NOFILE, &files) < 0 || setrlimit(RLIMIT_CORE, &core) < 0)
		return -1;
	if (start->head->cpu_seconds > 0) {
		rlim_t seconds = (rlim_t)start->head->cpu_seconds;
		struct rlimit cpu = { seconds, seconds + 1 };
		return setrlimit(RLIMIT_CPU, &cpu);
	}
	return 0;
}

static int become_user(const struct shim_start *start)
{
	gid_t groups[PLANE_SHIM_GROUPS_MAX];

	for (uint32_t i = 0; i < start->head->group_count; i++)
		groups[i] = start->head->groups[i];
	if (setgroups(start->head->group_count, groups) < 0 ||
		setresgid(start->head->gid, start->head->gid, start->head->gid) < 0 ||
		setresuid(start->head->uid, start->head->uid, start->head->uid) < 0)
		return -1;
	return 0;
}

static int install_filter(int seccomp)
{
	struct sock_fprog filter = { 0 };
	struct stat st;

	if (fstat(seccomp, &st) < 0)
		return -1;
	filter.len = (unsigned short)((size_t)st.st_size / sizeof(struct sock_filter));
	filter.filter = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, seccomp, 0);
	if (filter.filter == MAP_FAILED || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

static void refuse(const struct shim_init *init, const char *format, ...)
	__attribute__((format(printf, 2, 3), noreturn));

static void refuse(const struct shim_init *init, const char *format, ...)
{
	char text[PLANE_SHIM_TEXT_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	ssize_t n = write(init->report, text, strlen(text) + 1);
	_exit(n > 0 ? 127 : 126);
}

/* All that needs no knowledge of the backend, the filter's compilation above all. */
static void prepare_backend(const struct shim_init *init)
{
	const char *step = NULL;
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	int null = open("/dev/null", O_RDONLY);
	if (null < 0 || dup2(null, 0) < 0 || dup2(init->out, 1) < 0 || dup2(init->err, 2) < 0)
		step = "open the standard streams";
	else if (syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC) < 0 ||
		 install_filter(init->seccomp) < 0)
		step = "install the system call filter";
	if (step)
		refuse(init, "%s: %s", step, strerror(errno));
}

static void become_backend(const struct shim_init *init, const struct shim_start *start)
{
	const char *step = NULL;

	if (setsid() < 0)
		step = "begin a session";
	else if (set_limits(start) < 0)
		step = "set resource limits";
	else if (become_user(start) < 0)
		step = "become the image's user";
	else if (start->head->uid != 0 && shim_clear_capabilities() < 0)
		step = "clear capabilities";
	else if (chdir(start->workdir) < 0)
		step = "change to the work directory";
	if (step)
		refuse(init, "%s (%s) in image %s: %s", step, start->workdir, start->image,
			strerror(errno));
}

void shim_backend_main(const struct shim_init *init)
{
	struct shim_start start = { 0 };
	char byte;
	int fd, count;

	prepare_backend(init);
	if (shim_receive(init->socket, &byte, 1, &fd, 1, &count) != 1 || count != 1 ||
		!shim_start_read(fd, &start))
		refuse(init, "bad start message");
	become_backend(init, &start);
	int error = exec_backend(&start);
	if (error == ENOENT)
		refuse(init, "no such command %s in image %s", start.argv[0], start.image);
	refuse(init, "execute %s in image %s: %s", start.argv[0], start.image, strerror(error));
}

static pid_t main_child;

static void forward(int signal)
{
	int saved = errno;
	if (main_child > 0)
		kill(main_child, signal);
	errno = saved;
}

static void reap_until_end(int socket)
{
	for (;;) {
		int status;
		pid_t pid = waitpid(-1, &status, 0);
		if (pid < 0 && errno == EINTR)
			continue;
		if (pid == main_child && WIFSIGNALED(status)) {
			char packet[2] = { PLANE_SHIM_SIGNALED, (char)WTERMSIG(status) };
			(void)shim_send(socket, packet, sizeof(packet), NULL, 0); /* only detail */
		}
		if (pid == main_child || pid < 0)
			_exit(pid < 0                 ? 255
				: WIFSIGNALED(status) ? 128 + WTERMSIG(status)
						      : WEXITSTATUS(status));
	}
}

static void fail(const struct shim_init *init, const char *what)
{
	shim_fail(init->socket, "%s: %s", what, strerror(errno));
	_exit(125);
}

static void park(const struct shim_init *init)
{
	struct sigaction action = { .sa_handler = forward };
	char byte = 0;
	int count;

	if (shim_receive(init->socket, &byte, 1, NULL, 0, &count) != 1)
		_exit(125);
	if (setresgid(0, 0, 0) < 0 || setgroups(0, NULL) < 0 || setresuid(0, 0, 0) < 0 ||
		prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || make_mounts() < 0)
		fail(init, "mount a sandbox");
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	byte = PLANE_SHIM_PARKED;
	(void)shim_send(init->socket, &byte, 1, NULL, 0); /* a dead shim takes us with it */
}

static void dress(const struct shim_init *init)
{
	char byte = 0;
	int fds[2], count;

	if (shim_receive(init->socket, &byte, 1, fds, 2, &count) != 1 || count < 1)
		_exit(125);
	if (unshare(CLONE_NEWCGROUP) < 0 || enter_root(fds[0], count > 1 ? fds[1] : -1) < 0 ||
		shim_drop_capabilities() < 0)
		fail(init, "enter the image's root");
	(void)prctl(PR_SET_DUMPABLE, 0); /* valid arguments: cannot fail */
	for (int i = 0; i < count; i++)
		close(fds[i]);
}

void shim_init_main(const struct shim_init *init)
{
	park(init);
	dress(init);
	main_child = fork();
	if (main_child < 0)
		fail(init, "fork the backend");
	if (main_child == 0)
		shim_backend_main(init);
	close(init->out);
	close(init->err);
	close(init->report);
	close(init->seccomp);
	reap_until_end(init->socket);
	_exit(255);
}

/* Docker's default set without mknod, audit_write and net_raw. */
static const int kept[] = { CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_KILL,
	CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT, CAP_SETFCAP };

static int set_capabilities(uint64_t set)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { { (uint32_t)set, (uint32_t)set, 0 },
		{ (uint32_t)(set >> 32), (uint32_t)(set >> 32), 0 } };

	return (int)syscall(SYS_capset, &head, data);
}

int shim_drop_capabilities(void)
{
	uint64_t set = 0;

	for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++)
		set |= 1ull << kept[i];
	for (int cap = 0; cap < 64; cap++)
		if (!(set & 1ull << cap) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 &&
			errno != EINVAL)
			return -1;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -1;
	return set_capabilities(set);
}

int shim_clear_capabilities(void)
{
	return set_capabilities(0);
}
