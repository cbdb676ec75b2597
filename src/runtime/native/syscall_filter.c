/* The allow-list. Left out on purpose: mounts, namespaces, keys, modules, bpf, perf, io_uring,
 * userfaultfd, clocks, ptrace, process_vm_*, open_by_handle_at, reboot, swap, personality. */
#include "runtime/native/syscall_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"

#define FIRST_NEWER 451 /* cachestat: the first that none of the list follows */
#define LAST_NEWER 511  /* numbers up to here are shared by all machines or not yet given */

static const char allowed[] =
	"accept accept4 access alarm arch_prctl bind brk capget capset chdir chmod chown "
	"clock_getres clock_gettime clock_nanosleep close close_range connect copy_file_range "
	"creat "
	"dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait "
	"eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate "
	"fchdir fchmod fchmodat fchown fchownat fcntl fdatasync fgetxattr flistxattr "
	"flock "
	"fork fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex futex_waitv futimesat "
	"get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid geteuid getgid "
	"getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom "
	"getresgid getresuid getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday "
	"getuid getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel "
	"io_destroy io_getevents io_pgetevents io_setup io_submit ioctl ioprio_get ioprio_set kill "
	"landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lgetxattr link "
	"linkat listen listxattr llistxattr lremovexattr lseek lsetxattr lstat madvise membarrier "
	"memfd_create mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mprotect "
	"mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap msgctl "
	"msgget "
	"msgrcv msgsnd msync munlock munlockall munmap nanosleep newfstatat open openat openat2 "
	"pause pidfd_open pidfd_send_signal pipe pipe2 poll "
	"ppoll "
	"prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pwrite64 pwritev "
	"pwritev2 "
	"read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages "
	"removexattr rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction "
	"rt_sigpending "
	"rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait "
	"rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity "
	"sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity "
	"sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget "
	"semop semtimedop sendfile sendmmsg sendmsg sendto set_robust_list set_thread_area "
	"set_tid_address setfsgid setfsuid setgid setgroups setitimer setpgid setpriority setregid "
	"setresgid setresuid setreuid setrlimit setsid setsockopt setuid setxattr shmat shmctl "
	"shmdt "
	"shmget shutdown sigaltstack signalfd signalfd4 socketpair splice stat statfs statx "
	"symlink "
	"symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete "
	"timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime "
	"timerfd_settime "
	"times tkill truncate umask uname unlink unlinkat utime utimensat utimes vfork vmsplice "
	"wait4 "
	"waitid waitpid write writev chroot";

static int add_allowed(scmp_filter_ctx filter)
{
	const char *at = allowed;
	char name[48];

	while (*at) {
		size_t len = strcspn(at, " ");
		memcpy(name, at, len);
		name[len] = 0;
		at += len + (at[len] == ' ');
		int number = seccomp_syscall_resolve_name(name);
		if (number < 0)
			continue; /* unknown to this libseccomp or this machine: stays refused */
		int code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
		if (code < 0)
			return code;
	}
	return 0;
}

/* What is newer than the list, or may be missing, is answered as an older kernel would: programs
 * have another way then, which they do not take when they are told that it is not permitted. */
static int add_missing(scmp_filter_ctx filter)
{
	/* clone3 hides its flags behind a pointer: libraries fall back to clone. */
	static const int known[] = { SCMP_SYS(clone3), SCMP_SYS(pkey_alloc), SCMP_SYS(pkey_free),
		SCMP_SYS(pkey_mprotect) };
	int code = 0;

	for (size_t i = 0; code == 0 && i < sizeof(known) / sizeof(*known); i++)
		code = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), known[i], 0);
	for (int number = FIRST_NEWER; code == 0 && number <= LAST_NEWER; number++)
		code = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), number, 0);
	return code;
}

static int add_special(scmp_filter_ctx filter)
{
	const uint64_t namespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
				    CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
	int code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
		SCMP_A0(SCMP_CMP_MASKED_EQ, namespaces, 0));

	static const int families[] = { 1, 2, 10, 16 }; /* unix, inet, inet6, netlink */
	for (size_t i = 0; code == 0 && i < 4; i++)
		code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
			SCMP_A0_32(SCMP_CMP_EQ, (uint64_t)families[i], 0));
	return code;
}

int plane_seccomp_export(struct plane_error *err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	_cleanup_close_ int fd = memfd_create("plane-seccomp", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int code = filter ? 0 : -ENOMEM;

	if (fd < 0) {
		seccomp_release(filter);
		return plane_error_errno(err, "make a memory file");
	}
	if (code == 0)
		code = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (code == 0)
		code = add_allowed(filter);
	if (code == 0)
		code = add_missing(filter);
	if (code == 0)
		code = add_special(filter);
	if (code == 0)
		code = seccomp_export_bpf(filter, fd);
	seccomp_release(filter);
	if (code < 0)
		return plane_error_set(
			err, code, "build the system call filter: %s", strerror(-code));
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		return plane_error_errno(err, "seal the system call filter");
	return plane_steal_fd(&fd);
}
