/* Processes: what a backend sees of others, what it may become, and what it can do to the init and
 * the shim of its sandbox. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "escapes.h"

#define HOST_PIDS 65536

static char descriptors[256]; /* that were open at the start */

void note_descriptors(void)
{
	static const char *const wanted[] = { "/dev/null", "pipe:[", "pipe:[" };
	for (int fd = 0; fd < 4096; fd++) {
		char link[64], target[200] = "";
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		if (readlink(link, target, sizeof(target) - 1) < 0)
			continue;
		if (fd > 2 || strncmp(target, wanted[fd], strlen(wanted[fd])) != 0)
			snprintf(descriptors, sizeof(descriptors), "%d is %s", fd, target);
	}
}

static long try_leaked_descriptors(void)
{
	detail("%s", descriptors);
	return refused_if(!descriptors[0], ENOENT);
}

/* ---- identity ---- */

static long try_become_root(void)
{
	return getuid() == 0 ? refused_if(true, EPERM) : setuid(0);
}
/* The next sandbox's ids begin where ours end. */
static long try_become_neighbour(void)
{
	return setresuid(65536, 65536, 65536);
}
static long set_capabilities(uint32_t low)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { { low, low, 0 }, { 0 } };
	return syscall(SYS_capset, &head, data);
}
static long try_take_capabilities(void)
{
	return set_capabilities(1u << CAP_SYS_ADMIN);
}
static long try_take_raw_network(void)
{
	return set_capabilities(1u << CAP_NET_RAW);
}
static long try_ambient_capabilities(void)
{
	return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN, 0, 0);
}
static long try_map_ids(void)
{
	return write_file("/proc/self/uid_map", "0 0 1\n");
}

/* Runs another file of the image, which says what it became. */
static long run_program(const char *path, const char *question)
{
	int status = 0;
	pid_t pid = fork();
	if (pid == 0) {
		execl(path, path, question, (char *)NULL);
		_exit(3);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	if (WEXITSTATUS(status) == 3)
		return refused_if(true, ENOEXEC); /* not a refusal: the test forgot the file */
	return refused_if(WEXITSTATUS(status) != 0, EPERM);
}
static long try_set_user_id_program(void)
{
	return getuid() == 0 ? refused_if(true, EPERM) : run_program("/set-user-id", "--is-root");
}
static long try_capable_program(void)
{
	return run_program("/capable", "--has-net-raw");
}

/* ---- limits and priorities ---- */

static long raise_limit(int which)
{
	struct rlimit limit;
	if (getrlimit(which, &limit) < 0)
		return -1;
	limit.rlim_max += 1;
	limit.rlim_cur = limit.rlim_max;
	return setrlimit(which, &limit);
}
static long try_raise_files(void)
{
	return raise_limit(RLIMIT_NOFILE);
}
static long try_raise_core(void)
{
	return raise_limit(RLIMIT_CORE);
}
static long try_priority(void)
{
	return setpriority(PRIO_PROCESS, 0, -20);
}
static long try_real_time(void)
{
	struct sched_param parameters = { .sched_priority = 1 };
	return sched_setscheduler(0, SCHED_FIFO, &parameters);
}
static long try_io_priority(void)
{
	return syscall(SYS_ioprio_set, 1, 0, 1 << 13 /* real time */);
}
static long try_never_killed_for_memory(void)
{
	return write_file("/proc/self/oom_score_adj", "-1000");
}

/* ---- others ---- */

static long try_see_other_processes(void)
{
	DIR *proc = opendir("/proc");
	int count = 0;
	for (struct dirent *entry; proc && (entry = readdir(proc));)
		count += entry->d_name[0] >= '1' && entry->d_name[0] <= '9';
	if (proc)
		closedir(proc);
	detail("%d processes", count);
	return refused_if(proc && count == 3, ESRCH); /* init, the server and this */
}
static long try_signal_others(void)
{
	for (int pid = 2; pid < HOST_PIDS; pid++)
		if (pid != getpid() && pid != getppid() && (kill(pid, 0) == 0 || errno != ESRCH))
			return detail("process %d", pid), 0;
	return refused_if(true, ESRCH);
}
/* What is below a process that we may signal or that is ours is no secret to us: only others count.
 */
static long try_other_process_files(void)
{
	for (int pid = 2; pid < HOST_PIDS; pid++) {
		char path[64];
		snprintf(path, sizeof(path), "/proc/%d/status", pid);
		if (pid != getpid() && pid != getppid() && access(path, F_OK) == 0)
			return detail("%s", path), 0;
	}
	return refused_if(true, ENOENT);
}
/* Signals that a handler cannot catch do not reach the first process of a pid namespace. */
static long try_stop_init(void)
{
	char text[256] = "";
	bool was_sent = kill(1, SIGKILL) == 0;
	if (!was_sent)
		return -1;
	(void)kill(1, SIGSTOP); /* looked at below */
	int fd = open("/proc/1/stat", O_RDONLY);
	long got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	close(fd);
	const char *state = got > 0 ? strrchr(text, ')') : NULL;
	detail("init is %c", state ? state[2] : '?');
	return refused_if(state && state[2] != 'T' && state[2] != 'Z', EPERM);
}

static const char *const files_of_init[] = { "mem", "root/", "cwd/", "exe", "fd", "fdinfo",
	"environ", "maps", "smaps", "map_files", "ns/", "ns/user", "ns/mnt", "ns/net", "auxv",
	"syscall", "stack", "io", "pagemap", "personality", "task/1/mem", "task/1/fd" };

static long try_read_init(void)
{
	for (size_t i = 0; i < sizeof(files_of_init) / sizeof(*files_of_init); i++) {
		char path[64], target[64], bytes[8];
		snprintf(path, sizeof(path), "/proc/1/%s", files_of_init[i]);
		int fd = open(path, O_RDONLY);
		bool is_open = fd >= 0 && (read(fd, bytes, 8) > 0 || errno == EISDIR);
		if (fd >= 0)
			close(fd);
		if (is_open && strcmp(files_of_init[i], "ns/") != 0 &&
			strcmp(files_of_init[i], "fdinfo") != 0)
			return detail("read %s", path), 0;
		if (readlink(path, target, sizeof(target)) > 0)
			return detail("link %s", path), 0;
		DIR *directory = opendir(path);
		bool has_entry = false;
		for (struct dirent *entry; directory && (entry = readdir(directory));)
			has_entry = has_entry || (entry->d_name[0] != '.' &&
							 strcmp(files_of_init[i], "ns/") != 0);
		if (directory)
			closedir(directory);
		if (has_entry)
			return detail("list %s", path), 0;
	}
	return refused_if(true, EACCES);
}
static long try_write_init(void)
{
	static const char *const files[] = { "mem", "oom_score_adj", "oom_adj", "comm", "uid_map",
		"gid_map", "setgroups", "clear_refs", "coredump_filter", "loginuid",
		"timerslack_ns", "timens_offsets", "task/1/comm" };
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		char path[64];
		snprintf(path, sizeof(path), "/proc/1/%s", files[i]);
		if (write_file(path, "0") >= 0)
			return detail("%s", path), 0;
	}
	return refused_if(true, EACCES);
}
/* CVE-2019-5736: the runtime's own program, through the link to it. */
static long try_overwrite_init(void)
{
	int fd = open("/proc/1/exe", O_PATH);
	if (fd < 0)
		return -1;
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_WRONLY | O_TRUNC);
}
static long try_overwrite_own_program(void)
{
	return open("/proc/self/exe", O_RDWR);
}
static long try_link_init(void)
{
	return linkat(AT_FDCWD, "/proc/1/exe", AT_FDCWD, "/tmp/init", AT_SYMLINK_FOLLOW);
}

/* ---- objects that belong to an ipc namespace, and terminals ---- */

static long try_shared_memory(void)
{
	return shmget(TRACE_KEY, 0, 0);
}
static long try_semaphores(void)
{
	return semget(TRACE_KEY, 0, 0);
}
static long try_message_queue(void)
{
	return mq_open("/" TRACE_NAME, O_RDONLY);
}
static long try_type_into_terminal(void)
{
	int fd = open("/dev/tty", O_RDWR);
	if (fd >= 0)
		return close_with(fd, ioctl(fd, TIOCSTI, "x"));
	for (fd = 0; fd < 3; fd++)
		if (ioctl(fd, TIOCSTI, "x") == 0)
			return 0;
	return -1;
}

const struct attempt process_attempts[] = { ATTEMPT(leaked_descriptors, ENOENT),
	ATTEMPT(become_root, EPERM), ATTEMPT(become_neighbour, EPERM, EINVAL),
	ATTEMPT(take_capabilities, EPERM), ATTEMPT(take_raw_network, EPERM),
	ATTEMPT(ambient_capabilities, EPERM), ATTEMPT(map_ids, BY_PERMISSION),
	ATTEMPT(set_user_id_program, EPERM), ATTEMPT(capable_program, EPERM),
	ATTEMPT(raise_files, EPERM), ATTEMPT(raise_core, EPERM), ATTEMPT(priority, BY_PERMISSION),
	ATTEMPT(real_time, EPERM), ATTEMPT(io_priority, EPERM),
	ATTEMPT(never_killed_for_memory, BY_PERMISSION), ATTEMPT(see_other_processes, ESRCH),
	ATTEMPT(signal_others, ESRCH), ATTEMPT(other_process_files, ENOENT),
	ATTEMPT(stop_init, EPERM), ATTEMPT(read_init, EACCES), ATTEMPT(write_init, EACCES),
	ATTEMPT(overwrite_init, BY_PERMISSION), ATTEMPT(overwrite_own_program, ETXTBSY, EACCES),
	ATTEMPT(link_init, BY_PERMISSION), ATTEMPT(shared_memory, ENOENT),
	ATTEMPT(semaphores, ENOENT), ATTEMPT(message_queue, ENOENT),
	ATTEMPT(type_into_terminal, ENXIO, ENOTTY), { 0 } };
