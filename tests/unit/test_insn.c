// SPDX-License-Identifier: Apache-2.0
/* Sites for cheap probes: beginnings of real functions, and what must not be stepped over. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/macro.h"
#include "bpf/insn.h"

#if defined(__x86_64__)
static const struct {
	const char *what;
	uint8_t code[24];
	size_t len, want;
} sites[] = {
	{"push", {0x53, 0x48, 0x83, 0xec, 0x30}, 5, 0},
	{"free of glibc: test, je", {0x48, 0x85, 0xff, 0x0f, 0x84, 0xbf, 0, 0, 0}, 9, 3},
	{"endbr64, push", {0xf3, 0x0f, 0x1e, 0xfa, 0x41, 0x54}, 6, 4},
	{"endbr64, test, je", {0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x85, 0xff, 0x74, 5}, 9, 7},
	{"cmpb $0, x(%rip), push %r12", {0x80, 0x3d, 1, 2, 0x14, 0, 0, 0x41, 0x54}, 9, 7},
	{"cmpq $0, 0x30(%rdi), je", {0x48, 0x83, 0x7f, 0x30, 0, 0x74, 9}, 7, 5},
	{"mov %rdi, %rax, push", {0x48, 0x89, 0xf8, 0x55}, 4, 3},
	{"mov %rsi, %rdi changes an argument", {0x48, 0x89, 0xf7, 0x55}, 4, 0},
	{"mov (%rdi), %rdi, too", {0x48, 0x8b, 0x3f, 0x55}, 4, 0},
	{"mov 8(%rsp), %rax, push", {0x48, 0x8b, 0x44, 0x24, 8, 0x55}, 6, 5},
	{"mov %rax, %r8 changes one", {0x49, 0x89, 0xc0, 0x55}, 4, 0},
	{"mov %rax, %r10 doesn't", {0x49, 0x89, 0xc2, 0x55}, 4, 3},
	{"sub $8, %rsp moves the stack", {0x48, 0x83, 0xec, 8, 0x74, 0}, 6, 0},
	{"xor %edi, %edi", {0x31, 0xff, 0x55}, 3, 0},
	{"mov %rax, (%rdi) writes memory", {0x48, 0x89, 0x07, 0x55}, 4, 0},
	{"cut off in an instruction", {0x48, 0x83, 0x7f}, 3, 0},
	{"cut off behind one", {0x48, 0x85, 0xff}, 3, 0},
	{"nothing", {0}, 0, 0},
};

static void finds_sites(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sites); i++)
		if (insn_probe_site(sites[i].code, sites[i].len) != sites[i].want)
			fail_msg("%s: %zu, not %zu", sites[i].what,
				 insn_probe_site(sites[i].code, sites[i].len), sites[i].want);
}

static const struct {
	const char *what;
	uint8_t code[16];
	size_t len;
	int r;
	uint32_t want;
} fields[] = {
	{"SSL_version of 3.0", {0x8b, 0x07, 0x31, 0xff, 0xc3}, 5, 0, 0},
	{"with endbr64", {0xf3, 0x0f, 0x1e, 0xfa, 0x8b, 0x47, 0x48, 0xc3}, 8, 0, 0x48},
	{"64 bits, far", {0x48, 0x8b, 0x87, 0xa8, 0x09, 0, 0, 0x31, 0xff, 0xc3}, 10, 0, 0x9a8},
	{"movzwl", {0x0f, 0xb7, 0x47, 0x18, 0x31, 0xff, 0xc3}, 7, 0, 0x18},
	{"through another pointer", {0x48, 0x8b, 0x06, 0xc3}, 4, -ENOENT, 0},
	{"into another register", {0x8b, 0x0f, 0xc3}, 3, -ENOENT, 0},
	{"more behind it", {0x8b, 0x07, 0x48, 0x85, 0xc0, 0xc3}, 6, -ENOENT, 0},
	{"the result cleared", {0x8b, 0x07, 0x31, 0xc0, 0xc3}, 5, -ENOENT, 0},
	{"before the struct", {0x8b, 0x47, 0xf8, 0xc3}, 4, -ENOENT, 0},
	{"cut off", {0x8b, 0x87, 0x10}, 3, -ENOENT, 0},
	{"nothing", {0}, 0, -ENOENT, 0},
};

static void finds_fields(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		uint32_t got = 0;
		int r = insn_field_offset(fields[i].code, fields[i].len, &got);

		if (r != fields[i].r || got != fields[i].want)
			fail_msg("%s: %d, %u", fields[i].what, r, got);
	}
}
#endif

/* Whatever bytes come: within them. */
static void survives_noise(void **state)
{
	uint8_t code[INSN_SITE_BYTES];
	uint64_t x = 88172645463325252ull;

	(void)state;
	for (int i = 0; i < 200000; i++) {
		size_t len = (size_t)(i % (INSN_SITE_BYTES + 1));
		uint32_t field;

		for (size_t j = 0; j < len; j++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			code[j] = (uint8_t)x;
		}
		assert_true(insn_probe_site(code, len) <= len);
		(void)insn_field_offset(code, len, &field);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#if defined(__x86_64__)
		cmocka_unit_test(finds_sites),
		cmocka_unit_test(finds_fields),
#endif
		cmocka_unit_test(survives_noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
