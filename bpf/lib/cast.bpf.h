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

/* As BPF_CORE_READ(): by loads where they are, of which a chain costs less than one helper. */
#define KERNEL_READ(from, ...)                                              \
	(can_cast() ? ___arrow(cast_to(typeof(*(from)), from), __VA_ARGS__) \
		    : BPF_CORE_READ(from, __VA_ARGS__))

/* Eight bytes of the kernel's memory, whatever they are; only where can_cast(). */
static __always_inline __u64 kernel_word(const void *address)
{
	return cast_to(struct timespec64, address)->tv_sec;
}

static __always_inline void *kernel_pointer(const void *address)
{
	void *pointer = NULL;

	if (can_cast())
		return (void *)kernel_word(address);
	bpf_probe_read_kernel(&pointer, sizeof(pointer), address);
	return pointer;
}

/* So many bytes cost less by loads than by a helper. */
#define KERNEL_WORDS_MAX 32

/*
 * Copies n <= KERNEL_WORDS_MAX bytes of the kernel's memory to what ends at end, from there down
 * in whole words: up to seven bytes before either are touched as well.
 */
static __always_inline void kernel_words_copy(char *end, const void *from, __u32 n)
{
	from += n;
	for (__u32 i = 8; i < KERNEL_WORDS_MAX + 8; i += 8) {
		*(__u64 *)(end - i) = kernel_word(from - i);
		if (n <= i)
			return;
	}
}
