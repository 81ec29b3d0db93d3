// SPDX-License-Identifier: Apache-2.0
/* A window of all tables at one moment, for snapshots. */
#pragma once

#include "api/ops.h"

/* api_ops.window. API worker threads. */
int control_window(void *ctx, const struct api_window *window, const struct api_window_sink *sink,
		   struct err *err);
