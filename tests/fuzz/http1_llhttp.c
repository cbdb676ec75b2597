/* net/http1.c beside llhttp: any bytes as a request and as a response. */
#include "llhttp_peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	fuzz_compare_request((const char *)bytes, len);
	fuzz_compare_response((const char *)bytes, len, false);
	fuzz_compare_response((const char *)bytes, len, true);
	return 0;
}
