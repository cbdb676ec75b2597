/* Watching. Signals are blocked but for the moments in which it waits, so that none is missed. */
#include "cli/watch.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/display.h"

#define ENTER "\033[?1049h\033[?25l" /* the other screen, no cursor */
#define LEAVE "\033[?25h\033[?1049l"

static const int ending_signals[] = { SIGINT, SIGTERM, SIGHUP };

static volatile sig_atomic_t ended_by, was_resized, was_suspended;

struct screen {
	bool is_terminal, is_entered;
	struct plane_buffer block; /* what was last had, whole lines */
	char problem[sizeof(((struct plane_error *)0)->message)]; /* since then; "": none */
};

static void on_signal(int number)
{
	if (number == SIGWINCH)
		was_resized = 1;
	else if (number == SIGTSTP)
		was_suspended = 1;
	else
		ended_by = number;
}

static void catch_signal(int number)
{
	struct sigaction action = { .sa_handler = on_signal };
	sigemptyset(&action.sa_mask);
	(void)sigaction(number, &action, NULL); /* fails for unknown numbers only */
}

bool plane_watch_is_over(void)
{
	return ended_by != 0;
}

void plane_watch_signals(void)
{
	for (size_t i = 0; i < sizeof(ending_signals) / sizeof(ending_signals[0]); i++)
		catch_signal(ending_signals[i]);
}

int plane_watch_signal(void)
{
	return ended_by;
}

static int exit_status(void)
{
	return ended_by == SIGINT ? 0 : 128 + ended_by;
}

/* Sleeps so long or until a signal was handled: one that came before is seen, not slept through. */
static void wait_for_signal(int64_t wait_ms)
{
	struct timespec limit = { .tv_sec = wait_ms / 1000, .tv_nsec = wait_ms % 1000 * 1000000 };
	sigset_t all, before;
	sigfillset(&all);
	(void)sigprocmask(SIG_BLOCK, &all, &before); /* fails for wrong arguments only */
	if (!ended_by && !was_resized && !was_suspended)
		(void)ppoll(NULL, 0, &limit, &before); /* the caller looks at the time */
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
}

bool plane_watch_wait(int64_t wait_ms)
{
	int64_t until_ms = plane_clock_boot_ms() + wait_ms;
	int64_t now_ms = until_ms - wait_ms;
	while (!ended_by && now_ms < until_ms) {
		wait_for_signal(until_ms - now_ms);
		now_ms = plane_clock_boot_ms();
	}
	return !ended_by;
}

/* ---- drawing ---- */

static void put(const struct plane_buffer *text)
{
	(void)fwrite(text->data, 1, text->len, stdout); /* a reader that went is told by SIGPIPE */
	(void)fflush(stdout);
}

static void put_text(const char *text)
{
	(void)fputs(text, stdout); /* as above */
	(void)fflush(stdout);
}

static void enter(struct screen *screen)
{
	if (screen->is_terminal && !screen->is_entered)
		put_text(ENTER);
	screen->is_entered = screen->is_terminal;
}

static void leave(struct screen *screen)
{
	if (screen->is_entered)
		put_text(LEAVE);
	screen->is_entered = false;
}

static void add_line(struct plane_buffer *frame, const char *line, size_t len, int columns)
{
	plane_buffer_add(frame, line, plane_display_fit(line, len, columns));
	plane_buffer_add_text(frame, "\033[K\n");
}

/* The head: what, how often, when; or why it is not newer. */
static void add_head(
	struct plane_buffer *text, const struct plane_watch *watch, const char *problem)
{
	char now[PLANE_DISPLAY_SIZE];
	plane_display_time(plane_clock_realtime_ms(), now);
	plane_buffer_addf(text, "%s  every %d s  %s", watch->title, (int)watch->interval_s, now);
	if (problem[0])
		plane_buffer_addf(text, "  NOT UP TO DATE: %s", problem);
}

static size_t count_lines(const struct plane_buffer *block)
{
	size_t count = 0;
	for (size_t i = 0; i < block->len; i++)
		count += block->data[i] == '\n';
	return count;
}

/* The lines of the block as far as the screen has room; the last one says how many more. */
static void add_block(
	struct plane_buffer *frame, const struct plane_buffer *block, int rows, int columns)
{
	size_t lines = count_lines(block), room = rows > 1 ? (size_t)rows : 1;
	size_t shown = lines <= room ? lines : room - 1;
	const char *line = block->data;
	for (size_t i = 0; i < shown; i++) {
		const char *end = memchr(line, '\n', block->len - (size_t)(line - block->data));
		add_line(frame, line, (size_t)(end - line), columns);
		line = end + 1;
	}
	if (shown < lines) {
		char more[64];
		int len = snprintf(more, sizeof(more), "... %zu more lines", lines - shown);
		add_line(frame, more, (size_t)len, columns);
	}
}

static void draw(struct screen *screen, const struct plane_watch *watch)
{
	struct winsize size = { 0 };
	_cleanup_(plane_buffer_finish) struct plane_buffer frame = { 0 }, head = { 0 };
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_row || !size.ws_col)
		size = (struct winsize){ .ws_row = 24, .ws_col = 80 };
	plane_buffer_add_text(&frame, "\033[H");
	add_head(&head, watch, screen->problem);
	char *newline = memchr(head.data, '\n', head.len); /* a problem may have several lines */
	add_line(
		&frame, head.data, newline ? (size_t)(newline - head.data) : head.len, size.ws_col);
	plane_buffer_add_text(&frame, "\033[K\n");
	/* the last row stays free: a newline behind it would scroll */
	add_block(&frame, &screen->block, size.ws_row - 3, size.ws_col);
	plane_buffer_add_text(&frame, "\033[J");
	put(&frame);
}

/* On no terminal: each block behind the last one. */
static void append(struct screen *screen, const struct plane_watch *watch)
{
	_cleanup_(plane_buffer_finish) struct plane_buffer head = { 0 };
	if (screen->problem[0]) {
		(void)plane_fail("%s", screen->problem);
		return;
	}
	if (watch->title) {
		add_head(&head, watch, "");
		plane_buffer_add_text(&head, "\n");
		put(&head);
	}
	put(&screen->block);
	if (watch->title)
		put_text("\n");
}

/* ---- the loop ---- */

static int take(struct screen *screen, const struct plane_watch *watch)
{
	struct plane_error err = { 0 };
	_cleanup_(plane_buffer_finish) struct plane_buffer block = { 0 };
	int result = watch->snapshot(watch->data, &block, &err);
	if (result < 0) {
		snprintf(screen->problem, sizeof(screen->problem), "%s", err.message);
		return result;
	}
	plane_buffer_clear(&screen->block);
	plane_buffer_add(&screen->block, block.data, block.len);
	screen->problem[0] = '\0';
	return 0;
}

/* As if the signal had not been caught: stops here, goes on when the shell says so. */
static void suspend(struct screen *screen)
{
	leave(screen);
	was_suspended = 0;
	(void)raise(SIGSTOP); /* returns after SIGCONT */
	enter(screen);
}

static void show_until_next(struct screen *screen, const struct plane_watch *watch)
{
	int64_t until_ms = plane_clock_boot_ms() + watch->interval_s * 1000;
	do {
		if (was_suspended)
			suspend(screen);
		was_resized = 0;
		if (screen->is_terminal)
			draw(screen, watch);
		int64_t left_ms = until_ms - plane_clock_boot_ms();
		wait_for_signal(left_ms > 0 ? left_ms : 0);
	} while (!ended_by && plane_clock_boot_ms() < until_ms);
}

int plane_watch(const struct plane_watch *watch)
{
	struct screen screen = { .is_terminal = watch->title && isatty(STDOUT_FILENO) };
	plane_watch_signals();
	if (screen.is_terminal) {
		catch_signal(SIGWINCH);
		catch_signal(SIGTSTP);
	}
	if (take(&screen, watch) < 0)
		return ended_by ? exit_status() : plane_fail("%s", screen.problem);
	enter(&screen);
	while (!ended_by) {
		if (!screen.is_terminal)
			append(&screen, watch);
		show_until_next(&screen, watch);
		if (!ended_by)
			(void)take(&screen, watch); /* why not is shown */
	}
	leave(&screen);
	if (screen.is_terminal)
		put(&screen.block);
	plane_buffer_finish(&screen.block);
	return exit_status();
}
