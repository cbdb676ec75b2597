/* The jail. */
#include "jail.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

#define MOUNT_POINT "/tmp"

/* What nobody may touch: the root's own entry, a file, and a closed directory with a file in it. */
static const char *const untouched[] = { "/", "/canary", "/closed", "/closed/canary", "/proc" };
#define UNTOUCHED (sizeof(untouched) / sizeof(untouched[0]))
static struct stat before[UNTOUCHED];
static int real_root = -1, working = -1, world = -1;

static void need(bool is_done, const char *what)
{
	if (is_done)
		return;
	perror(what);
	exit(1);
}

FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);

/* libFuzzer writes the input that failed: outside. Nobody else writes streams. */
FILE *__wrap_fopen(const char *path, const char *mode)
{
	if (mode[0] == 'w' && real_root >= 0)
		jail_leave();
	return __real_fopen(path, mode);
}

void jail_enter(void)
{
	need(fchdir(world) == 0 && chroot(".") == 0, "enter the file system");
}

void jail_leave(void)
{
	need(fchdir(real_root) == 0 && chroot(".") == 0 && fchdir(working) == 0, "leave it");
}

static void fill(const char *const *directories)
{
	static const char text[] = "untouched";
	struct plane_error err = { 0 };
	need(mkdir("/closed", 0700) == 0 && mkdir("/proc", 0555) == 0, "make directories");
	for (; *directories; directories++)
		need(plane_file_make_directories(*directories, 0700, &err) == 0, *directories);
	jail_write("/canary", text, sizeof(text));
	jail_write("/closed/canary", text, sizeof(text));
}

void jail_create(const char *const *directories)
{
	umask(022);
	fuzz_on_fail = jail_leave;
	need(unshare(CLONE_NEWNS) == 0, "a mount namespace of its own (root is needed)");
	need(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "keep mounts private");
	real_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	working = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* found by its descriptor only: what lies below the mount point stays in use */
	need(mount("fuzz", MOUNT_POINT, "tmpfs", 0, "mode=755,size=256m") == 0, "mount a tmpfs");
	world = open(MOUNT_POINT, O_PATH | O_DIRECTORY | O_CLOEXEC);
	need(real_root >= 0 && working >= 0 && world >= 0, "open the roots");
	jail_enter();
	fill(directories);
	jail_leave();
	need(mount("proc", MOUNT_POINT "/proc", "proc", 0, NULL) == 0, "mount proc");
	need(umount2(MOUNT_POINT, MNT_DETACH) == 0, "hide the tmpfs");
	jail_enter();
	for (size_t i = 0; i < UNTOUCHED; i++)
		need(lstat(untouched[i], &before[i]) == 0, untouched[i]);
	jail_leave();
}

void jail_write(const char *path, const void *bytes, size_t len)
{
	struct plane_error err = { 0 };
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	FUZZ_CHECK(fd >= 0);
	FUZZ_CHECK(plane_file_write_all(fd, bytes, len, &err) == 0);
}

void jail_check_untouched(void)
{
	struct stat now;
	for (size_t i = 0; i < UNTOUCHED; i++) {
		FUZZ_CHECK(lstat(untouched[i], &now) == 0);
		if (strcmp(untouched[i], "/proc") == 0)
			continue;
		FUZZ_CHECK(now.st_ino == before[i].st_ino && now.st_mode == before[i].st_mode);
		FUZZ_CHECK(now.st_uid == before[i].st_uid && now.st_nlink == before[i].st_nlink);
		FUZZ_CHECK(now.st_ctim.tv_sec == before[i].st_ctim.tv_sec &&
			   now.st_ctim.tv_nsec == before[i].st_ctim.tv_nsec);
	}
}
