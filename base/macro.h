// SPDX-License-Identifier: Apache-2.0
/* Ownership and array macros that every other file relies on. */
#pragma once

#include <stdlib.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _printf_(fmt, args) __attribute__((format(printf, fmt, args)))
#define _unused_ __attribute__((unused))

/* The address of the struct that holds MEMBER. */
#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

/* Hand an owned pointer or fd to somebody else: the variable no longer owns it. */
#define TAKE_PTR(p)                    \
	({                             \
		__typeof__(p) _p = (p); \
		(p) = NULL;            \
		_p;                    \
	})
#define TAKE_FD(fd)           \
	({                    \
		int _fd = (fd); \
		(fd) = -1;    \
		_fd;          \
	})

static inline void freep(void *p)
{
	free(*(void **)p);
}

static inline void closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define _cleanup_free_ _cleanup_(freep)
#define _cleanup_close_ _cleanup_(closep)

/* DEFINE_CLEANUP(struct x *, x_free) makes x_freep for _cleanup_(x_freep). */
#define DEFINE_CLEANUP(type, fn)                         \
	static inline _unused_ void fn##p(type *p)       \
	{                                                \
		if (*p)                                  \
			fn(*p);                          \
	}
