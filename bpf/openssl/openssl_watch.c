// SPDX-License-Identifier: Apache-2.0
/* Which files are an OpenSSL, and the probes in them. */
#include "bpf/openssl/openssl_watch.h"

#include <assert.h>
#include <bpf/bpf.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/macro.h"
#include "bpf/exe.h"
#include "bpf/insn.h"
#include "bpf/links.h"
#include "bpf/maps.h"
#include "bpf/openssl.skel.h"
#include "bpf/uprobe.h"

/* A library that was loaded by hand, long after the start, is found then. */
#define RESCAN_NS (60 * NSEC_PER_SEC)
/* More new programs than can be remembered: all processes are looked at instead. */
#define RESCAN_SOON_NS (2 * NSEC_PER_SEC)

/* After exec: the dynamic linker is done within milliseconds, plugins of programs come later. */
static const uint64_t stages[] = {250 * NSEC_PER_MSEC, 2 * NSEC_PER_SEC, 10 * NSEC_PER_SEC};

static const struct {
	const char *name;
	enum openssl_function function;
} functions[] = {
	{"SSL_do_handshake", OPENSSL_HANDSHAKE},
	{"SSL_connect", OPENSSL_CONNECT},
	{"SSL_accept", OPENSSL_ACCEPT},
	{"SSL_set_connect_state", OPENSSL_SET_CONNECT},
	{"SSL_set_accept_state", OPENSSL_SET_ACCEPT},
	{"SSL_free", OPENSSL_FREE},
	{"ERR_set_error", OPENSSL_ERROR},
	{"ERR_vset_error", OPENSSL_ERROR},
	{"ERR_put_error", OPENSSL_PUT_ERROR},
	{"SSL_read", OPENSSL_TRANSFER},
	{"SSL_read_ex", OPENSSL_TRANSFER},
	{"SSL_write", OPENSSL_TRANSFER},
	{"SSL_write_ex", OPENSSL_TRANSFER},
};

/* At most: all of them make handshakes. */
static_assert(2 * ARRAY_SIZE(functions) <= OPENSSL_LINKS_MAX, "a link for each, and its return");

struct sites {
	uint64_t offsets[ARRAY_SIZE(functions)], cookies[ARRAY_SIZE(functions)];
	size_t n;
	uint64_t returns[ARRAY_SIZE(functions)]; /* of those that make handshakes */
	size_t nreturns;
};

static struct bpf_program *program_of(struct openssl_bpf *skel, enum openssl_function f)
{
	struct bpf_program *const programs[] = {
		[OPENSSL_HANDSHAKE] = skel->progs.enter_do_handshake,
		[OPENSSL_CONNECT] = skel->progs.enter_connect,
		[OPENSSL_ACCEPT] = skel->progs.enter_accept,
		[OPENSSL_SET_CONNECT] = skel->progs.enter_set_connect,
		[OPENSSL_SET_ACCEPT] = skel->progs.enter_set_accept,
		[OPENSSL_FREE] = skel->progs.enter_free,
		[OPENSSL_ERROR] = skel->progs.enter_error,
		[OPENSSL_PUT_ERROR] = skel->progs.enter_put_error,
		[OPENSSL_TRANSFER] = skel->progs.enter_transfer,
	};

	return programs[f];
}

int openssl_watch_prepare(struct instance *in, struct openssl_watch *w, struct err *err)
{
	struct openssl_bpf *skel = in->skel;
	int r = 0;

	w->multi = uprobe_multi_usable();
	for (int f = 0; f < OPENSSL_FUNCTION_X_MAX; f++)
		bpf_program__set_autoload(program_of(skel, f), !w->multi);
	bpf_program__set_autoload(skel->progs.leave, !w->multi);
	bpf_program__set_autoload(skel->progs.multi_enter, w->multi);
	bpf_program__set_autoload(skel->progs.multi_leave, w->multi);
	if (w->multi)
		r = uprobe_multi_prepare(skel->progs.multi_enter);
	if (w->multi && !r)
		r = uprobe_multi_prepare(skel->progs.multi_leave);
	return r < 0 ? err_set(err, r, "cannot prepare its programs: %s", strerror(-r)) : 0;
}

static void find_sites(const struct exe *x, uint64_t library, bool transfers, struct sites *s)
{
	uint8_t code[INSN_SITE_BYTES];

	for (size_t i = 0; i < ARRAY_SIZE(functions); i++) {
		enum openssl_function function = functions[i].function;
		uint64_t offset = exe_offset(x, exe_symbol(x, functions[i].name));
		ssize_t n;

		if (!offset || (function == OPENSSL_TRANSFER && !transfers))
			continue;
		n = exe_read(x, offset, code, sizeof(code));
		if (n > 0)
			offset += insn_probe_site(code, (size_t)n);
		s->offsets[s->n] = offset;
		s->cookies[s->n++] = OPENSSL_COOKIE(library, function);
		if (function == OPENSSL_HANDSHAKE || function == OPENSSL_TRANSFER)
			s->returns[s->nreturns++] = offset;
	}
}

static uint32_t field_of(const struct exe *x, const char *getter)
{
	uint64_t offset = exe_offset(x, exe_symbol(x, getter));
	uint8_t code[INSN_SITE_BYTES];
	uint32_t field;
	ssize_t n = offset ? exe_read(x, offset, code, sizeof(code)) : 0;

	return n > 0 && !insn_field_offset(code, (size_t)n, &field) ? field : OPENSSL_UNKNOWN;
}

/*
 * SSL_get_current_cipher() of 1.1 and 3.0: "mov a(%rdi), %rax; test %rax, %rax; je .+7; mov
 * b(%rax), %rax". Other code may do anything: not known then.
 */
static void find_cipher(const struct exe *x, struct openssl_layout *l)
{
#if defined(__x86_64__)
	static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
	uint64_t offset = exe_offset(x, exe_symbol(x, "SSL_get_current_cipher"));
	uint8_t code[INSN_SITE_BYTES] = {};
	const uint8_t *p = code;

	if (!offset || exe_read(x, offset, code, sizeof(code)) < 24)
		return;
	if (!memcmp(p, endbr64, sizeof(endbr64)))
		p += sizeof(endbr64);
	if (memcmp(p, "\x48\x8b\x87", 3) || memcmp(p + 7, "\x48\x85\xc0\x74\x07\x48\x8b\x80", 8))
		return;
	memcpy(&l->session, p + 3, sizeof(l->session));
	memcpy(&l->cipher, p + 15, sizeof(l->cipher));
	l->id = field_of(x, "SSL_CIPHER_get_protocol_id");
#else
	(void)x;
	(void)l;
#endif
}

static int tell_layout(struct instance *in, const struct exe *x, uint32_t index)
{
	struct openssl_bpf *skel = in->skel;
	struct openssl_layout l = {
		.version = field_of(x, "SSL_version"),
		.session = OPENSSL_UNKNOWN,
		.cipher = OPENSSL_UNKNOWN,
		.id = OPENSSL_UNKNOWN,
		.in_init = field_of(x, "SSL_in_init"),
	};

	find_cipher(x, &l);
	return bpf_map_update_elem(bpf_map__fd(skel->maps.layouts), &index, &l, BPF_ANY) < 0
		       ? -errno
		       : 0;
}

static int attach_one(struct openssl_file *f, struct bpf_program *prog, bool at_return,
		      const char *path, uint64_t offset)
{
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .retprobe = at_return);
	struct bpf_link *link = bpf_program__attach_uprobe_opts(prog, -1, path, offset, &opts);

	if (!link)
		return -errno;
	f->links[f->nlinks++] = link;
	return 0;
}

static int attach_each(struct openssl_bpf *skel, struct openssl_file *f, const char *path,
		       const struct sites *s)
{
	int r = 0;

	for (size_t i = 0; i < s->nreturns && !r; i++)
		r = attach_one(f, skel->progs.leave, true, path, s->returns[i]);
	for (size_t i = 0; i < s->n && !r; i++)
		r = attach_one(f, program_of(skel, s->cookies[i] & 0xff), false, path,
			       s->offsets[i]);
	return r;
}

static int attach_multi(struct openssl_bpf *skel, struct openssl_file *f, const char *path,
			const struct sites *s)
{
	int fd;

	if (s->nreturns) {
		/* At a return no cookie is asked for. */
		fd = uprobe_multi_attach(skel->progs.multi_leave, true, 0, path, s->returns,
					 s->cookies, s->nreturns);
		if (fd < 0)
			return fd;
		f->fds[1] = fd;
	}
	fd = uprobe_multi_attach(skel->progs.multi_enter, false, 0, path, s->offsets, s->cookies,
				 s->n);
	if (fd < 0)
		return fd;
	f->fds[0] = fd;
	return 0;
}

static void detach(struct openssl_file *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(f->fds); i++) {
		if (f->fds[i] >= 0)
			links_close_fd_later(f->fds[i]);
		f->fds[i] = -1;
	}
	while (f->nlinks)
		links_close_later(f->links[--f->nlinks]);
}

static bool file_known(const struct openssl_watch *w, const struct stat *st)
{
	for (unsigned int i = 0; i < w->nfiles; i++)
		if (w->files[i].dev == st->st_dev && w->files[i].ino == st->st_ino)
			return true;
	return false;
}

/* Probes in one file, or none. A file without any of the functions is remembered, too. */
static int watch_file(struct instance *in, struct openssl_watch *w, const char *path)
{
	_cleanup_(exe_closep) struct exe *x = NULL;
	struct sites s = {};
	struct openssl_file *f;
	struct stat st;
	int r;

	if (stat(path, &st) < 0)
		return -errno;
	if (file_known(w, &st))
		return 0;
	if (w->nfiles == OPENSSL_LIBRARIES) {
		w->full++;
		return err_set(&w->why, -ENOBUFS,
			       "more than %d files hold an OpenSSL; '%.100s' isn't watched",
			       OPENSSL_LIBRARIES, path);
	}
	r = exe_open(&x, path, &w->why);
	if (r < 0)
		return r;
	f = &w->files[w->nfiles];
	*f = (struct openssl_file){.dev = exe_dev(x), .ino = exe_ino(x), .fds = {-1, -1}};
	find_sites(x, w->nfiles, opt_bool(in->opts, "transfers"), &s);
	r = tell_layout(in, x, w->nfiles);
	if (!r && s.n)
		r = w->multi ? attach_multi(in->skel, f, path, &s)
			     : attach_each(in->skel, f, path, &s);
	if (r < 0) {
		detach(f);
		return err_set(&w->why, r, "no uprobe in '%.128s': %s", path, strerror(-r));
	}
	w->nfiles++;
	return 0;
}

struct mapped {
	struct instance *in;
	struct openssl_watch *w;
	uint32_t pid;
};

static int on_map(const struct map_line *m, void *arg)
{
	const struct mapped *at = arg;
	struct map_paths paths;

	if (!m->executable ||
	    (strncmp(m->name, "libssl.so", 9) && strncmp(m->name, "libcrypto.so", 12)))
		return 0;
	maps_paths(at->pid, m, &paths);
	/* By the second path if not by the first; failures stay in w->why. */
	if (watch_file(at->in, at->w, paths.mapping) < 0 && !watch_file(at->in, at->w, paths.root))
		at->w->why.code = 0;
	return 0;
}

static void look_at(struct instance *in, struct openssl_watch *w, uint32_t pid)
{
	struct mapped at = {in, w, pid};

	(void)maps_each(pid, on_map, &at); /* gone already */
}

static void look_at_all(struct instance *in, struct openssl_watch *w)
{
	DIR *d = opendir("/proc");
	const struct dirent *e;

	while (d && (e = readdir(d)))
		if (isdigit((unsigned char)e->d_name[0]))
			look_at(in, w, (uint32_t)strtoul(e->d_name, NULL, 10));
	if (d)
		closedir(d);
	w->rescan_ns = clock_mono_ns() + RESCAN_NS;
}

void openssl_watch_all(struct instance *in, struct openssl_watch *w)
{
	static const char *const installed[] = {"libssl.so.3", "libcrypto.so.3", "libssl.so.1.1",
						"libcrypto.so.1.1"};
	const char *path;
	char where[256];

	for (size_t i = 0; (path = opt_item(in->opts, "paths", i)); i++)
		if (watch_file(in, w, path) == -ENOENT)
			(void)err_set(&w->why, -ENOENT, "option paths: no file '%.128s'", path);
	/* Before the first process that uses them. */
	for (size_t i = 0; i < ARRAY_SIZE(installed); i++) {
		_cleanup_(exe_closep) struct exe *x = NULL;

		if (!exe_open_library(&x, installed[i], where, sizeof(where), NULL))
			(void)watch_file(in, w, where);
	}
	look_at_all(in, w);
}

void openssl_watch_later(struct openssl_watch *w, uint32_t pid, uint64_t now)
{
	if (w->nchecks == OPENSSL_CHECKS_MAX) {
		if (w->rescan_ns > now + RESCAN_SOON_NS)
			w->rescan_ns = now + RESCAN_SOON_NS;
		return;
	}
	w->checks[w->nchecks++] = (struct openssl_check){.pid = pid, .due_ns = now + stages[0]};
}

void openssl_watch_run(struct instance *in, struct openssl_watch *w, uint64_t now)
{
	unsigned int kept = 0;

	for (unsigned int i = 0; i < w->nchecks; i++) {
		struct openssl_check c = w->checks[i];

		if (c.due_ns <= now) {
			look_at(in, w, c.pid);
			if (++c.stage == ARRAY_SIZE(stages))
				continue;
			c.due_ns = now + stages[c.stage] - stages[c.stage - 1];
		}
		w->checks[kept++] = c;
	}
	w->nchecks = kept;
	if (now >= w->rescan_ns)
		look_at_all(in, w);
	/* What is gone already is nobody's loss. */
	if (w->why.code && w->why.code != -ENOENT && log_ratelimit("openssl", 3))
		log_warn("plugin openssl: %s", w->why.msg);
	w->why.code = 0;
}

void openssl_watch_stop(struct openssl_watch *w)
{
	while (w->nfiles)
		detach(&w->files[--w->nfiles]);
}
