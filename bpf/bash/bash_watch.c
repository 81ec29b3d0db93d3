// SPDX-License-Identifier: Apache-2.0
/* Which files hold a bash or its readline, and the probes in them. */
#include "bpf/bash/bash_watch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <bpf/bpf.h>

#include "bpf/bash.skel.h"
#include "bpf/bash/bash.h"
#include "bpf/exe.h"

static bool target_known(const struct bash_watch *w, dev_t dev, ino_t ino)
{
	for (unsigned int i = 0; i < w->ntargets; i++)
		if (w->targets[i].dev == dev && w->targets[i].ino == ino)
			return true;
	return false;
}

static int attach_error(int r, const char *path, struct err *err)
{
	if (r == -EPERM || r == -EACCES)
		return err_set(err, r,
			       "the kernel refuses a uprobe in '%s': CAP_PERFMON (or "
			       "CAP_SYS_ADMIN) is missing",
			       path);
	if (r == -ENOENT || r == -EOPNOTSUPP)
		return err_set(err, -EOPNOTSUPP,
			       "no uprobe in '%s': this kernel lacks CONFIG_UPROBE_EVENTS", path);
	return err_set(err, r, "no uprobe in '%s': %s", path, strerror(-r));
}

static int attach(struct bash_watch *w, struct bpf_program *prog, bool at_return, const char *path,
		  uint64_t offset, struct err *err)
{
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .retprobe = at_return);
	struct bpf_link *link;

	if (w->nlinks == BASH_LINKS_MAX)
		return err_set(err, -ENOBUFS, "more than %d probes", BASH_LINKS_MAX);
	link = bpf_program__attach_uprobe_opts(prog, -1, path, offset, &opts);
	if (!link)
		return attach_error(-errno, path, err);
	w->links[w->nlinks++] = link;
	return 0;
}

/* Both probes in one file, or none. */
static int attach_pair(struct instance *in, struct bash_watch *w, const struct exe *x,
		       const char *path, bool library, struct err *err)
{
	struct bash_bpf *skel = in->skel;
	uint64_t offset = exe_offset(x, exe_symbol(x, "readline"));
	int r;

	if (!offset)
		return err_set(err, -ENOENT, "'%s' has no function readline", path);
	if (target_known(w, exe_dev(x), exe_ino(x)))
		return 0;
	if (w->ntargets == BASH_TARGETS_MAX)
		return err_set(err, -ENOBUFS, "more than %d files to watch", BASH_TARGETS_MAX);
	/* Prompts first: a line whose end would be missed must not be seen. */
	r = attach(w, skel->progs.bash_prompt, false, path, offset, err);
	if (r < 0)
		return r;
	r = attach(w, library ? skel->progs.library_line : skel->progs.bash_line, true, path,
		   offset, err);
	if (r < 0) {
		bpf_link__destroy(w->links[--w->nlinks]);
		return r;
	}
	w->targets[w->ntargets++] = (struct bash_target){exe_dev(x), exe_ino(x)};
	return 0;
}

static int64_t distance(const struct exe *x, const struct exe_layout *l, const char *symbol)
{
	uint64_t addr = exe_symbol(x, symbol);

	return addr ? (int64_t)(addr - l->start_code) : 0;
}

/* Tells the kernel half how to know this bash in memory and where its variables are. */
static int describe_shell(struct instance *in, const struct exe *x, const char *path,
			  struct err *err)
{
	struct bash_bpf *skel = in->skel;
	struct exe_layout l;
	int r;

	exe_layout(x, &l);
	struct bash_layout key = {
		.code_size = l.end_code - l.start_code,
		.data_start = l.start_data - l.start_code,
		.data_end = l.end_data - l.start_code,
	};
	struct bash_symbols symbols = {
		.last_command_exit_value = distance(x, &l, "last_command_exit_value"),
		.executing = distance(x, &l, "executing"),
		.current_prompt_string = distance(x, &l, "current_prompt_string"),
		.ps2_prompt = distance(x, &l, "ps2_prompt"),
		.cwd = distance(x, &l, "the_current_working_directory"),
	};

	r = bpf_map_update_elem(bpf_map__fd(skel->maps.shells), &key, &symbols, BPF_ANY);
	if (r < 0)
		return err_set(err, -errno, "cannot tell the kernel about '%s': %s", path,
			       strerror(errno));
	if (!symbols.last_command_exit_value)
		snprintf(in->degraded, sizeof(in->degraded),
			 "'%.128s' exports no last_command_exit_value: no exit status", path);
	return 0;
}

static int watch_shell(struct instance *in, struct bash_watch *w, const char *path, struct err *err)
{
	_cleanup_(exe_closep) struct exe *shell = NULL, *library = NULL;
	struct bash_bpf *skel = in->skel;
	const char *needed;
	char where[256];
	uint64_t history;
	int r;

	r = exe_open(&shell, path, err);
	if (r < 0)
		return r;
	if (target_known(w, exe_dev(shell), exe_ino(shell)))
		return 0;
	r = describe_shell(in, shell, path, err);
	if (r < 0)
		return r;
	needed = exe_needs(shell, "libreadline.so");
	if (!needed) {
		r = attach_pair(in, w, shell, path, false, err);
	} else {
		r = exe_open_library(&library, needed, where, sizeof(where), err);
		if (!r)
			r = attach_pair(in, w, library, where, true, err);
		/* The probes are in the library; the shell is remembered all the same, so that it isn't read again. */
		if (!r && w->ntargets < BASH_TARGETS_MAX)
			w->targets[w->ntargets++] =
				(struct bash_target){exe_dev(shell), exe_ino(shell)};
	}
	history = exe_offset(shell, exe_symbol(shell, "pre_process_line"));
	if (!r && history)
		r = attach(w, skel->progs.bash_history, false, path, history, err);
	if (!r)
		w->nshells++;
	return r;
}

int bash_watch_shells(struct instance *in, struct bash_watch *w, struct err *err)
{
	const char *path;
	int r, failed = 0;

	for (size_t i = 0; (path = opt_item(in->opts, "paths", i)); i++) {
		r = watch_shell(in, w, path, err);
		if (r < 0)
			failed = r;
	}
	return failed;
}

void bash_watch_stop(struct bash_watch *w)
{
	while (w->nlinks)
		bpf_link__destroy(w->links[--w->nlinks]);
}
