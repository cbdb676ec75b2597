/* Files: the host's, those of the kernel below /proc and /sys, devices, and tricks with links. */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "escapes.h"

/* ---- the host's files ---- */

/* $TRY_PATH names a directory of the host, absolute. */
static const char *host_path(void)
{
	const char *path = getenv("TRY_PATH");
	return path && path[0] == '/' ? path : NULL;
}

static long look_below(const char *prefix)
{
	char path[4096];
	struct stat status;
	if (!host_path())
		return refused_if(true, EDESTADDRREQ);
	snprintf(path, sizeof(path), "%s%s", prefix, host_path());
	return stat(path, &status);
}
static long try_host_path(void)
{
	return look_below("");
}
static long try_host_path_of_init(void)
{
	return look_below("/proc/1/root");
}
static long try_host_path_from_cwd_of_init(void)
{
	return look_below("/proc/1/cwd/../../../../..");
}
static long try_host_path_above_root(void)
{
	return look_below("/../../../../../../..");
}
/* A directory kept open outside of a new root leads up past it, but never past the sandbox's. */
static long try_host_path_after_chroot(void)
{
	(void)mkdir("/tmp/jail", 0700); /* may be there */
	int fd = open("/", O_RDONLY | O_DIRECTORY);
	if (fd < 0 || chroot("/tmp/jail") < 0 || fchdir(fd) < 0)
		return -1;
	for (int i = 0; i < 64; i++)
		if (chdir("..") < 0)
			return -1;
	if (chroot(".") < 0)
		return -1;
	return look_below("");
}
static long try_link_to_host(void)
{
	(void)unlink("/tmp/link"); /* of an earlier run */
	if (!host_path() || symlink(host_path(), "/tmp/link") < 0)
		return refused_if(true, EDESTADDRREQ);
	return open("/tmp/link", O_RDONLY);
}

static long connect_unix(const char *path, size_t len)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	memcpy(address.sun_path, path, len);
	long result = connect(fd, (struct sockaddr *)&address,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
	return close_with(fd, result);
}
static long try_control_socket(void)
{
	char path[100];
	const char *wanted = getenv("TRY_CONTROL");
	if (!wanted || chdir("/") < 0)
		return refused_if(true, EDESTADDRREQ);
	/* a socket's path is short: the directory is entered if it can be */
	if (strlen(wanted) >= sizeof(path))
		return chdir(wanted) < 0 ? -1 : 0;
	return connect_unix(wanted, strlen(wanted) + 1);
}
static long try_abstract_socket(void)
{
	char name[] = "\0" TRACE_NAME;
	return connect_unix(name, sizeof(name) - 1);
}

/* Where the working directory lies: outside of the root there is no way up to it. */
static long try_working_directory(void)
{
	struct stat at, above, root;
	if (stat("/", &root) < 0 || stat(".", &at) < 0)
		return 0;
	for (int i = 0; i < 256; i++) {
		if (chdir("..") < 0 || stat(".", &above) < 0)
			return 0;
		if (above.st_ino == at.st_ino && above.st_dev == at.st_dev)
			break;
		at = above;
	}
	return refused_if(at.st_ino == root.st_ino && at.st_dev == root.st_dev, ENOENT);
}

/* ---- the kernel's files ---- */

static bool is_masked(const struct stat *status)
{
	return S_ISCHR(status->st_mode) && status->st_rdev == makedev(1, 3);
}

static int found_writable(const char *path, const struct stat *status, int type, struct FTW *where)
{
	(void)where;
	if (strncmp(path, "/proc/", 6) == 0 && path[6] >= '1' && path[6] <= '9')
		return 0;
	if (type != FTW_F || is_masked(status))
		return 0;
	int fd = open(path, O_WRONLY | O_NONBLOCK | O_NOFOLLOW);
	if (fd < 0)
		return 0;
	close(fd);
	detail("%s", path);
	return 1;
}
static long walk(const char *top)
{
	return refused_if(nftw(top, found_writable, 64, FTW_PHYS) == 0, EACCES);
}
static long try_write_below_proc(void)
{
	return walk("/proc");
}
static long try_write_below_sys(void)
{
	return walk("/sys");
}
static long write_any(const char *const *paths, const char *text)
{
	for (; *paths; paths++)
		if (write_file(*paths, text) >= 0)
			return detail("%s", *paths), 0;
	return -1;
}
static long try_write_sysctl(void)
{
	static const char *const paths[] = { "/proc/sys/kernel/hostname",
		"/proc/sys/kernel/ns_last_pid", "/proc/sys/kernel/shmmax",
		"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/all/route_localnet",
		"/proc/sys/vm/drop_caches", "/proc/sys/user/max_user_namespaces",
		"/proc/sys/kernel/randomize_va_space", NULL };
	return write_any(paths, "1");
}
/* Programs that the kernel runs as the host's root. */
static long try_write_helpers(void)
{
	static const char *const paths[] = { "/proc/sys/kernel/core_pattern",
		"/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug",
		"/sys/kernel/uevent_helper", "/proc/sys/fs/binfmt_misc/register",
		"/sys/fs/cgroup/release_agent", "/sys/fs/cgroup/memory/release_agent",
		"/sys/fs/cgroup/unified/cgroup.procs", NULL };
	return write_any(paths, "/x");
}
static long try_sysrq(void)
{
	return refused_if(
		write_file("/proc/sysrq-trigger", "h") < 0 || read_file("/proc/sysrq-trigger") < 0,
		EACCES);
}
static long try_sleep_machine(void)
{
	static const char *const paths[] = { "/sys/power/state", "/sys/power/wakeup_count",
		"/sys/devices/system/cpu/cpu1/online", NULL };
	return write_any(paths, "0");
}
static long try_read_kernel(void)
{
	static const char *const paths[] = { "/proc/kcore", "/proc/kmsg", "/proc/keys",
		"/proc/timer_list", "/proc/sched_debug", "/proc/kallsyms", "/proc/modules",
		"/proc/kpageflags", "/proc/vmallocinfo", "/proc/slabinfo", "/proc/interrupts",
		"/sys/kernel/notes", "/sys/kernel/vmcoreinfo", "/sys/firmware/acpi/tables/DSDT",
		NULL };
	for (const char *const *path = paths; *path; path++)
		if (read_file(*path) >= 0)
			return detail("%s", *path), 0;
	return refused_if(true, EACCES);
}
static long try_list_kernel(void)
{
	static const char *const paths[] = { "/sys/kernel", "/sys/firmware", "/sys/fs",
		"/sys/kernel/debug", "/sys/kernel/tracing", "/sys/kernel/security",
		"/sys/fs/cgroup", "/sys/fs/bpf", "/sys/fs/pstore", "/proc/scsi", "/proc/acpi",
		NULL };
	for (const char *const *path = paths; *path; path++) {
		DIR *directory = opendir(*path);
		for (struct dirent *entry; directory && (entry = readdir(directory));)
			if (entry->d_name[0] != '.')
				return detail("%s/%s", *path, entry->d_name), 0;
		if (directory)
			closedir(directory);
	}
	return refused_if(true, EACCES);
}

/* ---- devices ---- */

static bool is_known_device(const char *name)
{
	static const char *const known[] = { "null", "zero", "full", "random", "urandom", "tty",
		"ptmx" };
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (strcmp(name, known[i]) == 0)
			return true;
	return false;
}
static int found_device(const char *path, const struct stat *status, int type, struct FTW *where)
{
	(void)type;
	if (!S_ISCHR(status->st_mode) && !S_ISBLK(status->st_mode))
		return 0;
	if (strncmp(path, "/dev/pts/", 9) == 0 || is_known_device(path + where->base))
		return 0;
	detail("%s", path);
	return 1;
}
static long try_unknown_devices(void)
{
	return refused_if(nftw("/dev", found_device, 64, FTW_PHYS) == 0, ENOENT);
}
static long try_open_devices(void)
{
	static const char *const names[] = { "mem", "kmem", "port", "kmsg", "kvm", "fuse",
		"net/tun", "loop-control", "loop0", "sda", "vda", "nvme0n1", "mapper/control",
		"vhost-net", "vhost-vsock", "snapshot", "console", "hwrng", "hpet", "rtc0", "ttyS0",
		"tty0", "dri/card0", "input/event0", "uinput", "userfaultfd" };
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		char path[64];
		snprintf(path, sizeof(path), "/dev/%s", names[i]);
		if (open(path, O_RDONLY | O_NONBLOCK) >= 0)
			return detail("%s", path), 0;
	}
	return refused_if(true, ENOENT);
}
static long make_node(mode_t type, dev_t device)
{
	static const char *const places[] = { "/tmp/node", "/dev/shm/node", "/dev/node",
		"/plane-data/node" };
	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++)
		if (mknod(places[i], type | 0600, device) == 0)
			return detail("%s", places[i]), unlink(places[i]);
	return refused_if(true, EPERM);
}
static long try_make_disk(void)
{
	return make_node(S_IFBLK, makedev(8, 0));
}
static long try_make_memory(void)
{
	return make_node(S_IFCHR, makedev(1, 1));
}
static long try_mount_flags(void)
{
	static const char *const paths[] = { "/", "/dev/shm", "/plane-data" };
	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
		struct statvfs status;
		if (statvfs(paths[i], &status) == 0 &&
			(!(status.f_flag & ST_NOSUID) || !(status.f_flag & ST_NODEV)))
			return detail("%s", paths[i]), 0;
	}
	return refused_if(true, EPERM);
}

/* ---- file systems ---- */

static long on_own_file(unsigned long request, void *argument)
{
	int fd = open("/tmp/own", O_RDWR | O_CREAT, 0600);
	return close_with(fd, ioctl(fd, request, argument));
}
/* It could not be removed with the sandbox. */
static long try_immutable_file(void)
{
	int flags = FS_IMMUTABLE_FL;
	return on_own_file(FS_IOC_SETFLAGS, &flags);
}
static long try_freeze_disk(void)
{
	return on_own_file(FIFREEZE, NULL);
}
static long try_trim_disk(void)
{
	struct fstrim_range range = { .len = UINT64_MAX };
	return on_own_file(FITRIM, &range);
}
static long try_overlay_attribute(void)
{
	int fd = open("/tmp/own", O_RDWR | O_CREAT, 0600);
	return close_with(fd, fsetxattr(fd, "trusted.overlay.redirect", "/", 1, 0));
}
static long try_link_across(void)
{
	return link("/proc/version", "/tmp/version");
}

const struct attempt file_attempts[] = { ATTEMPT(host_path, ENOENT),
	ATTEMPT(host_path_of_init, EACCES), ATTEMPT(host_path_from_cwd_of_init, EACCES),
	ATTEMPT(host_path_above_root, ENOENT), ATTEMPT(host_path_after_chroot, ENOENT, EPERM),
	ATTEMPT(link_to_host, ENOENT), ATTEMPT(control_socket, ENOENT),
	ATTEMPT(abstract_socket, ECONNREFUSED), ATTEMPT(working_directory, ENOENT),
	ATTEMPT(write_below_proc, EACCES), ATTEMPT(write_below_sys, EACCES),
	ATTEMPT(write_sysctl, BY_PERMISSION, NOT_THERE),
	ATTEMPT(write_helpers, BY_PERMISSION, NOT_THERE), ATTEMPT(sysrq, EACCES),
	ATTEMPT(sleep_machine, BY_PERMISSION, NOT_THERE), ATTEMPT(read_kernel, EACCES),
	ATTEMPT(list_kernel, EACCES), ATTEMPT(unknown_devices, ENOENT),
	ATTEMPT(open_devices, ENOENT), ATTEMPT(make_disk, EPERM), ATTEMPT(make_memory, EPERM),
	ATTEMPT(mount_flags, EPERM), ATTEMPT(immutable_file, EPERM, ENOTTY, EOPNOTSUPP),
	ATTEMPT(freeze_disk, EPERM), ATTEMPT(trim_disk, EPERM, EOPNOTSUPP, ENOTTY),
	ATTEMPT(overlay_attribute, EPERM), ATTEMPT(link_across, EXDEV, EPERM), { 0 } };
