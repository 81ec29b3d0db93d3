// SPDX-License-Identifier: Apache-2.0
/* The serialized FileDescriptorSet of the API with its imports: what reflection answers from. */
#pragma once

extern const unsigned char api_fds[], api_fds_end[];
