// SPDX-License-Identifier: Apache-2.0
/* A cache by what the kernel tells of a file, and the thread that reads files. */
#include "bpf/exec/exec_hash.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/macro.h"
#include "base/queue.h"
#include "base/thread.h"
#include "bpf/exe.h"

/* Four ways to a set: the oldest of four goes. A host has some thousand programs, and runs
 * hundreds. */
#define WAYS 4
#define SETS 512
/* Files that wait for the thread. */
#define ASKED_MAX 256
#define CHUNK	  (128 * 1024)
#define NICE	  10
/* A file that couldn't be read is tried again by the next program after that. */
#define RETRY_NS (10 * NSEC_PER_SEC)

enum entry_state { ENTRY_FREE, ENTRY_ASKED, ENTRY_READY, ENTRY_GONE };

struct entry {
	struct exe_id id;
	uint64_t used_ns;
	uint8_t digest[EXEC_HASH_SIZE];
	enum entry_state state;
};

/* On its way to the thread and back. */
struct work {
	struct exe_id id;
	uint32_t pid;
	bool done;
	uint8_t digest[EXEC_HASH_SIZE];
	char path[];
};

struct exec_hash {
	struct queue *asked, *answered;
	pthread_t thread;
	bool running;
	_Atomic bool stop;
	uint32_t host_pid;
	uint64_t seed, max_bytes;
	struct exec_hash_stats stats;
	struct entry sets[SETS][WAYS];
};

/* The same content: the kernel sets this time with each write. Inode numbers of overlays differ. */
static bool is_that_file(int fd, const struct exe_id *id)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == id->size &&
	       st.st_ctim.tv_sec == id->ctime_sec && (uint32_t)st.st_ctim.tv_nsec == id->ctime_nsec;
}

static int open_by_path(uint32_t host_pid, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS,
	};
	_cleanup_close_ int root = -1;
	char link[32];

	snprintf(link, sizeof(link), "/proc/%u/root", host_pid);
	root = open(link, O_PATH | O_CLOEXEC);
	if (root < 0)
		return -errno;
	return (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
}

/* The process's own file as long as it is there, else what has its name now, if that is the same.
 */
static int open_program(const struct exec_hash *h, const struct work *w)
{
	char link[32];
	int fd;

	snprintf(link, sizeof(link), "/proc/%u/exe", w->pid);
	fd = open(link, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd >= 0 && is_that_file(fd, &w->id))
		return fd;
	closep(&fd);
	fd = w->path[0] ? open_by_path(h->host_pid, w->path) : -1;
	if (fd >= 0 && is_that_file(fd, &w->id))
		return fd;
	closep(&fd);
	return -ENOENT;
}

static bool hash_file(struct exec_hash *h, EVP_MD_CTX *md, int fd, struct work *w)
{
	static _Thread_local char buf[CHUNK];
	uint64_t left = w->id.size;
	unsigned int n = 0;

	if (EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1)
		return false;
	while (left && !atomic_load(&h->stop)) {
		ssize_t got = read(fd, buf, sizeof(buf));

		if (got <= 0 || (uint64_t)got > left || EVP_DigestUpdate(md, buf, (size_t)got) != 1)
			return false;
		left -= (uint64_t)got;
	}
	/* Written to meanwhile? */
	return !left && is_that_file(fd, &w->id) && EVP_DigestFinal_ex(md, w->digest, &n) == 1 &&
	       n == EXEC_HASH_SIZE;
}

static void *hash_thread(void *arg)
{
	struct exec_hash *h = arg;
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	struct work *w;

	/* Others come first: a hash may be late, the programs of the host may not. */
	(void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
	while (!atomic_load(&h->stop)) {
		_cleanup_close_ int fd = -1;

		w = queue_pop(h->asked, NSEC_PER_SEC);
		if (!w)
			continue;
		fd = open_program(h, w);
		w->done = md && fd >= 0 && hash_file(h, md, fd, w);
		if (queue_push(h->answered, w) < 0)
			free(w); /* as many as can be asked fit: only at the end */
	}
	EVP_MD_CTX_free(md);
	return NULL;
}

int exec_hash_new(struct exec_hash **ret, uint32_t host_pid, uint64_t max_bytes, struct err *err)
{
	struct exec_hash *h = calloc(1, sizeof(*h));
	int r = h ? queue_new(&h->asked, ASKED_MAX) : -ENOMEM;

	if (r == 0)
		r = queue_new(&h->answered, 2 * ASKED_MAX);
	if (r == 0) {
		h->seed = hash_seed();
		h->host_pid = host_pid;
		h->max_bytes = max_bytes;
		r = thread_start(&h->thread, "exec-hash", hash_thread, h);
	}
	if (r < 0) {
		exec_hash_free(h);
		return err_set(err, r, "no thread to hash executables: %s", strerror(-r));
	}
	h->running = true;
	*ret = h;
	return 0;
}

static void drain(struct queue *q)
{
	void *w;

	if (!q)
		return;
	queue_close(q);
	while ((w = queue_pop(q, 0)))
		free(w);
	queue_free(q);
}

void exec_hash_free(struct exec_hash *h)
{
	if (!h)
		return;
	atomic_store(&h->stop, true);
	if (h->asked)
		queue_close(h->asked);
	if (h->running)
		pthread_join(h->thread, NULL);
	drain(h->asked);
	drain(h->answered);
	free(h);
}

void exec_hash_limit(struct exec_hash *h, uint64_t max_bytes)
{
	h->max_bytes = max_bytes;
}

static struct entry *set_of(struct exec_hash *h, const struct exe_id *id)
{
	return h->sets[hash_bytes(h->seed, id, sizeof(*id)) % SETS];
}

static struct entry *entry_find(struct exec_hash *h, const struct exe_id *id)
{
	struct entry *set = set_of(h, id);

	for (size_t i = 0; i < WAYS; i++)
		if (set[i].state != ENTRY_FREE && memcmp(&set[i].id, id, sizeof(*id)) == 0)
			return &set[i];
	return NULL;
}

static struct entry *entry_make(struct exec_hash *h, const struct exe_id *id)
{
	struct entry *set = set_of(h, id), *oldest = set;

	for (size_t i = 1; i < WAYS; i++)
		if (set[i].used_ns < oldest->used_ns)
			oldest = &set[i];
	*oldest = (struct entry){.id = *id};
	return oldest;
}

/* False: refused (counted). */
static bool ask_thread(struct exec_hash *h, const struct exec_hash_ask *ask)
{
	size_t size = strlen(ask->path) + 1;
	struct work *w = calloc(1, sizeof(*w) + size);

	if (w) {
		w->id = ask->id;
		w->pid = ask->pid;
		memcpy(w->path, ask->path, size);
	}
	if (w && queue_push(h->asked, w) == 0)
		return true;
	free(w);
	h->stats.busy++;
	return false;
}

enum exec_hash_state exec_hash_get(struct exec_hash *h, const struct exec_hash_ask *ask,
				   uint8_t digest[static EXEC_HASH_SIZE])
{
	uint64_t now = clock_mono_ns();
	struct entry *e = entry_find(h, &ask->id);

	if (e && e->state == ENTRY_GONE && now - e->used_ns > RETRY_NS)
		e->state = ENTRY_FREE;
	if (e && e->state == ENTRY_READY) {
		e->used_ns = now;
		memcpy(digest, e->digest, EXEC_HASH_SIZE);
		return EXEC_HASH_READY;
	}
	if (e && e->state == ENTRY_ASKED)
		return EXEC_HASH_PENDING;
	if (ask->id.size > h->max_bytes) {
		h->stats.too_large++;
		return EXEC_HASH_NONE;
	}
	if (exe_is_remote(ask->id.magic)) {
		h->stats.remote++;
		return EXEC_HASH_NONE;
	}
	if (e && e->state == ENTRY_GONE) {
		h->stats.gone++;
		return EXEC_HASH_NONE;
	}
	if (!ask_thread(h, ask))
		return EXEC_HASH_NONE;
	e = e ? e : entry_make(h, &ask->id);
	e->state = ENTRY_ASKED;
	e->used_ns = now;
	return EXEC_HASH_PENDING;
}

void exec_hash_poll(struct exec_hash *h)
{
	struct work *w;

	while ((w = queue_pop(h->answered, 0))) {
		struct entry *e = entry_find(h, &w->id);

		if (!e) /* pushed out of its set meanwhile */
			e = entry_make(h, &w->id);
		e->used_ns = clock_mono_ns();
		e->state = w->done ? ENTRY_READY : ENTRY_GONE;
		memcpy(e->digest, w->digest, sizeof(e->digest));
		h->stats.hashed += w->done;
		free(w);
	}
}

void exec_hash_get_stats(const struct exec_hash *h, struct exec_hash_stats *ret)
{
	*ret = h->stats;
}
