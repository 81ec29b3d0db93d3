/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) OR Apache-2.0 */
/* What both halves of sni share; its samples are struct payload_*. */
#pragma once

#include "bpf/lib/payload.h"

/* Octets of a connection that may belong to its hello: TLS_HELLO_MAX. */
#define SNI_STREAM_MAX 16384
#define SNI_CHUNKS     (SNI_STREAM_MAX / PAYLOAD_LARGE)
