// SPDX-License-Identifier: Apache-2.0
/* Many uprobes as one link, where the kernel can: uprobe_multi (Linux 6.6), which libbpf 1.1
 * doesn't know. */
#include "bpf/uprobe.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/macro.h"
#include "bpf/maps.h"

/* include/uapi/linux/bpf.h since 89ae89f53d20 ("bpf: Add multi uprobe link"), 6.6. */
#define ATTACH_UPROBE_MULTI 48
#define MULTI_RETURN	    1

/* The part of union bpf_attr that BPF_LINK_CREATE reads for this kind of link. */
struct multi_attr {
	uint32_t prog_fd, target_fd, attach_type, flags;
	uint64_t path, offsets, ref_ctr_offsets, cookies;
	uint32_t cnt, multi_flags, pid, pad;
};

static int link_create(int prog_fd, bool at_return, uint32_t pid, const char *path,
		       const uint64_t *offsets, const uint64_t *cookies, size_t n)
{
	struct multi_attr a = {
		.prog_fd = (uint32_t)prog_fd,
		.attach_type = ATTACH_UPROBE_MULTI,
		.path = (uint64_t)(uintptr_t)path,
		.offsets = (uint64_t)(uintptr_t)offsets,
		.cookies = (uint64_t)(uintptr_t)cookies,
		.cnt = (uint32_t)n,
		.multi_flags = at_return ? MULTI_RETURN : 0,
		.pid = pid,
	};
	long fd = syscall(SYS_bpf, BPF_LINK_CREATE, &a, sizeof(a));

	return fd < 0 ? -errno : (int)fd;
}

/* A function of our own to put a probe into; nobody calls it. */
static __attribute__((noinline, used)) void nobody_calls(void)
{
	__asm__ volatile("");
}

static int find_own_offset(const struct map_line *m, void *arg)
{
	uint64_t addr = (uint64_t)(uintptr_t)nobody_calls, *offset = arg;

	if (!m->executable || addr < m->start || addr >= m->end)
		return 0;
	*offset = addr - m->start + m->offset;
	return 1;
}

bool uprobe_multi_usable(void)
{
	const struct bpf_insn insns[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0},
		{.code = BPF_JMP | BPF_EXIT},
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = ATTACH_UPROBE_MULTI);
	_cleanup_close_ int prog = -1, link = -1;
	uint64_t offset, cookie = 0;

	if (maps_each((uint32_t)getpid(), find_own_offset, &offset) != 1)
		return false;
	prog = bpf_prog_load(BPF_PROG_TYPE_KPROBE, NULL, "GPL", insns, ARRAY_SIZE(insns), &opts);
	if (prog < 0)
		return false;
	link = link_create(prog, false, (uint32_t)getpid(), "/proc/self/exe", &offset, &cookie, 1);
	return link >= 0;
}

int uprobe_multi_prepare(struct bpf_program *prog)
{
	return bpf_program__set_expected_attach_type(prog, ATTACH_UPROBE_MULTI);
}

bool uprobe_multi_prepared(const struct bpf_program *prog)
{
	return bpf_program__expected_attach_type(prog) == ATTACH_UPROBE_MULTI;
}

int uprobe_multi_attach(const struct bpf_program *prog, bool at_return, uint32_t pid,
			const char *path, const uint64_t *offsets, const uint64_t *cookies,
			size_t n)
{
	return link_create(bpf_program__fd(prog), at_return, pid, path, offsets, cookies, n);
}
