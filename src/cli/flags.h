/* Command-line flags: a table says what there is; parsing, checks and --help come from it. */
#ifndef PLANE_CLI_FLAGS_H
#define PLANE_CLI_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum plane_flag_kind {
	PLANE_FLAG_TEXT, /* const char * */
	PLANE_FLAG_INT,  /* int64_t, from min to max */
	PLANE_FLAG_BOOL, /* bool; takes no value */
	PLANE_FLAG_LIST, /* struct plane_flag_list; may be given several times */
};

#define PLANE_FLAG_LIST_MAX 64
struct plane_flag_list {
	const char *values[PLANE_FLAG_LIST_MAX + 1]; /* NULL-terminated */
	size_t count;
};

struct plane_flag {
	const char *name; /* without the dashes */
	enum plane_flag_kind kind;
	void *target;
	const char *value_name; /* in --help; NULL for BOOL */
	const char *help;       /* NULL: not shown */
	int64_t min, max;       /* INT */
	bool is_required;
};

#define PLANE_COMMAND_WORDS_MAX 8

/** One command: how it is used, and where its arguments go. */
struct plane_command {
	const char *usage;    /* "plane image import NAME PATH [flags]" */
	const char *summary;  /* a sentence or two */
	const char *examples; /* whole lines, indented; NULL for none */
	const struct plane_flag *flags;
	size_t flag_count;
	int min_words, max_words; /* arguments that are no flags */
};

/**
 * Reads `argv` (behind the command's name) into the targets and `words` (NULL-terminated; may be
 * NULL when max_words is 0). Every command also has --log-format, --log-level and --help. Returns
 * -1 to go on; otherwise the process's exit status: 0 after --help, 2 after a mistake, which was
 * told on stderr.
 */
int plane_command_parse(const struct plane_command *command, int argc, char **argv,
	const char *words[PLANE_COMMAND_WORDS_MAX + 1]);

/** The log flags as they were given, to be passed on to child processes. NULL-terminated pairs. */
const char *const *plane_log_flags(void);

/** Sets up the log by the flags and the reference's environment variables (PLANE_LOG_JSON,
 *  RUST_LOG). `role` is a literal. Exits with 2 when they are wrong. */
void plane_log_start(const char *role);

/** Prints "error: <message>" on stderr, in red on a terminal, and returns 1. */
int plane_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
