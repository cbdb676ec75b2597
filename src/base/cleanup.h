/* Cleanup attributes for locals that own something, and STEAL to give it away. */
#ifndef PLANE_BASE_CLEANUP_H
#define PLANE_BASE_CLEANUP_H

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(function) __attribute__((cleanup(function)))

static inline void plane_freep(void *pointer)
{
	free(*(void **)pointer);
}

static inline void plane_closep(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;
		(void)close(*fd); /* nothing can be done about a failed close here */
		errno = saved;
	}
}

static inline void plane_fclosep(FILE **file)
{
	if (*file)
		(void)fclose(*file); /* written files are flushed and checked before */
}

static inline void plane_closedirp(DIR **dir)
{
	if (*dir)
		(void)closedir(*dir);
}

#define _cleanup_free_ _cleanup_(plane_freep)
#define _cleanup_close_ _cleanup_(plane_closep)
#define _cleanup_fclose_ _cleanup_(plane_fclosep)
#define _cleanup_closedir_ _cleanup_(plane_closedirp)

/** Defines `name`p, which destroys the pointed-to pointer: for `_cleanup_(plane_x_destroyp)`. */
#define PLANE_DEFINE_CLEANUP(type, destroy)                                                        \
	static inline void destroy##p(type *pointer)                                               \
	{                                                                                          \
		destroy(*pointer);                                                                 \
	}

/** Gives away what a local owns. */
#define STEAL(pointer)                                                                             \
	__extension__({                                                                            \
		__typeof__(pointer) stolen_ = (pointer);                                           \
		(pointer) = NULL;                                                                  \
		stolen_;                                                                           \
	})

static inline int plane_steal_fd(int *fd)
{
	int stolen = *fd;
	*fd = -1;
	return stolen;
}

#endif
