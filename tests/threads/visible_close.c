/* Only in a ThreadSanitizer build: makes libuv's way of closing descriptors visible to it. libuv
 * closes by syscall(SYS_close), which is not intercepted; the next thread that is given the same
 * number would seem to race with the last user of the old descriptor. */
#include <dlfcn.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef long syscall_function(long number, ...);

/* In place of the C library's, for the program and its libraries. */
long syscall(long number, ...)
{
	static _Atomic(syscall_function *) real;
	va_list list;
	long words[6];

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		words[i] = va_arg(list, long); /* the C library reads six too, whatever was given */
	va_end(list);
	if (number == SYS_close)
		return close((int)words[0]);
	syscall_function *found = real;
	if (!found) {
		*(void **)&found = dlsym(RTLD_NEXT, "syscall");
		real = found;
	}
	return found(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}
