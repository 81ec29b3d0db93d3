// SPDX-License-Identifier: Apache-2.0
/* A VFS of temporary files that are parts of one unlinked file: for SQL that sorts more than fits
 * in memory. */
#include "store/query_spill.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <sqlite3.h>

#include "base/macro.h"

/* Ten million rows of a text and two numbers, and the next pass of the sort. */
#define SPILL_MAX  (1ull << 30)
#define CHUNK_BITS 20
#define CHUNK	   (1ull << CHUNK_BITS)
#define CHUNKS	   (SPILL_MAX >> CHUNK_BITS)
/* How often the disk is asked whether others need it more. */
#define LOOK_EVERY 16

/*
 * What SQLite keeps in memory of a table of its own (DISTINCT, IN, UNION): 64 MiB of its pages. Its
 * 2 MB made a DISTINCT of three million rows twice as slow as without a disk; all of them together
 * stay below the soft limit of the heap.
 */
#define CACHE_PAGES 16384

static struct {
	sqlite3_pcache_methods2 methods;
	void (*below)(sqlite3_pcache *cache, int pages);
	bool grow;
} caches;

struct spill_file {
	sqlite3_file base;
	uint64_t size;
	uint16_t chunk[CHUNKS]; /* number of the chunk in the file, from 1; 0: none */
};

static struct {
	int fd;		 /* -1: none */
	int write_errno; /* 0: no write failed but for the bound */
	bool full, crowded;
	unsigned int chunks, used; /* there may be; taken */
	uint64_t reserve;	   /* bytes that the disk must keep free */
	bool taken[CHUNKS];
	char missing[128];
	sqlite3_vfs vfs;
	const sqlite3_vfs *below;
} spill = {.fd = -1};

static struct spill_file *spill_file(sqlite3_file *file)
{
	return (struct spill_file *)file;
}

/* The bound is a quarter of what was free at the start; but other workers have theirs, and the
 * ring goes on growing meanwhile. */
static bool is_crowded(void)
{
	struct statfs fs;

	return fstatfs(spill.fd, &fs) == 0 &&
	       (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize < spill.reserve;
}

static int chunk_take(uint16_t *ret)
{
	if (spill.used == spill.chunks) {
		spill.full = true;
		return SQLITE_FULL;
	}
	if (spill.used % LOOK_EVERY == 0 && is_crowded()) {
		spill.crowded = true;
		return SQLITE_FULL;
	}
	for (unsigned int i = 0; i < spill.chunks; i++)
		if (!spill.taken[i]) {
			spill.taken[i] = true;
			spill.used++;
			*ret = (uint16_t)(i + 1);
			return SQLITE_OK;
		}
	return SQLITE_FULL;
}

/* Gives back what lies behind size. */
static int spill_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	struct spill_file *f = spill_file(file);

	for (uint64_t i = ((uint64_t)size + CHUNK - 1) >> CHUNK_BITS; i < CHUNKS; i++)
		if (f->chunk[i]) {
			spill.taken[f->chunk[i] - 1] = false;
			spill.used--;
			f->chunk[i] = 0;
		}
	if ((uint64_t)size < f->size)
		f->size = (uint64_t)size;
	return SQLITE_OK;
}

static int spill_close(sqlite3_file *file)
{
	return spill_truncate(file, 0);
}

/* Of n bytes at offset, those in one chunk, and where they are. */
static size_t part(uint64_t offset, size_t n, uint16_t chunk, off_t *ret)
{
	uint64_t in = offset & (CHUNK - 1);

	*ret = (off_t)((((uint64_t)chunk - 1) << CHUNK_BITS) + in);
	return n < CHUNK - in ? n : (size_t)(CHUNK - in);
}

static int read_all(char *dst, size_t n, off_t at)
{
	while (n) {
		ssize_t r = pread(spill.fd, dst, n, at);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return SQLITE_IOERR_READ;
		if (!r) { /* of a chunk that isn't full yet */
			memset(dst, 0, n);
			return SQLITE_OK;
		}
		dst += r;
		at += r;
		n -= (size_t)r;
	}
	return SQLITE_OK;
}

static int write_all(const char *p, size_t n, off_t at)
{
	while (n) {
		ssize_t r = pwrite(spill.fd, p, n, at);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) {
			spill.write_errno = r < 0 ? errno : ENOSPC;
			return spill.write_errno == ENOSPC ? SQLITE_FULL : SQLITE_IOERR_WRITE;
		}
		p += r;
		at += r;
		n -= (size_t)r;
	}
	return SQLITE_OK;
}

static int spill_read(sqlite3_file *file, void *dst, int amount, sqlite3_int64 offset)
{
	struct spill_file *f = spill_file(file);
	uint64_t at = (uint64_t)offset;
	size_t left = (size_t)amount, n;
	char *p = dst;
	bool is_short = at + left > f->size;

	if (is_short) { /* SQLite wants zeros behind the end */
		n = at < f->size ? (size_t)(f->size - at) : 0;
		memset(p + n, 0, left - n);
		left = n;
	}
	for (; left; p += n, at += n, left -= n) {
		uint16_t chunk = f->chunk[at >> CHUNK_BITS];
		off_t where;

		n = part(at, left, chunk, &where);
		if (!chunk)
			memset(p, 0, n);
		else if (read_all(p, n, where) != SQLITE_OK)
			return SQLITE_IOERR_READ;
	}
	return is_short ? SQLITE_IOERR_SHORT_READ : SQLITE_OK;
}

static int spill_write(sqlite3_file *file, const void *src, int amount, sqlite3_int64 offset)
{
	struct spill_file *f = spill_file(file);
	uint64_t at = (uint64_t)offset;
	size_t left = (size_t)amount, n;
	const char *p = src;

	for (; left; p += n, at += n, left -= n) {
		uint64_t i = at >> CHUNK_BITS;
		int rc = SQLITE_OK;
		off_t where;

		if (i >= CHUNKS) {
			spill.full = true;
			return SQLITE_FULL;
		}
		if (!f->chunk[i])
			rc = chunk_take(&f->chunk[i]);
		if (rc != SQLITE_OK)
			return rc;
		n = part(at, left, f->chunk[i], &where);
		rc = write_all(p, n, where);
		if (rc != SQLITE_OK)
			return rc;
		if (at + n > f->size)
			f->size = at + n;
	}
	return SQLITE_OK;
}

/* It is gone with the process: nothing is ever to be found on disk. */
static int spill_sync(sqlite3_file *file, int flags)
{
	(void)file, (void)flags;
	return SQLITE_OK;
}

static int spill_size(sqlite3_file *file, sqlite3_int64 *ret)
{
	*ret = (sqlite3_int64)spill_file(file)->size;
	return SQLITE_OK;
}

static int spill_lock(sqlite3_file *file, int level)
{
	(void)file, (void)level;
	return SQLITE_OK;
}

static int spill_check_lock(sqlite3_file *file, int *ret)
{
	(void)file;
	*ret = 0;
	return SQLITE_OK;
}

static int spill_control(sqlite3_file *file, int op, void *arg)
{
	(void)file, (void)op, (void)arg;
	return SQLITE_NOTFOUND;
}

static int spill_sector_size(sqlite3_file *file)
{
	(void)file;
	return 4096;
}

static int spill_characteristics(sqlite3_file *file)
{
	(void)file;
	return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

/* The first version: no shared memory and no mappings. */
static const sqlite3_io_methods spill_methods = {
	.iVersion = 1,
	.xClose = spill_close,
	.xRead = spill_read,
	.xWrite = spill_write,
	.xTruncate = spill_truncate,
	.xSync = spill_sync,
	.xFileSize = spill_size,
	.xLock = spill_lock,
	.xUnlock = spill_lock,
	.xCheckReservedLock = spill_check_lock,
	.xFileControl = spill_control,
	.xSectorSize = spill_sector_size,
	.xDeviceCharacteristics = spill_characteristics,
};

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
		    int *ret_flags)
{
	struct spill_file *f = spill_file(file);

	(void)vfs;
	if (name)
		return spill.below->xOpen((sqlite3_vfs *)spill.below, name, file, flags, ret_flags);
	memset(f, 0, sizeof(*f));
	f->base.pMethods = &spill_methods;
	if (ret_flags)
		*ret_flags = flags;
	return SQLITE_OK;
}

/* Without a name from the start where the file system can; no name that recovery would look at
 * where it can't. */
static int open_file(const char *dir)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
	char path[PATH_MAX];

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd < 0 ? -errno : fd;
	if (snprintf(path, sizeof(path), "%s/.query-XXXXXX", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = mkostemp(path, O_CLOEXEC); /* 0600 */
	if (fd < 0)
		return -errno;
	unlink(path);
	return fd;
}

static int open_bounded(const char *dir, uint64_t max, uint64_t reserve)
{
	_cleanup_close_ int fd = open_file(dir);
	struct rlimit limit;
	struct statfs fs;
	uint64_t free_bytes;

	if (fd < 0)
		return fd;
	if (fstatfs(fd, &fs) < 0)
		return -errno;
	free_bytes = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
	free_bytes = free_bytes > reserve ? free_bytes - reserve : 0;
	max = max && max < SPILL_MAX ? max : SPILL_MAX;
	max = max < free_bytes / 4 ? max : free_bytes / 4;
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_max < max)
		max = limit.rlim_max; /* the daemon's own, set by an administrator */
	if (max < CHUNK)
		return -ENOSPC;
	spill.chunks = (unsigned int)(max >> CHUNK_BITS);
	spill.reserve = reserve + free_bytes / 2;
	spill.fd = TAKE_FD(fd);
	return 0;
}

/* The unix VFS doesn't look at which structure its other functions are called with, and finds what
 * it wants of its own in pAppData, which stays. */
static int register_vfs(void)
{
	sqlite3_vfs *below = sqlite3_vfs_find(NULL);

	if (!below)
		return -ENOMEM;
	spill.below = below;
	spill.vfs = *below;
	spill.vfs.pNext = NULL;
	spill.vfs.zName = "ringside-spill";
	spill.vfs.xOpen = vfs_open;
	if (spill.vfs.szOsFile < (int)sizeof(struct spill_file))
		spill.vfs.szOsFile = (int)sizeof(struct spill_file);
	return sqlite3_vfs_register(&spill.vfs, 0) == SQLITE_OK ? 0 : -ENOMEM;
}

static void cache_size(sqlite3_pcache *cache, int pages)
{
	caches.below(cache, caches.grow && pages < CACHE_PAGES ? CACHE_PAGES : pages);
}

void query_spill_config(void)
{
	if (sqlite3_config(SQLITE_CONFIG_GETPCACHE2, &caches.methods) != SQLITE_OK)
		return;
	caches.below = caches.methods.xCachesize;
	caches.methods.xCachesize = cache_size;
	sqlite3_config(SQLITE_CONFIG_PCACHE2, &caches.methods);
}

void query_spill_begin(uint64_t heap)
{
	if (spill.fd < 0)
		return;
	/* From there on sorts go to disk before they have their share each. */
	sqlite3_soft_heap_limit64((sqlite3_int64)heap / 2);
	caches.grow = true;
}

void query_spill_open(const char *dir, uint64_t max, uint64_t reserve)
{
	int r;

	if (!*dir)
		return;
	r = open_bounded(dir, max, reserve);
	if (r == 0)
		r = register_vfs();
	if (r == 0)
		return;
	if (spill.fd >= 0)
		close(spill.fd);
	spill.fd = -1;
	snprintf(spill.missing, sizeof(spill.missing),
		 "no file can be made in the ring's directory: %s", strerror(-r));
}

const char *query_spill_vfs(void)
{
	return spill.fd < 0 ? NULL : spill.vfs.zName;
}

int query_spill_fd(void)
{
	return spill.fd;
}

uint64_t query_spill_max(void)
{
	return spill.fd < 0 ? 0 : (uint64_t)spill.chunks << CHUNK_BITS;
}

const char *query_spill_missing(void)
{
	return spill.missing;
}

int query_spill_error(struct err *err)
{
	unsigned int mib = (unsigned int)(spill.used * (CHUNK >> 20));

	if (spill.full)
		return err_set(
			err, -E2BIG,
			"the query sorts more than the %u MiB that it may put on disk (1 GiB, and "
			"a quarter of what is free): narrow ts, or sort, group or join less",
			spill.chunks);
	if (spill.crowded || spill.write_errno == ENOSPC)
		return err_set(
			err, -E2BIG,
			"the disk of the ring runs full while the query sorts there (%u MiB so "
			"far): free some space, or narrow ts",
			mib);
	if (spill.write_errno)
		return err_set(err, -EIO, "the query cannot sort on the disk of the ring: %s",
			       strerror(spill.write_errno));
	return 0;
}
