/* The client of bench/coldstart.py: times cold starts from the connect call on a new key until the
 * first byte of `/` through the proxy, with as little work of its own as can be.
 *
 * usage: coldstart_client API_PORT PROXY_PORT CLUSTER KEY_PREFIX COUNT AT_ONCE
 * Prints a line a start: milliseconds of the connect call, milliseconds in all, backend id. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MAX 8192

static struct {
	in_port_t api_port, proxy_port;
	const char *cluster, *prefix;
	int count;
	atomic_int next;
} plan;

static void fail(const char *what, const char *detail)
{
	fprintf(stderr, "coldstart_client: %s: %s\n", what, detail);
	exit(1);
}

static double now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1000 + (double)now.tv_nsec / 1e6;
}

static int open_connection(in_port_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		fail("connect", "the port does not answer");
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* only slower */
	return fd;
}

static void send_all(int fd, const char *text)
{
	size_t len = strlen(text);
	if (send(fd, text, len, MSG_NOSIGNAL) != (ssize_t)len)
		fail("send", text);
}

/* Reads until the head has ended and as many bytes of body as it promises are there. */
static void receive_answer(int fd, char *answer)
{
	size_t len = 0;
	for (;;) {
		ssize_t n = recv(fd, answer + len, ANSWER_MAX - 1 - len, 0);
		if (n <= 0)
			fail("the answer ended early", answer);
		len += (size_t)n;
		answer[len] = '\0';
		const char *body = strstr(answer, "\r\n\r\n");
		const char *length = strcasestr(answer, "\r\ncontent-length:");
		if (body && length &&
			len >= (size_t)(body + 4 - answer) + strtoul(length + 17, NULL, 10))
			return;
	}
}

static void copy_field(const char *json, const char *name, char *value, size_t size)
{
	const char *at = strstr(json, name);
	if (!at)
		fail("no such field in the answer", json);
	at += strlen(name);
	size_t len = strcspn(at, "\"");
	if (len >= size)
		fail("a field is too long", json);
	memcpy(value, at, len);
	value[len] = '\0';
}

static void start_one(int api, int number)
{
	char body[512], text[1024], answer[ANSWER_MAX], url[512], backend[128];
	int len = snprintf(body, sizeof(body),
		"{\"key\":{\"name\":\"%s-%d\"},\"spawn_config\":{\"executable\":{\"image\":"
		"\"echo\"},"
		"\"cluster\":\"%s\"}}",
		plan.prefix, number, plan.cluster);
	snprintf(text, sizeof(text),
		"POST /ctrl/connect HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: "
		"application/json\r\n"
		"content-length: %d\r\n\r\n%s",
		len, body);
	double begin = now_ms();
	send_all(api, text);
	receive_answer(api, answer);
	double called = now_ms();
	copy_field(answer, "\"url\":\"http://", url, sizeof(url));
	copy_field(answer, "\"backend_id\":\"", backend, sizeof(backend));
	int proxy = open_connection(plan.proxy_port);
	snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nhost: %s\r\n\r\n", strchr(url, '/'),
		plan.cluster);
	send_all(proxy, text);
	if (recv(proxy, answer, 12, MSG_WAITALL) != 12)
		fail("the proxy closed the connection", url);
	double end = now_ms();
	if (memcmp(answer, "HTTP/1.1 200", 12) != 0)
		fail("the answer is not 200", answer);
	close(proxy);
	printf("%.3f %.3f %s\n", called - begin, end - begin, backend);
}

static void *work(void *unused)
{
	int api = open_connection(plan.api_port), number;
	while ((number = atomic_fetch_add(&plan.next, 1)) < plan.count)
		start_one(api, number);
	close(api);
	return unused;
}

int main(int argc, char **argv)
{
	if (argc != 7)
		fail("usage", "API_PORT PROXY_PORT CLUSTER KEY_PREFIX COUNT AT_ONCE");
	plan.api_port = (in_port_t)atoi(argv[1]);
	plan.proxy_port = (in_port_t)atoi(argv[2]);
	plan.cluster = argv[3];
	plan.prefix = argv[4];
	plan.count = atoi(argv[5]);
	int at_once = atoi(argv[6]);
	pthread_t *threads = calloc((size_t)at_once, sizeof(*threads));
	for (int i = 0; i < at_once; i++)
		if (pthread_create(&threads[i], NULL, work, NULL) != 0)
			fail("make a thread", "no room");
	for (int i = 0; i < at_once; i++)
		(void)pthread_join(threads[i], NULL); /* ours, and not yet joined */
	free(threads);
	return 0;
}
