/* Telling readiness. */
#include "base/ready.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"

static int notify(const char *path, struct plane_error *err)
{
	static const char state[] = "READY=1";
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return plane_error_errno(err, "make a socket");
	if (!plane_text_copy(address.sun_path, sizeof(address.sun_path), path))
		return plane_error_set(err, ENAMETOOLONG, "%s: too long for a socket", path);
	size_t len = offsetof(struct sockaddr_un, sun_path) + strlen(path);
	if (path[0] == '@')
		address.sun_path[0] = '\0'; /* in the abstract namespace, unix(7) */
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
		    (socklen_t)len) < 0)
		return plane_error_errno(err, "send to %s", path);
	return 0;
}

void plane_ready_notify_manager(void)
{
	struct plane_error err = { 0 };
	const char *path = getenv(PLANE_READY_MANAGER);
	if (path && notify(path, &err) < 0)
		plane_warn("tell the service manager that this is ready: %s", err.message);
}

void plane_ready_tell(int owned_fd, const char *text)
{
	struct plane_error err = { 0 };
	plane_ready_notify_manager();
	if (owned_fd < 0)
		return;
	_cleanup_free_ char *line = plane_strdupf("ready %s\n", text);
	if (plane_file_write_all(owned_fd, line, strlen(line), &err) < 0)
		plane_warn("tell readiness: %s", err.message);
	(void)close(owned_fd); /* a pipe; what was written is with its reader */
}
