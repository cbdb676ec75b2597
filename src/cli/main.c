/* plane: one binary, a subcommand for each role and each task. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/version.h"
#include "cli/commands.h"
#include "cli/flags.h"

static void print_table(
	const struct plane_subcommand *table, const char *command, const char *intro)
{
	printf("%s\n\nusage: %s COMMAND [flags]      (%s COMMAND --help says more)\n\ncommands:\n",
		intro, command, command);
	for (; table->name; table++)
		printf("  %-16s %s\n", table->name, table->help);
}

int plane_subcommand_run(const struct plane_subcommand *table, const char *command,
	const char *intro, int argc, char **argv)
{
	if (argc == 0 || strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0 ||
		strcmp(argv[0], "help") == 0) {
		print_table(table, command, intro);
		return argc == 0 ? 2 : 0;
	}
	for (const struct plane_subcommand *entry = table; entry->name; entry++)
		if (strcmp(entry->name, argv[0]) == 0)
			return entry->run(argc - 1, argv + 1);
	(void)plane_fail("%s: there is no command \"%s\"; `%s --help` lists them", command, argv[0],
		command);
	return 2;
}

int plane_command_version(int argc, char **argv)
{
	static const struct plane_command command = { .usage = "plane version",
		.summary = "Prints the version of this program." };
	int status = plane_command_parse(&command, argc, argv, NULL);
	if (status >= 0)
		return status;
	printf("Client version: %s\nClient hash: %s\n", PLANE_VERSION, PLANE_GIT_HASH);
	return 0;
}

static const struct plane_subcommand commands[] = {
	{ "serve", plane_command_serve, "everything on this machine: controller, drone and proxy" },
	{ "image", plane_command_image, "import, list, show and remove images" },
	{ "admin", plane_command_admin, "connect to a key, look at backends, drain a drone" },
	{ "token", plane_command_token, "make, list and revoke tokens of the control API" },
	{ "controller", plane_command_controller, "run a controller" },
	{ "drone", plane_command_drone, "run a drone" },
	{ "proxy", plane_command_proxy, "run a proxy" },
	{ "run-config", plane_command_run_config, "run one role as a JSON file says" },
	{ "migrate", plane_command_migrate, "bring a store's schema to this version" },
	{ "store", plane_command_store, "move a store to another database" },
	{ "version", plane_command_version, "print the version" },
	{ 0 },
};

int main(int argc, char **argv)
{
	/* Modes of files are what the code says, whoever starts it: a service manager or a shell
	 * with a tighter mask would take from controllers and backends what they must be able to
	 * read. */
	umask(022);
	return plane_subcommand_run(commands, "plane",
		"Plane runs one isolated process for each key (a document, a room, a user) and "
		"gives "
		"out a URL to it.",
		argc - 1, argv + 1);
}
