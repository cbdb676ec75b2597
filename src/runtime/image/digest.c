/* Digests. */
#include "runtime/image/digest.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

void plane_digest_text(const unsigned char sum[32], char digest[PLANE_DIGEST_SIZE])
{
	strcpy(digest, "sha256:");
	for (int i = 0; i < 32; i++)
		snprintf(digest + 7 + 2 * i, 3, "%02x", sum[i]);
}

int plane_digest_file(int fd, char digest[PLANE_DIGEST_SIZE], struct plane_error *err)
{
	unsigned char block[65536], sum[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *hash = EVP_MD_CTX_new();
	off_t offset = 0;
	ssize_t got = -1;
	if (hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1)
		while ((got = pread(fd, block, sizeof(block), offset)) > 0) {
			(void)EVP_DigestUpdate(hash, block, (size_t)got); /* memory only */
			offset += got;
		}
	if (got == 0 && EVP_DigestFinal_ex(hash, sum, NULL) != 1)
		got = -1;
	EVP_MD_CTX_free(hash);
	if (got < 0)
		return plane_error_errno(err, "read a file to hash it");
	plane_digest_text(sum, digest);
	return 0;
}
