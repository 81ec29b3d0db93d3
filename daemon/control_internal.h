// SPDX-License-Identifier: Apache-2.0
/* Shared by control.c and control_daemon.c alone. */
#pragma once

#include "api/ops.h"
#include "base/mailbox.h"

struct daemon;

/* Runs fn on the loop; fills *err also where the loop never saw the call. */
int control_call(struct daemon *d, mailbox_fn fn, void *arg, struct err *err);

int control_governor_get(void *ctx, struct governor_info *ret, struct err *err);
int control_limits_update(void *ctx, const struct keyval *limits, size_t n, bool persist,
			  bool validate_only, struct governor_info *ret, struct err *err);
int control_daemon_get(void *ctx, struct daemon_info *ret, struct err *err);
int control_config_get(void *ctx, struct config_value_info *ret, unsigned int cap, struct err *err);
int control_config_reload(void *ctx, bool validate_only, char *changed, size_t cap,
			  struct err *err);
int control_log_level_set(void *ctx, const char *level, struct err *err);
int control_shutdown(void *ctx, struct err *err);
