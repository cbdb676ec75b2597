/* SHA-256 digests as images write them: "sha256:<hex>". */
#ifndef PLANE_RUNTIME_IMAGE_DIGEST_H
#define PLANE_RUNTIME_IMAGE_DIGEST_H

#include "base/error.h"

#define PLANE_DIGEST_SIZE 72

void plane_digest_text(const unsigned char sum[32], char digest[PLANE_DIGEST_SIZE]);
/** Of a whole file, wherever its offset stands. */
int plane_digest_file(int fd, char digest[PLANE_DIGEST_SIZE], struct plane_error *err);

#endif
