/* Randomness from the kernel (getrandom(2)). */
#ifndef PLANE_BASE_RANDOM_H
#define PLANE_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

void plane_random_bytes(void *bytes, size_t len);
/** Uniform in [0, bound). */
uint64_t plane_random_below(uint64_t bound);
/** `len` characters of a-z0-9, uniform, and a NUL: `text` has room for len + 1. */
void plane_random_alphanumeric(char *text, size_t len);
/** 32 random bytes as base64url without padding: 43 characters and a NUL. */
#define PLANE_RANDOM_TOKEN_SIZE 44
void plane_random_token(char text[PLANE_RANDOM_TOKEN_SIZE]);

#endif
