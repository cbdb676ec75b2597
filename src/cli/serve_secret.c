/* Memory files for the token of one run. */
#include "cli/serve_secret.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/random.h"
#include "controller/token_file.h"

static int make_file(
	const char *name, const void *bytes, size_t len, int *made, struct plane_error *err)
{
	_cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || fchmod(fd, 0400) < 0)
		return plane_error_errno(err, "make a memory file");
	int result = plane_file_write_all(fd, bytes, len, err);
	if (result < 0)
		return result;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return plane_error_errno(err, "seal a memory file");
	*made = plane_steal_fd(&fd);
	return 0;
}

int plane_serve_secret_make(struct plane_serve_secret *secret, struct plane_error *err)
{
	char token[PLANE_RANDOM_TOKEN_SIZE];
	struct plane_token_entry entry = { .name = "plane-serve", .scopes = PLANE_SCOPE_NODE };
	_cleanup_(plane_buffer_finish) struct plane_buffer line = { 0 };
	plane_random_token(token);
	plane_token_digest(token, strlen(token), entry.credential.digest);
	plane_token_entry_write(&entry, &line);
	int result = make_file("plane-token", token, strlen(token), &secret->token_fd, err);
	if (result == 0)
		result = make_file("plane-entry", line.data, line.len, &secret->entry_fd, err);
	explicit_bzero(token, sizeof(token));
	return result;
}

void plane_serve_secret_finish(struct plane_serve_secret *secret)
{
	plane_closep(&secret->token_fd);
	plane_closep(&secret->entry_fd);
	*secret = PLANE_SERVE_SECRET_NONE;
}
