/* The system call filter of all sandboxes: an allow-list; what is not on it fails with EPERM. */
#ifndef PLANE_RUNTIME_NATIVE_SYSCALL_FILTER_H
#define PLANE_RUNTIME_NATIVE_SYSCALL_FILTER_H

#include "base/error.h"

/** An owned sealed memory file with the BPF program, or a negative code. */
int plane_seccomp_export(struct plane_error *err);

#endif
