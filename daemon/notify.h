// SPDX-License-Identifier: Apache-2.0
/* Words to the service manager that never wait for it: sd_notify(3) blocks while the manager
 * doesn't read. */
#pragma once

#include "base/macro.h"

/* "READY=1", "STATUS=..."; nothing happens without NOTIFY_SOCKET. What can't be sent at once is
 * counted and logged now and then. */
void notify_send(const char *fmt, ...) _printf_(1, 2);
