/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The system call that ends: its number, arguments and width, as they still stand in its registers.
 */
#pragma once

#include "bpf/lib/process_btf.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* pt_regs of the kernel, by its own names; <asm/ptrace.h> has others. */
#if defined(__TARGET_ARCH_x86)
#define vfs_pt_regs pt_regs___x86
struct pt_regs___x86 {
	unsigned long bp, bx, r10, r9, r8, cx, dx, si, di, orig_ax;
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

#if defined(__TARGET_ARCH_x86)
#define VFS_ARGS_NR orig_ax
/* arch/x86/include/asm/thread_info.h: TS_COMPAT, set while such a call lasts. */
#define VFS_COMPAT_WORD status
#define VFS_COMPAT_BIT	(1u << 1)
#else
#define VFS_ARGS_NR	syscallno
/* arch/arm64/include/asm/thread_info.h: TIF_32BIT. */
#define VFS_COMPAT_WORD flags
#define VFS_COMPAT_BIT	(1u << 22)
#endif

/* Is the call one of 32-bit programs, with their numbers and registers? */
static __always_inline bool syscall_is_compat(void)
{
	struct task_struct *t;

	if (!task_is_typed())
		return BPF_CORE_READ(current_task(), thread_info.VFS_COMPAT_WORD) & VFS_COMPAT_BIT;
	t = (void *)bpf_get_current_task_btf();
	return t->thread_info.VFS_COMPAT_WORD & VFS_COMPAT_BIT;
}

/* args: by enum vfs_arg. */
static __always_inline void syscall_args(__u64 *args, struct vfs_pt_regs *r, bool compat)
{
	args[VFS_ARG_NONE] = 0;
	args[VFS_ARG_CWD] = K_AT_FDCWD;
#if defined(__TARGET_ARCH_x86)
	if (compat) {
		args[1] = (__u32)r->bx;
		args[2] = (__u32)r->cx;
		args[3] = (__u32)r->dx;
		args[4] = (__u32)r->si;
		args[5] = (__u32)r->di;
		args[6] = (__u32)r->bp;
		return;
	}
	args[1] = r->di;
	args[2] = r->si;
	args[3] = r->dx;
	args[4] = r->r10;
	args[5] = r->r8;
	args[6] = r->r9;
#else
	/* The first register has the result. */
	args[1] = r->orig_x0;
	args[2] = r->regs[1];
	args[3] = r->regs[2];
	args[4] = r->regs[3];
	args[5] = r->regs[4];
	args[6] = r->regs[5];
#endif
}
