// SPDX-License-Identifier: Apache-2.0
/* The VFS that fails and is slow: each call is counted, then the real one's. */
#include "fault/fault_vfs.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include "base/macro.h"
#include "fault/fault_power.h"

struct fault_file {
	sqlite3_file base;
	struct power_file *power; /* NULL: nothing is recorded of it */
	sqlite3_file real[];
};

static sqlite3_vfs *real_vfs;
static _Atomic int armed_op = -1, armed_rc;
static _Atomic int64_t armed_nth, armed_count;
static atomic_bool fired;
static atomic_uint slow_ms;

void fault_vfs_arm(enum fault_op op, uint64_t nth, uint64_t count, int rc)
{
	atomic_store(&armed_op, -1);
	atomic_store(&fired, false);
	atomic_store(&armed_nth, (int64_t)nth);
	atomic_store(&armed_count, (int64_t)count);
	atomic_store(&armed_rc, rc);
	atomic_store(&armed_op, (int)op);
}

bool fault_vfs_disarm(void)
{
	atomic_store(&armed_op, -1);
	return atomic_load(&fired);
}

void fault_vfs_slow(unsigned int ms)
{
	atomic_store(&slow_ms, ms);
}

/* What this call has to answer; SQLITE_OK: the real thing. */
static int fault(enum fault_op op)
{
	int64_t n;

	if (atomic_load(&armed_op) != (int)op)
		return SQLITE_OK;
	n = atomic_fetch_sub(&armed_nth, 1);
	if (n > 1 || 1 - n >= atomic_load(&armed_count))
		return SQLITE_OK;
	atomic_store(&fired, true);
	return atomic_load(&armed_rc);
}

static void slow(void)
{
	unsigned int ms = atomic_load(&slow_ms);

	if (ms)
		usleep(ms * 1000);
}

static sqlite3_file *real_of(sqlite3_file *f)
{
	return ((struct fault_file *)f)->real;
}

static int x_close(sqlite3_file *f)
{
	struct fault_file *file = (struct fault_file *)f;

	power_close(file->power);
	return real_of(f)->pMethods->xClose(real_of(f));
}

static int x_read(sqlite3_file *f, void *p, int n, sqlite3_int64 off)
{
	int rc = fault(FAULT_READ);

	return rc != SQLITE_OK ? rc : real_of(f)->pMethods->xRead(real_of(f), p, n, off);
}

static int x_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 off)
{
	struct fault_file *file = (struct fault_file *)f;
	int rc = fault(FAULT_WRITE);

	slow();
	if (rc != SQLITE_OK)
		return rc;
	power_begin(file->power);
	rc = real_of(f)->pMethods->xWrite(real_of(f), p, n, off);
	power_write(file->power, p, (size_t)n, (uint64_t)off, rc == SQLITE_OK);
	return rc;
}

static int x_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	struct fault_file *file = (struct fault_file *)f;
	int rc = fault(FAULT_TRUNCATE);

	if (rc != SQLITE_OK)
		return rc;
	power_begin(file->power);
	rc = real_of(f)->pMethods->xTruncate(real_of(f), size);
	power_write(file->power, NULL, 0, (uint64_t)size, rc == SQLITE_OK);
	return rc;
}

static int x_sync(sqlite3_file *f, int flags)
{
	struct fault_file *file = (struct fault_file *)f;
	int rc = fault(FAULT_SYNC);

	slow();
	if (rc != SQLITE_OK)
		return rc;
	power_begin(file->power);
	rc = real_of(f)->pMethods->xSync(real_of(f), flags);
	power_sync(file->power, rc == SQLITE_OK);
	return rc;
}

static int x_file_size(sqlite3_file *f, sqlite3_int64 *size)
{
	return real_of(f)->pMethods->xFileSize(real_of(f), size);
}

static int x_lock(sqlite3_file *f, int level)
{
	int rc = fault(FAULT_LOCK);

	return rc != SQLITE_OK ? rc : real_of(f)->pMethods->xLock(real_of(f), level);
}

static int x_unlock(sqlite3_file *f, int level)
{
	return real_of(f)->pMethods->xUnlock(real_of(f), level);
}

static int x_check_reserved(sqlite3_file *f, int *ret)
{
	return real_of(f)->pMethods->xCheckReservedLock(real_of(f), ret);
}

static int x_control(sqlite3_file *f, int op, void *arg)
{
	return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}

static int x_sector(sqlite3_file *f)
{
	return real_of(f)->pMethods->xSectorSize(real_of(f));
}

static int x_traits(sqlite3_file *f)
{
	return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}

static int x_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **ret)
{
	int rc = fault(FAULT_SHM);

	return rc != SQLITE_OK ? rc
			       : real_of(f)->pMethods->xShmMap(real_of(f), page, size, extend, ret);
}

static int x_shm_lock(sqlite3_file *f, int off, int n, int flags)
{
	return real_of(f)->pMethods->xShmLock(real_of(f), off, n, flags);
}

static void x_shm_barrier(sqlite3_file *f)
{
	real_of(f)->pMethods->xShmBarrier(real_of(f));
}

static int x_shm_unmap(sqlite3_file *f, int del)
{
	return real_of(f)->pMethods->xShmUnmap(real_of(f), del);
}

/* Version 2: shared memory, no mapped reads. */
static const sqlite3_io_methods methods = {
	.iVersion = 2,
	.xClose = x_close,
	.xRead = x_read,
	.xWrite = x_write,
	.xTruncate = x_truncate,
	.xSync = x_sync,
	.xFileSize = x_file_size,
	.xLock = x_lock,
	.xUnlock = x_unlock,
	.xCheckReservedLock = x_check_reserved,
	.xFileControl = x_control,
	.xSectorSize = x_sector,
	.xDeviceCharacteristics = x_traits,
	.xShmMap = x_shm_map,
	.xShmLock = x_shm_lock,
	.xShmBarrier = x_shm_barrier,
	.xShmUnmap = x_shm_unmap,
};

static int v_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *out)
{
	struct fault_file *file = (struct fault_file *)f;
	int rc = fault(FAULT_OPEN);

	(void)vfs;
	file->base.pMethods = NULL;
	file->power = NULL;
	if (rc != SQLITE_OK)
		return rc;
	rc = real_vfs->xOpen(real_vfs, name, file->real, flags, out);
	if (file->real->pMethods)
		file->base.pMethods = &methods;
	if (rc == SQLITE_OK && name && flags & SQLITE_OPEN_READWRITE)
		file->power = power_open(name);
	return rc;
}

static int v_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
	int rc = fault(FAULT_DELETE);

	(void)vfs;
	return rc != SQLITE_OK ? rc : real_vfs->xDelete(real_vfs, name, sync);
}

void fault_vfs_register(void)
{
	static sqlite3_vfs vfs;

	real_vfs = sqlite3_vfs_find(NULL);
	vfs = *real_vfs;
	vfs.zName = "fault";
	vfs.pNext = NULL;
	vfs.szOsFile = (int)sizeof(struct fault_file) + real_vfs->szOsFile;
	vfs.xOpen = v_open;
	vfs.xDelete = v_delete;
	sqlite3_vfs_register(&vfs, 1);
}
