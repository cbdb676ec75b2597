/* Packets with descriptors, and the start file. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim.h"

long shim_receive(int socket, void *bytes, size_t size, int *fds, int max, int *count)
{
	char control[CMSG_SPACE(sizeof(int) * 8)];
	struct iovec part = { bytes, size };
	struct msghdr message = { .msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control) };
	ssize_t n;

	*count = 0;
	do
		n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		int got[8];
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		int n_fds = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(got, CMSG_DATA(c), (size_t)n_fds * sizeof(int));
		for (int i = 0; i < n_fds; i++) {
			if (*count < max)
				fds[(*count)++] = got[i];
			else
				close(got[i]);
		}
	}
	return n;
}

long shim_send(int socket, const void *bytes, size_t size, const int *fds, int count)
{
	char control[CMSG_SPACE(sizeof(int) * 8)] = { 0 };
	struct iovec part = { (void *)bytes, size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (count > 0) {
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)count);
		struct cmsghdr *c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)count);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * (size_t)count);
	}
	return sendmsg(socket, &message, MSG_NOSIGNAL);
}

void shim_fail(int socket, const char *format, ...)
{
	char text[PLANE_SHIM_TEXT_MAX] = { PLANE_SHIM_FAILED };
	va_list args;

	va_start(args, format);
	vsnprintf(text + 1, sizeof(text) - 1, format, args);
	va_end(args);
	(void)shim_send(socket, text, strlen(text) + 1, NULL, 0); /* nobody else to tell */
}

static const char *next_text(const char **at, const char *end)
{
	const char *text = *at;
	const char *nul = text < end ? memchr(text, 0, (size_t)(end - text)) : NULL;

	if (!nul)
		return NULL;
	*at = nul + 1;
	return text;
}

static char **next_texts(const char **at, const char *end, uint32_t count)
{
	char **texts = count <= PLANE_SHIM_START_MAX ? calloc(count + 1, sizeof(char *)) : NULL;

	for (uint32_t i = 0; texts && i < count; i++) {
		texts[i] = (char *)next_text(at, end);
		if (!texts[i])
			return NULL;
	}
	return texts;
}

bool shim_start_read(int fd, struct shim_start *start)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_size < (off_t)sizeof(*start->head) ||
		st.st_size > PLANE_SHIM_START_MAX)
		return false;
	const char *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (bytes == MAP_FAILED)
		return false;
	start->head = (const void *)bytes;
	const char *at = bytes + sizeof(*start->head), *end = bytes + st.st_size;
	if (start->head->magic != PLANE_SHIM_MAGIC || start->head->size != (uint32_t)st.st_size ||
		start->head->group_count > PLANE_SHIM_GROUPS_MAX || start->head->argc == 0)
		return false;
	const char **texts[] = { &start->backend, &start->image, &start->workdir, &start->log_path,
		&start->address, &start->resolv };
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		*texts[i] = next_text(&at, end);
		if (!*texts[i])
			return false;
	}
	start->argv = next_texts(&at, end, start->head->argc);
	start->env = next_texts(&at, end, start->head->envc);
	return start->argv && start->env;
}
