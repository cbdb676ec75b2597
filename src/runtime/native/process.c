/* A walk through /proc. */
#include "runtime/native/process.h"

#include <ctype.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"

/* The owner of /proc/<pid> will not do: it is root's for a process that may not be dumped. */
static bool read_uid(const char *pid, uid_t *uid)
{
	_cleanup_(plane_buffer_finish) struct plane_buffer text = { 0 };
	char path[64];
	unsigned number;

	snprintf(path, sizeof(path), "/proc/%.20s/status", pid);
	if (plane_file_read(path, 65536, &text, NULL) < 0)
		return false;
	const char *line = strstr(plane_buffer_text(&text), "\nUid:");
	if (!line || sscanf(line, "\nUid: %u", &number) != 1)
		return false;
	*uid = number;
	return true;
}

void plane_process_each(plane_process_fn each, void *data)
{
	_cleanup_closedir_ DIR *proc = opendir("/proc");
	uid_t uid;

	for (struct dirent *entry; proc && (entry = readdir(proc));)
		if (isdigit((unsigned char)entry->d_name[0]) && read_uid(entry->d_name, &uid))
			each(data, entry->d_name, uid);
}
