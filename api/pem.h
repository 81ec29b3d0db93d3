// SPDX-License-Identifier: Apache-2.0
/* The three PEM files of a TLS end: read, bounded, checked for a key that fits its certificate. */
#pragma once

#include "base/err.h"
#include "base/macro.h"

struct pem {
	char *ca, *cert, *key; /* NUL-terminated; owned */
};

/* -EINVAL naming the file when one is empty, larger than 1 MiB, unreadable as PEM, or key and certificate don't match. */
int pem_load(struct pem *ret, const char *ca, const char *cert, const char *key, struct err *err);
/* The key is wiped. */
void pem_free(struct pem *p);

#define _cleanup_pem_ _cleanup_(pem_free)
