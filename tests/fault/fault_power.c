// SPDX-License-Identifier: Apache-2.0
/* Keeps what was written since the last sync of each file apart and lays out what may be left of
 * it. */
#include "fault/fault_power.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/macro.h"
#include "fault/fault_vfs.h"

#define SECTOR 512u

struct image {
	uint8_t *p;
	size_t len;
};

struct write_op {
	uint64_t off;
	size_t len;
	bool truncate;
	uint8_t *p;
};

/* By inode and birth: a file keeps them when it's renamed, and another gets the inode later. */
struct power_file {
	uint64_t ino;
	int64_t born;
	struct image synced;
	struct write_op *ops;
	size_t nops, room;
	bool is_wal;
	uint64_t acked; /* when its WAL was last synced */
	struct power_file *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char dir[200], to[200];
static unsigned int every, left, cuts, max_cuts;
static uint32_t rnd;
static const _Atomic uint64_t *acked_now;
static struct power_file *files;

static uint32_t next_random(void)
{
	rnd ^= rnd << 13;
	rnd ^= rnd >> 17;
	rnd ^= rnd << 5;
	return rnd;
}

static void die(const char *what, const char *path)
{
	fprintf(stderr, "fault_power: %s '%s': %m\n", what, path);
	abort();
}

static struct image read_image(const char *path)
{
	struct image im = {};
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return im;
	if (fstat(fd, &st) == 0 && st.st_size) {
		ssize_t n;

		im.p = malloc((size_t)st.st_size);
		n = im.p ? pread(fd, im.p, (size_t)st.st_size, 0) : -1;
		if (n < 0)
			die("cannot read", path);
		im.len = (size_t)n;
	}
	close(fd);
	return im;
}

static void write_image(const char *to_path, const struct image *im, mode_t mode)
{
	int fd = open(to_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	if (fd < 0 || write(fd, im->p ? im->p : (const uint8_t *)"", im->len) != (ssize_t)im->len ||
	    fchmod(fd, mode) < 0)
		die("cannot write", to_path);
	close(fd);
}

static bool identify(const char *path, uint64_t *ino, int64_t *born)
{
	struct statx sx;

	if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &sx) < 0)
		return false;
	*ino = sx.stx_ino;
	*born = sx.stx_btime.tv_sec * 1000000000ll + sx.stx_btime.tv_nsec;
	return true;
}

static struct power_file *find(const char *path)
{
	uint64_t ino;
	int64_t born;

	if (!identify(path, &ino, &born))
		return NULL;
	for (struct power_file *f = files; f; f = f->next)
		if (f->ino == ino && f->born == born)
			return f;
	return NULL;
}

static bool ends(const char *s, const char *tail)
{
	size_t n = strlen(s), t = strlen(tail);

	return n >= t && !strcmp(s + n - t, tail);
}

struct power_file *power_open(const char *path)
{
	struct power_file *f;

	if (!dir[0] || strncmp(path, dir, strlen(dir)))
		return NULL;
	pthread_mutex_lock(&lock);
	f = find(path);
	if (!f && (f = calloc(1, sizeof(*f))) && identify(path, &f->ino, &f->born)) {
		f->synced = read_image(path);
		f->is_wal = ends(path, "-wal");
		f->next = files;
		files = f;
	}
	pthread_mutex_unlock(&lock);
	return f;
}

void power_close(struct power_file *f)
{
	(void)f; /* another connection or the next one goes on with it */
}

void power_begin(struct power_file *f)
{
	if (f)
		pthread_mutex_lock(&lock);
}

static void forget_ops(struct power_file *f)
{
	for (size_t i = 0; i < f->nops; i++)
		free(f->ops[i].p);
	f->nops = 0;
}

static void apply(struct image *im, const uint8_t *p, size_t len, uint64_t off)
{
	if (!len)
		return;
	if (off + len > im->len) {
		im->p = realloc(im->p, off + len);
		if (!im->p)
			die("out of memory", "");
		memset(im->p + im->len, 0, off + len - im->len);
		im->len = off + len;
	}
	memcpy(im->p + off, p, len);
}

static void apply_op(struct image *im, const struct write_op *op)
{
	if (!op->truncate)
		apply(im, op->p, op->len, op->off);
	else if (op->off < im->len)
		im->len = op->off;
}

/* Some sectors of it. */
static void apply_torn(struct image *im, const struct write_op *op)
{
	if (op->truncate)
		return;
	for (size_t at = 0; at < op->len; at += SECTOR) {
		size_t n = op->len - at < SECTOR ? op->len - at : SECTOR;

		if (next_random() & 1)
			apply(im, op->p + at, n, op->off + at);
	}
}

/* Three kinds of disks: that lost all unsynced, any of it, or any and parts of some. */
static void cut_file(const struct power_file *f, const char *path, mode_t mode, unsigned int kind)
{
	struct image im = {};

	apply(&im, f->synced.p ? f->synced.p : (const uint8_t *)"", f->synced.len, 0);
	for (size_t i = 0; kind && i < f->nops; i++) {
		unsigned int die_roll = next_random() % 4;

		if (die_roll < 2)
			apply_op(&im, &f->ops[i]);
		else if (die_roll == 2 && kind == 2)
			apply_torn(&im, &f->ops[i]);
	}
	write_image(path, &im, mode);
	free(im.p);
}

static void cut_one(const char *name, const char *base, FILE *synced)
{
	char from[512], full[600], cut[600];
	struct image im;
	struct power_file *f;
	struct stat st;

	snprintf(from, sizeof(from), "%s/%s", dir, name);
	snprintf(full, sizeof(full), "%s/full/%s", base, name);
	snprintf(cut, sizeof(cut), "%s/cut/%s", base, name);
	if (lstat(from, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	im = read_image(from);
	f = find(from);
	if (ends(name, "-shm"))
		for (size_t i = 0; i < im.len; i++)
			im.p[i] = (uint8_t)next_random();
	else
		write_image(full, &im, st.st_mode & 07777);
	if (f)
		cut_file(f, cut, st.st_mode & 07777, cuts % 3);
	else
		write_image(cut, &im, st.st_mode & 07777);
	if (f && f->is_wal)
		fprintf(synced, "%s %" PRIu64 "\n", name, f->acked);
	free(im.p);
}

static void make_dir(const char *base, const char *sub)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", base, sub);
	if (mkdir(path, 0750) < 0)
		die("cannot make", path);
}

/* Lock held: nobody writes meanwhile. */
static void cut_now(void)
{
	char base[256], path[300];
	struct dirent *de;
	FILE *synced;
	DIR *d;

	snprintf(base, sizeof(base), "%s/%u", to, cuts);
	make_dir(base, "");
	make_dir(base, "full");
	make_dir(base, "cut");
	snprintf(path, sizeof(path), "%s/synced", base);
	synced = fopen(path, "we");
	d = opendir(dir);
	if (!synced || !d)
		die("cannot open", path);
	while ((de = readdir(d)))
		cut_one(de->d_name, base, synced);
	closedir(d);
	fclose(synced);
	cuts++;
}

static void count_call(void)
{
	if (!every || cuts >= max_cuts || --left)
		return;
	left = every / 2 + next_random() % every + 1;
	cut_now();
}

void power_write(struct power_file *f, const void *p, size_t len, uint64_t off, bool ok)
{
	struct write_op *op;

	if (!f)
		return;
	if (f->nops == f->room) {
		f->room = f->room ? 2 * f->room : 64;
		f->ops = realloc(f->ops, f->room * sizeof(*f->ops));
		if (!f->ops)
			die("out of memory", "");
	}
	if (ok) {
		op = &f->ops[f->nops++];
		*op = (struct write_op){
			.off = off, .len = len, .truncate = !p, .p = p ? malloc(len) : NULL};
		if (p && !op->p)
			die("out of memory", "");
		if (p)
			memcpy(op->p, p, len);
	}
	count_call();
	pthread_mutex_unlock(&lock);
}

void power_sync(struct power_file *f, bool ok)
{
	if (!f)
		return;
	if (ok) {
		for (size_t i = 0; i < f->nops; i++)
			apply_op(&f->synced, &f->ops[i]);
		forget_ops(f);
		if (f->is_wal)
			f->acked = atomic_load(acked_now);
	}
	count_call();
	pthread_mutex_unlock(&lock);
}

void fault_vfs_record(const char *from, const char *out, unsigned int n, unsigned int max,
		      uint32_t seed, const _Atomic uint64_t *acked)
{
	snprintf(to, sizeof(to), "%s", out);
	every = left = n;
	max_cuts = max;
	rnd = seed | 1;
	acked_now = acked;
	snprintf(dir, sizeof(dir), "%s", from);
}

unsigned int fault_vfs_cuts(void)
{
	unsigned int n;

	pthread_mutex_lock(&lock);
	n = cuts;
	pthread_mutex_unlock(&lock);
	return n;
}
