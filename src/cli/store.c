/* `plane store`: moves a store. */
#include <inttypes.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/table.h"
#include "store/copy.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int64_t count_rows(const struct plane_store_copied *copied)
{
	int64_t rows = 0;
	for (size_t i = 0; i < copied->count; i++)
		rows += copied->tables[i].rows;
	return rows;
}

static int print_json(const struct plane_store_copied *copied)
{
	_cleanup_json_ json_t *tables = json_object();
	for (size_t i = 0; i < copied->count; i++)
		json_object_set_new(
			tables, copied->tables[i].table, json_integer(copied->tables[i].rows));
	_cleanup_json_ json_t *json = json_pack("{s:I,s:O,s:I,s:I}", "rows", count_rows(copied),
		"tables", tables, "fencing_token", copied->fencing_token, "time_shift_ms",
		copied->time_shift_ms);
	_cleanup_free_ char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
	return puts(text) < 0 || fflush(stdout) != 0 ? 1 : 0;
}

static int print_table(const struct plane_store_copied *copied)
{
	struct plane_table table = { .columns = 2, .right_columns = 1U << 1 };
	char number[24];
	plane_table_add(&table, "TABLE", "ROWS");
	for (size_t i = 0; i < copied->count; i++) {
		snprintf(number, sizeof(number), "%" PRId64, copied->tables[i].rows);
		plane_table_add(&table, copied->tables[i].table, number);
	}
	snprintf(number, sizeof(number), "%" PRId64, count_rows(copied));
	plane_table_add(&table, "all", number);
	plane_table_print(&table);
	printf("Fencing tokens go on above %" PRId64 ".\nStart controllers on the target only: "
	       "the source is as it was, and would give the same keys away again.\n",
		copied->fencing_token);
	return fflush(stdout) != 0 ? 1 : 0;
}

static int run_copy(int argc, char **argv)
{
	const char *from = NULL, *to = NULL;
	bool is_json = false;
	struct plane_error err = { 0 };
	struct plane_store_copied copied;
	const struct plane_flag flags[] = {
		{ "from", PLANE_FLAG_TEXT, &from, "URL",
			"the store that is there: sqlite:PATH or postgres://...",
			.is_required = true },
		{ "to", PLANE_FLAG_TEXT, &to, "URL",
			"an empty database, or none yet for sqlite:", .is_required = true },
		{ "json", PLANE_FLAG_BOOL, &is_json, NULL, "print one JSON object" },
	};
	const struct plane_command command = {
		.usage = "plane store copy --from URL --to URL [--json]",
		.summary = "Copies all that a stopped controller's store knows into an empty one, "
			   "of the same\nkind or not: keys with their leases, backends, tokens, "
			   "orders. All of it, or nothing\nwhen it fails or is interrupted. The "
			   "backends may run on meanwhile, for as long as\ntheir leases allow.",
		.examples = "  plane store copy --from "
			    "sqlite:/var/lib/plane/controller/controller.db \\\n"
			    "    --to postgres://plane@db.example.com/plane\n",
		.flags = flags,
		.flag_count = COUNT(flags),
	};
	int status = plane_command_parse(&command, argc, argv, NULL);
	if (status >= 0)
		return status;
	plane_log_start("store");
	if (plane_store_copy(from, to, &copied, &err) < 0)
		return plane_fail("%s", err.message);
	return is_json ? print_json(&copied) : print_table(&copied);
}

int plane_command_store(int argc, char **argv)
{
	static const struct plane_subcommand table[] = {
		{ "copy", run_copy, "move a stopped controller's state into another database" },
		{ 0 },
	};
	return plane_subcommand_run(table, "plane store", "The controller's memory.", argc, argv);
}
