/* A backend that tries to get out of its sandbox: GET / makes every attempt, each in a process of
 * its own, and answers with one JSON member for each: "refused: <why>", "ALLOWED", or "UNCLEAR:
 * <why>" when it failed for another reason than a refusal. Run by test_sandbox.py. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/server.h"
#include "escapes.h"

#define DEPTH 2000 /* more than descriptors that a process may have */

static const struct attempt *const tables[] = { kernel_attempts, process_attempts, file_attempts,
	network_attempts, bound_attempts };

struct outcome { /* in memory shared with the process that tries */
	long result;
	int error;
	bool is_done;
	char detail[256];
};
static struct outcome *outcome;

/* ---- what attempts use ---- */

long refused_if(bool is_refused, int why)
{
	errno = why;
	return is_refused ? -1 : 0;
}

void detail(const char *format, ...)
{
	va_list args;
	int saved = errno;
	va_start(args, format);
	vsnprintf(outcome->detail, sizeof(outcome->detail), format, args);
	va_end(args);
	errno = saved;
}

long close_with(int fd, long result)
{
	int saved = errno;
	close(fd);
	errno = saved;
	return result;
}

long write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC);
	return fd < 0 ? -1 : close_with(fd, write(fd, text, strlen(text)));
}

long read_file(const char *path)
{
	char bytes[16];
	int fd = open(path, O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		return -1;
	long got = close_with(fd, read(fd, bytes, sizeof(bytes)));
	return got == 0 ? refused_if(true, ENODATA) : got;
}

/* ---- trying ---- */

static void try_in_child(const struct attempt *attempt)
{
	int status = 0;
	*outcome = (struct outcome){ 0 };
	pid_t pid = fork();
	if (pid == 0) {
		errno = 0;
		outcome->result = attempt->run();
		outcome->error = errno;
		outcome->is_done = true;
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		*outcome = (struct outcome){ .result = -1, .error = ECHILD };
		return;
	}
	bool is_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
	if (!outcome->is_done)
		*outcome = (struct outcome){ .result = -1, .error = is_killed ? ENOSYS : EFAULT };
}

static void add_attempt(struct web_buffer *json, const struct attempt *attempt)
{
	const char *verdict = "UNCLEAR: ";
	try_in_child(attempt);
	for (size_t i = 0; i < EXPECTED_MAX && attempt->expected[i]; i++)
		if (outcome->error == attempt->expected[i])
			verdict = "refused: ";
	bool is_allowed = outcome->result >= 0;
	web_buffer_printf(json, "%s\"%s\":\"%s%s%s%s\"", web_buffer_len(json) > 1 ? "," : "",
		attempt->name, is_allowed ? "ALLOWED" : verdict,
		is_allowed ? "" : strerror(outcome->error), outcome->detail[0] ? ": " : "",
		outcome->detail);
}

static void try_everything(struct web_buffer *json)
{
	web_buffer_append_text(json, "{");
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		for (const struct attempt *attempt = tables[i]; attempt->name; attempt++)
			add_attempt(json, attempt);
	web_buffer_append_text(json, "}");
}

/* What must be possible, or the refusals prove nothing. */
static void try_controls(struct web_buffer *json)
{
	web_buffer_append_text(json, "{");
	for (const struct attempt *attempt = network_controls; attempt->name; attempt++)
		add_attempt(json, attempt);
	web_buffer_append_text(json, "}");
}

/* ---- other requests ---- */

static void tell_status(struct web_buffer *text)
{
	int fd = open("/proc/self/status", O_RDONLY);
	long got = fd < 0 ? -1 : read(fd, web_buffer_reserve(text, 8192), 8192);
	web_buffer_added(text, got > 0 ? (size_t)got : 0);
	close(fd);
}

static void tell_address(struct web_buffer *text)
{
	struct ifreq request = { .ifr_name = "eth0" };
	char address[INET_ADDRSTRLEN] = "";
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (ioctl(fd, SIOCGIFADDR, &request) == 0)
		inet_ntop(AF_INET, &((struct sockaddr_in *)&request.ifr_addr)->sin_addr, address,
			sizeof(address));
	close(fd);
	web_buffer_append_text(text, address);
}

static void tell_heard(struct web_buffer *text)
{
	char heard[1024];
	heard_text(heard, sizeof(heard));
	web_buffer_append_text(text, heard);
}

/* Takes what the kernel counts for each user, and keeps it. */
static void exhaust(struct web_buffer *text)
{
	int instances = 0, signals = 0;
	sigset_t blocked;
	union sigval value = { 0 };
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	while (instances < 10000 && inotify_init1(IN_CLOEXEC) >= 0)
		instances++;
	while (signals < 1000000 && sigqueue(getpid(), SIGRTMIN, value) == 0)
		signals++;
	web_buffer_printf(text, "{\"inotify\":%d,\"signals\":%d}", instances, signals);
}

static void use_inotify(struct web_buffer *text)
{
	int fd = inotify_init1(IN_CLOEXEC);
	web_buffer_append_text(text, fd < 0 ? strerror(errno) : "made");
	if (fd >= 0)
		close(fd);
}

/* Directories deeper than anybody can hold open. */
static void nest(struct web_buffer *text)
{
	int depth = 0, back = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	while (depth < DEPTH && mkdir("deep", 0700) == 0 && chdir("deep") == 0)
		depth++;
	web_buffer_printf(text, "%d", fchdir(back) == 0 ? depth : -1);
	close(back);
}
static void nest_in_tmp(struct web_buffer *text)
{
	if (chdir("/tmp") == 0)
		nest(text);
}

/* Leaves in the data mount what could hurt whoever comes after. */
static void plant(struct web_buffer *text)
{
	int fd = open("/plane-data/program", O_WRONLY | O_CREAT, 0755);
	bool is_set = fd >= 0 && fchmod(fd, 04755) == 0;
	close(fd);
	bool is_linked = symlink("/", "/plane-data/link") == 0;
	web_buffer_printf(text, "%s %s", is_set ? "set" : "not-set", is_linked ? "linked" : "none");
}

static const struct {
	const char *path;
	void (*answer)(struct web_buffer *text);
} pages[] = { { "/", try_everything }, { "/controls", try_controls }, { "/status", tell_status },
	{ "/address", tell_address }, { "/heard", tell_heard }, { "/exhaust", exhaust },
	{ "/inotify", use_inotify }, { "/nest", nest_in_tmp }, { "/plant", plant } };

static void on_request(struct web_connection *connection, const struct web_request *request)
{
	struct web_buffer text = { 0 };
	struct web_answer answer = { .status = 200 };
	bool is_probe = strcmp(request->method, "HEAD") == 0; /* of readiness */
	for (size_t i = 0; !is_probe && i < sizeof(pages) / sizeof(*pages); i++)
		if (strcmp(request->path, pages[i].path) == 0)
			pages[i].answer(&text);
	answer.body = web_buffer_bytes(&text);
	answer.body_len = web_buffer_len(&text);
	web_connection_answer(connection, &answer);
	web_buffer_finish(&text);
}

/* As the set-user-id or capable copy of this program: what did the file's bits give? */
static int answer_question(const char *question)
{
	if (strcmp(question, "--is-root") == 0)
		return geteuid() == 0 ? 0 : 1;
	return prctl(PR_CAPBSET_READ, 13 /* CAP_NET_RAW */, 0, 0, 0) == 1 &&
			       socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) >= 0
		       ? 0
		       : 1;
}

int main(int argc, char **argv)
{
	static const struct web_handlers handlers = { .on_request = on_request };
	if (argc == 2 && strncmp(argv[1], "--", 2) == 0)
		return answer_question(argv[1]);
	note_descriptors();
	outcome = mmap(
		NULL, sizeof(*outcome), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (outcome == MAP_FAILED)
		return 1;
	if (getenv("LEAVE"))
		leave_traces();
	struct web_server *server = web_server_create(web_port(), &handlers);
	return server ? web_server_run(server) : 1;
}
