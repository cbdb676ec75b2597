/* Parsing of flags and printing of help. */
#include "cli/flags.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"

static struct {
	const char *format, *level;
	const char *words[5];
} log_flags;

static const struct plane_flag common_flags[] = {
	{ "log-format", PLANE_FLAG_TEXT, &log_flags.format, "pretty|json",
		"form of the log on stderr (default: pretty)" },
	{ "log-level", PLANE_FLAG_TEXT, &log_flags.level, "debug|info|warn|error",
		"what is logged (default: info)" },
};
#define COMMON_COUNT (sizeof(common_flags) / sizeof(common_flags[0]))

int plane_fail(const char *format, ...)
{
	bool is_terminal = isatty(STDERR_FILENO);
	va_list args;
	fputs(is_terminal ? "\033[31merror:\033[0m " : "error: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return 1;
}

static int mistake(const struct plane_command *command, const char *what, const char *subject)
{
	(void)plane_fail("%s%s%s", what, subject ? ": " : "", subject ? subject : "");
	fprintf(stderr, "usage: %s\nMore with --help.\n", command->usage);
	return 2;
}

static void print_flag(const struct plane_flag *flag)
{
	char left[64];
	if (!flag->help)
		return;
	snprintf(left, sizeof(left), "--%s%s%s", flag->name, flag->value_name ? " " : "",
		flag->value_name ? flag->value_name : "");
	printf("  %-34s %s%s\n", left, flag->help, flag->is_required ? " (required)" : "");
}

static void print_help(const struct plane_command *command)
{
	printf("%s\n\nusage: %s\n", command->summary, command->usage);
	if (command->examples)
		printf("\nexamples:\n%s", command->examples);
	printf("\nflags:\n");
	for (size_t i = 0; i < command->flag_count; i++)
		print_flag(&command->flags[i]);
	for (size_t i = 0; i < COMMON_COUNT; i++)
		print_flag(&common_flags[i]);
	print_flag(&(struct plane_flag){ .name = "help", .help = "this text" });
}

static const struct plane_flag *find_in(
	const struct plane_flag *flags, size_t count, const char *name, size_t len)
{
	for (size_t i = 0; i < count; i++)
		if (strlen(flags[i].name) == len && strncmp(flags[i].name, name, len) == 0)
			return &flags[i];
	return NULL;
}

static const struct plane_flag *find(
	const struct plane_command *command, const char *name, size_t len)
{
	const struct plane_flag *flag = find_in(command->flags, command->flag_count, name, len);
	return flag ? flag : find_in(common_flags, COMMON_COUNT, name, len);
}

/* NULL, or what is wrong. */
static const char *store(const struct plane_flag *flag, const char *value)
{
	struct plane_flag_list *list;
	static char range[96];
	switch (flag->kind) {
	case PLANE_FLAG_TEXT:
		*(const char **)flag->target = value;
		return NULL;
	case PLANE_FLAG_INT:
		if (plane_text_parse_int(value, flag->min, flag->max, flag->target))
			return NULL;
		snprintf(range, sizeof(range),
			"expected a number from %" PRId64 " to %" PRId64 " for", flag->min,
			flag->max);
		return range;
	case PLANE_FLAG_BOOL:
		*(bool *)flag->target = true;
		return NULL;
	case PLANE_FLAG_LIST:
		list = flag->target;
		if (list->count == PLANE_FLAG_LIST_MAX)
			return "given too many times";
		list->values[list->count++] = value;
		return NULL;
	}
	return NULL;
}

/* Takes argv[*at], a flag, and its value. 0, or an exit status. */
static int take_flag(const struct plane_command *command, int argc, char **argv, int *at)
{
	const char *text = argv[*at] + 2;
	const char *equals = strchr(text, '=');
	size_t len = equals ? (size_t)(equals - text) : strlen(text);
	const struct plane_flag *flag = find(command, text, len);
	if (!flag)
		return mistake(command, "there is no such flag", argv[*at]);
	const char *value = equals ? equals + 1 : NULL;
	if (flag->kind == PLANE_FLAG_BOOL && value)
		return mistake(command, "this flag takes no value", argv[*at]);
	if (flag->kind != PLANE_FLAG_BOOL && !value) {
		if (*at + 1 >= argc)
			return mistake(command, "this flag needs a value", argv[*at]);
		value = argv[++*at];
	}
	const char *problem = store(flag, value);
	return problem ? mistake(command, problem, flag->name) : 0;
}

static bool is_given(const struct plane_flag *flag)
{
	return flag->kind != PLANE_FLAG_TEXT || *(const char **)flag->target != NULL;
}

static int check_complete(const struct plane_command *command, int word_count)
{
	for (size_t i = 0; i < command->flag_count; i++) {
		const struct plane_flag *flag = &command->flags[i];
		char name[64];
		snprintf(name, sizeof(name), "--%s", flag->name);
		if (flag->is_required && !is_given(flag))
			return mistake(command, "this flag is needed", name);
	}
	if (word_count < command->min_words)
		return mistake(command, "something is missing", NULL);
	return -1;
}

int plane_command_parse(const struct plane_command *command, int argc, char **argv,
	const char *words[PLANE_COMMAND_WORDS_MAX + 1])
{
	int word_count = 0;
	bool are_flags_over = false;
	for (int i = 0; i < argc; i++) {
		if (!are_flags_over && strcmp(argv[i], "--") == 0) {
			are_flags_over = true;
		} else if (!are_flags_over &&
			   (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
			print_help(command);
			return 0;
		} else if (!are_flags_over && plane_text_starts_with(argv[i], "--")) {
			int status = take_flag(command, argc, argv, &i);
			if (status > 0)
				return status;
		} else if (word_count == command->max_words) {
			return mistake(command, "did not expect", argv[i]);
		} else {
			words[word_count++] = argv[i];
		}
	}
	if (words)
		words[word_count] = NULL;
	return check_complete(command, word_count);
}

const char *const *plane_log_flags(void)
{
	size_t count = 0;
	if (log_flags.format) {
		log_flags.words[count++] = "--log-format";
		log_flags.words[count++] = log_flags.format;
	}
	if (log_flags.level) {
		log_flags.words[count++] = "--log-level";
		log_flags.words[count++] = log_flags.level;
	}
	log_flags.words[count] = NULL;
	return log_flags.words;
}

void plane_log_start(const char *role)
{
	enum plane_log_format format = PLANE_LOG_PRETTY;
	enum plane_log_level level = PLANE_LOG_INFO;
	const char *json = getenv("PLANE_LOG_JSON");
	const char *rust = getenv("RUST_LOG");
	if (json && strcmp(json, "false") != 0)
		format = PLANE_LOG_JSON;
	if (rust) /* may hold more than a level: then the default stays */
		(void)plane_log_parse_level(rust, &level);
	if (log_flags.format && !plane_log_parse_format(log_flags.format, &format)) {
		(void)plane_fail("--log-format: expected pretty or json");
		exit(2);
	}
	if (log_flags.level && !plane_log_parse_level(log_flags.level, &level)) {
		(void)plane_fail("--log-level: expected debug, info, warn or error");
		exit(2);
	}
	plane_log_init(role, level, format);
}
