/* GET / answers with the facts. Without a server, as `facts --gained`: what the file's bits gave.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/server.h"
#include "facts.h"

#define PROCESSES 2000
#define TERMINALS 400

static void add_file(struct web_buffer *json, const char *name, const char *path)
{
	char text[4096];
	int fd = open(path, O_RDONLY);
	ssize_t got = fd < 0 ? 0 : read(fd, text, sizeof(text));
	close(fd);
	web_buffer_printf(json, ",\"%s\":\"", name);
	for (ssize_t i = 0; i < got; i++)
		web_buffer_printf(json,
			text[i] == '\n' ? "\\n"
			: text[i] < ' ' ? " "
					: "%c",
			text[i]);
	web_buffer_append_text(json, "\"");
}

static void add_namespaces(struct web_buffer *json)
{
	static const char *const names[] = { "user", "pid", "mnt", "net", "ipc", "uts", "cgroup",
		"time" };
	const char *comma = "";
	web_buffer_append_text(json, ",\"namespaces\":{");
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		char path[64], target[64] = "";
		snprintf(path, sizeof(path), "/proc/self/ns/%s", names[i]);
		if (readlink(path, target, sizeof(target) - 1) > 0)
			web_buffer_printf(json, "%s\"%s\":\"%s\"", comma, names[i], target);
		comma = ",";
	}
	web_buffer_append_text(json, "}");
}

/* How many processes can be until one is refused. */
static int count_processes(void)
{
	static pid_t children[PROCESSES];
	int count = 0;
	for (; count < PROCESSES; count++) {
		children[count] = fork();
		if (children[count] == 0) {
			pause();
			_exit(0);
		}
		if (children[count] < 0)
			break;
	}
	for (int i = 0; i < count; i++) {
		kill(children[i], SIGKILL);
		waitpid(children[i], NULL, 0);
	}
	return count;
}

static int count_terminals(void)
{
	static int fds[TERMINALS];
	int count = 0;
	while (count < TERMINALS && (fds[count] = open("/dev/ptmx", O_RDWR | O_NOCTTY)) >= 0)
		count++;
	for (int i = 0; i < count; i++)
		close(fds[i]);
	return count;
}

static void add_limits(struct web_buffer *json)
{
	static const struct {
		const char *name;
		int which;
	} limits[] = { { "open files", RLIMIT_NOFILE }, { "core file", RLIMIT_CORE },
		{ "locked memory", RLIMIT_MEMLOCK }, { "queued signals", RLIMIT_SIGPENDING },
		{ "message queues", RLIMIT_MSGQUEUE }, { "real-time priority", RLIMIT_RTPRIO } };
	web_buffer_printf(json, ",\"limits\":{\"processes\":%d,\"terminals\":%d", count_processes(),
		count_terminals());
	for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++) {
		struct rlimit limit = { 0 };
		(void)getrlimit(limits[i].which, &limit); /* a known limit */
		web_buffer_printf(
			json, ",\"%s\":%llu", limits[i].name, (unsigned long long)limit.rlim_max);
	}
	web_buffer_append_text(json, "}");
}

/* Runs a copy of this program as an ordinary user: 1 when its file gave it something. */
static int gains(const char *path)
{
	int status = 0;
	pid_t pid = fork();
	if (pid == 0) {
		if (getuid() == 0 && (setgid(1000) < 0 || setuid(1000) < 0))
			_exit(2);
		execl(path, path, "--gained", (char *)NULL);
		_exit(2);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return 2;
	return WEXITSTATUS(status);
}

static void answer_facts(struct web_buffer *json)
{
	web_buffer_printf(json, "{\"uid\":%d", (int)getuid());
	add_file(json, "status", "/proc/self/status");
	add_file(json, "uid_map", "/proc/self/uid_map");
	add_namespaces(json);
	facts_files(json);
	add_limits(json);
	web_buffer_printf(json, ",\"set_user_id\":%d,\"capable\":%d", gains("/facts-set-user-id"),
		gains("/facts-capable"));
	facts_system_calls(json);
	web_buffer_append_text(json, "}");
}

static void on_request(struct web_connection *connection, const struct web_request *request)
{
	struct web_buffer json = { 0 };
	struct web_answer answer = { .status = 200 };
	if (strcmp(request->method, "GET") == 0)
		answer_facts(&json);
	answer.body = web_buffer_bytes(&json);
	answer.body_len = web_buffer_len(&json);
	web_connection_answer(connection, &answer);
	web_buffer_finish(&json);
}

static int say_gained(void)
{
	int fd = socket(AF_INET, SOCK_RAW, 1 /* ICMP */);
	return geteuid() == 0 || fd >= 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
	static const struct web_handlers handlers = { .on_request = on_request };
	if (argc == 2 && strcmp(argv[1], "--gained") == 0)
		return say_gained();
	struct web_server *server = web_server_create(web_port(), &handlers);
	return server ? web_server_run(server) : 1;
}
