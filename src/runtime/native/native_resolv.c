/* The name servers of backends: the host's, without those that only the host itself reaches. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "runtime/native/native_internal.h"

#define MAX_FILE 65536

static bool is_loopback(const char *line)
{
	const char *address = line + strlen("nameserver");
	address += strspn(address, " \t");
	return plane_text_starts_with(address, "127.") || strncmp(address, "::1", 3) == 0;
}

/* Adds the file's usable lines; how many name servers were there and were usable. */
static int add_usable(const char *path, struct plane_buffer *usable, int *servers)
{
	struct plane_buffer text = { 0 };
	int count = 0;
	if (plane_file_read(path, MAX_FILE, &text, NULL) == 0) {
		char *rest = plane_buffer_text(&text);
		for (char *line; (line = strsep(&rest, "\n"));) {
			bool is_server = plane_text_starts_with(line, "nameserver");
			*servers += is_server;
			if (is_server && is_loopback(line))
				continue;
			count += is_server;
			if (line[0])
				plane_buffer_addf(usable, "%s\n", line);
		}
	}
	plane_buffer_finish(&text);
	return count;
}

char *native_resolv_read(void)
{
	struct plane_buffer usable = { 0 };
	int servers = 0;
	if (add_usable("/etc/resolv.conf", &usable, &servers) == 0 && servers > 0) {
		/* a resolver on the host's loopback: systemd-resolved tells whom it asks */
		plane_buffer_clear(&usable);
		if (add_usable("/run/systemd/resolve/resolv.conf", &usable, &servers) == 0)
			plane_warn("/etc/resolv.conf names only this machine's own resolver, which "
				   "backends cannot reach: they have no name server");
	}
	(void)plane_buffer_text(&usable);
	return plane_buffer_steal(&usable);
}
