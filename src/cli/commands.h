/* The subcommands. Each takes the arguments behind its name and returns the exit status. */
#ifndef PLANE_CLI_COMMANDS_H
#define PLANE_CLI_COMMANDS_H

int plane_command_serve(int argc, char **argv);
int plane_command_controller(int argc, char **argv);
int plane_command_drone(int argc, char **argv);
int plane_command_proxy(int argc, char **argv);
int plane_command_image(int argc, char **argv);
int plane_command_admin(int argc, char **argv);
int plane_command_token(int argc, char **argv);
int plane_command_migrate(int argc, char **argv);
int plane_command_store(int argc, char **argv);
int plane_command_run_config(int argc, char **argv);
int plane_command_version(int argc, char **argv);

/** A table of named subcommands, for `plane` itself, `plane image`, `plane admin`. */
struct plane_subcommand {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
};

/** Runs the subcommand that argv[0] names, or prints `intro` and the table. */
int plane_subcommand_run(const struct plane_subcommand *table, const char *command,
	const char *intro, int argc, char **argv);

#endif
