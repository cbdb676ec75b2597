/* Token files: whole reads, and read-change-replace under a lock. */
#include "controller/token_store.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"

static int parse(const char *path, struct plane_buffer *text, struct plane_token_file *file,
	struct plane_error *err)
{
	int result = plane_token_file_parse(plane_buffer_text(text), text->len, file, err);
	return result < 0 ? plane_error_prefix(err, "%s", path) : 0;
}

int plane_token_store_read(const char *path, struct plane_token_file *file, struct plane_error *err)
{
	_cleanup_(plane_buffer_finish) struct plane_buffer text = { 0 };
	int result = plane_file_read_private(path, PLANE_TOKEN_FILE_MAX, &text, err);
	return result < 0 ? result : parse(path, &text, file, err);
}

/* A writer holds the lock of the file that it replaces: who gets it afterwards has the lock of a
 * file that is no longer there, and tries again. */
static int open_locked(const char *path, int more_flags, int *fd, struct plane_error *err)
{
	for (;;) {
		struct stat locked, present;
		_cleanup_close_ int opened =
			open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | more_flags, 0600);
		if (opened < 0)
			return plane_error_errno(err, "open %s", path);
		int result = plane_file_check_private(opened, path, err);
		if (result < 0)
			return result;
		while (flock(opened, LOCK_EX) < 0)
			if (errno != EINTR)
				return plane_error_errno(err, "lock %s", path);
		if (fstat(opened, &locked) == 0 && stat(path, &present) == 0 &&
			locked.st_dev == present.st_dev && locked.st_ino == present.st_ino) {
			*fd = plane_steal_fd(&opened);
			return 0;
		}
	}
}

/* What a change needs of the present file. */
struct opened_file {
	int fd; /* holds the lock */
	struct plane_buffer text;
	struct plane_token_file file;
};

static void opened_file_finish(struct opened_file *opened)
{
	plane_closep(&opened->fd);
	plane_buffer_finish(&opened->text);
	plane_token_file_finish(&opened->file);
}

static int open_to_change(
	const char *path, int more_flags, struct opened_file *opened, struct plane_error *err)
{
	int result = open_locked(path, more_flags, &opened->fd, err);
	if (result == 0)
		result = plane_file_read_private(path, PLANE_TOKEN_FILE_MAX, &opened->text, err);
	if (result == 0)
		result = parse(path, &opened->text, &opened->file, err);
	return result;
}

int plane_token_store_add(
	const char *path, const struct plane_token_entry *entry, struct plane_error *err)
{
	_cleanup_(opened_file_finish) struct opened_file opened = { .fd = -1 };
	struct plane_token_file checked = { 0 };
	int result = open_to_change(path, O_CREAT, &opened, err);
	if (result < 0)
		return result;
	if (plane_token_file_find_name(&opened.file, entry->name))
		return plane_error_set(
			err, EEXIST, "%s: there is an entry \"%s\" already", path, entry->name);
	if (plane_token_file_find(&opened.file, &entry->credential))
		return plane_error_set(
			err, EEXIST, "%s: there is an entry with this credential already", path);
	struct plane_buffer *text = &opened.text;
	if (text->len > 0 && text->data[text->len - 1] != '\n')
		plane_buffer_add_text(text, "\n");
	plane_token_entry_write(entry, text);
	result = parse(path, text, &checked, err); /* the limits hold for the new one too */
	plane_token_file_finish(&checked);
	return result < 0 ? result : plane_file_rewrite(path, text->data, text->len, err);
}

int plane_token_store_remove(const char *path, const char *name, struct plane_error *err)
{
	_cleanup_(opened_file_finish) struct opened_file opened = { .fd = -1 };
	_cleanup_(plane_buffer_finish) struct plane_buffer rest = { 0 };
	int result = open_to_change(path, 0, &opened, err);
	if (result < 0)
		return result;
	const struct plane_token_entry *entry = plane_token_file_find_name(&opened.file, name);
	if (!entry)
		return plane_error_set(err, ENOENT, "%s: there is no entry \"%s\"", path, name);
	plane_buffer_add(&rest, opened.text.data, entry->begin);
	plane_buffer_add(&rest, opened.text.data + entry->end, opened.text.len - entry->end);
	return plane_file_rewrite(path, rest.data ? rest.data : "", rest.len, err);
}
