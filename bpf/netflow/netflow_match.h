// SPDX-License-Identifier: Apache-2.0
/* Which flows are wanted, by lists of ports, addresses and names as Netdata's network configuration
 * writes them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/macro.h"

struct netflow_match;
struct services;

struct netflow_lists {
	const char *ports, *ips, *hostnames; /* "" or NULL: all */
};

/*
 * Words between blanks, in any order; "!" in front excludes. What an excluding word meets is left
 * out, else what an including one meets is wanted, else what is left when there are only excluding
 * ones. "*" is everything. ports      80, 8000-8999 or 8000:8999, names of services (services may
 * be NULL) ips        10.0.0.1, 10.0.0.1-10.0.0.9, 10.0.0.0/8, the same for IPv6; an entry meets
 * its own family only hostnames  example.org, *.example.org; case doesn't matter -EINVAL names the
 * word.
 */
int netflow_match_new(struct netflow_match **ret, const struct netflow_lists *lists,
		      const struct services *services, struct err *err);
void netflow_match_free(struct netflow_match *m);
DEFINE_CLEANUP(struct netflow_match *, netflow_match_free)

/* port: of the service, 0 where there is none; addr: of the remote end, network order, IPv4 in the
 * first word. */
bool netflow_match_port(const struct netflow_match *m, uint16_t port);
bool netflow_match_ip(const struct netflow_match *m, uint8_t family, const uint32_t addr[4]);
/* A name is asked for only then. */
bool netflow_match_wants_name(const struct netflow_match *m);
bool netflow_match_name(const struct netflow_match *m, const char *name);
