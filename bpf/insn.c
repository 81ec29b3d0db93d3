// SPDX-License-Identifier: Apache-2.0
/* Where in a function's first instructions a uprobe is cheap. */
#include "bpf/insn.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)

/* Enough for endbr64 and the checks of arguments that compilers put before the first push; a site
 * further inside might be reached by a jump from below, too. */
#define SITE_STEPS 6

/* Numbers of registers as instructions have them. */
enum {
	REG_RCX = 1,
	REG_RDX = 2,
	REG_RSP = 4,
	REG_RSI = 6,
	REG_RDI = 7,
	REG_R8 = 8,
	REG_R9 = 9,
};

static bool holds_argument(unsigned int reg)
{
	switch (reg) {
	case REG_RCX:
	case REG_RDX:
	case REG_RSP:
	case REG_RSI:
	case REG_RDI:
	case REG_R8:
	case REG_R9:
		return true;
	default:
		return false;
	}
}

/* arch/x86/kernel/uprobes.c: push_setup_xol_ops() and branch_setup_xol_ops(). */
static bool emulated(const uint8_t *p, size_t len)
{
	if (p[0] >= 0x50 && p[0] <= 0x57)
		return true; /* push */
	if (len > 1 && p[0] == 0x41 && p[1] >= 0x50 && p[1] <= 0x57)
		return true; /* push of r8 to r15 */
	if (p[0] == 0xe9 || p[0] == 0xeb || p[0] == 0xe8)
		return true; /* jmp, call */
	if (p[0] >= 0x70 && p[0] <= 0x7f)
		return true; /* jcc */
	return len > 1 && p[0] == 0x0f && p[1] >= 0x80 && p[1] <= 0x8f;
}

/* Length of ModRM, SIB and displacement; 0: it isn't all there. */
static size_t modrm_length(const uint8_t *p, size_t len)
{
	unsigned int mod, rm;
	size_t n = 1;

	if (!len)
		return 0;
	mod = p[0] >> 6;
	rm = p[0] & 7;
	if (mod != 3 && rm == 4) {
		if (len < 2)
			return 0;
		if (mod == 0 && (p[1] & 7) == 5)
			n += 4;
		n++;
	}
	if (mod == 1)
		n += 1;
	else if (mod == 2 || (mod == 0 && rm == 5))
		n += 4;
	return n <= len ? n : 0;
}

static bool is_endbr(const uint8_t *p, size_t len)
{
	static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};

	return len >= sizeof(endbr64) && !memcmp(p, endbr64, sizeof(endbr64));
}

/*
 * The length of an instruction after which a probe still finds the arguments; 0: another one, or
 * one that isn't known. Only what stands at the beginning of functions.
 */
static size_t harmless(const uint8_t *code, size_t len)
{
	const uint8_t *p = code;
	size_t immediate = 0, n;
	unsigned int rex = 0, reg, rm;

	if (is_endbr(p, len))
		return 4;
	if (len && (p[0] & 0xf0) == 0x40) {
		rex = *p++;
		len--;
	}
	if (len < 2)
		return 0;
	n = modrm_length(p + 1, len - 1);
	reg = (p[1] >> 3 & 7) | (rex & 4) << 1;
	rm = (p[1] & 7) | (rex & 1) << 3;
	switch (p[0]) {
	case 0x84: /* test r, r/m */
	case 0x85:
	case 0x38: /* cmp */
	case 0x39:
	case 0x3a:
	case 0x3b:
		break;
	case 0x80: /* cmp imm8, r/m; others of the group write */
	case 0x83:
		if ((reg & 7) != 7)
			return 0;
		immediate = 1;
		break;
	case 0x31: /* xor, mov: to a register that isn't an argument */
	case 0x89:
		if (p[1] >> 6 != 3 || holds_argument(rm))
			return 0;
		break;
	case 0x33:
	case 0x8b:
		if (holds_argument(reg))
			return 0;
		break;
	default:
		return 0;
	}
	if (!n || 1 + n + immediate > len)
		return 0;
	return (rex ? 1 : 0) + 1 + n + immediate;
}

size_t insn_probe_site(const uint8_t *code, size_t len)
{
	size_t at = 0;

	for (int i = 0; i < SITE_STEPS && at < len; i++) {
		size_t n;

		if (emulated(code + at, len - at))
			return at;
		n = harmless(code + at, len - at);
		if (!n)
			return 0;
		at += n;
	}
	return 0;
}

/* What may follow: registers that are cleared against their reuse, and the return. */
static bool only_returns(const uint8_t *p, size_t len)
{
	while (len >= 2 && p[0] == 0x31 && p[1] >= 0xc0) {
		if ((p[1] & 7) == 0)
			return false; /* that would be the result */
		p += 2;
		len -= 2;
	}
	return len && p[0] == 0xc3;
}

int insn_field_offset(const uint8_t *code, size_t len, uint32_t *ret)
{
	int32_t disp = 0;
	size_t n;

	if (is_endbr(code, len)) {
		code += 4;
		len -= 4;
	}
	if (len && code[0] == 0x48) { /* 64 bits */
		code++;
		len--;
	}
	if (len >= 2 && code[0] == 0x0f && code[1] == 0xb7) { /* movzwl: one byte more */
		code++;
		len--;
	} else if (!len || code[0] != 0x8b) {
		return -ENOENT;
	}
	n = modrm_length(code + 1, len - 1);
	/* To eax, from memory at rdi. */
	if (!n || (code[1] & 0x38) || (code[1] & 7) != REG_RDI || code[1] >> 6 == 3)
		return -ENOENT;
	if (n == 2)
		disp = (int8_t)code[2];
	else if (n == 5)
		memcpy(&disp, code + 2, sizeof(disp));
	if (disp < 0 || !only_returns(code + 1 + n, len - 1 - n))
		return -ENOENT;
	*ret = (uint32_t)disp;
	return 0;
}

#else

size_t insn_probe_site(const uint8_t *code, size_t len)
{
	(void)code;
	(void)len;
	return 0;
}

int insn_field_offset(const uint8_t *code, size_t len, uint32_t *ret)
{
	(void)code;
	(void)len;
	(void)ret;
	return -ENOENT;
}

#endif
