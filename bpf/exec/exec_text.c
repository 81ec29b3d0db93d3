// SPDX-License-Identifier: Apache-2.0
/* Texts of exec rows: paths from components, arguments as a shell would take them. */
#include "bpf/exec/exec_text.h"

#include <assert.h>
#include <linux/capability.h>
#include <string.h>

#include "base/macro.h"

void exec_path_add(struct buf *b, const char *components, size_t len, bool cut)
{
	size_t end = len;

	if (cut)
		buf_puts(b, "...");
	if (!end)
		buf_putc(b, '/');
	/* From the last to the first: each begins behind the NUL of the one before it. */
	while (end) {
		size_t last = end - 1, start = last;

		while (start && components[start - 1])
			start--;
		buf_putc(b, '/');
		buf_add(b, components + start, strnlen(components + start, last - start));
		end = start;
	}
}

static bool is_plain(const char *s, size_t len)
{
	static const bool plain[256] = {
		['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true,   ['_'] = true,
		['-'] = true,	      ['+'] = true,	    ['='] = true,	    ['.'] = true,
		[','] = true,	      [':'] = true,	    ['/'] = true,	    ['@'] = true,
		['%'] = true,	      ['^'] = true,	    [0x80 ... 0xff] = true,
	};

	for (size_t i = 0; i < len; i++)
		if (!plain[(unsigned char)s[i]])
			return false;
	return len > 0;
}

static void add_quoted(struct buf *b, const char *s, size_t len)
{
	if (is_plain(s, len)) {
		buf_add(b, s, len);
		return;
	}
	buf_putc(b, '\'');
	for (size_t i = 0; i < len; i++) {
		if (s[i] == '\'')
			buf_puts(b, "'\\''");
		else
			buf_putc(b, s[i]);
	}
	buf_putc(b, '\'');
}

/* Without the bytes of a character that goes on behind len. */
static size_t whole_characters(const char *s, size_t len)
{
	size_t lead = len, need;
	unsigned char c;

	for (int back = 0; back < 4 && lead; back++) {
		c = (unsigned char)s[--lead];
		if ((c & 0xc0) == 0x80)
			continue;
		need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
		return lead + need > len ? lead : len;
	}
	return len;
}

void exec_args_add(struct buf *b, const char *args, size_t len, bool cut)
{
	for (size_t at = 0; at < len;) {
		size_t n = strnlen(args + at, len - at);
		bool whole = at + n < len || !cut;

		if (at)
			buf_putc(b, ' ');
		add_quoted(b, args + at, whole ? n : whole_characters(args + at, n));
		at += n + 1;
	}
}

void exec_env_add(struct buf *b, const char *env, size_t len, const char *name)
{
	size_t name_len = strlen(name);

	for (size_t at = 0; at < len;) {
		size_t n = strnlen(env + at, len - at);

		/* The last of a block that was cut off isn't whole: better none. */
		if (at + n < len && n > name_len && env[at + name_len] == '=' &&
		    !memcmp(env + at, name, name_len)) {
			if (b->len)
				buf_putc(b, ' ');
			add_quoted(b, env + at, n);
			return;
		}
		at += n + 1;
	}
}

void exec_ancestry_add(struct buf *b, const struct exec_ancestor *chain, unsigned int n)
{
	if (n == EXEC_ANCESTORS && chain[n - 1].pid != 1)
		buf_puts(b, ".../");
	while (n--) {
		buf_add(b, chain[n].comm, strnlen(chain[n].comm, sizeof(chain[n].comm)));
		buf_putc(b, '(');
		buf_putu(b, chain[n].pid);
		buf_puts(b, n ? ")/" : ")");
	}
}

/* By number: include/uapi/linux/capability.h, of which none was ever taken away. */
static const char *const cap_names[] = {
	"chown",
	"dac_override",
	"dac_read_search",
	"fowner",
	"fsetid",
	"kill",
	"setgid",
	"setuid",
	"setpcap",
	"linux_immutable",
	"net_bind_service",
	"net_broadcast",
	"net_admin",
	"net_raw",
	"ipc_lock",
	"ipc_owner",
	"sys_module",
	"sys_rawio",
	"sys_chroot",
	"sys_ptrace",
	"sys_pacct",
	"sys_admin",
	"sys_boot",
	"sys_nice",
	"sys_resource",
	"sys_time",
	"sys_tty_config",
	"mknod",
	"lease",
	"audit_write",
	"audit_control",
	"setfcap",
	"mac_override",
	"mac_admin",
	"syslog",
	"wake_alarm",
	"block_suspend",
	"audit_read",
	"perfmon",
	"bpf",
	"checkpoint_restore",
};

static_assert(ARRAY_SIZE(cap_names) == CAP_CHECKPOINT_RESTORE + 1, "a name for each");

/* Those that Linux 5.8 and older had: a kernel sets no bit for one that it doesn't know. */
#define CAPS_ONCE ((1ull << (CAP_AUDIT_READ + 1)) - 1)

void exec_caps_add(struct buf *b, uint64_t caps)
{
	bool first = true;

	if ((caps & CAPS_ONCE) == CAPS_ONCE) {
		uint64_t newer = caps & ~CAPS_ONCE;

		/* Without gaps from the lowest on: nobody took one away. */
		if (!((newer >> (CAP_AUDIT_READ + 1)) & ((newer >> (CAP_AUDIT_READ + 1)) + 1))) {
			buf_puts(b, "all");
			return;
		}
	}
	for (unsigned int i = 0; i < 64; i++) {
		if (!(caps & 1ull << i))
			continue;
		buf_puts(b, first ? "cap_" : ",cap_");
		if (i < ARRAY_SIZE(cap_names))
			buf_puts(b, cap_names[i]);
		else
			buf_printf(b, "%u", i);
		first = false;
	}
}
