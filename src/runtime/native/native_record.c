/* What a sandbox's directory says about it, for the next run of the drone. */
#include "runtime/native/native_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/json.h"
#include "model/backend_state.h"
#include "model/names.h"

void native_boot_id(char id[64])
{
	_cleanup_(plane_buffer_finish) struct plane_buffer text = { 0 };

	id[0] = 0;
	if (plane_file_read("/proc/sys/kernel/random/boot_id", 60, &text, NULL) == 0)
		snprintf(id, 64, "%s", plane_buffer_text(&text));
}

int native_record_write(const struct native_sandbox *s, struct plane_error *err)
{
	_cleanup_free_ char *path = plane_sandbox_path(native_host(s->native), s->index, "record");
	_cleanup_json_ json_t *json = json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:I}", "backend",
		s->backend, "address", s->address, "boot_id", s->native->boot_id, "shim",
		(json_int_t)s->parts.shim, "shim_start", (json_int_t)s->parts.shim_start, "init",
		(json_int_t)s->parts.init, "lease", (json_int_t)s->lease);
	_cleanup_free_ char *text = plane_json_dump(json);
	return plane_file_replace(path, text, strlen(text), 0600, false, err);
}

int native_record_read(struct native_sandbox *s, struct plane_error *err)
{
	_cleanup_free_ char *path = plane_sandbox_path(native_host(s->native), s->index, "record");
	_cleanup_(plane_buffer_finish) struct plane_buffer text = { 0 };
	const char *backend, *address, *boot;
	int64_t shim, start, init, lease = 0;
	int code = plane_file_read(path, 65536, &text, err);

	if (code < 0)
		return code;
	_cleanup_json_ json_t *json = plane_json_parse(text.data, text.len, err);
	if (!json)
		return -EINVAL;
	if ((code = plane_json_get_text(json, "backend", PLANE_JSON_REQUIRED, &backend, err)) < 0 ||
		(code = plane_json_get_text(json, "address", PLANE_JSON_REQUIRED, &address, err)) <
			0 ||
		(code = plane_json_get_text(json, "boot_id", PLANE_JSON_REQUIRED, &boot, err)) <
			0 ||
		(code = plane_json_get_int(
			 json, "shim", PLANE_JSON_REQUIRED, 1, INT32_MAX, &shim, err)) < 0 ||
		(code = plane_json_get_int(
			 json, "shim_start", PLANE_JSON_REQUIRED, 0, INT64_MAX, &start, err)) < 0 ||
		(code = plane_json_get_int(
			 json, "init", PLANE_JSON_REQUIRED, 1, INT32_MAX, &init, err)) < 0 ||
		(code = plane_json_get_int(
			 json, "lease", PLANE_JSON_OPTIONAL, 0, INT64_MAX, &lease, err)) < 0 ||
		(code = plane_name_check(backend, NULL, err)) < 0)
		return code;
	if (!address[0] || strlen(address) >= PLANE_ADDRESS_SIZE)
		return plane_error_set(err, EINVAL, "address: \"%.80s\" is none", address);
	(void)native_lease_read(s, &s->deadline_ms); /* without it, it is over */
	s->lease = lease;
	s->backend = plane_strdup(backend);
	s->address = plane_strdup(address);
	s->parts = (struct plane_sandbox_parts){ .index = s->index,
		.shim = (pid_t)shim,
		.init = (pid_t)init,
		.shim_start = start,
		.pidfd = -1,
		.control = -1 };
	if (strcmp(s->native->boot_id, boot) == 0) {
		s->parts.pidfd = (int)syscall(SYS_pidfd_open, s->parts.shim, 0);
		if (s->parts.pidfd >= 0 && plane_sandbox_start_time(s->parts.shim) != start) {
			close(s->parts.pidfd); /* another process has its number now */
			s->parts.pidfd = -1;
		}
	}
	return 0;
}

void native_exit_read(const struct native_sandbox *s, struct plane_runtime_exit *exit)
{
	_cleanup_free_ char *path = plane_sandbox_path(native_host(s->native), s->index, "exit");
	_cleanup_(plane_buffer_finish) struct plane_buffer text = { 0 };
	int64_t code = 0, signal = 0, kills = 0;
	char group[16];

	*exit = (struct plane_runtime_exit){ 0 };
	plane_sandbox_group(s->index, group);
	exit->was_disk_hog = s->is_disk_hog;
	exit->was_oom_killed =
		plane_cgroup_oom_kills(native_host(s->native)->cgroups, group, &kills, NULL) == 0 &&
		kills > 0;
	if (plane_file_read(path, 4096, &text, NULL) < 0)
		return;
	_cleanup_json_ json_t *json = plane_json_parse(text.data, text.len, NULL);
	if (!json ||
		plane_json_get_int(json, "code", PLANE_JSON_REQUIRED, 0, 255, &code, NULL) < 0 ||
		plane_json_get_int(json, "signal", PLANE_JSON_REQUIRED, 0, 127, &signal, NULL) <
			0 ||
		plane_json_get_bool(
			json, "expired", PLANE_JSON_REQUIRED, &exit->was_lease_expired, NULL) < 0)
		return;
	exit->is_known = true;
	exit->exit_code = (int)code;
	exit->signal = (int)signal;
}
