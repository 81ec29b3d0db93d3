// SPDX-License-Identifier: Apache-2.0
/* Names that Docker and Podman gave to containers. */
#pragma once

#include "bpf/containers.h"

/* From the runtime's files on disk, bounded; "" if none knows the id. */
void container_name_of(const char *id, char dst[static CONTAINER_NAME_SIZE]);
