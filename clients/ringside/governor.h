// SPDX-License-Identifier: Apache-2.0
/* What several verbs say about usage and limits. */
#pragma once

#include "base/buf.h"
#include "clients/ringside/cli.h"
#include "ringside/v1/governor.pb-c.h"

int governor_get(struct cli *cli, Ringside__V1__GetGovernorResponse **ret);
/* "0.013 of 2.00 cores", "23.1MiB, no limit", "unknown". */
void governor_add_usage(struct buf *b, const Ringside__V1__ResourceUsage *u);
