/* Files that the kernel shows, devices, and what mounts allow. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "facts.h"

static struct web_buffer *list; /* nftw has no argument for its function */
static const char *comma;
static int mode;

static void add_path(const char *path)
{
	web_buffer_printf(list, "%s\"%s\"", comma, path);
	comma = ",";
}

static bool can_open(const char *path)
{
	int fd = open(path, mode | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY);
	if (fd < 0)
		return false;
	/* a mask that can be opened is the null device */
	struct stat status;
	bool is_masked = fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) &&
			 status.st_rdev == makedev(1, 3);
	close(fd);
	return !is_masked;
}

/* Processes are left out, and so is what a process has as its own. */
static int found_file(const char *path, const struct stat *status, int type, struct FTW *where)
{
	(void)status;
	(void)where;
	if (type != FTW_F || (strncmp(path, "/proc/", 6) == 0 && path[6] >= '1' && path[6] <= '9'))
		return 0;
	if (can_open(path))
		add_path(path);
	return 0;
}

static int found_device(const char *path, const struct stat *status, int type, struct FTW *where)
{
	(void)type;
	(void)where;
	if ((S_ISCHR(status->st_mode) || S_ISBLK(status->st_mode)) &&
		strncmp(path, "/dev/pts/", 9) != 0)
		add_path(path);
	return 0;
}

static void walk(struct web_buffer *json, const char *name, const char *top, int how,
	int (*found)(const char *, const struct stat *, int, struct FTW *))
{
	list = json;
	comma = "";
	mode = how;
	web_buffer_printf(json, ",\"%s\":[", name);
	(void)nftw(top, found, 64, FTW_PHYS); /* what cannot be walked cannot be opened either */
	web_buffer_append_text(json, "]");
}

static void add_nodes(struct web_buffer *json)
{
	static const struct {
		const char *name;
		mode_t type;
		unsigned major, minor;
	} nodes[] = { { "null", S_IFCHR, 1, 3 }, { "memory", S_IFCHR, 1, 1 },
		{ "first SCSI disk", S_IFBLK, 8, 0 } };
	list = json;
	comma = "";
	web_buffer_append_text(json, ",\"nodes\":[");
	for (size_t i = 0; i < sizeof(nodes) / sizeof(*nodes); i++) {
		if (mknod("/tmp/facts-node", nodes[i].type | 0600,
			    makedev(nodes[i].major, nodes[i].minor)) < 0)
			continue;
		add_path(nodes[i].name);
		(void)unlink("/tmp/facts-node"); /* made above */
	}
	web_buffer_append_text(json, "]");
}

static void add_mounts(struct web_buffer *json)
{
	static const struct {
		const char *name;
		unsigned long flag;
	} flags[] = { { "setuid", ST_NOSUID }, { "devices", ST_NODEV } };
	struct statvfs status = { 0 };
	list = json;
	comma = "";
	web_buffer_append_text(json, ",\"root_allows\":[");
	for (size_t i = 0; statvfs("/", &status) == 0 && i < 2; i++)
		if (!(status.f_flag & flags[i].flag))
			add_path(flags[i].name);
	web_buffer_append_text(json, "]");
}

static void add_cgroups(struct web_buffer *json)
{
	DIR *directory = opendir("/sys/fs/cgroup");
	list = json;
	comma = "";
	web_buffer_append_text(json, ",\"cgroups\":[");
	for (struct dirent *entry; directory && (entry = readdir(directory));)
		if (entry->d_name[0] != '.')
			add_path(entry->d_name);
	if (directory)
		closedir(directory);
	web_buffer_append_text(json, "]");
}

void facts_files(struct web_buffer *json)
{
	walk(json, "proc_read", "/proc", O_RDONLY, found_file);
	walk(json, "proc_write", "/proc", O_WRONLY, found_file);
	walk(json, "sys_read", "/sys", O_RDONLY, found_file);
	walk(json, "sys_write", "/sys", O_WRONLY, found_file);
	walk(json, "devices", "/dev", O_RDONLY, found_device);
	add_nodes(json);
	add_mounts(json);
	add_cgroups(json);
}
