/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses of the kernel as pointers with a type, whose fields are loads. */
/*
 * Since a35b9af4ec2c ("bpf: Add a kfunc for generic type cast"), 6.2, a program may say what is at
 * an address, and read it without a helper: nothing is called, a load from a bad address gives 0.
 * Elsewhere can_cast() is constant, and what stands behind it is never looked at.
 */
#pragma once

#include "bpf/lib/kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* kernel/bpf/verifier.c: which of its functions a kernel's verifier knows. */
enum special_kfunc_type {
	KF_bpf_rdonly_cast = 1,
};

extern void *bpf_rdonly_cast(const void *address, __u32 type) __ksym __weak;

static __always_inline bool can_cast(void)
{
	return bpf_core_enum_value_exists(enum special_kfunc_type, KF_bpf_rdonly_cast);
}

/* type: one of the kernel's that bpf/lib/kernel.h has. */
#define cast_to(type, address) \
	((type *)bpf_rdonly_cast((const void *)(address), bpf_core_type_id_kernel(type)))
