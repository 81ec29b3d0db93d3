// SPDX-License-Identifier: Apache-2.0
/* Linked with -Wl,--wrap: what the product's objects call comes here first. */
#include "fault/fault_libc.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

#include <sqlite3.h>

static _Atomic int armed_what = -1, armed_error;
static _Atomic int64_t armed_nth, armed_count, mono_offset, real_offset;
static atomic_bool fired;
static _Thread_local bool is_exempt;
static sqlite3_mem_methods mem;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
ssize_t __real_write(int fd, const void *p, size_t n);
int __real_fsync(int fd);
int __real_open(const char *path, int flags, ...);
int __real_rename(const char *from, const char *to);
int __real_unlink(const char *path);
int __real_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
				  const struct timespec *until);
uint64_t __real_clock_mono_ns(void);
uint64_t __real_clock_real_ns(void);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
ssize_t __wrap_write(int fd, const void *p, size_t n);
int __wrap_fsync(int fd);
int __wrap_open(const char *path, int flags, ...);
int __wrap_rename(const char *from, const char *to);
int __wrap_unlink(const char *path);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
				  const struct timespec *until);
uint64_t __wrap_clock_mono_ns(void);
uint64_t __wrap_clock_real_ns(void);

void fault_libc_arm(enum libc_fault what, uint64_t nth, uint64_t count, int error)
{
	atomic_store(&armed_what, -1);
	atomic_store(&fired, false);
	atomic_store(&armed_nth, (int64_t)nth);
	atomic_store(&armed_count, (int64_t)count);
	atomic_store(&armed_error, error);
	atomic_store(&armed_what, (int)what);
}

bool fault_libc_disarm(void)
{
	atomic_store(&armed_what, -1);
	return atomic_load(&fired);
}

void fault_libc_exempt(bool exempt)
{
	is_exempt = exempt;
}

void fault_clock_mono(int64_t offset_ns)
{
	atomic_store(&mono_offset, offset_ns);
}

void fault_clock_real(int64_t offset_ns)
{
	atomic_store(&real_offset, offset_ns);
}

static bool fails(enum libc_fault what)
{
	int64_t n;

	if (is_exempt || atomic_load(&armed_what) != (int)what)
		return false;
	n = atomic_fetch_sub(&armed_nth, 1);
	if (n > 1 || 1 - n >= atomic_load(&armed_count))
		return false;
	atomic_store(&fired, true);
	errno = what <= LIBC_SQLITE_MALLOC ? ENOMEM : atomic_load(&armed_error);
	return true;
}

void *__wrap_malloc(size_t n)
{
	return fails(LIBC_MALLOC) ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails(LIBC_MALLOC) ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails(LIBC_MALLOC) ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
	return fails(LIBC_MALLOC) ? NULL : __real_strdup(s);
}

ssize_t __wrap_write(int fd, const void *p, size_t n)
{
	return fails(LIBC_WRITE) ? -1 : __real_write(fd, p, n);
}

int __wrap_fsync(int fd)
{
	return fails(LIBC_FSYNC) ? -1 : __real_fsync(fd);
}

int __wrap_open(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list ap;

	if (flags & O_CREAT) {
		va_start(ap, flags);
		mode = va_arg(ap, mode_t);
		va_end(ap);
	}
	return fails(LIBC_OPEN) ? -1 : __real_open(path, flags, mode);
}

int __wrap_rename(const char *from, const char *to)
{
	return fails(LIBC_RENAME) ? -1 : __real_rename(from, to);
}

int __wrap_unlink(const char *path)
{
	return fails(LIBC_UNLINK) ? -1 : __real_unlink(path);
}

/* Conditions of the product wait by CLOCK_MONOTONIC for a moment that it reckoned from the clock
 * above. */
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
				  const struct timespec *until)
{
	int64_t offset = atomic_load(&mono_offset);
	struct timespec true_until = {.tv_sec = until->tv_sec - offset / 1000000000,
				      .tv_nsec = until->tv_nsec};

	return __real_pthread_cond_timedwait(cond, mutex, &true_until);
}

uint64_t __wrap_clock_mono_ns(void)
{
	return __real_clock_mono_ns() + (uint64_t)atomic_load(&mono_offset);
}

uint64_t __wrap_clock_real_ns(void)
{
	return __real_clock_real_ns() + (uint64_t)atomic_load(&real_offset);
}

static void *mem_malloc(int n)
{
	return fails(LIBC_SQLITE_MALLOC) ? NULL : mem.xMalloc(n);
}

static void *mem_realloc(void *p, int n)
{
	return fails(LIBC_SQLITE_MALLOC) ? NULL : mem.xRealloc(p, n);
}

void fault_libc_init(void)
{
	sqlite3_mem_methods wrapped;

	sqlite3_config(SQLITE_CONFIG_GETMALLOC, &mem);
	wrapped = mem;
	wrapped.xMalloc = mem_malloc;
	wrapped.xRealloc = mem_realloc;
	sqlite3_config(SQLITE_CONFIG_MALLOC, &wrapped);
}
