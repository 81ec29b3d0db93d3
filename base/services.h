// SPDX-License-Identifier: Apache-2.0
/* Names of ports, from files as services(5) describes them; without the libraries that
 * getservbyname() may load. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/macro.h"

struct services;

#define SERVICES_FILE "/etc/services"

/* Empty. Immutable, and so any thread's, once it is filled. */
int services_new(struct services **ret);
void services_free(struct services *s);
DEFINE_CLEANUP(struct services *, services_free)

/* Adds the lines of a text; what was there first stays. Lines that make no sense are left out.
 * -ENOMEM. */
int services_add(struct services *s, const char *text, size_t len);
/* The same from a file, of which at most 1 MiB is read. -ENOENT ... */
int services_add_file(struct services *s, const char *path);

/* transport: "tcp", "udp" ...; NULL: the first that has it. NULL, 0: unknown. Aliases lead to
 * ports, too. */
const char *services_name(const struct services *s, uint16_t port, const char *transport);
uint16_t services_port(const struct services *s, const char *name, const char *transport);
