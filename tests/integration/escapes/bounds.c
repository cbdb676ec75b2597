/* What a backend can use up: each attempt takes until it is stopped, and must be stopped early. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "escapes.h"

#define PROCESSES 3000
#define TERMINALS 1000
#define FILES 100000
#define SHM_MIB 128
#define DEV_KIB 1024
#define LOCKED_MIB 64

static long try_processes(void)
{
	static pid_t children[PROCESSES];
	int count = 0;
	for (; count < PROCESSES; count++) {
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
	detail("%d", count);
	return refused_if(count < PROCESSES, saved);
}

static long try_terminals(void)
{
	int count = 0;
	while (count < TERMINALS && open("/dev/ptmx", O_RDWR | O_NOCTTY) >= 0)
		count++;
	detail("%d", count);
	return refused_if(count > 0 && count < TERMINALS, errno);
}

static long try_files(void)
{
	int count = 0;
	while (count < FILES && dup(0) >= 0)
		count++;
	detail("%d", count);
	return refused_if(count < FILES, errno);
}

/* Writes until the file system is full; its memory is given back at once. */
static long fill(const char *path, size_t max)
{
	static char block[65536];
	size_t done = 0;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		return -1;
	memset(block, 1, sizeof(block));
	for (ssize_t n = 0; done < max && (n = write(fd, block, sizeof(block))) > 0;)
		done += (size_t)n;
	int saved = errno;
	(void)unlink(path); /* it was made above */
	close(fd);
	detail("%zu KiB", done / 1024);
	return refused_if(done < max, saved);
}
static long try_shared_memory_size(void)
{
	return fill("/dev/shm/filler", (size_t)SHM_MIB << 20);
}
static long try_device_memory(void)
{
	return fill("/dev/filler", (size_t)DEV_KIB << 10);
}
static long try_locked_memory(void)
{
	void *at = mmap(NULL, (size_t)LOCKED_MIB << 20, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return at == MAP_FAILED ? -1 : mlock(at, (size_t)LOCKED_MIB << 20);
}
static long try_core_file(void)
{
	struct rlimit limit;
	return getrlimit(RLIMIT_CORE, &limit) < 0 ? -1 : refused_if(limit.rlim_max == 1, EFBIG);
}

const struct attempt bound_attempts[] = { ATTEMPT(processes, EAGAIN), ATTEMPT(terminals, ENOSPC),
	ATTEMPT(files, EMFILE), ATTEMPT(shared_memory_size, ENOSPC),
	ATTEMPT(device_memory, ENOSPC, EACCES), ATTEMPT(locked_memory, ENOMEM, EPERM, EAGAIN),
	ATTEMPT(core_file, EFBIG), { 0 } };
