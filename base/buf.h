// SPDX-License-Identifier: Apache-2.0
/* A growing byte buffer; after the first failed allocation it stays failed and says so once, at the end. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macro.h"

struct buf {
	char *data; /* always NUL-terminated when not NULL */
	size_t len, cap;
	bool failed;
};

void buf_add(struct buf *b, const void *p, size_t len);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_putu(struct buf *b, uint64_t v); /* in decimal */
void buf_printf(struct buf *b, const char *fmt, ...) _printf_(2, 3);
void buf_reset(struct buf *b); /* empty, memory kept */
void buf_free(struct buf *b);  /* empty, memory returned; the struct itself is the caller's */
/* 0, or -ENOMEM if any addition failed. */
int buf_status(const struct buf *b);

#define _cleanup_buf_ _cleanup_(buf_free)
