/* System calls that a backend has no business with: the filter refuses them, or the kernel does. */
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "escapes.h"

#define CLONE_TIME 0x00000080 /* CLONE_NEWTIME */

/* Numbers that the C library of the build may not know yet. */
enum { SYS_STATMOUNT = 457, SYS_LISTMOUNT = 458, SYS_QUOTACTL_FD = 443, SYS_MEMFD_SECRET = 447 };

static const int namespaces[] = { CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET,
	CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWCGROUP, CLONE_TIME };
#define NAMESPACES (sizeof(namespaces) / sizeof(*namespaces))

/* ---- mounts ---- */

static long try_mount_tmpfs(void)
{
	return mount("none", "/tmp", "tmpfs", 0, NULL);
}
static long try_mount_proc(void)
{
	return mount("proc", "/tmp", "proc", 0, NULL);
}
static long try_mount_cgroup(void)
{
	return mount("cgroup", "/tmp", "cgroup", 0, "memory");
}
static long try_mount_bind(void)
{
	return mount("/", "/tmp", NULL, MS_BIND | MS_REC, NULL);
}
static long try_remount_root(void)
{
	return mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL);
}
static long try_remount_proc_sys(void)
{
	return mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL);
}
static long try_umount_proc(void)
{
	return umount2("/proc", MNT_DETACH);
}
static long try_umount_mask(void)
{
	return umount2("/proc/kcore", MNT_DETACH);
}
static long try_pivot_root(void)
{
	return syscall(SYS_pivot_root, ".", ".");
}
static long try_fsopen(void)
{
	return syscall(SYS_fsopen, "tmpfs", 0);
}
static long try_fspick(void)
{
	return syscall(SYS_fspick, AT_FDCWD, "/", 0);
}
static long try_open_tree(void)
{
	return syscall(SYS_open_tree, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */);
}
static long try_move_mount(void)
{
	return syscall(SYS_move_mount, AT_FDCWD, "/proc", AT_FDCWD, "/tmp", 0);
}
static long try_mount_setattr(void)
{
	uint64_t attributes[4] = { 0, 1 /* MOUNT_ATTR_RDONLY: clear it */, 0, 0 };
	return syscall(SYS_mount_setattr, AT_FDCWD, "/proc/sys", 0, attributes, sizeof(attributes));
}
static long try_list_mounts(void)
{
	uint64_t request[3] = { 24, UINT64_MAX /* LSMT_ROOT */, 0 }, ids[4];
	return syscall(SYS_LISTMOUNT, request, ids, 4, 0);
}
static long try_stat_mount(void)
{
	uint64_t request[3] = { 24, 1, 1 };
	char answer[512];
	return syscall(SYS_STATMOUNT, request, answer, sizeof(answer), 0);
}

/* ---- namespaces ---- */

static long try_unshare(void)
{
	for (size_t i = 0; i < NAMESPACES; i++)
		if (unshare(namespaces[i]) == 0 || errno != EPERM)
			return detail("flag %#x", (unsigned)namespaces[i]), errno = 0, 0;
	return refused_if(true, EPERM);
}
static long try_clone(void)
{
	for (size_t i = 0; i < NAMESPACES; i++) {
		if (namespaces[i] == CLONE_TIME) /* clone() takes it for a part of the signal */
			continue;
		long pid = syscall(SYS_clone, namespaces[i] | SIGCHLD, 0, 0, 0, 0);
		if (pid == 0)
			_exit(0);
		if (pid > 0)
			return detail("flag %#x", (unsigned)namespaces[i]), 0;
		if (errno != EPERM)
			return -1;
	}
	return refused_if(true, EPERM);
}
static long try_clone3(void)
{
	for (size_t i = 0; i < NAMESPACES; i++) {
		uint64_t arguments[11] = { (uint64_t)namespaces[i], 0, 0, 0, SIGCHLD };
		long pid = syscall(SYS_clone3, arguments, sizeof(arguments));
		if (pid == 0)
			_exit(0);
		if (pid > 0)
			return detail("flag %#x", (unsigned)namespaces[i]), 0;
	}
	return -1;
}
static long try_setns(void)
{
	int fd = open("/proc/self/ns/net", O_RDONLY);
	return fd < 0 ? -1 : setns(fd, CLONE_NEWNET);
}
static long try_setns_by_pidfd(void)
{
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	return fd < 0 ? -1 : setns(fd, CLONE_NEWNS | CLONE_NEWPID);
}

/* ---- kernel subsystems ---- */

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
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.exclude_kernel = 1 };
	return syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0);
}
static long try_userfaultfd(void)
{
	return syscall(SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */);
}
static long try_io_uring(void)
{
	char parameters[120] = { 0 };
	return syscall(SYS_io_uring_setup, 4, parameters);
}
static long try_io_uring_enter(void)
{
	return syscall(SYS_io_uring_enter, -1, 0, 0, 0, NULL, 0);
}
static long try_io_uring_register(void)
{
	return syscall(SYS_io_uring_register, -1, 0, NULL, 0);
}
static long try_keyctl(void)
{
	return syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 1);
}
static long try_add_key(void)
{
	return syscall(SYS_add_key, "user", "x", "y", 1, KEY_SPEC_PROCESS_KEYRING);
}
static long try_request_key(void)
{
	return syscall(SYS_request_key, "user", "x", NULL, KEY_SPEC_PROCESS_KEYRING);
}
static long try_fanotify(void)
{
	return syscall(SYS_fanotify_init, 0x200 /* FAN_REPORT_FID */, O_RDONLY);
}
static long try_secret_memory(void)
{
	return syscall(SYS_MEMFD_SECRET, 0);
}
static long try_syslog(void)
{
	return syscall(SYS_syslog, 3, malloc(64), 64);
}
static long try_init_module(void)
{
	return syscall(SYS_init_module, "", 0, "");
}
static long try_finit_module(void)
{
	return syscall(SYS_finit_module, 0, "", 0);
}
static long try_delete_module(void)
{
	return syscall(SYS_delete_module, "plane-escapes-none", O_NONBLOCK);
}
static long try_kexec(void)
{
	return syscall(SYS_kexec_load, 0, 0, NULL, 0);
}
static long try_kexec_file(void)
{
	return syscall(SYS_kexec_file_load, -1, -1, 0, "", 4 /* KEXEC_FILE_NO_INITRAMFS */);
}
static long try_reboot(void)
{
	return syscall(SYS_reboot, 0xfee1dead, 672274793, 0 /* CAD off */, NULL);
}
static long try_swapon(void)
{
	return syscall(SYS_swapon, "/tmp", 0);
}
static long try_swapoff(void)
{
	return syscall(SYS_swapoff, "/tmp/none");
}
static long try_acct(void)
{
	return syscall(SYS_acct, NULL);
}
static long try_quotactl(void)
{
	return syscall(SYS_quotactl, 0, NULL, 0, NULL);
}
static long try_quotactl_fd(void)
{
	return syscall(SYS_QUOTACTL_FD, -1, 0, 0, NULL);
}
static long try_sethostname(void)
{
	return sethostname("x", 1);
}
static long try_setdomainname(void)
{
	return setdomainname("x", 1);
}
static long try_iopl(void)
{
	return syscall(SYS_iopl, 3);
}
static long try_ioperm(void)
{
	return syscall(SYS_ioperm, 0x80, 1, 1);
}
static long try_modify_ldt(void)
{
	char entries[64];
	return syscall(SYS_modify_ldt, 0, entries, sizeof(entries));
}
static long try_vhangup(void)
{
	return syscall(SYS_vhangup);
}
static long try_no_randomization(void)
{
	return syscall(SYS_personality, 0x0040000 /* ADDR_NO_RANDOMIZE */);
}
static long try_executable_data(void)
{
	return syscall(SYS_personality, 0x0400000 /* READ_IMPLIES_EXEC */);
}

/* ---- clocks ---- */

static long try_settimeofday(void)
{
	struct timeval now;
	gettimeofday(&now, NULL);
	return settimeofday(&now, NULL);
}
static long try_clock_settime(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return clock_settime(CLOCK_REALTIME, &now);
}
static long try_adjtimex(void)
{
	struct timex change = { .modes = ADJ_MAXERROR, .maxerror = 1 };
	return adjtimex(&change);
}
static long try_clock_adjtime(void)
{
	struct timex change = { .modes = ADJ_MAXERROR, .maxerror = 1 };
	return clock_adjtime(CLOCK_REALTIME, &change);
}

/* ---- other processes' memory and descriptors, by system call ---- */

static long try_ptrace_init(void)
{
	return syscall(SYS_ptrace, 0x4206 /* PTRACE_SEIZE */, 1, NULL, NULL);
}
static long try_ptrace_parent(void)
{
	return syscall(SYS_ptrace, 0x4206 /* PTRACE_SEIZE */, getppid(), NULL, NULL);
}
static long try_read_memory(void)
{
	char byte;
	struct iovec local = { &byte, 1 }, remote = { (void *)try_read_memory, 1 };
	return process_vm_readv(1, &local, 1, &remote, 1, 0);
}
static long try_write_memory(void)
{
	char byte = 0;
	struct iovec local = { &byte, 1 }, remote = { &byte, 1 };
	return process_vm_writev(1, &local, 1, &remote, 1, 0);
}
static long try_take_descriptor(void)
{
	int fd = (int)syscall(SYS_pidfd_open, 1, 0);
	return fd < 0 ? -1 : syscall(SYS_pidfd_getfd, fd, 0, 0);
}
static long try_compare_processes(void)
{
	return syscall(SYS_kcmp, getpid(), 1, 0, 0, 0);
}
static long try_move_pages(void)
{
	return syscall(SYS_migrate_pages, 1, 8, "\1", "\1");
}

/* The way of "shocker": a handle of the file system's root, whatever is mounted above. */
static long try_open_by_handle(void)
{
	struct {
		struct file_handle head;
		unsigned char bytes[8];
	} handle = { .head = { .handle_bytes = 8, .handle_type = 1 }, .bytes = { 2 } };
	int fd = open("/", O_RDONLY);
	return fd < 0 ? -1 : syscall(SYS_open_by_handle_at, fd, &handle, O_RDONLY);
}
static long try_name_to_handle(void)
{
	struct {
		struct file_handle head;
		unsigned char bytes[128];
	} handle = { .head = { .handle_bytes = 128 } };
	int mount_id;
	return syscall(SYS_name_to_handle_at, AT_FDCWD, "/", &handle, &mount_id, 0);
}

/* ---- around the filter ---- */

/* i386 has other numbers: 20 is getpid, which a filter for x86-64 takes for writev. */
static long try_int80(void)
{
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory");
	return result == getpid() ? 0 : refused_if(true, (int)-result);
}
static long try_x32(void)
{
	return syscall(0x40000000 | SYS_getpid);
}
static long try_loosen_filter(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = { 1, &allow };
	(void)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program); /* may well be done */
	return unshare(CLONE_NEWNS);
}
static long try_leave_filter(void)
{
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_DISABLED, 0, 0, 0) == 0)
		return 0;
	return refused_if(prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == SECCOMP_MODE_FILTER, EPERM);
}
static long try_allow_new_privileges(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0)
		return 0;
	return refused_if(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1, EPERM);
}
/* The filter looks at registers: what stands in the upper half of one must not deceive it. */
static long try_long_socket_family(void)
{
	return syscall(SYS_socket, (1L << 32) | 17 /* AF_PACKET */, SOCK_STREAM, 0);
}
static long try_long_clone_flags(void)
{
	long pid = syscall(SYS_clone, (1L << 32) | CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		_exit(0);
	return pid;
}

const struct attempt kernel_attempts[] = { ATTEMPT(mount_tmpfs, BY_FILTER),
	ATTEMPT(mount_proc, BY_FILTER), ATTEMPT(mount_cgroup, BY_FILTER),
	ATTEMPT(mount_bind, BY_FILTER), ATTEMPT(remount_root, BY_FILTER),
	ATTEMPT(remount_proc_sys, BY_FILTER), ATTEMPT(umount_proc, BY_FILTER),
	ATTEMPT(umount_mask, BY_FILTER), ATTEMPT(pivot_root, BY_FILTER), ATTEMPT(fsopen, BY_FILTER),
	ATTEMPT(fspick, BY_FILTER), ATTEMPT(open_tree, BY_FILTER), ATTEMPT(move_mount, BY_FILTER),
	ATTEMPT(mount_setattr, BY_FILTER), ATTEMPT(list_mounts, BY_FILTER),
	ATTEMPT(stat_mount, BY_FILTER), ATTEMPT(unshare, BY_FILTER), ATTEMPT(clone, BY_FILTER),
	ATTEMPT(clone3, BY_FILTER), ATTEMPT(setns, BY_FILTER), ATTEMPT(setns_by_pidfd, BY_FILTER),
	ATTEMPT(bpf, BY_FILTER), ATTEMPT(perf, BY_FILTER), ATTEMPT(userfaultfd, BY_FILTER),
	ATTEMPT(io_uring, BY_FILTER), ATTEMPT(io_uring_enter, BY_FILTER),
	ATTEMPT(io_uring_register, BY_FILTER), ATTEMPT(keyctl, BY_FILTER),
	ATTEMPT(add_key, BY_FILTER), ATTEMPT(request_key, BY_FILTER), ATTEMPT(fanotify, BY_FILTER),
	ATTEMPT(secret_memory, BY_FILTER), ATTEMPT(syslog, BY_FILTER),
	ATTEMPT(init_module, BY_FILTER), ATTEMPT(finit_module, BY_FILTER),
	ATTEMPT(delete_module, BY_FILTER), ATTEMPT(kexec, BY_FILTER),
	ATTEMPT(kexec_file, BY_FILTER), ATTEMPT(reboot, BY_FILTER), ATTEMPT(swapon, BY_FILTER),
	ATTEMPT(swapoff, BY_FILTER), ATTEMPT(acct, BY_FILTER), ATTEMPT(quotactl, BY_FILTER),
	ATTEMPT(quotactl_fd, BY_FILTER), ATTEMPT(sethostname, BY_FILTER),
	ATTEMPT(setdomainname, BY_FILTER), ATTEMPT(iopl, BY_FILTER), ATTEMPT(ioperm, BY_FILTER),
	ATTEMPT(modify_ldt, BY_FILTER), ATTEMPT(vhangup, BY_FILTER),
	ATTEMPT(no_randomization, BY_FILTER), ATTEMPT(executable_data, BY_FILTER),
	ATTEMPT(settimeofday, BY_FILTER), ATTEMPT(clock_settime, BY_FILTER),
	ATTEMPT(adjtimex, BY_FILTER), ATTEMPT(clock_adjtime, BY_FILTER),
	ATTEMPT(ptrace_init, BY_FILTER), ATTEMPT(ptrace_parent, BY_FILTER),
	ATTEMPT(read_memory, BY_FILTER), ATTEMPT(write_memory, BY_FILTER),
	ATTEMPT(take_descriptor, BY_FILTER), ATTEMPT(compare_processes, BY_FILTER),
	ATTEMPT(move_pages, BY_FILTER), ATTEMPT(open_by_handle, BY_FILTER),
	ATTEMPT(name_to_handle, BY_FILTER), ATTEMPT(int80, BY_FILTER), ATTEMPT(x32, BY_FILTER),
	ATTEMPT(loosen_filter, BY_FILTER), ATTEMPT(leave_filter, BY_FILTER),
	ATTEMPT(allow_new_privileges, BY_FILTER), ATTEMPT(long_socket_family, BY_FILTER),
	ATTEMPT(long_clone_flags, BY_FILTER), { 0 } };
