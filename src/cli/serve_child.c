/* Starting a role as a child process. */
#include "cli/serve_child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/ready.h"

int plane_child_user(uid_t *uid, gid_t *gid, struct plane_error *err)
{
	const struct passwd *user = getpwnam("plane");
	if (!user)
		user = getpwnam("nobody");
	if (!user || user->pw_uid == 0)
		return plane_error_set(err, ENOENT,
			"there is no user \"plane\" or \"nobody\" for the controller and the proxy "
			"to run as: useradd --system plane");
	*uid = user->pw_uid;
	*gid = user->pw_gid;
	return 0;
}

/* ---- between fork and exec ---- */

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "error: start a role: %s: %s\n", what, strerror(errno));
	_exit(127);
}

/* The parents of the data directory may be closed to the child's user. */
static void mount_state(const char *state_dir)
{
	if (unshare(CLONE_NEWNS) < 0)
		die("unshare the mount namespace");
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		die("make mounts private");
	if (mount(state_dir, PLANE_CHILD_STATE_DIR, NULL, MS_BIND, NULL) < 0)
		die("mount its state on " PLANE_CHILD_STATE_DIR);
	if (mount(NULL, PLANE_CHILD_STATE_DIR, NULL,
		    MS_BIND | MS_REMOUNT | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		die("restrict the mount of its state");
}

static void keep_low_ports(void)
{
	cap_t wanted = cap_from_text("cap_net_bind_service=pi");
	if (!wanted || cap_set_proc(wanted) < 0 ||
		cap_set_ambient(CAP_NET_BIND_SERVICE, CAP_SET) < 0)
		die("keep the right to low ports");
	cap_free(wanted);
}

static void drop_privileges(const struct plane_child_plan *plan)
{
	if (plan->binds_low_ports && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		die("keep capabilities");
	if (setgroups(0, NULL) < 0 || setresgid(plan->gid, plan->gid, plan->gid) < 0 ||
		setresuid(plan->uid, plan->uid, plan->uid) < 0)
		die("change the user");
	if (plan->binds_low_ports)
		keep_low_ports();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		die("give up new privileges");
}

static void set_descriptors(const struct plane_child_plan *plan, int ready_fd)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0)
		die("open /dev/null");
	if (dup2(ready_fd, PLANE_CHILD_READY_FD) < 0 ||
		dup2(plan->roles_fd, PLANE_CHILD_ROLES_FD) < 0)
		die("pass on the readiness pipe and the lock");
	if (plan->secret_fd >= 0 && dup2(plan->secret_fd, PLANE_CHILD_SECRET_FD) < 0)
		die("pass on the token");
	/* the program's own descriptor is close-on-exec and goes with the exec */
	unsigned first = plan->secret_fd >= 0 ? PLANE_CHILD_SECRET_FD + 1 : PLANE_CHILD_SECRET_FD;
	if (close_range(first, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		die("close descriptors");
}

static _Noreturn void become(const struct plane_child_plan *plan, int ready_fd, pid_t parent)
{
	sigset_t none;
	sigemptyset(&none);
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0 || setpgid(0, 0) < 0)
		die("set up the process");
	if (plan->state_dir)
		mount_state(plan->state_dir);
	set_descriptors(plan, ready_fd);
	if (!plan->is_privileged)
		drop_privileges(plan);
	/* after the change of user, which would clear it */
	if (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) < 0)
		die("follow the parent's death");
	if (getppid() != parent)
		_exit(1);
	(void)unsetenv(PLANE_READY_MANAGER); /* it waits for the supervisor */
	(void)syscall(SYS_execveat, plan->exe_fd, "", plan->argv, environ, AT_EMPTY_PATH);
	die("execute this program");
}

pid_t plane_child_start(const struct plane_child_plan *plan, int *ready_fd, struct plane_error *err)
{
	int ends[2];
	pid_t parent = getpid();
	if (pipe2(ends, O_CLOEXEC) < 0)
		return plane_error_errno(err, "make a pipe for readiness");
	_cleanup_close_ int read_end = ends[0];
	_cleanup_close_ int write_end = ends[1];
	pid_t pid = fork();
	if (pid < 0)
		return (void)plane_error_errno(err, "start %s", plan->argv[1]), -1;
	if (pid == 0) {
		/* above the descriptors that are set up for the child */
		int exe_fd = fcntl(plan->exe_fd, F_DUPFD_CLOEXEC, 10);
		int pipe_fd = fcntl(write_end, F_DUPFD_CLOEXEC, 10);
		int roles_fd = fcntl(plan->roles_fd, F_DUPFD_CLOEXEC, 10);
		struct plane_child_plan own = *plan;
		own.exe_fd = exe_fd;
		own.roles_fd = roles_fd;
		if (plan->secret_fd >= 0)
			own.secret_fd = fcntl(plan->secret_fd, F_DUPFD_CLOEXEC, 10);
		bool is_secret_lost = plan->secret_fd >= 0 && own.secret_fd < 0;
		if (exe_fd < 0 || pipe_fd < 0 || roles_fd < 0 || is_secret_lost)
			die("duplicate descriptors");
		become(&own, pipe_fd, parent);
	}
	*ready_fd = plane_steal_fd(&read_end);
	return pid;
}
