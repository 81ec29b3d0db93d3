// SPDX-License-Identifier: Apache-2.0
/* A disk that fails, is slow or loses power, as an SQLite VFS over the real one; for tests only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum fault_op {
	FAULT_OPEN,
	FAULT_READ,
	FAULT_WRITE,
	FAULT_SYNC,
	FAULT_TRUNCATE,
	FAULT_LOCK,
	FAULT_SHM,
	FAULT_DELETE,
	FAULT_X_MAX,
};

/* Becomes the default VFS of the process; before the first sqlite3_open(). */
void fault_vfs_register(void);
/* The nth call of op from now on fails with rc, and count - 1 more after it. Any thread. */
void fault_vfs_arm(enum fault_op op, uint64_t nth, uint64_t count, int rc);
/* Disarms; true if a call failed since fault_vfs_arm(). */
bool fault_vfs_disarm(void);
/* Each write or sync takes that much longer; 0: none. Any thread. */
void fault_vfs_slow(unsigned int ms);

/*
 * Power loss. From now on the writes since a file's last sync are kept apart; each "every" writes
 * and syncs (with some jitter) the directory is copied to <to>/<n>/full as it is and to
 * <to>/<n>/cut as a disk without power might hold it: each unsynced write there, missing or torn,
 * and rubbish in -shm. <to>/<n>/synced says "<file>-wal <acked at its last sync>". acked: what the
 * test was told is committed; read at each sync of a WAL. At most max cuts.
 */
void fault_vfs_record(const char *dir, const char *to, unsigned int every, unsigned int max,
		      uint32_t seed, const _Atomic uint64_t *acked);
unsigned int fault_vfs_cuts(void);
