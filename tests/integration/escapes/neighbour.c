/* The other side: a neighbour that leaves things for others to find and notes who spoke to it. */
#include <arpa/inet.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "escapes.h"

static char *heard; /* shared with the process that listens */
#define HEARD_SIZE 1024

void heard_text(char *text, size_t size)
{
	snprintf(text, size, "%s", heard ? heard : "");
}

static void note(const char *how, const struct sockaddr_storage *from)
{
	char text[INET6_ADDRSTRLEN] = "";
	size_t len = strlen(heard);
	if (from->ss_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)from)->sin6_addr, text,
			sizeof(text));
	else
		inet_ntop(
			AF_INET, &((const struct sockaddr_in *)from)->sin_addr, text, sizeof(text));
	snprintf(heard + len, HEARD_SIZE - len, "%s from %s\n", how, text);
}

/* Both families on one socket. */
static int open_port(int type, uint16_t port)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int off = 0, fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0 ||
		bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		(type == SOCK_STREAM && listen(fd, 8) < 0))
		abort();
	return fd;
}

static int open_abstract(void)
{
	static const char name[] = "\0" TRACE_NAME;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	memcpy(address.sun_path, name, sizeof(name) - 1);
	if (fd < 0 ||
		bind(fd, (struct sockaddr *)&address,
			(socklen_t)(offsetof(struct sockaddr_un, sun_path) + sizeof(name) - 1)) <
			0 ||
		listen(fd, 8) < 0)
		abort();
	return fd;
}

static void listen_for_ever(int tcp, int udp)
{
	struct sockaddr_storage from;
	for (;;) {
		struct pollfd polls[] = { { tcp, POLLIN, 0 }, { udp, POLLIN, 0 } };
		socklen_t size = sizeof(from);
		char bytes[64];
		if (poll(polls, 2, -1) < 0)
			_exit(1);
		if (polls[0].revents) {
			close(accept(tcp, (struct sockaddr *)&from, &size));
			note("tcp", &from);
			continue;
		}
		long got = recvfrom(udp, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &size);
		if (got <= 0)
			continue;
		note("udp", &from);
		(void)sendto(udp, bytes, (size_t)got, 0, (struct sockaddr *)&from, size);
	}
}

void leave_traces(void)
{
	struct mq_attr attributes = { .mq_maxmsg = 1, .mq_msgsize = 8 };
	heard = mmap(NULL, HEARD_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (heard == MAP_FAILED || shmget(TRACE_KEY, 4096, IPC_CREAT | 0666) < 0 ||
		semget(TRACE_KEY, 1, IPC_CREAT | 0666) < 0 ||
		mq_open("/" TRACE_NAME, O_CREAT | O_RDWR, 0666, &attributes) < 0)
		abort(); /* then others could not find anything either */
	int tcp = open_port(SOCK_STREAM, TRACE_TCP_PORT),
	    udp = open_port(SOCK_DGRAM, TRACE_UDP_PORT);
	(void)open_abstract(); /* open as long as this runs */
	pid_t pid = fork();
	if (pid == 0)
		listen_for_ever(tcp, udp);
	if (pid < 0)
		abort();
	close(tcp);
	close(udp);
}
