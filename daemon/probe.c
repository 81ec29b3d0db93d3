// SPDX-License-Identifier: Apache-2.0
/* Capabilities of kernel and host, and requirements of plugins. */
#include "daemon/probe.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/macro.h"
#include "base/units.h"
#include "bpf/tracepoint.h"
#include "daemon/hooks.h"
#include "governor/ceiling.h"
#include "governor/cgroup.h"

struct probe {
	unsigned int n;
	struct capability_info caps[40];
	bool btf, bpf;
};

static void add(struct probe *p, const char *name, bool available, const char *fmt, ...)
	_printf_(4, 5);

static void add(struct probe *p, const char *name, bool available, const char *fmt, ...)
{
	struct capability_info *c;
	va_list ap;

	if (p->n == ARRAY_SIZE(p->caps))
		return;
	c = &p->caps[p->n++];
	snprintf(c->name, sizeof(c->name), "%s", name);
	c->available = available;
	va_start(ap, fmt);
	vsnprintf(c->detail, sizeof(c->detail), fmt, ap);
	va_end(ap);
}

/* call bpf_get_current_pid_tgid; r0 >>= 32; exit: run once in our own context, it answers with the
 * pid that BPF sees. */
uint32_t probe_self_tgid(void)
{
	const struct bpf_insn insns[] = {
		{.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_get_current_pid_tgid},
		{.code = BPF_ALU64 | BPF_RSH | BPF_K, .dst_reg = BPF_REG_0, .imm = 32},
		{.code = BPF_JMP | BPF_EXIT},
	};
	LIBBPF_OPTS(bpf_test_run_opts, run);
	_cleanup_close_ int prog = -1;

	prog = bpf_prog_load(BPF_PROG_TYPE_RAW_TRACEPOINT, NULL, "GPL", insns, ARRAY_SIZE(insns),
			     NULL);
	if (prog < 0 || bpf_prog_test_run_opts(prog, &run) < 0 || !run.retval)
		return (uint32_t)getpid(); /* right wherever we are in the initial pid namespace */
	return run.retval;
}

static void probe_bpf(struct probe *p)
{
	const struct bpf_insn insns[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0},
		{.code = BPF_JMP | BPF_EXIT},
	};
	_cleanup_close_ int prog = -1;
	const char *lockdown = hooks_lockdown();

	prog = bpf_prog_load(BPF_PROG_TYPE_RAW_TRACEPOINT, NULL, "GPL", insns, ARRAY_SIZE(insns),
			     NULL);
	p->bpf = prog >= 0;
	if (p->bpf)
		add(p, "bpf", true, "BPF programs can be loaded");
	else
		add(p, "bpf", false,
		    "no BPF program can be loaded (%s): run as root or with CAP_BPF and "
		    "CAP_PERFMON%s%s",
		    strerror(errno), *lockdown ? "; " : "", lockdown);
	p->btf = access("/sys/kernel/btf/vmlinux", R_OK) == 0;
	if (p->btf)
		add(p, "btf", true, "the kernel describes its types (/sys/kernel/btf/vmlinux)");
	else
		add(p, "btf", false,
		    "no /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF is off): no plugin can run");
}

static void probe_map(struct probe *p, const char *name, enum bpf_map_type type, const char *yes,
		      const char *no)
{
	bool ok = libbpf_probe_bpf_map_type(type, NULL) == 1;

	add(p, name, ok, "%s", ok ? yes : no);
}

static void probe_section(struct probe *p, const char *name, const char *section, const char *yes,
			  const char *no)
{
	char why[200];
	bool ok = hooks_section_usable(section, why, sizeof(why));

	if (ok)
		add(p, name, true, "%s", yes);
	else
		add(p, name, false, "%s: %s", why, no);
}

static void probe_hooks(struct probe *p)
{
	probe_map(p, "ringbuf", BPF_MAP_TYPE_RINGBUF, "events leave the kernel by ring buffer",
		  "no ring buffer (kernel before 5.8): no plugin can run");
	probe_map(p, "sk_storage", BPF_MAP_TYPE_SK_STORAGE, "state is kept with each socket",
		  "no socket storage: connections are kept in a table of fixed size");
	probe_section(p, "tp_btf", "tp_btf/inet_sock_set_state", "typed tracepoints can be used",
		      "netflow cannot see connections open and close");
	probe_section(p, "tracepoint", "tp/sched/sched_process_exec",
		      "tracepoints can be used by name", "plugins that need them run with less");
	probe_section(p, "fentry", "fentry/tcp_close", "kernel functions can be observed by fentry",
		      "kprobes or tracepoints are used instead where there are any");
	probe_section(p, "kprobe", "kprobe/tcp_close", "kernel functions can be observed by kprobe",
		      "functions can only be observed by fentry");
	probe_section(p, "uprobe", "uprobe", "programs and libraries can be observed",
		      "bash and what reads TLS in clear cannot run by uprobes");
}

bool probe_have_cap(unsigned int cap)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};

	if (syscall(SYS_capget, &header, data) < 0)
		return false;
	return data[cap / 32].effective & (1u << cap % 32);
}

static void probe_rights(struct probe *p)
{
	static const struct {
		const char *name;
		unsigned int cap;
		const char *lost;
	} caps[] = {
		{"cap_bpf", CAP_BPF, "no BPF program can be loaded"},
		{"cap_perfmon", CAP_PERFMON, "tracing programs cannot be loaded"},
		{"cap_net_admin", CAP_NET_ADMIN,
		 "UDP and the daemon's own traffic cannot be counted"},
		{"cap_sys_admin", CAP_SYS_ADMIN, "older kernels load no program without it"},
		{"cap_sys_ptrace", CAP_SYS_PTRACE,
		 "names and users of other processes stay unknown"},
		{"cap_dac_read_search", CAP_DAC_READ_SEARCH,
		 "containers cannot be told by their cgroup"},
		{"cap_sys_resource", CAP_SYS_RESOURCE,
		 "memory for maps cannot be raised on kernels before 5.11"},
	};
	struct rlimit lim = {0};

	for (size_t i = 0; i < ARRAY_SIZE(caps); i++) {
		bool ok = probe_have_cap(caps[i].cap);

		add(p, caps[i].name, ok, "%s%s",
		    ok ? "granted" : "missing: ", ok ? "" : caps[i].lost);
	}
	if (getrlimit(RLIMIT_MEMLOCK, &lim) == 0 && lim.rlim_cur == RLIM_INFINITY)
		add(p, "rlimit_memlock", true, "unlimited");
	else
		add(p, "rlimit_memlock", false,
		    "%llu bytes: on kernels before 5.11 maps beyond that are refused, later ones "
		    "don't ask",
		    (unsigned long long)lim.rlim_cur);
}

/* An administrator may have switched them on for all. */
static bool stats_enabled_by_others(void)
{
	_cleanup_close_ int fd = open("/proc/sys/kernel/bpf_stats_enabled", O_RDONLY | O_CLOEXEC);
	char c = '0';

	return fd >= 0 && read(fd, &c, 1) == 1 && c == '1';
}

static void probe_stats(struct probe *p)
{
	_cleanup_close_ int fd = bpf_enable_stats(BPF_STATS_RUN_TIME);

	if (fd >= 0)
		add(p, "bpf_stats", true, "the run time of BPF programs is measured, as the option bpf_stats says");
	else if (stats_enabled_by_others())
		add(p, "bpf_stats", true,
		    "the run time of BPF programs is measured (sysctl kernel.bpf_stats_enabled)");
	else
		add(p, "bpf_stats", false,
		    "the run time of BPF programs isn't measured (%s): cpu usage leaves it out",
		    strerror(errno));
}

static void probe_ceiling(struct probe *p, const struct cgroup_place *place)
{
	char cpu[200] = "", mem[200] = "", bytes[32];
	struct ceiling c;

	cgroup_read_ceiling(place, &c);
	if (c.cpu_millicores)
		snprintf(cpu, sizeof(cpu), "%s allows %.3f cores", c.cpu_at,
			 (double)c.cpu_millicores / 1000);
	if (c.mem_bytes)
		snprintf(mem, sizeof(mem), "%s allows %s of memory", c.mem_at,
			 units_format_bytes(bytes, sizeof(bytes), c.mem_bytes));
	if (*cpu || *mem)
		add(p, "ceiling", true, "%s%s%s: no limit of ours goes beyond", cpu,
		    *cpu && *mem ? ", " : "", mem);
	else
		add(p, "ceiling", true, "no group above ours has a limit");
}

static void probe_host(struct probe *p, const struct cgroup_place *place)
{
	static const char *const modes[CGROUP_MODE_X_MAX] = {
		"none", "version 1", "hybrid (version 1 with an empty version 2)", "version 2"};
	const char *lockdown = hooks_lockdown(), *lost;
	char text[200];
	bool v2 = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0 ||
		  access("/sys/fs/cgroup/unified/cgroup.controllers", F_OK) == 0;
	bool selinux = access("/sys/fs/selinux/enforce", F_OK) == 0;

	if (access("/sys/kernel/security/lockdown", F_OK) < 0)
		add(p, "lockdown", true,
		    "unknown, securityfs isn't mounted: the probes of the hooks say what is "
		    "closed");
	else
		add(p, "lockdown", !*lockdown, "%s%s", *lockdown ? lockdown : "off",
		    *lockdown ? ": kernel memory can't be read, some hooks are closed"
			      : ": nothing is closed by it");
	add(p, "tracefs", tracepoint_tracefs(text, sizeof(text)) == 0, "%s", text);
	add(p, "cgroup2", v2, "%s",
	    v2 ? "a version 2 tree is mounted: containers can be told, UDP and own traffic counted"
	       : "no version 2 tree is mounted: containers can't be told, UDP and own traffic not "
		 "counted");
	if (place) {
		lost = cgroup_lost(place);
		add(p, "cgroup_mode", cgroup_mode(place) != CGROUP_NONE, "%s; %s",
		    modes[cgroup_mode(place)], cgroup_describe(place));
		probe_ceiling(p, place);
		add(p, "kernel_limits", !*lost, "%s",
		    *lost ? lost : "the kernel holds us above our own limits, too");
	}
	add(p, "selinux", !selinux, "%s",
	    selinux ? "SELinux is loaded: a policy may refuse bpf(2); look for AVC lines if it does"
		    : "SELinux isn't loaded");
}

int probe_new(struct probe **ret, const struct cgroup_place *place)
{
	libbpf_print_fn_t print =
		libbpf_set_print(NULL); /* failed tries are answers here, not errors */
	struct probe *p = calloc(1, sizeof(*p));

	if (p) {
		probe_bpf(p);
		probe_hooks(p);
		probe_stats(p);
		probe_rights(p);
		probe_host(p, place);
		hooks_done();
		*ret = p;
	}
	libbpf_set_print(print);
	return p ? 0 : -ENOMEM;
}

void probe_free(struct probe *p)
{
	free(p);
}

static const struct capability_info *find(const struct probe *p, const char *name)
{
	for (unsigned int i = 0; i < p->n; i++)
		if (strcmp(p->caps[i].name, name) == 0)
			return &p->caps[i];
	return NULL;
}

int probe_require(const struct probe *p, struct err *err)
{
	static const char *const needed[] = {"bpf", "btf", "ringbuf"};

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		const struct capability_info *c = find(p, needed[i]);

		if (c && !c->available)
			return err_set(err, -EOPNOTSUPP, "%s", c->detail);
	}
	return 0;
}

unsigned int probe_capabilities(const struct probe *p, struct capability_info *ret,
				unsigned int cap)
{
	for (unsigned int i = 0; i < p->n && i < cap; i++)
		ret[i] = p->caps[i];
	return p->n;
}

static void require(struct requirement_info *ret, unsigned int cap, unsigned int *n,
		    const char *name, bool met, bool required, const char *detail)
{
	struct requirement_info *r;

	if (*n == cap)
		return;
	r = &ret[(*n)++];
	memset(r, 0, sizeof(*r));
	snprintf(r->name, sizeof(r->name), "%s", name);
	snprintf(r->detail, sizeof(r->detail), "%s", detail);
	r->met = met;
	r->required = required;
}

static bool is_listed(const struct requirement_info *list, unsigned int n, const char *name)
{
	for (unsigned int i = 0; i < n; i++)
		if (strncmp(list[i].name, name, sizeof(list[i].name) - 1) == 0)
			return true;
	return false;
}

/* Programs of a plugin with alternatives are met when one of each group is; the sentence says
 * which. */
static void require_programs(struct bpf_object *obj, struct requirement_info *ret, unsigned int cap,
			     unsigned int *n)
{
	struct hooks_banned none = {0};
	char degraded[200], why[200];
	struct bpf_program *prog;
	struct err err = {0};
	int r;

	r = hooks_choose(obj, &none, degraded, sizeof(degraded), &err);
	if (r < 0)
		require(ret, cap, n, "hooks", false, true, err.msg);
	else if (degraded[0])
		require(ret, cap, n, "hooks", false, false, degraded);
	bpf_object__for_each_program(prog, obj) {
		const char *section = bpf_program__section_name(prog);
		bool ok;

		/* Several programs may want the same one. */
		if (!bpf_program__autoload(prog) || is_listed(ret, *n, section))
			continue;
		ok = hooks_section_usable(section, why, sizeof(why));
		require(ret, cap, n, section, ok, true, ok ? "this hook can be used" : why);
	}
}

int probe_plugin(const struct probe *p, const struct plugin *plugin, struct requirement_info *ret,
		 unsigned int cap, unsigned int *n, struct err *err)
{
	static const char *const needed[] = {"bpf", "btf", "ringbuf"};
	struct bpf_object_skeleton *skel;
	void *obj;

	*n = 0;
	if (!plugin->skel)
		return 0; /* plugin.needs says it */
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		const struct capability_info *c = find(p, needed[i]);

		if (c)
			require(ret, cap, n, c->name, c->available, true, c->detail);
	}
	obj = plugin->skel->open(&skel);
	if (!obj)
		return err_set(err, -EINVAL, "plugin %s: cannot open its BPF object: %s",
			       plugin->name, strerror(errno));
	require_programs(*skel->obj, ret, cap, n);
	hooks_done();
	plugin->skel->destroy(obj);
	return 0;
}
