// SPDX-License-Identifier: Apache-2.0
/* Hook alternatives: feature probes and the choice among programs. */
#include "daemon/hooks.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>

#include "base/macro.h"
#include "bpf/tracepoint.h"
#include "daemon/probe.h"

const char *hooks_lockdown(void)
{
	_cleanup_close_ int fd = open("/sys/kernel/security/lockdown", O_RDONLY | O_CLOEXEC);
	char text[128] = "";

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return "";
	if (strstr(text, "[integrity]"))
		return "the kernel is locked down (integrity)";
	if (strstr(text, "[confidentiality]"))
		return "the kernel is locked down (confidentiality)";
	return "";
}

/* The kernel's types, parsed once for all questions of one choice: 20 ms and 8 MiB that nobody
 * needs afterwards. Loop thread. */
static struct btf *vmlinux;

void hooks_done(void)
{
	btf__free(vmlinux);
	vmlinux = NULL;
}

static int vmlinux_id(const char *name, uint32_t kind)
{
	if (!vmlinux)
		vmlinux = btf__load_vmlinux_btf();
	return vmlinux ? btf__find_by_name_kind(vmlinux, name, kind) : -ENOENT;
}

/* r0 = 0; exit. Attached for a moment: where trampolines can't be made the load succeeds and only
 * the attach fails. */
static int try_fentry(const char *function)
{
	const struct bpf_insn insns[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0},
		{.code = BPF_JMP | BPF_EXIT},
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = BPF_TRACE_FENTRY);
	_cleanup_close_ int prog = -1, link = -1;
	int id;

	id = vmlinux_id(function, BTF_KIND_FUNC);
	if (id < 0)
		return -ENOENT;
	opts.attach_btf_id = id;
	prog = bpf_prog_load(BPF_PROG_TYPE_TRACING, NULL, "GPL", insns, ARRAY_SIZE(insns), &opts);
	if (prog < 0)
		return -errno;
	link = bpf_raw_tracepoint_open(NULL, prog);
	return link < 0 ? -errno : 0;
}

static bool fentry_usable(const char *function, char *why, size_t cap)
{
	int r = try_fentry(function);

	if (r == 0)
		return true;
	if (r == -ENOENT)
		snprintf(why, cap, "the kernel's BTF has no function %.64s", function);
	else if (r == -EPERM)
		snprintf(why, cap, "refused (EPERM): %s",
			 probe_have_cap(CAP_BPF) && probe_have_cap(CAP_PERFMON)
				 ? "this kernel lets nobody trace functions"
				 : "CAP_BPF or CAP_PERFMON is missing");
	else
		snprintf(why, cap,
			 "this kernel can't attach to functions (%s; CONFIG_FUNCTION_TRACER or "
			 "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS is off)",
			 strerror(-r));
	return false;
}

static bool pmu_usable(const char *pmu, const char *option, char *why, size_t cap)
{
	const char *lockdown = hooks_lockdown();
	char path[96];

	snprintf(path, sizeof(path), "/sys/bus/event_source/devices/%s/type", pmu);
	if (access(path, F_OK) == 0)
		return true;
	snprintf(why, cap, "this kernel has %s off%s%s", option, *lockdown ? " and " : "",
		 lockdown);
	return false;
}

static bool btf_tracepoint_exists(const char *name)
{
	char type[128];

	snprintf(type, sizeof(type), "btf_trace_%s",
		 name); /* what the kernel's macros make of a tracepoint */
	return vmlinux_id(type, BTF_KIND_TYPEDEF) > 0;
}

static const char *after(const char *text, const char *prefix)
{
	size_t len = strlen(prefix);

	return strncmp(text, prefix, len) == 0 ? text + len : NULL;
}

bool hooks_section_usable(const char *section, char *why, size_t cap)
{
	const char *s;

	why[0] = '\0';
	if ((s = after(section, "fentry/")) || (s = after(section, "fexit/")) ||
	    (s = after(section, "fmod_ret/")))
		return fentry_usable(s, why, cap);
	if (after(section, "kprobe") || after(section, "kretprobe") || after(section, "ksyscall") ||
	    after(section, "kretsyscall"))
		return pmu_usable("kprobe", "CONFIG_KPROBES", why, cap);
	if (after(section, "uprobe") || after(section, "uretprobe"))
		return pmu_usable("uprobe", "CONFIG_UPROBES", why, cap);
	if ((s = after(section, "tp_btf/")) || (s = after(section, "raw_tp/")) ||
	    (s = after(section, "raw_tracepoint/"))) {
		if (btf_tracepoint_exists(s))
			return true;
		snprintf(why, cap, "the kernel's BTF has no tracepoint %.64s", s);
		return false;
	}
	if ((s = after(section, "tp/")) || (s = after(section, "tracepoint/")))
		return tracepoint_id(s, why, cap) >= 0;
	return true; /* everything else shows at load, and the host then tries the next alternative
		      */
}

bool hooks_is_banned(const struct hooks_banned *banned, const char *program)
{
	for (unsigned int i = 0; i < banned->n; i++)
		if (strcmp(banned->names[i], program) == 0)
			return true;
	return false;
}

bool hooks_ban(struct hooks_banned *banned, const char *program)
{
	if (banned->n == ARRAY_SIZE(banned->names) || hooks_is_banned(banned, program))
		return false;
	snprintf(banned->names[banned->n++], sizeof(banned->names[0]), "%s", program);
	return true;
}

/* Length of the group's name, or 0 if the program stands alone. */
static size_t group_len(const struct bpf_program *prog)
{
	const char *name = bpf_program__name(prog), *sep = strstr(name, "__");

	return sep ? (size_t)(sep - name) : 0;
}

static bool same_group(const struct bpf_program *a, const struct bpf_program *b)
{
	size_t n = group_len(a);

	return n && n == group_len(b) &&
	       strncmp(bpf_program__name(a), bpf_program__name(b), n) == 0;
}

bool hooks_has_substitute(const struct bpf_object *obj, const struct bpf_program *prog)
{
	struct bpf_program *p;

	if (!group_len(prog))
		return false;
	if (after(bpf_program__name(prog), HOOKS_OPTIONAL_PREFIX))
		return true;
	bpf_object__for_each_program(p, obj)
		if (p != prog && same_group(p, prog))
			return true;
	return false;
}

/* Adds "SECTION: why" to the list of what was tried; a list that is full keeps its beginning. */
static void add_reason(char *list, size_t cap, const char *section, const char *why)
{
	size_t len = strlen(list);
	int n = snprintf(list + len, cap - len, "%s%s: %s", len ? "; " : "", section, why);

	if (n < 0)
		list[len] = '\0';
}

/* Keeps the first usable program of the group of first; returns whether there is one. */
static bool choose_in_group(struct bpf_object *obj, const struct bpf_program *first,
			    const struct hooks_banned *banned, char *reasons, size_t cap)
{
	struct bpf_program *p;
	bool taken = false;
	char why[200];

	bpf_object__for_each_program(p, obj) {
		const char *section = bpf_program__section_name(p);
		bool use;

		if (!same_group(p, first) || !bpf_program__autoload(p))
			continue;
		use = !taken;
		if (use && hooks_is_banned(banned, bpf_program__name(p))) {
			add_reason(reasons, cap, section, "refused by this kernel");
			use = false;
		} else if (use && !hooks_section_usable(section, why, sizeof(why))) {
			add_reason(reasons, cap, section, why);
			use = false;
		}
		bpf_program__set_autoload(p, use);
		taken |= use;
	}
	return taken;
}

/* The first program of its group that is still switched on: where the choice is made. */
static bool leads_group(struct bpf_object *obj, const struct bpf_program *prog)
{
	struct bpf_program *p;

	bpf_object__for_each_program(p, obj) {
		if (p == prog)
			return true;
		if (same_group(p, prog) && bpf_program__autoload(p))
			return false;
	}
	return false;
}

static int choose(struct bpf_object *obj, const struct hooks_banned *banned, char *degraded,
		  size_t cap, struct err *err)
{
	struct bpf_program *p;

	degraded[0] = '\0';
	bpf_object__for_each_program(p, obj) {
		const char *name = bpf_program__name(p), *base;
		char reasons[200] = "";
		size_t len;

		if (!group_len(p) || !bpf_program__autoload(p) || !leads_group(obj, p))
			continue;
		if (choose_in_group(obj, p, banned, reasons, sizeof(reasons)))
			continue;
		base = after(name, HOOKS_OPTIONAL_PREFIX);
		if (!base)
			return err_set(err, -EOPNOTSUPP, "no hook for %.*s works here (%s)",
				       (int)group_len(p), name, reasons);
		len = strlen(degraded);
		snprintf(degraded + len, cap - len, "%swithout %.*s (%s)", len ? "; " : "",
			 (int)(group_len(p) - strlen(HOOKS_OPTIONAL_PREFIX)), base, reasons);
	}
	return 0;
}

/* include/linux/bpf_verifier.h, is_tracing_prog_type() */
static bool runs_anywhere(const struct bpf_program *prog)
{
	enum bpf_prog_type type = bpf_program__type(prog);

	return bpf_program__autoload(prog) &&
	       (type == BPF_PROG_TYPE_KPROBE || type == BPF_PROG_TYPE_TRACEPOINT ||
		type == BPF_PROG_TYPE_RAW_TRACEPOINT || type == BPF_PROG_TYPE_PERF_EVENT);
}

/*
 * Before 7c8199e24fa0 ("bpf: Introduce any context BPF specific memory allocator"), 6.1, such programs
 * with a hash that isn't allocated beforehand make the kernel warn, which panic_on_warn takes as the
 * end.
 */
static int allocate_before(struct bpf_object *obj)
{
	struct bpf_program *p;
	struct bpf_map *m;
	bool any = false;

	bpf_object__for_each_program(p, obj)
		any |= runs_anywhere(p);
	if (!any || vmlinux_id("bpf_mem_alloc", BTF_KIND_STRUCT) > 0)
		return 0;
	bpf_object__for_each_map(m, obj) {
		enum bpf_map_type type = bpf_map__type(m);
		int r;

		if (type != BPF_MAP_TYPE_HASH && type != BPF_MAP_TYPE_PERCPU_HASH)
			continue;
		r = bpf_map__set_map_flags(m, bpf_map__map_flags(m) & ~(uint32_t)BPF_F_NO_PREALLOC);
		if (r < 0)
			return r;
	}
	return 0;
}

int hooks_choose(struct bpf_object *obj, const struct hooks_banned *banned, char *degraded,
		 size_t cap, struct err *err)
{
	int r = choose(obj, banned, degraded, cap, err);

	if (r == 0) {
		r = allocate_before(obj);
		if (r < 0)
			err_set(err, r, "cannot set up its maps for this kernel: %s", strerror(-r));
	}
	hooks_done();
	return r;
}
