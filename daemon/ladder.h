// SPDX-License-Identifier: Apache-2.0
/* What the governor decides, done: between its thread and the loop. */
#pragma once

#include "governor/governor.h"

struct daemon;

/* governor_options.can_shed and .on_event; ctx is the daemon. Governor thread. */
void ladder_can(void *ctx, struct policy_sample *sample);
void ladder_decided(void *ctx, const struct governor_event *event);
/* Tells the governor's thread what can be shed and given back now. Loop thread: each second and
 * after each act. */
void ladder_refresh(struct daemon *d);
