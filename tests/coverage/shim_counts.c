/* Only in a coverage build: carries the counts of the shim out of the sandbox. Its processes can
 * open no file of the host when they end, so each writes to a page that is shared from the start;
 * tools/shim-counts.py takes it apart. */
#include <fcntl.h>
#include <gcov.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE_BYTES (1u << 20)

/* One for each source file; gcc's option -fprofile-info-section names the section. */
extern const struct gcov_info *const __start_plane_gcov[], *const __stop_plane_gcov[];

static struct page {
	_Atomic uint32_t used;
	char bytes[PAGE_BYTES - sizeof(uint32_t)]; /* records: length, name, NUL, counts */
} * page;
static char record[PAGE_BYTES / 4];
static uint32_t record_len;

static void add(const void *bytes, unsigned len, void *unused)
{
	(void)unused;
	if (record_len + len <= sizeof(record))
		memcpy(record + record_len, bytes, len);
	record_len += len;
}

static void add_name(const char *name, void *unused)
{
	add(name, (unsigned)strlen(name) + 1, unused);
}

static void publish(void)
{
	uint32_t size = (uint32_t)sizeof(record_len) + record_len;
	uint32_t at = atomic_fetch_add(&page->used, size);

	if (record_len > sizeof(record) || at + size > sizeof(page->bytes))
		return;
	memcpy(page->bytes + at, &record_len, sizeof(record_len));
	memcpy(page->bytes + at + sizeof(record_len), record, record_len);
}

static void dump(void)
{
	if (!page)
		return;
	/* cppcheck-suppress comparePointers ; two ends of one section */
	for (const struct gcov_info *const *i = __start_plane_gcov; i < __stop_plane_gcov; i++) {
		record_len = 0;
		__gcov_info_to_gcda(*i, add_name, add, NULL, NULL);
		publish();
	}
}

__attribute__((constructor)) static void share_page(void)
{
	char path[4096];

	snprintf(path, sizeof(path), PLANE_SHIM_COUNTS "/%d", getpid());
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	if (ftruncate(fd, sizeof(struct page)) == 0)
		page = mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		page = NULL;
	close(fd);
}

/* In place of the C library's. */
_Noreturn void _exit(int status)
{
	dump();
	for (;;)
		(void)syscall(SYS_exit_group, status);
}

int __gcov_execve(const char *path, char *const *argv, char *const *env);

/* What gcc calls for execve() in a program that counts. */
int __gcov_execve(const char *path, char *const *argv, char *const *env)
{
	dump();
	return execve(path, argv, env);
}
