/* Asks the system call filter itself: a child adds a filter of its own that gives the call to its
 * parent (seccomp user notification). The filters that were there before win when they refuse, so a
 * call that reaches the parent would have reached the kernel. The parent kills the child: nothing
 * is executed, whatever the call and its arguments are. seccomp(2). */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "facts.h"

#define CALLS 480
#define X32 0x40000000u
#define FAMILIES 46

struct question {
	uint32_t architecture, number;
	uint64_t first, second; /* arguments */
};

static volatile struct { /* shared with the child */
	int listener;
	bool has_failed;
} * shared;

static int add_filter(const struct question *question)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, question->architecture, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, question->number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(*code), code };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return (int)syscall(
		SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

/* Makes the call and ends, without any other call in between that the filter could take for it:
 * exit_group is asked about with the same code. */
static void make_call(const struct question *question)
{
	long result = question->number;
	if (question->architecture == AUDIT_ARCH_I386) {
		__asm__ volatile(
			"int $0x80"
			: "+a"(result)
			: "b"(question->first), "c"(question->second), "d"(0), "S"(0), "D"(0)
			: "memory");
		return;
	}
	register long r10 __asm__("r10") = 0;
	register long r8 __asm__("r8") = 0;
	register long r9 __asm__("r9") = 0;
	__asm__ volatile(
		"syscall"
		: "+a"(result)
		: "D"(question->first), "S"(question->second), "d"(0), "r"(r10), "r"(r8), "r"(r9)
		: "rcx", "r11", "memory");
}

/* The same descriptors in parent and child, so that the parent has the listener. */
static pid_t start_child(const struct question *question)
{
	shared->listener = -1;
	shared->has_failed = false;
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	if (pid != 0)
		return pid;
	int listener = add_filter(question);
	shared->has_failed = listener < 0;
	shared->listener = listener;
	if (listener >= 0)
		make_call(question);
	kill(getpid(), SIGKILL); /* an exit may be what is asked about */
	for (;;)
		pause();
}

/* 1: reaches the kernel, 0: refused, -1: could not be asked. */
static int ask(const struct question *question)
{
	int answer = -1;
	pid_t pid = start_child(question);
	int process = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	struct pollfd polls[] = { { -1, POLLIN, 0 }, { process, POLLIN, 0 } };
	if (process < 0)
		return -1;
	while (shared->listener < 0 && !shared->has_failed && poll(&polls[1], 1, 0) == 0)
		sched_yield();
	polls[0].fd = shared->listener;
	if (!shared->has_failed && polls[0].fd >= 0 && poll(polls, 2, 5000) > 0)
		answer = polls[0].revents & POLLIN ? 1 : 0;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(process);
	if (polls[0].fd >= 0)
		close(polls[0].fd);
	return answer;
}

static void add_numbers(
	struct web_buffer *json, const char *name, uint32_t architecture, uint32_t bits)
{
	const char *comma = "";
	web_buffer_printf(json, ",\"%s\":[", name);
	for (uint32_t number = 0; number < CALLS; number++) {
		struct question question = { architecture, number | bits, 0, 0 };
		int answer = ask(&question);
		if (answer < 0)
			web_buffer_printf(json, "%s\"no answer for %u\"", comma, number);
		else if (answer > 0)
			web_buffer_printf(json, "%s%u", comma, number);
		comma = answer != 0 ? "," : comma;
	}
	web_buffer_append_text(json, "]");
}

/* Calls that a filter may judge by an argument. */
static void add_arguments(struct web_buffer *json)
{
	static const struct {
		const char *name;
		uint32_t number;
		uint64_t first, second;
	} calls[] = { { "clone(CLONE_NEWUSER)", SYS_clone, CLONE_NEWUSER, 0 },
		{ "clone(CLONE_NEWNS)", SYS_clone, CLONE_NEWNS, 0 },
		{ "clone(CLONE_NEWPID)", SYS_clone, CLONE_NEWPID, 0 },
		{ "clone(CLONE_NEWNET)", SYS_clone, CLONE_NEWNET, 0 },
		{ "clone(CLONE_NEWIPC)", SYS_clone, CLONE_NEWIPC, 0 },
		{ "clone(CLONE_NEWUTS)", SYS_clone, CLONE_NEWUTS, 0 },
		{ "clone(CLONE_NEWCGROUP)", SYS_clone, CLONE_NEWCGROUP, 0 },
		{ "personality(PER_LINUX32)", SYS_personality, 8, 0 },
		{ "personality(ADDR_NO_RANDOMIZE)", SYS_personality, 0x40000, 0 },
		{ "personality(READ_IMPLIES_EXEC)", SYS_personality, 0x400000, 0 } };
	const char *comma = "";
	web_buffer_append_text(json, ",\"arguments\":[");
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		struct question question = { AUDIT_ARCH_X86_64, calls[i].number, calls[i].first,
			calls[i].second };
		if (ask(&question) == 0)
			continue;
		web_buffer_printf(json, "%s\"%s\"", comma, calls[i].name);
		comma = ",";
	}
	web_buffer_append_text(json, "],\"socket_families\":[");
	comma = "";
	for (uint64_t family = 0; family < FAMILIES; family++) {
		struct question question = { AUDIT_ARCH_X86_64, SYS_socket, family, 1 };
		if (ask(&question) == 0)
			continue;
		web_buffer_printf(json, "%s%u", comma, (unsigned)family);
		comma = ",";
	}
	web_buffer_append_text(json, "]");
}

void facts_system_calls(struct web_buffer *json)
{
	shared = mmap(
		NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		abort();
	add_numbers(json, "calls", AUDIT_ARCH_X86_64, 0);
	add_numbers(json, "calls_i386", AUDIT_ARCH_I386, 0);
	add_numbers(json, "calls_x32", AUDIT_ARCH_X86_64, X32);
	add_arguments(json);
	munmap((void *)shared, sizeof(*shared));
}
