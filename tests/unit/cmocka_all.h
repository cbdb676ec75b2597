/* cmocka and the headers that it wants first. */
#ifndef PLANE_TESTS_CMOCKA_ALL_H
#define PLANE_TESTS_CMOCKA_ALL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
