/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) OR Apache-2.0 */
/* What both halves of dnsflow share; its samples are struct payload_*. */
#pragma once

#include "bpf/lib/payload.h"

/* Ports that DNS is expected on. */
#define DNSFLOW_PORTS_MAX 8
#define DNSFLOW_MDNS_PORT 5353
