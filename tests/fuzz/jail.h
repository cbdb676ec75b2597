/* A file system of their own for targets that write files: an empty one in memory, entered by
 * chroot in a mount namespace of this process. What is written where it should not be is seen
 * there, reaches nothing else, and is gone with the process. */
#ifndef PLANE_TESTS_FUZZ_JAIL_H
#define PLANE_TESTS_FUZZ_JAIL_H

#include "fuzz.h"

/** To be called before anything else, with the directories that are to be there (ended by NULL).
 *  Ends the process when it cannot: it needs root. */
void jail_create(const char *const *directories);
void jail_enter(void);
void jail_leave(void);

/** Inside: replaces a file; its directories are there. */
void jail_write(const char *path, const void *bytes, size_t len);

/** Inside: the root has its first entries and no other, and their files and modes are as at first.
 */
void jail_check_untouched(void);

#endif
