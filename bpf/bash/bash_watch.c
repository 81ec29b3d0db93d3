// SPDX-License-Identifier: Apache-2.0
/* Which processes run a shell: by path, by a look at all of them, and as they start. */
#include "bpf/bash/bash_watch.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/macro.h"
#include "bpf/bash.skel.h"
#include "bpf/bash/bash_target.h"
#include "bpf/exe.h"
#include "bpf/iter.h"
#include "bpf/uprobe.h"

/* Files read in a second: each costs up to a millisecond, and anybody can make more. */
#define LOOKS_MAX 16
/* A shell that no process runs keeps its probes for that many looks, ten seconds apart. */
#define UNUSED_TURNS 2

static void report(struct instance *in, struct bash_watch *w)
{
	if (w->remote + w->refused == w->reported)
		return;
	w->reported = w->remote + w->refused;
	snprintf(in->degraded, sizeof(in->degraded),
		 "executables of these names that aren't watched: %llu on remote file systems, "
		 "%llu others%s%.120s",
		 (unsigned long long)w->remote, (unsigned long long)w->refused,
		 w->why[0] ? ", the last: " : "", w->why);
}

int bash_watch_paths(struct instance *in, struct bash_watch *w, struct err *err)
{
	const char *path;
	int failed = 0;

	for (size_t i = 0; (path = opt_item(in->opts, "paths", i)); i++) {
		const char *name = strrchr(path, '/');
		struct bash_target *t = NULL;
		int r = target_watch(in, w, path, name ? name + 1 : path, -1, &t, err);

		if (t && !t->by_path) {
			t->by_path = true;
			w->npaths++;
		}
		if (r < 0)
			failed = r;
	}
	return failed;
}

/* The kernel half needn't tell of that file again. */
static void remember(struct instance *in, const struct exe_id *id)
{
	struct bash_bpf *skel = in->skel;
	struct bash_file file = {.ino = id->ino, .dev = id->dev};
	uint8_t yes = 1;

	(void)bpf_map_update_elem(bpf_map__fd(skel->maps.files), &file, &yes, BPF_ANY);
}

static struct bash_target *find_known(const struct bash_watch *w, const struct exe_id *id)
{
	for (struct bash_target *t = w->targets; t; t = t->next)
		if (t->kernel_ino == id->ino && t->kernel_dev == id->dev &&
		    t->ctime_sec == id->ctime_sec)
			return t;
	return NULL;
}

/* The process may run something else by now. */
static bool still_runs(const char *path, const struct exe_id *id)
{
	struct stat st;

	return stat(path, &st) == 0 && (uint64_t)st.st_size == id->size &&
	       st.st_ctim.tv_sec == id->ctime_sec && (uint32_t)st.st_ctim.tv_nsec == id->ctime_nsec;
}

static bool may_look(struct bash_watch *w)
{
	uint64_t second = clock_mono_ns() / NSEC_PER_SEC;

	if (w->second != second) {
		w->second = second;
		w->looked = 0;
	}
	return w->looked++ < LOOKS_MAX; /* others are found by the next look at all processes */
}

static void look_at(struct instance *in, struct bash_watch *w, const struct bash_program *e)
{
	_cleanup_close_ int root = -1;
	struct bash_target *t = NULL;
	struct err why = {};
	char path[32];

	snprintf(path, sizeof(path), "/proc/%u/root", e->pid);
	root = open(path, O_PATH | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%u/exe", e->pid);
	if (root < 0 || !still_runs(path, &e->exe))
		return;
	if (target_watch(in, w, path, e->name, root, &t, &why) < 0 || !t) {
		w->refused++;
		snprintf(w->why, sizeof(w->why), "%.*s", (int)sizeof(w->why) - 1, why.msg);
		t = target_refused(w);
	}
	if (!t)
		return;
	t->kernel_ino = e->exe.ino;
	t->kernel_dev = e->exe.dev;
	t->ctime_sec = e->exe.ctime_sec;
	t->seen = w->turn;
	remember(in, &e->exe);
}

int bash_watch_program(struct instance *in, struct bash_watch *w, const struct bash_program *e)
{
	struct bash_target *t = find_known(w, &e->exe);
	struct bash_program copy = *e;

	copy.name[sizeof(copy.name) - 1] = '\0';
	if (e->pid == in->self_tgid)
		return 0;
	if (t) {
		t->seen = w->turn;
	} else if (exe_is_remote(e->exe.magic) || exe_is_remote(e->exe.root_magic)) {
		w->remote++;
		remember(in, &e->exe);
	} else if (may_look(w)) {
		look_at(in, w, &copy);
	}
	report(in, w);
	return 0;
}

struct programs {
	struct instance *in;
	struct bash_watch *w;
};

static int on_program(void *arg, const void *record)
{
	const struct programs *p = arg;

	return bash_watch_program(p->in, p->w, record);
}

static int scan(struct instance *in, struct bash_watch *w, struct err *err)
{
	struct bash_bpf *skel = in->skel;
	struct programs all = {in, w};
	struct bash_program chunk[32];
	struct bpf_link *link;
	int r;

	w->turn++;
	link = bpf_program__attach_iter(skel->progs.programs_running, NULL);
	if (!link)
		return err_set(err, -errno, "cannot look at processes: %s", strerror(errno));
	r = iter_read(link, chunk, sizeof(chunk), sizeof(chunk[0]), on_program, &all);
	bpf_link__destroy(link);
	return r < 0 ? err_set(err, r, "cannot look at processes: %s", strerror(-r)) : 0;
}

int bash_watch_prepare(struct instance *in, struct err *err)
{
	const struct bash_bpf *skel = in->skel;
	struct bpf_program *const progs[] = {
		skel->progs.bash_prompt,  skel->progs.bash_line,  skel->progs.library_line,
		skel->progs.bash_history, skel->progs.zle_prompt, skel->progs.zle_line,
	};
	int r = 0;

	/* The kernel ends many such links within the time of one. */
	if (!uprobe_multi_usable())
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(progs) && !r; i++)
		r = uprobe_multi_prepare(progs[i]);
	return r < 0 ? err_set(err, r, "cannot prepare its programs: %s", strerror(-r)) : 0;
}

int bash_watch_start(struct instance *in, struct bash_watch *w, struct err *err)
{
	struct bash_bpf *skel = in->skel;
	const char *text;

	for (size_t i = 0; (text = opt_item(in->opts, "programs", i)); i++) {
		char name[BASH_NAME_SIZE] = "";
		uint8_t yes = 1;

		memcpy(name, text, strnlen(text, sizeof(name) - 1));
		if (i == BASH_PROGRAMS_MAX || !*text)
			return err_set(err, -EINVAL, "option programs: 1 to %d names, please",
				       BASH_PROGRAMS_MAX);
		if (bpf_map_update_elem(bpf_map__fd(skel->maps.programs), name, &yes, BPF_ANY) < 0)
			return err_set(err, -errno,
				       "option programs: the kernel didn't take it: %s",
				       strerror(errno));
	}
	return scan(in, w, err);
}

static bool is_unused(const struct bash_watch *w, const struct bash_target *t)
{
	return !t->by_path && !t->users && w->turn - t->seen > UNUSED_TURNS;
}

int bash_watch_rescan(struct instance *in, struct bash_watch *w, struct err *err)
{
	struct bash_target *next;
	int r = bash_watch_paths(in, w, err), s = scan(in, w, err);

	for (struct bash_target *t = w->targets; t && s == 0; t = next) {
		next = t->next;
		if (!is_unused(w, t))
			continue;
		target_drop(in, w, t);
		next = w->targets; /* its library may have gone with it */
	}
	return r < 0 ? r : s;
}

void bash_watch_stop(struct bash_watch *w)
{
	while (w->targets)
		target_drop(NULL, w, w->targets);
}
