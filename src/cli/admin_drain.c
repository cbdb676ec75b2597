/* `plane admin drain` and its opposite; --wait looks on until the drone is empty. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "cli/admin.h"
#include "cli/watch.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define LOOK_MS 1000
#define NAMES_MAX 5        /* of backends, in a line of progress */
#define STATUS_NOT_EMPTY 3 /* exit status: the time was over before */

struct drain {
	struct plane_admin admin;
	const char *cluster, *drone;
	bool is_undo, is_waiting;
	int64_t timeout_s; /* 0: none */
	char *told;        /* the last line of progress */
};

static json_t *ask(
	const struct drain *drain, const char *method, const char *verb, struct plane_error *err)
{
	_cleanup_free_ char *name = plane_admin_encode(drain->drone);
	_cleanup_free_ char *path = plane_strdupf(
		"/ctrl/c/%s/d/%s%s%s", drain->cluster, name, verb[0] ? "/" : "", verb);
	return plane_admin_fetch(&drain->admin, method, path, NULL, err);
}

static int set_draining(const struct drain *drain)
{
	struct plane_error err = { 0 };
	_cleanup_json_ json_t *answer =
		ask(drain, "POST", drain->is_undo ? "undrain" : "drain", &err);
	if (!answer)
		return plane_fail("%s", err.message);
	bool is_updated = json_is_true(json_object_get(answer, "updated"));
	if (drain->admin.as_json)
		plane_admin_print_json(answer);
	else if (drain->is_undo)
		printf("Drone %s %s\n", drain->drone,
			is_updated ? "takes backends again." : "was not draining.");
	else
		printf("Drone %s %s\n", drain->drone,
			is_updated ? "draining initiated." : "was already draining.");
	(void)fflush(stdout); /* a reader that went is told by SIGPIPE */
	return 0;
}

/* ---- --wait ---- */

/* The names of the first backends that the drone still has. */
static json_t *find_left(const struct drain *drain, struct plane_error *err)
{
	_cleanup_(plane_buffer_finish) struct plane_buffer path = { 0 };
	plane_buffer_addf(&path, "/ctrl/backends?alive=true&limit=%d", NAMES_MAX);
	plane_admin_add_query(&path, "cluster", drain->cluster);
	plane_admin_add_query(&path, "drone", drain->drone);
	_cleanup_json_ json_t *page =
		plane_admin_fetch(&drain->admin, "GET", plane_buffer_text(&path), NULL, err);
	if (!page)
		return NULL;
	json_t *names = json_array(), *entry;
	size_t i;
	json_array_foreach (json_object_get(page, "backends"), i, entry)
		(void)json_array_append(names, json_object_get(entry, "backend_id"));
	return names;
}

static char *progress_text(const struct drain *drain, int64_t left, const json_t *names)
{
	struct plane_buffer line = { 0 };
	size_t i, shown = json_array_size(names);
	json_t *name;
	if (drain->admin.as_json) {
		_cleanup_json_ json_t *json = json_pack("{s:s,s:I,s:O}", "drone", drain->drone,
			"backends_left", (json_int_t)left, "backends", names);
		return plane_json_dump(json);
	}
	plane_buffer_addf(&line, "%" PRId64 " backend%s left", left, left == 1 ? "" : "s");
	json_array_foreach (names, i, name)
		plane_buffer_addf(&line, "%s%s", i ? ", " : ": ", json_string_value(name));
	if (left > (int64_t)shown && shown > 0)
		plane_buffer_addf(&line, " and %" PRId64 " more", left - (int64_t)shown);
	return plane_buffer_steal(&line);
}

static void tell_progress(struct drain *drain, int64_t left, const json_t *names)
{
	char *line = progress_text(drain, left, names);
	if (!drain->told || strcmp(line, drain->told) != 0) {
		printf("%s\n", line);
		(void)fflush(stdout); /* as above */
	}
	free(drain->told);
	drain->told = line;
}

/* How many backends the drone has left, told when that is news. -ECANCELED when it is draining no
 * more. */
static int look(struct drain *drain, int64_t *left, struct plane_error *err)
{
	_cleanup_json_ json_t *drone = ask(drain, "GET", "", err);
	if (!drone)
		return err->code;
	if (!json_is_true(json_object_get(drone, "draining")))
		return plane_error_set(err, -ECANCELED,
			"drone %s takes backends again: somebody has undone its draining",
			drain->drone);
	int64_t count = json_integer_value(json_object_get(drone, "backend_count"));
	_cleanup_json_ json_t *names = count ? find_left(drain, err) : json_array();
	if (!names)
		return err->code;
	tell_progress(drain, count, names);
	*left = count;
	return 0;
}

/* A connect that had chosen the drone just before may still come: empty is what is so twice. */
static int wait_until_empty(struct drain *drain)
{
	int64_t until_ms =
		drain->timeout_s ? plane_clock_boot_ms() + drain->timeout_s * 1000 : INT64_MAX;
	bool was_told = false;
	for (int empty_looks = 0; empty_looks < 2;) {
		struct plane_error err = { 0 };
		int64_t left = 0;
		int result = look(drain, &left, &err);
		if (plane_watch_is_over())
			break;
		if (result < 0 && result != -EAGAIN)
			return plane_fail("%s", err.message);
		if (result < 0 && !was_told)
			(void)plane_fail("%s\nTrying again.", err.message);
		was_told = result < 0;
		empty_looks = result == 0 && left == 0 ? empty_looks + 1 : 0;
		if (empty_looks == 0 && plane_clock_boot_ms() >= until_ms) {
			(void)plane_fail("drone %s is not empty after %" PRId64
					 " s; it goes on draining",
				drain->drone, drain->timeout_s);
			return STATUS_NOT_EMPTY;
		}
		if (empty_looks < 2 && !plane_watch_wait(LOOK_MS))
			break;
	}
	if (plane_watch_is_over()) {
		fprintf(stderr, "Drone %s goes on draining; --undo takes that back.\n",
			drain->drone);
		return 128 + plane_watch_signal();
	}
	if (!drain->admin.as_json)
		printf("Drone %s is empty.\n", drain->drone);
	return 0;
}

static int run(int argc, char **argv, bool is_undo)
{
	struct drain drain = { .is_undo = is_undo };
	const struct plane_flag flags[] = {
		{ "cluster", PLANE_FLAG_TEXT, &drain.cluster, "CLUSTER", "of the drone",
			.is_required = true },
		{ "drone", PLANE_FLAG_TEXT, &drain.drone, "dr-NAME", "", .is_required = true },
		{ "wait", PLANE_FLAG_BOOL, &drain.is_waiting, NULL,
			"until none of its backends is left; tells how many there are" },
		{ "timeout", PLANE_FLAG_INT, &drain.timeout_s, "S",
			"wait so long at most; exit status 3 when backends are left then", 1,
			INT32_MAX },
		{ "undo", PLANE_FLAG_BOOL, &drain.is_undo, NULL,
			"the drone gets new backends again, as with undrain" },
	};
	const struct plane_command command = {
		.usage = is_undo ? "plane admin undrain --cluster CLUSTER --drone DRONE"
				 : "plane admin drain --cluster CLUSTER --drone DRONE [--wait] "
				   "[flags]",
		.summary = is_undo ? "The drone gets new backends again."
				   : "The drone gets no new backends; those it runs go on.",
		.examples = is_undo ? NULL
				    : "  plane admin drain --cluster localhost:9090 --drone dr-a "
				      "--wait --timeout 3600\n",
		.flags = flags,
		.flag_count = is_undo ? 2 : COUNT(flags),
	};
	int status = plane_admin_parse(&drain.admin, &command, argc, argv, NULL);
	if (status >= 0)
		return status;
	if (drain.is_undo && drain.is_waiting)
		return plane_fail("--undo and --wait: there is nothing to wait for") + 1;
	if (drain.timeout_s && !drain.is_waiting)
		return plane_fail("--timeout is for --wait") + 1;
	if (drain.is_waiting)
		plane_watch_signals();
	status = set_draining(&drain);
	if (status == 0 && drain.is_waiting)
		status = wait_until_empty(&drain);
	free(drain.told);
	return status;
}

int plane_admin_drain(int argc, char **argv)
{
	return run(argc, argv, false);
}

int plane_admin_undrain(int argc, char **argv)
{
	return run(argc, argv, true);
}
