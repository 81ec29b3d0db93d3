// SPDX-License-Identifier: Apache-2.0
/* Stages that have files of their own; stages.c has their order. */
#pragma once

#include "daemon/daemon.h"

/* stages_rows.c */
int daemon_bus_up(struct daemon *d, struct err *err);
void daemon_bus_down(struct daemon *d);
int daemon_tables_up(struct daemon *d, struct err *err);
void daemon_tables_down(struct daemon *d);
int daemon_store_up(struct daemon *d, struct err *err);
void daemon_store_down(struct daemon *d);
int daemon_queries_up(struct daemon *d, struct err *err);
void daemon_queries_down(struct daemon *d);

/* stages_watch.c */
int daemon_host_up(struct daemon *d, struct err *err);
void daemon_host_down(struct daemon *d);
int daemon_plugins_up(struct daemon *d, struct err *err);
void daemon_plugins_down(struct daemon *d);
int daemon_api_up(struct daemon *d, struct err *err);
void daemon_api_down(struct daemon *d);
