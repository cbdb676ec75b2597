/* `plane serve`: everything on one machine. A supervisor of three child processes, restarted when
 * one dies; it does nothing else, so that it has no reason to die itself. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <uv.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/ready.h"
#include "base/text.h"
#include "cli/capacity_flags.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/paths.h"
#include "cli/serve_child.h"
#include "cli/serve_lock.h"
#include "cli/serve_secret.h"
#include "controller/controller.h"
#include "controller/guard.h"
#include "model/names.h"
#include "net/address.h"

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 5000
#define HEALTHY_MS 10000
#define FORMER_ROLES_MS 60000 /* until those of a killed `plane serve` have stopped */
#define WORDS_MAX 40

enum role { ROLE_CONTROLLER, ROLE_DRONE, ROLE_PROXY, ROLE_COUNT };

/* The drone first: it tells the controller how its backends end. */
static const enum role stop_order[] = { ROLE_DRONE, ROLE_PROXY, ROLE_CONTROLLER };
static const char *const role_names[] = { "controller", "drone", "proxy" };
static const uint64_t stop_limit_ms[] = { 15000, 90000, 20000 };

struct child {
	struct serve *serve;
	enum role role;
	pid_t pid; /* 0: not running */
	bool is_ready, was_ready;
	uv_poll_t ready; /* its readiness pipe; active while starting */
	int ready_fd;
	uv_timer_t timer; /* until the next start, or until it must have stopped */
	int64_t started_at_ms;
	int64_t backoff_ms;
	char told[128]; /* what came behind "ready " */
	char *words[WORDS_MAX + 1];
	size_t word_count;
};

struct serve {
	/* flags */
	const char *data_dir_flag, *listen, *proxy_listen, *cluster, *egress, *mount_base;
	struct plane_capacity_words capacity;
	const char *root_redirect_url, *drone_metrics, *proxy_metrics, *api_token_file;
	const char *allowed_hosts;
	struct plane_tls_server_files tls;
	bool is_insecure;
	int64_t lease_seconds;
	char *data_dir, *controller_dir, *controller_url;
	int lock_fd, roles_fd, exe_fd;
	struct plane_serve_secret secret; /* with api_token_file */
	uid_t uid;
	gid_t gid;
	uv_loop_t loop;
	uv_signal_t signals[3];
	struct child children[ROLE_COUNT];
	int64_t started_at_ms;
	bool is_stopping, is_announced;
	bool ends_backends;
	size_t stopped; /* how many of stop_order are done */
	int exit_status;
};

static void start_child(struct child *child);
static void stop_next(struct serve *serve);

/* ---- command lines of the roles ---- */

static void add_word(struct child *child, const char *word)
{
	if (child->word_count < WORDS_MAX)
		child->words[child->word_count++] = plane_strdup(word);
}

static void add_flag(struct child *child, const char *flag, const char *value)
{
	if (!value)
		return;
	add_word(child, flag);
	add_word(child, value);
}

/* "ip:port" or "[ip]:port", checked before, as --host and `port_flag`. */
static void add_address(struct child *child, const char *address, const char *port_flag)
{
	const char *colon = strrchr(address, ':');
	bool is_bracketed = address[0] == '[';
	_cleanup_free_ char *host = plane_strndup(
		address + is_bracketed, (size_t)(colon - address) - 2 * (size_t)is_bracketed);
	add_flag(child, "--host", host);
	add_flag(child, port_flag, colon + 1);
}

static void clear_words(struct child *child)
{
	while (child->word_count > 0) {
		child->word_count--;
		free(STEAL(child->words[child->word_count]));
	}
}

static void write_command(struct child *child)
{
	struct serve *serve = child->serve;
	char seconds[24];
	clear_words(child);
	add_word(child, "plane");
	add_word(child, role_names[child->role]);
	switch (child->role) {
	case ROLE_CONTROLLER:
		/* a power cut ends all backends too: nothing that it forgets still runs */
		add_flag(child, "--db",
			"sqlite:" PLANE_CHILD_STATE_DIR "/controller.db?synchronous=normal");
		add_address(child, serve->listen, "--port");
		add_flag(child, "--default-cluster", serve->cluster);
		add_flag(child, "--api-token-file", serve->api_token_file);
		if (serve->api_token_file)
			add_flag(child, "--api-token-file", PLANE_CHILD_SECRET_PATH);
		add_flag(child, "--tls-cert", serve->tls.certificate);
		add_flag(child, "--tls-key", serve->tls.key);
		add_flag(child, "--tls-client-ca", serve->tls.client_authorities);
		add_flag(child, "--allow-host", serve->allowed_hosts);
		if (serve->is_insecure)
			add_word(child, "--insecure-no-auth");
		snprintf(seconds, sizeof(seconds), "%" PRId64, serve->lease_seconds);
		add_flag(child, "--lease-seconds", seconds);
		break;
	case ROLE_DRONE:
		add_flag(child, "--controller-url", serve->controller_url);
		add_flag(child, "--cluster", serve->cluster);
		add_flag(child, "--data-dir", serve->data_dir);
		add_flag(child, "--egress", serve->egress);
		add_flag(child, "--mount-base", serve->mount_base);
		add_flag(child, "--metrics-listen", serve->drone_metrics);
		add_flag(child, "--memory-bytes", serve->capacity.memory_bytes);
		add_flag(child, "--cpus", serve->capacity.cpus);
		add_flag(child, "--overcommit-memory", serve->capacity.overcommit_memory);
		add_flag(child, "--overcommit-cpu", serve->capacity.overcommit_cpu);
		add_word(child, "--end-backends");
		break;
	case ROLE_PROXY:
		add_flag(child, "--controller-url", serve->controller_url);
		add_flag(child, "--cluster", serve->cluster);
		add_address(child, serve->proxy_listen, "--http-port");
		add_flag(child, "--root-redirect-url", serve->root_redirect_url);
		add_flag(child, "--metrics-listen", serve->proxy_metrics);
		break;
	case ROLE_COUNT:
		break;
	}
	/* they reach it on loopback, which its certificate does not name */
	if (child->role != ROLE_CONTROLLER)
		add_flag(child, "--tls-pin", serve->tls.certificate);
	if (serve->api_token_file && child->role != ROLE_CONTROLLER)
		add_flag(child, "--controller-token-file", PLANE_CHILD_SECRET_PATH);
	add_flag(child, "--ready-fd", "3");
	for (const char *const *word = plane_log_flags(); *word; word++)
		add_word(child, *word);
}

/* ---- readiness ---- */

static void announce_if_complete(struct serve *serve)
{
	for (int i = 0; i < ROLE_COUNT; i++)
		if (!serve->children[i].is_ready)
			return;
	if (serve->is_announced)
		return;
	serve->is_announced = true;
	printf("ready after %" PRId64 " ms: connect with `plane admin --controller %s connect "
	       "--image IMAGE --key KEY`; Ctrl-C ends everything\n",
		plane_clock_boot_ms() - serve->started_at_ms, serve->controller_url);
	fflush(stdout);
	plane_ready_notify_manager();
}

static void close_ready(struct child *child)
{
	if (child->ready_fd < 0)
		return;
	(void)uv_poll_stop(&child->ready);
	uv_close((uv_handle_t *)&child->ready, NULL);
	plane_closep(&child->ready_fd);
	child->ready_fd = -1;
}

static const char *scheme_of(const struct serve *serve)
{
	return serve->tls.certificate ? "https://" : "http://";
}

/* The controller's own address; the others reach it there, on any address through loopback. */
static void learn_controller(struct serve *serve, const char *address)
{
	const char *port = strrchr(address, ':');
	bool is_any = plane_text_starts_with(address, "0.0.0.0:") ||
		      plane_text_starts_with(address, "[::]:");
	free(serve->controller_url);
	serve->controller_url = is_any && port
					? plane_strdupf("%s127.0.0.1%s", scheme_of(serve), port)
					: plane_strdupf("%s%s", scheme_of(serve), address);
}

static void become_ready(struct child *child)
{
	struct serve *serve = child->serve;
	bool is_first = !child->was_ready;
	child->is_ready = child->was_ready = true;
	if (child->role == ROLE_CONTROLLER)
		learn_controller(serve, child->told);
	if (is_first)
		printf("%-10s ready  %s%s\n", role_names[child->role],
			child->role == ROLE_DRONE        ? ""
			: child->role == ROLE_CONTROLLER ? scheme_of(serve)
							 : "http://",
			child->told);
	else
		plane_info("%s is back: %s", role_names[child->role], child->told);
	fflush(stdout);
	if (child->role == ROLE_CONTROLLER && is_first && !serve->is_stopping) {
		start_child(&serve->children[ROLE_DRONE]);
		start_child(&serve->children[ROLE_PROXY]);
	}
	announce_if_complete(serve);
}

static void on_ready_pipe(uv_poll_t *poll, int status, int events)
{
	struct child *child = poll->data;
	char line[sizeof(child->told) + 8];
	(void)events;
	ssize_t got = status < 0 ? 0 : read(child->ready_fd, line, sizeof(line) - 1);
	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	close_ready(child); /* one short line is written in one piece */
	if (got <= 0)
		return; /* it died: SIGCHLD tells */
	line[got] = '\0';
	line[strcspn(line, "\n")] = '\0';
	if (!plane_text_starts_with(line, "ready "))
		return;
	(void)plane_text_copy(child->told, sizeof(child->told), line + strlen("ready "));
	become_ready(child);
}

/* ---- starting and restarting ---- */

static void on_restart(uv_timer_t *timer)
{
	start_child(timer->data);
}

static void restart_later(struct child *child)
{
	int64_t lived_ms = plane_clock_boot_ms() - child->started_at_ms;
	if (lived_ms > HEALTHY_MS)
		child->backoff_ms = 0;
	int64_t wait_ms = child->backoff_ms;
	child->backoff_ms = wait_ms ? wait_ms * 2 : BACKOFF_MIN_MS;
	if (child->backoff_ms > BACKOFF_MAX_MS)
		child->backoff_ms = BACKOFF_MAX_MS;
	(void)uv_timer_start(&child->timer, on_restart, (uint64_t)wait_ms, 0);
}

static bool is_low_port(const char *address)
{
	const char *colon = strrchr(address, ':');
	return colon && atoi(colon + 1) > 0 && atoi(colon + 1) < 1024;
}

static const char *listen_of(const struct child *child)
{
	return child->role == ROLE_PROXY ? child->serve->proxy_listen : child->serve->listen;
}

static void start_child(struct child *child)
{
	struct serve *serve = child->serve;
	struct plane_error err = { 0 };
	write_command(child);
	struct plane_child_plan plan = { .argv = child->words,
		.exe_fd = serve->exe_fd,
		.roles_fd = serve->roles_fd,
		.secret_fd = child->role == ROLE_CONTROLLER ? serve->secret.entry_fd
							    : serve->secret.token_fd,
		.is_privileged = child->role == ROLE_DRONE,
		.uid = serve->uid,
		.gid = serve->gid,
		.binds_low_ports = child->role != ROLE_DRONE && is_low_port(listen_of(child)),
		.state_dir = child->role == ROLE_CONTROLLER ? serve->controller_dir : NULL };
	child->started_at_ms = plane_clock_boot_ms();
	child->is_ready = false;
	close_ready(child);
	pid_t pid = plane_child_start(&plan, &child->ready_fd, &err);
	if (pid < 0) {
		plane_error("%s", err.message);
		restart_later(child);
		return;
	}
	child->pid = pid;
	(void)uv_poll_init(&serve->loop, &child->ready, child->ready_fd); /* a fresh pipe */
	child->ready.data = child;
	(void)uv_poll_start(&child->ready, UV_READABLE, on_ready_pipe);
}

static void describe_end(const struct child *child, int status)
{
	const char *name = role_names[child->role];
	if (WIFSIGNALED(status))
		plane_warn("the %s (process %d) was ended by signal %d (%s)", name, child->pid,
			WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		plane_warn("the %s (process %d) ended with status %d", name, child->pid,
			WEXITSTATUS(status));
}

static void begin_stop(struct serve *serve, bool ends_backends)
{
	if (serve->is_stopping)
		return;
	serve->is_stopping = true;
	serve->ends_backends = ends_backends;
	serve->stopped = 0;
	for (int i = 0; i < ROLE_COUNT; i++)
		(void)uv_timer_stop(&serve->children[i].timer);
	stop_next(serve);
}

static void child_ended(struct child *child, int status)
{
	struct serve *serve = child->serve;
	bool could_not_start = !child->was_ready && WIFEXITED(status);
	close_ready(child);
	if (!serve->is_stopping)
		describe_end(child, status);
	child->pid = 0;
	child->is_ready = false;
	(void)uv_timer_stop(&child->timer);
	if (serve->is_stopping) {
		if (child->role == stop_order[serve->stopped])
			stop_next(serve);
	} else if (could_not_start) {
		(void)plane_fail(
			"the %s could not start; the lines above say why", role_names[child->role]);
		serve->exit_status = 1;
		begin_stop(serve, false); /* those that a former run left are not to blame */
	} else {
		restart_later(child);
	}
}

static void on_child(uv_signal_t *signal, int number)
{
	struct serve *serve = signal->data;
	int status;
	(void)number;
	for (int i = 0; i < ROLE_COUNT; i++) {
		struct child *child = &serve->children[i];
		if (child->pid > 0 && waitpid(child->pid, &status, WNOHANG) == child->pid)
			child_ended(child, status);
	}
}

/* ---- stopping ---- */

static void on_stop_limit(uv_timer_t *timer)
{
	struct child *child = timer->data;
	plane_error("the %s does not stop: it is killed", role_names[child->role]);
	if (child->pid > 0)
		(void)kill(child->pid, SIGKILL); /* ours, and not waited for yet */
}

static void close_handles(struct serve *serve)
{
	for (int i = 0; i < 3; i++)
		uv_close((uv_handle_t *)&serve->signals[i], NULL);
	for (int i = 0; i < ROLE_COUNT; i++) {
		close_ready(&serve->children[i]);
		uv_close((uv_handle_t *)&serve->children[i].timer, NULL);
	}
}

static void stop_next(struct serve *serve)
{
	size_t count = sizeof(stop_order) / sizeof(stop_order[0]);
	while (serve->stopped < count && (serve->children[stop_order[serve->stopped]].pid == 0))
		serve->stopped++;
	if (serve->stopped == count) {
		close_handles(serve);
		return;
	}
	struct child *child = &serve->children[stop_order[serve->stopped]];
	bool is_int = child->role == ROLE_DRONE && serve->ends_backends;
	(void)kill(child->pid, is_int ? SIGINT : SIGTERM); /* ours, and not waited for yet */
	(void)uv_timer_start(&child->timer, on_stop_limit, stop_limit_ms[child->role], 0);
}

static void on_stop_signal(uv_signal_t *signal, int number)
{
	struct serve *serve = signal->data;
	if (serve->is_stopping)
		return;
	if (number == SIGINT)
		fprintf(stderr, "\nstopping: ending all backends\n");
	else
		fprintf(stderr, "stopping: backends run on, for the next `plane serve` with this "
				"data directory (SIGINT would end them)\n");
	begin_stop(serve, number == SIGINT);
}

/* ---- setting up ---- */

static int own_directory(struct serve *serve, const char *path, struct plane_error *err)
{
	int result = plane_file_make_directories(path, 0700, err);
	if (result < 0)
		return result;
	if (lchown(path, serve->uid, serve->gid) < 0 || chmod(path, 0700) < 0)
		return plane_error_errno(err, "give %s to user %u", path, serve->uid);
	return 0;
}

static int check_addresses(struct serve *serve, struct plane_error *err)
{
	struct sockaddr_storage unused;
	if (plane_address_parse(serve->listen, &unused, err) < 0)
		return plane_error_prefix(err, "--listen");
	if (plane_address_parse(serve->proxy_listen, &unused, err) < 0)
		return plane_error_prefix(err, "--proxy-listen");
	if (plane_cluster_check(serve->cluster, err) < 0)
		return plane_error_prefix(err, "--cluster");
	if (serve->tls.client_authorities && !serve->api_token_file)
		return plane_error_set(err, EINVAL,
			"--tls-client-ca needs --api-token-file, which says what each certificate "
			"may do: `plane token create --certificate NAME`");
	const char *token_files[] = { serve->api_token_file, NULL };
	struct plane_controller_config controller = { .listen = serve->listen,
		.api_token_files = token_files,
		.tls = serve->tls,
		.is_insecure = serve->is_insecure };
	return plane_guard_check(&controller, err);
}

static int set_up(struct serve *serve, struct plane_error *err)
{
	int result = check_addresses(serve, err);
	if (result < 0)
		return result;
	if (geteuid() != 0)
		return plane_error_set(err, EPERM,
			"`plane serve` needs root to make sandboxes: run it with sudo (only the "
			"drone keeps root; controller and proxy give it up)");
	serve->data_dir = plane_data_dir(serve->data_dir_flag, err);
	if (!serve->data_dir)
		return err->code;
	serve->controller_dir = plane_controller_dir(serve->data_dir);
	result = serve->lock_fd = plane_serve_lock(serve->data_dir, err);
	if (result >= 0)
		result = serve->roles_fd =
			plane_serve_lock_roles(serve->data_dir, FORMER_ROLES_MS, err);
	if (result >= 0)
		result = plane_child_user(&serve->uid, &serve->gid, err);
	if (result == 0)
		result = own_directory(serve, serve->controller_dir, err);
	if (result == 0)
		result = plane_file_make_directories(PLANE_CHILD_STATE_DIR, 0755, err);
	if (result == 0 && serve->api_token_file)
		result = plane_serve_secret_make(&serve->secret, err);
	if (result < 0)
		return result;
	serve->exe_fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	return serve->exe_fd < 0 ? plane_error_errno(err, "open this program") : 0;
}

static void start_signal(struct serve *serve, int index, int number, uv_signal_cb callback)
{
	(void)uv_signal_init(&serve->loop, &serve->signals[index]);
	serve->signals[index].data = serve;
	(void)uv_signal_start(&serve->signals[index], callback, number);
}

static int run(struct serve *serve)
{
	if (uv_loop_init(&serve->loop) < 0)
		return plane_fail("start the loop");
	serve->started_at_ms = plane_clock_boot_ms();
	start_signal(serve, 0, SIGINT, on_stop_signal);
	start_signal(serve, 1, SIGTERM, on_stop_signal);
	start_signal(serve, 2, SIGCHLD, on_child);
	for (int i = 0; i < ROLE_COUNT; i++) {
		struct child *child = &serve->children[i];
		child->serve = serve;
		child->role = (enum role)i;
		child->ready_fd = -1;
		(void)uv_timer_init(&serve->loop, &child->timer); /* always succeeds */
		child->timer.data = child;
	}
	start_child(&serve->children[ROLE_CONTROLLER]);
	(void)uv_run(&serve->loop, UV_RUN_DEFAULT);
	(void)uv_loop_close(&serve->loop); /* all handles were closed */
	for (int i = 0; i < ROLE_COUNT; i++)
		clear_words(&serve->children[i]);
	return serve->exit_status;
}

static int serve_all(struct serve *serve)
{
	struct plane_error err = { 0 };
	serve->lock_fd = serve->roles_fd = serve->exe_fd = -1;
	serve->secret = PLANE_SERVE_SECRET_NONE;
	plane_log_start("serve");
	int status = set_up(serve, &err) < 0 ? plane_fail("%s", err.message) : run(serve);
	plane_closep(&serve->lock_fd);
	plane_closep(&serve->roles_fd);
	plane_closep(&serve->exe_fd);
	plane_serve_secret_finish(&serve->secret);
	free(serve->data_dir);
	free(serve->controller_dir);
	free(serve->controller_url);
	return status;
}

int plane_command_serve(int argc, char **argv)
{
	struct serve serve = { .listen = "127.0.0.1:8080",
		.proxy_listen = "127.0.0.1:9090",
		.cluster = "localhost:9090",
		.egress = "nat",
		/* there is no other drone to give a key to, and time to start the controller again
		 */
		.lease_seconds = 60 };
	const struct plane_flag flags[] = {
		{ "data-dir", PLANE_FLAG_TEXT, &serve.data_dir_flag, "DIR",
			"all state (default: $PLANE_DATA_DIR or /var/lib/plane)" },
		{ "listen", PLANE_FLAG_TEXT, &serve.listen, "IP:PORT",
			"the controller's API (default: 127.0.0.1:8080)" },
		{ "proxy-listen", PLANE_FLAG_TEXT, &serve.proxy_listen, "IP:PORT",
			"the proxy (default: 127.0.0.1:9090)" },
		{ "cluster", PLANE_FLAG_TEXT, &serve.cluster, "HOST[:PORT]",
			"as it stands in URLs (default: localhost:9090)" },
		{ "api-token-file", PLANE_FLAG_TEXT, &serve.api_token_file, "FILE",
			"who may use the API; the controller's user must be able to read it" },
		{ "tls-cert", PLANE_FLAG_TEXT, &serve.tls.certificate, "FILE",
			"the API by HTTPS, with this certificate and its chain" },
		{ "tls-key", PLANE_FLAG_TEXT, &serve.tls.key, "FILE",
			"its key; the controller's user must be able to read it" },
		{ "tls-client-ca", PLANE_FLAG_TEXT, &serve.tls.client_authorities, "FILE",
			"authorities of client certificates, which may be shown instead of a "
			"token" },
		{ "allow-host", PLANE_FLAG_TEXT, &serve.allowed_hosts, "NAME[,NAME]",
			"at which clients reach the API on loopback (default: localhost)" },
		{ "insecure-no-auth", PLANE_FLAG_BOOL, &serve.is_insecure, NULL,
			"let everybody use the API, on any address" },
		{ "egress", PLANE_FLAG_TEXT, &serve.egress, "nat|none",
			"what backends may reach outside (default: nat)" },
		{ "lease-seconds", PLANE_FLAG_INT, &serve.lease_seconds, "S",
			"backends outlive their controller for 4/5 of it (default: 60)", 1, 86400 },
		PLANE_CAPACITY_FLAGS(serve.capacity),
		{ "mount-base", PLANE_FLAG_TEXT, &serve.mount_base, "DIR",
			"where the directories of backends that ask for one live" },
		{ "root-redirect-url", PLANE_FLAG_TEXT, &serve.root_redirect_url, "URL",
			"where the proxy sends requests for /" },
		{ "drone-metrics", PLANE_FLAG_TEXT, &serve.drone_metrics, "IP:PORT",
			"serve the drone's GET /metrics here" },
		{ "proxy-metrics", PLANE_FLAG_TEXT, &serve.proxy_metrics, "IP:PORT",
			"serve the proxy's GET /metrics here" },
	};
	const struct plane_command command = {
		.usage = "plane serve [flags]",
		.summary = "Runs everything on this machine: a controller with an embedded store, "
			   "a drone and a proxy.\nCtrl-C (SIGINT) ends all backends; SIGTERM lets "
			   "them run on for the next start.",
		.examples = "  sudo plane serve\n"
			    "  sudo plane serve --data-dir ./.plane --listen 127.0.0.1:8080\n"
			    "  sudo plane image import echo echo.tar\n"
			    "  plane admin connect --image echo --key room-1\n",
		.flags = flags,
		.flag_count = sizeof(flags) / sizeof(flags[0]),
	};
	int status = plane_command_parse(&command, argc, argv, NULL);
	if (status >= 0)
		return status;
	/* here, where it is told at once, and not by a drone that is started again and again */
	struct plane_capacity_config capacity;
	struct plane_error err = { 0 };
	if (plane_capacity_words_read(&serve.capacity, &capacity, &err) < 0)
		return plane_fail("%s", err.message);
	return serve_all(&serve);
}
