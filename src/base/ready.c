/* Telling readiness. */
#include "base/ready.h"

#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"

void plane_ready_tell(int owned_fd, const char *text)
{
	struct plane_error err = { 0 };
	if (owned_fd < 0)
		return;
	_cleanup_free_ char *line = plane_strdupf("ready %s\n", text);
	if (plane_file_write_all(owned_fd, line, strlen(line), &err) < 0)
		plane_warn("tell readiness: %s", err.message);
	(void)close(owned_fd); /* a pipe; what was written is with its reader */
}
