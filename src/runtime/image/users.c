/* passwd(5) and group(5) of a tree. */
#include "runtime/image/users.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "runtime/image/tree.h"

#define MAX_FILE ((size_t)1 << 20)
#define MAX_ID 65535
#define MAX_GROUPS 64
#define FIELDS 7

/* The file's text, or an empty one: an image need not have it. */
static char *read_file(int root_fd, const char *path)
{
	struct plane_tree tree = { .root_fd = root_fd };
	struct plane_buffer text = { 0 };
	_cleanup_close_ int fd = plane_tree_open(&tree, path, O_RDONLY | O_NONBLOCK, NULL);
	while (fd >= 0 && text.len < MAX_FILE) {
		ssize_t got = read(fd, plane_buffer_reserve(&text, 4096), 4096);
		if (got <= 0)
			break;
		text.len += (size_t)got;
	}
	(void)plane_buffer_text(&text);
	return plane_buffer_steal(&text);
}

/* Cuts the next line of `*rest` at its colons; false at the end. */
static bool next_line(char **rest, char *fields[FIELDS])
{
	static char empty[1];
	char *line;
	do
		line = strsep(rest, "\n");
	while (line && !line[0]);
	for (int i = 0; i < FIELDS; i++) {
		char *field = line ? strsep(&line, ":") : NULL;
		fields[i] = field ? field : empty;
		if (i == 0 && !field)
			return false;
	}
	return true;
}

static bool read_id(const char *text, uint32_t *id)
{
	int64_t number;
	if (!plane_text_parse_int(text, 0, MAX_ID, &number))
		return false;
	*id = (uint32_t)number;
	return true;
}

static bool is_number(const char *text)
{
	return text[0] && strspn(text, "0123456789") == strlen(text);
}

/* Finds a user by name or number; `*name` is its name, to be freed, when it is known. */
static bool find_user(int root_fd, const char *wanted, struct plane_image *image, char **name)
{
	_cleanup_free_ char *text = read_file(root_fd, "/etc/passwd");
	char *rest = text, *fields[FIELDS];
	bool by_number = is_number(wanted);
	while (rest && next_line(&rest, fields)) {
		uint32_t uid, gid;
		if (strcmp(fields[by_number ? 2 : 0], wanted) != 0 || !read_id(fields[2], &uid) ||
			!read_id(fields[3], &gid))
			continue;
		image->uid = uid;
		image->gid = gid;
		free(image->home);
		image->home = plane_strdup(fields[5][0] == '/' ? fields[5] : "/");
		*name = plane_strdup(fields[0]);
		return true;
	}
	return false;
}

static int find_group(int root_fd, const char *wanted, uint32_t *gid, struct plane_error *err)
{
	_cleanup_free_ char *text = read_file(root_fd, "/etc/group");
	char *rest = text, *fields[FIELDS];
	if (is_number(wanted))
		return read_id(wanted, gid) ? 0
					    : plane_error_set(err, EINVAL,
						      "group %s: ids go up to %d", wanted, MAX_ID);
	while (rest && next_line(&rest, fields))
		if (strcmp(fields[0], wanted) == 0 && read_id(fields[2], gid))
			return 0;
	return plane_error_set(err, EINVAL, "the image has no group \"%.100s\"", wanted);
}

static bool lists(const char *members, const char *name)
{
	size_t len = strlen(name);
	while (*members) {
		size_t part = strcspn(members, ",");
		if (part == len && strncmp(members, name, len) == 0)
			return true;
		members += part + (members[part] == ',');
	}
	return false;
}

static void find_supplementary(int root_fd, const char *name, struct plane_image *image)
{
	_cleanup_free_ char *text = read_file(root_fd, "/etc/group");
	char *rest = text, *fields[FIELDS];
	uint32_t gid;
	image->groups = plane_alloc_zero(MAX_GROUPS, sizeof(*image->groups));
	while (rest && image->group_count < MAX_GROUPS && next_line(&rest, fields))
		if (lists(fields[3], name) && read_id(fields[2], &gid))
			image->groups[image->group_count++] = gid;
}

int plane_image_user_find(int root_fd, struct plane_image *image, struct plane_error *err)
{
	const char *colon = strchr(image->user, ':');
	_cleanup_free_ char *user = plane_strndup(
		image->user, colon ? (size_t)(colon - image->user) : strlen(image->user));
	_cleanup_free_ char *name = NULL;
	image->uid = image->gid = 0;
	free(image->home);
	image->home = plane_strdup("/");
	bool is_known = find_user(root_fd, user[0] ? user : "0", image, &name);
	if (!is_known && user[0] && !is_number(user))
		return plane_error_set(
			err, EINVAL, "the image has no user \"%.100s\" in its /etc/passwd", user);
	if (!is_known && user[0] && !read_id(user, &image->uid))
		return plane_error_set(err, EINVAL, "user %.20s: ids go up to %d", user, MAX_ID);
	if (colon)
		return find_group(root_fd, colon + 1, &image->gid, err);
	if (name)
		find_supplementary(root_fd, name, image);
	return 0;
}
