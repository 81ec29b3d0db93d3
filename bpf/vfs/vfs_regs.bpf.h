/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Arguments of the system call that ends: they still stand on the kernel's stack. */
#pragma once

#include "bpf/lib/kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* pt_regs of the kernel, by its own names; <asm/ptrace.h> has others. */
#if defined(__TARGET_ARCH_x86)
#define vfs_pt_regs pt_regs___x86
struct pt_regs___x86 {
	unsigned long r10, r9, r8, dx, si, di, orig_ax;
};

#elif defined(__TARGET_ARCH_arm64)
#define vfs_pt_regs pt_regs___arm64
struct pt_regs___arm64 {
	u64 regs[31];
	u64 orig_x0;
	s32 syscallno;
};
#else
#error "which registers have the arguments?"
#endif

#pragma clang attribute pop

/* Of the kernel's stacks, where kernels before 5.15 have no helper that knows: 4 pages on x86, of
 * 4 KiB on arm64. Elsewhere (KASAN, larger pages) the number of the call isn't found, and that is
 * an error. */
#define REGS_STACK_SIZE 16384

#if defined(__TARGET_ARCH_x86)
/* How the fields are read: F(field). */
#define VFS_ARGS_READ(args, F)      \
	do {                        \
		(args)[1] = F(di);  \
		(args)[2] = F(si);  \
		(args)[3] = F(dx);  \
		(args)[4] = F(r10); \
		(args)[5] = F(r8);  \
		(args)[6] = F(r9);  \
	} while (0)
#define VFS_ARGS_NR orig_ax
#else
/* The first register has the result. */
#define VFS_ARGS_READ(args, F)          \
	do {                            \
		(args)[1] = F(orig_x0); \
		(args)[2] = F(regs[1]); \
		(args)[3] = F(regs[2]); \
		(args)[4] = F(regs[3]); \
		(args)[5] = F(regs[4]); \
		(args)[6] = F(regs[5]); \
	} while (0)
#define VFS_ARGS_NR syscallno
#endif

/* args: by enum vfs_arg. False: they aren't where they should be. */
static __always_inline bool syscall_args(__u64 *args, __u32 nr)
{
	struct vfs_pt_regs *r;

	args[VFS_ARG_NONE] = 0;
	args[VFS_ARG_CWD] = K_AT_FDCWD;
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs)) {
		r = (void *)bpf_task_pt_regs((void *)bpf_get_current_task_btf());
#define VFS_ARG_LOAD(field) r->field
		VFS_ARGS_READ(args, VFS_ARG_LOAD);
		return (__u32)r->VFS_ARGS_NR == nr;
	}
	r = BPF_CORE_READ(current_task(), stack) + REGS_STACK_SIZE -
	    bpf_core_type_size(struct vfs_pt_regs);
#define VFS_ARG_PROBE(field) BPF_CORE_READ(r, field)
	VFS_ARGS_READ(args, VFS_ARG_PROBE);
	return (__u32)BPF_CORE_READ(r, VFS_ARGS_NR) == nr;
}
