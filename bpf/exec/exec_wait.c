// SPDX-License-Identifier: Apache-2.0
/* Rows of exec that wait for the digest of their program: in order, bounded in time, number and
 * bytes. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "bpf/exec/exec_priv.h"
#include "bpf/exec/exec_text.h"

/* 64 MiB take about a quarter of a second without instructions for it on a small machine. */
#define WAIT_NS (2 * NSEC_PER_SEC)
/* Samples of some 1 KiB: ten thousand programs in two seconds. */
#define WAITING_BYTES (16 * 1024 * 1024)

struct exec_waiting {
	struct exec_waiting *next;
	uint64_t expires_ns;
	enum exec_hash_state state;
	uint8_t digest[EXEC_HASH_SIZE];
	size_t len;
	struct exec_event e; /* as long as len says */
};

static enum exec_hash_state ask(struct instance *in, const struct exec_event *e,
				uint8_t digest[static EXEC_HASH_SIZE])
{
	struct exec_state *st = in->state;
	struct exec_hash_ask ask = {.id = e->exe, .pid = e->p.pid, .path = ""};
	enum exec_hash_state state;

	if (e->kind == EXEC_FAILED)
		return EXEC_HASH_NONE;
	if (e->p.mntns_id == st->host_mntns && !(e->flags & (EXEC_DELETED | EXEC_EXE_CUT)))
		exec_path_add(&st->text, e->data + e->filename_len, e->exe_len, false);
	if (st->text.len && buf_status(&st->text) == 0)
		ask.path = st->text.data;
	state = exec_hash_get(st->hash, &ask, digest);
	buf_reset(&st->text);
	return state;
}

static void emit_head(struct instance *in)
{
	struct exec_state *st = in->state;
	struct exec_waiting *w = st->head;

	if (exec_row_add(in, &w->e, w->len, w->state == EXEC_HASH_READY ? w->digest : NULL) < 0)
		in->count.decode_errors++;
	st->head = w->next;
	if (!st->head)
		st->tail = &st->head;
	st->waiting_bytes -= w->len;
	free(w);
}

/* Programs without a digest, in the sentence that the plugin's state has for what is missing. */
static void report(struct instance *in)
{
	struct exec_state *st = in->state;
	struct exec_hash_stats s;
	uint64_t all;

	exec_hash_get_stats(st->hash, &s);
	all = s.too_large + s.remote + s.gone + s.busy + st->late;
	if (all == st->without)
		return;
	st->without = all;
	snprintf(in->degraded, sizeof(in->degraded),
		 "programs without sha256: %" PRIu64 " larger than sha256_max, %" PRIu64
		 " on remote file systems, %" PRIu64 " gone or changed, %" PRIu64
		 " too many at a time, %" PRIu64 " not in time",
		 s.too_large, s.remote, s.gone, s.busy, st->late);
}

void exec_wait_emit(struct instance *in, bool all)
{
	struct exec_state *st = in->state;
	uint64_t now = clock_mono_ns();

	if (st->hash)
		exec_hash_poll(st->hash);
	while (st->head) {
		struct exec_waiting *w = st->head;

		if (w->state == EXEC_HASH_PENDING && st->hash)
			w->state = ask(in, &w->e, w->digest);
		if (w->state == EXEC_HASH_PENDING && !all && now < w->expires_ns)
			break;
		st->late += w->state == EXEC_HASH_PENDING;
		emit_head(in);
	}
	if (st->hash)
		report(in);
}

static int keep(struct exec_state *st, const struct exec_event *e, size_t len,
		enum exec_hash_state state, const uint8_t *digest)
{
	struct exec_waiting *w = malloc(offsetof(struct exec_waiting, e) + len);

	if (!w)
		return -ENOMEM;
	/* Field by field: there is less memory than the whole struct. */
	w->next = NULL;
	w->expires_ns = clock_mono_ns() + WAIT_NS;
	w->state = state;
	w->len = len;
	memcpy(w->digest, digest, sizeof(w->digest));
	memcpy(&w->e, e, len);
	*st->tail = w;
	st->tail = &w->next;
	st->waiting_bytes += len;
	return 0;
}

int exec_wait_add(struct instance *in, const struct exec_event *e, size_t len)
{
	struct exec_state *st = in->state;
	uint8_t digest[EXEC_HASH_SIZE] = {0};
	enum exec_hash_state state;

	if (!st->hash)
		return exec_row_add(in, e, len, NULL);
	/* What is asked for is in the sample: it must be whole. */
	if ((size_t)e->filename_len + e->exe_len > len - offsetof(struct exec_event, data))
		return -EBADMSG;
	state = ask(in, e, digest);
	if (!st->head && state != EXEC_HASH_PENDING)
		return exec_row_add(in, e, len, state == EXEC_HASH_READY ? digest : NULL);
	while (st->head && st->waiting_bytes + len > WAITING_BYTES) {
		st->late += st->head->state == EXEC_HASH_PENDING;
		emit_head(in);
	}
	if (keep(st, e, len, state, digest) < 0)
		in->count.rows_lost++;
	return 0;
}

int exec_wait_apply(struct instance *in, struct err *err)
{
	struct exec_state *st = in->state;
	uint64_t max = (uint64_t)opt_i64(in->opts, "sha256_max");

	if (!opt_bool(in->opts, "sha256")) {
		exec_wait_stop(in);
		return 0;
	}
	if (!st->hash)
		return exec_hash_new(&st->hash, st->host_pid, max, err);
	exec_hash_limit(st->hash, max);
	return 0;
}

void exec_wait_stop(struct instance *in)
{
	struct exec_state *st = in->state;

	if (st->tail)
		exec_wait_emit(in, true);
	exec_hash_free(st->hash);
	st->hash = NULL;
}
