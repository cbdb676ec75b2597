/* A backend that tries to get out of its sandbox: GET / tries everything and answers with one JSON
 * member for each attempt, "refused: <why>" or "ALLOWED". Run by test_sandbox.py. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <net/ethernet.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/server.h"

struct attempt {
	const char *name;
	long (*run)(void); /* negative with errno: refused */
};

static long refused_if(bool is_refused, int why)
{
	errno = why;
	return is_refused ? -1 : 0;
}

static long write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC);
	if (fd < 0)
		return -1;
	long result = write(fd, text, strlen(text));
	int saved = errno;
	close(fd);
	errno = saved;
	return result;
}

static long read_file(const char *path)
{
	char bytes[16];
	int fd = open(path, O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		return -1;
	long got = read(fd, bytes, sizeof(bytes));
	int saved = errno;
	close(fd);
	errno = saved;
	/* a masked file is empty */
	return got == 0 ? refused_if(true, ENODATA) : got;
}

static long try_mount_tmpfs(void)
{
	return mount("none", "/tmp", "tmpfs", 0, NULL);
}
static long try_mount_proc(void)
{
	return mount("proc", "/tmp", "proc", 0, NULL);
}
static long try_remount_root(void)
{
	return mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL);
}
static long try_umount_proc(void)
{
	return umount2("/proc", MNT_DETACH);
}
static long try_pivot_root(void)
{
	return syscall(SYS_pivot_root, ".", ".");
}
static long try_new_mount_api(void)
{
	return syscall(SYS_fsopen, "tmpfs", 0);
}
static long try_open_tree(void)
{
	return syscall(SYS_open_tree, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */);
}
static long try_mknod_block(void)
{
	return mknod("/tmp/disk", S_IFBLK | 0600, makedev(8, 0));
}
static long try_mknod_memory(void)
{
	return mknod("/tmp/mem", S_IFCHR | 0600, makedev(1, 1));
}
static long try_user_namespace(void)
{
	return unshare(CLONE_NEWUSER);
}
static long try_network_namespace(void)
{
	return unshare(CLONE_NEWNET);
}
static long try_clone_user_namespace(void)
{
	long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		_exit(0);
	if (pid > 0)
		(void)waitpid((pid_t)pid, NULL, 0);
	return pid;
}
static long try_clone3_user_namespace(void)
{
	struct {
		uint64_t words[11];
	} arguments = { { CLONE_NEWUSER, 0, 0, 0, SIGCHLD } };
	long pid = syscall(SYS_clone3, &arguments, sizeof(arguments));
	if (pid == 0)
		_exit(0);
	if (pid > 0)
		(void)waitpid((pid_t)pid, NULL, 0);
	return pid;
}
static long try_setns(void)
{
	int fd = open("/proc/1/ns/net", O_RDONLY);
	return fd < 0 ? -1 : setns(fd, CLONE_NEWNET);
}
static long try_sys_hostname(void)
{
	return write_file("/proc/sys/kernel/hostname", "x");
}
static long try_sys_core_pattern(void)
{
	return write_file("/proc/sys/kernel/core_pattern", "|/bin/x");
}
static long try_sys_modprobe(void)
{
	return write_file("/proc/sys/kernel/modprobe", "/x");
}
static long try_sysrq(void)
{
	return write_file("/proc/sysrq-trigger", "h");
}
static long try_uevent_helper(void)
{
	return write_file("/sys/kernel/uevent_helper", "/x");
}
static long try_cgroup_release_agent(void)
{
	return write_file("/sys/fs/cgroup/memory/release_agent", "/x");
}
static long try_kcore(void)
{
	return read_file("/proc/kcore");
}
static long try_kmsg(void)
{
	return read_file("/proc/kmsg");
}
static long try_keys(void)
{
	return read_file("/proc/keys");
}
static long try_timer_list(void)
{
	return read_file("/proc/timer_list");
}
static long try_dev_mem(void)
{
	return read_file("/dev/mem");
}
static long try_syslog(void)
{
	return syscall(SYS_syslog, 3, malloc(64), 64);
}
static long try_sethostname(void)
{
	return sethostname("x", 1);
}
static long try_set_clock(void)
{
	struct timeval now;
	gettimeofday(&now, NULL);
	return settimeofday(&now, NULL);
}
static long try_reboot(void)
{
	return syscall(SYS_reboot, 0xfee1dead, 672274793, 0 /* CAD off */, NULL);
}
static long try_init_module(void)
{
	return syscall(SYS_init_module, "", 0, "");
}
static long try_finit_module(void)
{
	return syscall(SYS_finit_module, 0, "", 0);
}
static long try_kexec(void)
{
	return syscall(SYS_kexec_load, 0, 0, NULL, 0);
}
static long try_bpf(void)
{
	union bpf_attr attributes = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1
	};
	return syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof(attributes));
}
static long try_perf(void)
{
	struct perf_event_attr attributes = { .type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attributes),
		.config = PERF_COUNT_SW_CPU_CLOCK };
	return syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0);
}
static long try_userfaultfd(void)
{
	return syscall(SYS_userfaultfd, 0);
}
static long try_io_uring(void)
{
	char parameters[120] = { 0 };
	return syscall(SYS_io_uring_setup, 4, parameters);
}
static long try_keyctl(void)
{
	return syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 1);
}
static long try_add_key(void)
{
	return syscall(SYS_add_key, "user", "x", "y", 1, KEY_SPEC_PROCESS_KEYRING);
}
static long try_open_by_handle(void)
{
	struct file_handle handle = { .handle_bytes = 0 };
	return syscall(SYS_open_by_handle_at, AT_FDCWD, &handle, O_RDONLY);
}
static long try_quotactl(void)
{
	return syscall(SYS_quotactl, 0, NULL, 0, NULL);
}
static long try_swapon(void)
{
	return syscall(SYS_swapon, "/tmp", 0);
}
static long try_acct(void)
{
	return syscall(SYS_acct, NULL);
}
static long try_iopl(void)
{
	return syscall(SYS_iopl, 3);
}
static long try_raw_socket(void)
{
	return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
}
static long try_packet_socket(void)
{
	return socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
}
static long try_netlink_route_change(void)
{
	/* an address added to lo: harmless, and forbidden */
	struct {
		uint32_t len;
		uint16_t type, flags;
		uint32_t seq, pid;
		uint8_t family, prefix, ifa_flags, scope;
		uint32_t index;
	} message = { sizeof(message), 20, 1 | 4, 1, 0, AF_INET, 32, 0, 0, 1 };
	struct {
		uint32_t len;
		uint16_t type, flags;
		uint32_t seq, pid;
		int error;
	} answer = { 0 };
	int fd = socket(AF_NETLINK, SOCK_RAW, 0);
	if (fd < 0)
		return -1;
	if (send(fd, &message, sizeof(message), 0) < 0 ||
		recv(fd, &answer, sizeof(answer), 0) < (ssize_t)sizeof(answer)) {
		close(fd);
		return refused_if(true, errno);
	}
	close(fd);
	return refused_if(answer.error == -EPERM, EPERM);
}
static long try_vsock(void)
{
	return socket(40 /* AF_VSOCK */, SOCK_STREAM, 0);
}
static long try_become_root(void)
{
	return getuid() == 0 ? refused_if(true, EALREADY) : setuid(0);
}
static long try_new_privileges(void)
{
	return refused_if(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1, EPERM);
}
static long try_seccomp_off(void)
{
	return refused_if(prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 2, EPERM);
}
static long try_ptrace_init(void)
{
	return ptrace(PTRACE_ATTACH, 1, NULL, NULL);
}
static long try_read_init_memory(void)
{
	return open("/proc/1/mem", O_RDWR);
}
static long try_init_root(void)
{
	return open("/proc/1/root/etc", O_RDONLY);
}
static long try_write_own_program(void)
{
	return open("/proc/self/exe", O_RDWR);
}
static long try_leaked_descriptors(void)
{
	int count = 0;
	for (int fd = 3; fd < 1024; fd++) {
		char link[64], target[256] = "";
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		if (readlink(link, target, sizeof(target) - 1) < 0)
			continue;
		/* those of the web server under this */
		if (strncmp(target, "socket:", 7) != 0 && strncmp(target, "anon_inode:", 11) != 0)
			count++;
	}
	return refused_if(count == 0, ENOENT);
}
static long try_see_other_processes(void)
{
	DIR *proc = opendir("/proc");
	int count = 0;
	for (struct dirent *entry; proc && (entry = readdir(proc));)
		count += entry->d_name[0] >= '1' && entry->d_name[0] <= '9';
	if (proc)
		closedir(proc);
	return refused_if(count <= 2, ESRCH); /* init and this */
}
static long try_signal_all(void)
{
	/* 0: only asks whether anybody could be reached besides our own */
	return refused_if(kill(-1, 0) < 0, ESRCH);
}
static long try_host_files(void)
{
	struct stat status;
	return stat("/etc/shadow", &status) < 0 && stat("/proc/1/cwd/etc/shadow", &status) < 0 ? -1
											       : 0;
}
static long try_abstract_sockets(void)
{
	FILE *list = fopen("/proc/net/unix", "r");
	char line[256];
	int count = 0;
	/* one without a name cannot be connected to: the shim's own pair */
	while (list && fgets(line, sizeof(line), list))
		count += strchr(line, '@') || strchr(line, '/');
	if (list)
		fclose(list);
	return refused_if(list && count == 0, ENOENT);
}
static long try_personality(void)
{
	return syscall(SYS_personality, 0x0400000 /* READ_IMPLIES_EXEC */);
}
static long try_fork_bomb_limit(void)
{
	char bytes[64] = "";
	int count = 0, children[3000];
	for (; count < 3000; count++) {
		children[count] = fork();
		if (children[count] == 0) {
			pause();
			_exit(0);
		}
		if (children[count] < 0)
			break;
	}
	int saved = errno;
	for (int i = 0; i < count; i++) {
		kill(children[i], SIGKILL);
		waitpid(children[i], NULL, 0);
	}
	(void)bytes;
	return refused_if(count < 3000, saved);
}

/* Connects to $TRY_<NAME>, "ip:port": reached, or not within a second. */
static long try_connect(const char *variable)
{
	char text[64];
	const char *target = getenv(variable);
	char *colon;
	struct sockaddr_in address = { .sin_family = AF_INET };
	if (!target)
		return refused_if(true, EDESTADDRREQ);
	snprintf(text, sizeof(text), "%s", target);
	colon = strchr(text, ':');
	*colon = '\0';
	address.sin_port = htons((uint16_t)atoi(colon + 1));
	inet_pton(AF_INET, text, &address.sin_addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), error = 0;
	socklen_t len = sizeof(error);
	struct pollfd wait = { .fd = fd, .events = POLLOUT };
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return 0;
	if (errno == EINPROGRESS && poll(&wait, 1, 1000) == 0)
		error = ETIMEDOUT;
	else
		(void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	close(fd);
	return refused_if(error != 0, error);
}
static long try_host_port(void)
{
	return try_connect("TRY_HOST");
}
static long try_controller_port(void)
{
	return try_connect("TRY_CONTROLLER");
}
static long try_other_backend(void)
{
	return try_connect("TRY_OTHER");
}
static long try_metadata(void)
{
	return try_connect("TRY_METADATA");
}

#define ATTEMPT(name)                                                                              \
	{                                                                                          \
#name, try_##name                                                                  \
	}
static const struct attempt attempts[] = { ATTEMPT(mount_tmpfs), ATTEMPT(mount_proc),
	ATTEMPT(remount_root), ATTEMPT(umount_proc), ATTEMPT(pivot_root), ATTEMPT(new_mount_api),
	ATTEMPT(open_tree), ATTEMPT(mknod_block), ATTEMPT(mknod_memory), ATTEMPT(user_namespace),
	ATTEMPT(network_namespace), ATTEMPT(clone_user_namespace), ATTEMPT(clone3_user_namespace),
	ATTEMPT(setns), ATTEMPT(sys_hostname), ATTEMPT(sys_core_pattern), ATTEMPT(sys_modprobe),
	ATTEMPT(sysrq), ATTEMPT(uevent_helper), ATTEMPT(cgroup_release_agent), ATTEMPT(kcore),
	ATTEMPT(kmsg), ATTEMPT(keys), ATTEMPT(timer_list), ATTEMPT(dev_mem), ATTEMPT(syslog),
	ATTEMPT(sethostname), ATTEMPT(set_clock), ATTEMPT(reboot), ATTEMPT(init_module),
	ATTEMPT(finit_module), ATTEMPT(kexec), ATTEMPT(bpf), ATTEMPT(perf), ATTEMPT(userfaultfd),
	ATTEMPT(io_uring), ATTEMPT(keyctl), ATTEMPT(add_key), ATTEMPT(open_by_handle),
	ATTEMPT(quotactl), ATTEMPT(swapon), ATTEMPT(acct), ATTEMPT(iopl), ATTEMPT(raw_socket),
	ATTEMPT(packet_socket), ATTEMPT(netlink_route_change), ATTEMPT(vsock), ATTEMPT(become_root),
	ATTEMPT(new_privileges), ATTEMPT(seccomp_off), ATTEMPT(ptrace_init),
	ATTEMPT(read_init_memory), ATTEMPT(init_root), ATTEMPT(write_own_program),
	ATTEMPT(leaked_descriptors), ATTEMPT(see_other_processes), ATTEMPT(signal_all),
	ATTEMPT(host_files), ATTEMPT(abstract_sockets), ATTEMPT(personality), ATTEMPT(host_port),
	ATTEMPT(controller_port), ATTEMPT(other_backend), ATTEMPT(metadata),
	ATTEMPT(fork_bomb_limit) };

static void add_attempt(struct web_buffer *json, const struct attempt *attempt)
{
	errno = 0;
	long result = attempt->run();
	web_buffer_printf(json, "%s\"%s\":\"%s%s\"", web_buffer_len(json) > 1 ? "," : "",
		attempt->name, result < 0 ? "refused: " : "ALLOWED",
		result < 0 ? strerror(errno) : "");
}

static void on_request(struct web_connection *connection, const struct web_request *request)
{
	struct web_buffer json = { 0 };
	bool is_status = strcmp(request->path, "/status") == 0;
	if (strcmp(request->method, "HEAD") == 0) { /* the readiness probe */
		web_connection_answer_text(connection, 200, "");
		return;
	}
	web_buffer_append_text(&json, is_status ? "" : "{");
	if (is_status) {
		int fd = open("/proc/self/status", O_RDONLY);
		long got = fd < 0 ? -1 : read(fd, web_buffer_reserve(&json, 8192), 8192);
		web_buffer_added(&json, got > 0 ? (size_t)got : 0);
		close(fd);
	} else {
		for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++)
			add_attempt(&json, &attempts[i]);
		web_buffer_append_text(&json, "}");
	}
	struct web_answer answer = {
		.status = 200, .body = web_buffer_bytes(&json), .body_len = web_buffer_len(&json)
	};
	web_connection_answer(connection, &answer);
	web_buffer_finish(&json);
}

int main(void)
{
	static const struct web_handlers handlers = { .on_request = on_request };
	struct web_server *server = web_server_create(web_port(), &handlers);
	return server ? web_server_run(server) : 1;
}
