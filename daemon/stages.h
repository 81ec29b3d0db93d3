// SPDX-License-Identifier: Apache-2.0
/* What the daemon is made of, in the order in which it goes up; down is the reverse. */
#pragma once

#include "daemon/daemon.h"

/* *ret_status says with which exit code to end when it fails; what was up is down again. */
int stages_up(struct daemon *d, int *ret_status, struct err *err);
void stages_down(struct daemon *d);
