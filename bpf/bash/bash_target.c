// SPDX-License-Identifier: Apache-2.0
/* Probes in shells and libraries, each file once, and where shells keep their variables. */
#include "bpf/bash/bash_target.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

#include "base/macro.h"
#include "bpf/bash.skel.h"
#include "bpf/exe.h"
#include "bpf/links.h"
#include "bpf/uprobe.h"

static struct bash_layout layout_of(const struct exe *x)
{
	struct exe_layout l;

	exe_layout(x, &l);
	return (struct bash_layout){
		.code_size = l.end_code - l.start_code,
		.data_start = l.start_data - l.start_code,
		.data_end = l.end_data - l.start_code,
	};
}

static bool is_overlay(const struct exe *x)
{
	struct statfs fs;

	return fstatfs(exe_fd(x), &fs) == 0 && fs.f_type == OVERLAYFS_SUPER_MAGIC;
}

static struct bash_target *target_find(const struct bash_watch *w, const struct exe *x)
{
	struct bash_layout layout = layout_of(x);
	bool overlay = is_overlay(x);

	for (struct bash_target *t = w->targets; t; t = t->next) {
		if (!t->nlinks && !t->nfds && !t->library)
			continue;
		if (t->dev == exe_dev(x) && t->ino == exe_ino(x))
			return t;
		if (overlay && t->overlay && t->ino == exe_ino(x) &&
		    !memcmp(&t->layout, &layout, sizeof(layout)))
			return t;
	}
	return NULL;
}

struct bash_target *target_refused(struct bash_watch *w)
{
	struct bash_target *t = w->ntargets < BASH_TARGETS_MAX ? calloc(1, sizeof(*t)) : NULL;

	if (!t)
		return NULL;
	t->next = w->targets;
	w->targets = t;
	w->ntargets++;
	return t;
}

static int target_new(struct bash_watch *w, const struct exe *x, struct bash_target **ret,
		      struct err *err)
{
	struct bash_target *t = target_refused(w);

	if (!t)
		return err_set(err, -ENOBUFS, "more than %d files to watch", BASH_TARGETS_MAX);
	t->dev = exe_dev(x);
	t->ino = exe_ino(x);
	t->layout = layout_of(x);
	t->overlay = is_overlay(x);
	*ret = t;
	return 0;
}

static void forget_layout(struct instance *in, const struct bash_watch *w,
			  const struct bash_layout *layout)
{
	struct bash_bpf *skel = in->skel;

	for (const struct bash_target *t = w->targets; t; t = t->next)
		if (!memcmp(&t->layout, layout, sizeof(*layout)))
			return; /* another copy of the same build */
	(void)bpf_map_delete_elem(bpf_map__fd(skel->maps.shells),
				  layout); /* a library isn't there */
}

/* The kernel half tells of it again when it starts. */
static void forget_file(struct instance *in, const struct bash_target *t)
{
	struct bash_bpf *skel = in->skel;
	struct bash_file file = {.ino = t->kernel_ino, .dev = t->kernel_dev};

	if (t->kernel_ino)
		(void)bpf_map_delete_elem(bpf_map__fd(skel->maps.files), &file);
}

void target_drop(struct instance *in, struct bash_watch *w, struct bash_target *t)
{
	struct bash_target **at = &w->targets, *library = t->library;

	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	w->ntargets--;
	/* No process runs it any more, or the plugin is off: its probes have nothing to tell. */
	while (t->nlinks)
		links_close_later(t->links[--t->nlinks]);
	while (t->nfds)
		links_close_fd_later(t->fds[--t->nfds]);
	if (in) {
		forget_layout(in, w, &t->layout);
		forget_file(in, t);
	}
	free(t);
	/* At the end all go, in any order. */
	if (in && library && !--library->users && !library->by_path)
		target_drop(in, w, library);
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

static int attach_multi(struct bash_target *t, const struct bpf_program *prog, bool at_return,
			const char *path, uint64_t offset)
{
	const uint64_t cookie = 0;
	int fd = uprobe_multi_attach(prog, at_return, 0, path, &offset, &cookie, 1);

	if (fd < 0)
		return fd;
	t->fds[t->nfds++] = fd;
	return 0;
}

static int attach_perf(struct bash_target *t, const struct bpf_program *prog, bool at_return,
		       const char *path, uint64_t offset)
{
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .retprobe = at_return);
	struct bpf_link *link = bpf_program__attach_uprobe_opts(prog, -1, path, offset, &opts);

	if (!link)
		return -errno;
	t->links[t->nlinks++] = link;
	return 0;
}

static int attach(struct bash_target *t, const struct bpf_program *prog, bool at_return,
		  const struct exe *x, const char *path, uint64_t offset, struct err *err)
{
	char self[32];
	int r;

	/* The file that was read, whatever is at its path now. */
	snprintf(self, sizeof(self), "/proc/self/fd/%d", exe_fd(x));
	r = uprobe_multi_prepared(prog) ? attach_multi(t, prog, at_return, self, offset)
					: attach_perf(t, prog, at_return, self, offset);
	return r < 0 ? attach_error(r, path, err) : 0;
}

/* What reads a line: the function at whose entry it shows its prompt, the one that returns the
 * line, and the programs there. */
struct reader {
	const char *asks, *returns;
	struct bpf_program *prompt, *line;
};

/* Both probes in one file, or none. */
static int attach_pair(struct bash_target *t, const struct reader *r, const struct exe *x,
		       const char *path, struct err *err)
{
	uint64_t asks = exe_offset(x, exe_symbol(x, r->asks));
	uint64_t returns = exe_offset(x, exe_symbol(x, r->returns));
	int ret;

	if (!asks || !returns)
		return err_set(err, -ENOENT, "'%s' has no function %s", path,
			       asks ? r->returns : r->asks);
	/* Prompts first: a line whose end would be missed must not be seen. */
	ret = attach(t, r->prompt, false, x, path, asks, err);
	if (ret == 0)
		ret = attach(t, r->line, true, x, path, returns, err);
	return ret;
}

static int64_t distance(const struct exe *x, const struct exe_layout *l, const char *symbol)
{
	uint64_t addr = exe_symbol(x, symbol);

	return addr ? (int64_t)(addr - l->start_code) : 0;
}

/* Tells the kernel half how to know this shell in memory and where its variables are. */
static int describe_shell(struct instance *in, const struct exe *x, const char *path, bool zsh,
			  struct err *err)
{
	struct bash_layout key = layout_of(x);
	struct bash_bpf *skel = in->skel;
	struct exe_layout l;
	struct bash_symbols symbols = {0};

	exe_layout(x, &l);
	if (zsh) {
		symbols.last_command_exit_value = distance(x, &l, "lastval");
		symbols.cwd = distance(x, &l, "pwd");
	} else {
		symbols.last_command_exit_value = distance(x, &l, "last_command_exit_value");
		symbols.executing = distance(x, &l, "executing");
		symbols.current_prompt_string = distance(x, &l, "current_prompt_string");
		symbols.ps2_prompt = distance(x, &l, "ps2_prompt");
		symbols.cwd = distance(x, &l, "the_current_working_directory");
	}
	if (bpf_map_update_elem(bpf_map__fd(skel->maps.shells), &key, &symbols, BPF_ANY) < 0)
		return err_set(err, -errno, "cannot tell the kernel about '%s': %s", path,
			       strerror(errno));
	if (!symbols.last_command_exit_value && *path == '/' && strncmp(path, "/proc/", 6))
		snprintf(in->degraded, sizeof(in->degraded),
			 "'%.128s' exports no last_command_exit_value: no exit status", path);
	return 0;
}

/* zsh keeps its line editor in a module, in a folder by version. */
static int open_zle(struct exe **ret, int root, struct err *err)
{
	static const char *const folders[] = {"/usr/lib/x86_64-linux-gnu/zsh",
					      "/usr/lib/aarch64-linux-gnu/zsh", "/usr/lib64/zsh",
					      "/usr/lib/zsh"};
	char path[512];

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		int fd = exe_openat(root, folders[i], O_RDONLY | O_DIRECTORY), tries = 0, r = -1;
		DIR *dir = fd < 0 ? NULL : fdopendir(fd);
		struct dirent *entry;

		if (!dir && fd >= 0)
			close(fd);
		while (dir && r < 0 && tries++ < 16 && (entry = readdir(dir))) {
			snprintf(path, sizeof(path), "%s/%.200s/zsh/zle.so", folders[i],
				 entry->d_name);
			r = exe_open_in(ret, root, path, NULL);
		}
		if (dir)
			closedir(dir);
		if (r == 0)
			return 0;
	}
	return err_set(err, -ENOENT, "no zsh/zle.so for a zsh");
}

static int open_needed(struct exe **ret, const struct exe *shell, int root, struct err *err)
{
	/* Programs that load readline later on don't name it. */
	static const char *const sonames[] = {"libreadline.so.8", "libreadline.so.7"};
	const char *needed = exe_needs(shell, "libreadline.so");
	char where[256];
	int r = -ENOENT;

	if (!needed)
		needed = exe_needs(shell, "libedit.so");
	if (needed)
		return root < 0 ? exe_open_library(ret, needed, where, sizeof(where), err)
				: exe_open_library_in(ret, root, needed, err);
	for (size_t i = 0; root >= 0 && r < 0 && i < ARRAY_SIZE(sonames); i++)
		r = exe_open_library_in(ret, root, sonames[i], err);
	return r;
}

/*
 * Programs that call readline() and those that have it call them (rl_callback_handler_install())
 * meet in two functions that GNU readline exports for its own use. libedit has no such thing.
 */
static struct reader library_reader(const struct bash_bpf *skel, const struct exe *library,
				    bool zsh)
{
	struct reader r = {"readline", "readline", skel->progs.bash_prompt,
			   skel->progs.library_line};

	if (zsh)
		return (struct reader){"zleread", "zleread", skel->progs.zle_prompt,
				       skel->progs.zle_line};
	if (exe_symbol(library, "readline_internal_setup") &&
	    exe_symbol(library, "readline_internal_teardown")) {
		r.asks = "readline_internal_setup";
		r.returns = "readline_internal_teardown";
	}
	return r;
}

/* The library's target, which several shells may share. */
static int watch_library(struct instance *in, struct bash_watch *w, const struct exe *shell,
			 int root, bool zsh, struct bash_target **ret, struct err *err)
{
	_cleanup_(exe_closep) struct exe *library = NULL;
	struct reader reader;
	int r = zsh ? open_zle(&library, root, err) : open_needed(&library, shell, root, err);

	if (r < 0)
		return r;
	*ret = target_find(w, library);
	if (*ret)
		return 0;
	reader = library_reader(in->skel, library, zsh);
	r = target_new(w, library, ret, err);
	if (r == 0)
		r = attach_pair(*ret, &reader, library, zsh ? "zle.so" : "libreadline or libedit",
				err);
	if (r < 0 && *ret) {
		target_drop(in, w, *ret);
		*ret = NULL;
	}
	return r;
}

/* In the shell itself if it has readline built in, else in the library. */
static int attach_shell(struct instance *in, struct bash_watch *w, struct bash_target *t,
			const struct exe *shell, const char *path, int root, bool zsh,
			struct err *err)
{
	struct bash_bpf *skel = in->skel;
	const struct reader own = {"readline", "readline", skel->progs.bash_prompt,
				   skel->progs.bash_line};
	uint64_t history;
	int r;

	if (!zsh && exe_offset(shell, exe_symbol(shell, "readline"))) {
		r = attach_pair(t, &own, shell, path, err);
	} else {
		struct err why = {};

		r = watch_library(in, w, shell, root, zsh, &t->library, &why);
		if (r < 0 && !zsh && !exe_needs(shell, "libreadline.so"))
			return err_set(err, -ENOENT, "'%s' has no function readline", path);
		if (r < 0)
			return err_set(err, r, "%s", why.msg);
		t->library->users++;
	}
	history = exe_offset(shell, exe_symbol(shell, "pre_process_line"));
	if (r == 0 && history)
		r = attach(t, skel->progs.bash_history, false, shell, path, history, err);
	return r;
}

int target_watch(struct instance *in, struct bash_watch *w, const char *path, const char *name,
		 int root, struct bash_target **ret, struct err *err)
{
	_cleanup_(exe_closep) struct exe *shell = NULL;
	_cleanup_close_ int own_root = -1;
	bool zsh = strncmp(name, "zsh", 3) == 0;
	int r = exe_open(&shell, path, err);

	if (r < 0)
		return r;
	*ret = target_find(w, shell);
	if (*ret)
		return 0;
	if (zsh && root < 0)
		root = own_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = target_new(w, shell, ret, err);
	if (r < 0)
		return r;
	r = describe_shell(in, shell, path, zsh, err);
	if (r == 0)
		r = attach_shell(in, w, *ret, shell, path, root, zsh, err);
	if (r < 0) {
		target_drop(in, w, *ret);
		*ret = NULL;
	}
	return r;
}
