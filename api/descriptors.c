// SPDX-License-Identifier: Apache-2.0
/* The serialized FileDescriptorSet of the API, embedded for the reflection services. */
#include "api/descriptors.h"

__asm__(".pushsection .rodata\n"
	".global api_fds\n"
	".global api_fds_end\n"
	"api_fds:\n"
	".incbin \"" API_FDS "\"\n"
	"api_fds_end:\n"
	".byte 0\n"
	".popsection\n");
