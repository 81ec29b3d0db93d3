// SPDX-License-Identifier: Apache-2.0
/* What a plugin must know of an executable or library to put uprobes into it. */
#include "bpf/exe.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/macro.h"

#if defined(__x86_64__)
#define EXE_MACHINE EM_X86_64
#define EXE_TRIPLET "x86_64-linux-gnu"
#elif defined(__aarch64__)
#define EXE_MACHINE EM_AARCH64
#define EXE_TRIPLET "aarch64-linux-gnu"
#else
#error "uprobes: unknown machine"
#endif

struct exe {
	int fd;
	Elf *elf;
	struct stat st;
	size_t nphdr;
	struct exe_symbols {
		Elf_Data *data;
		size_t n, names; /* names: string table section */
	} symbols, all;		 /* dynamic ones; all, unless stripped */
	Elf_Data *dynamic;
	size_t ndynamic, dynamic_names;
};

void exe_close(struct exe *x)
{
	if (!x)
		return;
	if (x->elf)
		elf_end(x->elf);
	if (x->fd >= 0)
		close(x->fd);
	free(x);
}

static void find_sections(struct exe *x)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr sh;

	while ((scn = elf_nextscn(x->elf, scn))) {
		if (!gelf_getshdr(scn, &sh) || !sh.sh_entsize)
			continue;
		if (sh.sh_type == SHT_DYNSYM || sh.sh_type == SHT_SYMTAB) {
			struct exe_symbols *s = sh.sh_type == SHT_DYNSYM ? &x->symbols : &x->all;

			s->data = elf_getdata(scn, NULL);
			s->n = sh.sh_size / sh.sh_entsize;
			s->names = sh.sh_link;
		} else if (sh.sh_type == SHT_DYNAMIC) {
			x->dynamic = elf_getdata(scn, NULL);
			x->ndynamic = sh.sh_size / sh.sh_entsize;
			x->dynamic_names = sh.sh_link;
		}
	}
}

int exe_open(struct exe **ret, const char *path, struct err *err)
{
	_cleanup_(exe_closep) struct exe *x = NULL;
	GElf_Ehdr eh;

	x = calloc(1, sizeof(*x));
	if (!x)
		return err_set(err, -ENOMEM, "no memory to read '%s'", path);
	/* O_NONBLOCK: a FIFO at that path must not hold up the loop. */
	x->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (x->fd < 0)
		return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
	if (fstat(x->fd, &x->st) < 0)
		return err_set(err, -errno, "cannot examine '%s': %s", path, strerror(errno));
	if (!S_ISREG(x->st.st_mode))
		return err_set(err, -ENOEXEC, "'%s' isn't a file", path);
	if (elf_version(EV_CURRENT) != EV_NONE)
		x->elf = elf_begin(x->fd, ELF_C_READ, NULL);
	if (!x->elf || elf_kind(x->elf) != ELF_K_ELF || !gelf_getehdr(x->elf, &eh) ||
	    elf_getphdrnum(x->elf, &x->nphdr) || (eh.e_type != ET_EXEC && eh.e_type != ET_DYN) ||
	    eh.e_machine != EXE_MACHINE || gelf_getclass(x->elf) != ELFCLASS64)
		return err_set(err, -ENOEXEC, "'%s' isn't a program of this machine", path);
	find_sections(x);
	*ret = TAKE_PTR(x);
	return 0;
}

dev_t exe_dev(const struct exe *x)
{
	return x->st.st_dev;
}

ino_t exe_ino(const struct exe *x)
{
	return x->st.st_ino;
}

static uint64_t find_symbol(const struct exe *x, const struct exe_symbols *in, const char *name,
			    bool function)
{
	GElf_Sym sym;

	for (size_t i = 0; in->data && i < in->n && gelf_getsym(in->data, i, &sym); i++) {
		const char *s;

		if (sym.st_shndx == SHN_UNDEF || !sym.st_value)
			continue;
		if (function && GELF_ST_TYPE(sym.st_info) != STT_FUNC)
			continue;
		s = elf_strptr(x->elf, in->names, sym.st_name);
		if (s && !strcmp(s, name))
			return sym.st_value;
	}
	return 0;
}

uint64_t exe_symbol(const struct exe *x, const char *name)
{
	return find_symbol(x, &x->symbols, name, false);
}

uint64_t exe_function(const struct exe *x, const char *name)
{
	uint64_t addr = find_symbol(x, &x->symbols, name, true);

	return addr ? addr : find_symbol(x, &x->all, name, true);
}

static const char *symbol_at(const struct exe *x, const struct exe_symbols *in, uint64_t addr,
			     uint64_t *inside)
{
	GElf_Sym sym;

	for (size_t i = 0; in->data && i < in->n && gelf_getsym(in->data, i, &sym); i++) {
		if (sym.st_shndx == SHN_UNDEF || GELF_ST_TYPE(sym.st_info) != STT_FUNC ||
		    addr < sym.st_value || addr - sym.st_value >= sym.st_size)
			continue;
		*inside = addr - sym.st_value;
		return elf_strptr(x->elf, in->names, sym.st_name);
	}
	return NULL;
}

/* The reverse of exe_offset(). */
static uint64_t address_of(const struct exe *x, uint64_t offset)
{
	GElf_Phdr ph;

	for (size_t i = 0; i < x->nphdr && gelf_getphdr(x->elf, i, &ph); i++)
		if (ph.p_type == PT_LOAD && ph.p_flags & PF_X && offset >= ph.p_offset &&
		    offset - ph.p_offset < ph.p_filesz)
			return offset - ph.p_offset + ph.p_vaddr;
	return 0;
}

const char *exe_function_at(const struct exe *x, uint64_t offset, uint64_t *inside)
{
	uint64_t addr = address_of(x, offset);
	const char *name;

	if (!addr)
		return NULL;
	name = symbol_at(x, &x->all, addr, inside);
	return name ? name : symbol_at(x, &x->symbols, addr, inside);
}

ssize_t exe_read(const struct exe *x, uint64_t offset, void *dst, size_t len)
{
	ssize_t n = pread(x->fd, dst, len, (off_t)offset);

	return n < 0 ? -errno : n;
}

uint64_t exe_offset(const struct exe *x, uint64_t addr)
{
	GElf_Phdr ph;

	for (size_t i = 0; i < x->nphdr && gelf_getphdr(x->elf, i, &ph); i++)
		if (ph.p_type == PT_LOAD && ph.p_flags & PF_X && addr >= ph.p_vaddr &&
		    addr - ph.p_vaddr < ph.p_filesz)
			return addr - ph.p_vaddr + ph.p_offset;
	return 0;
}

const char *exe_needs(const struct exe *x, const char *prefix)
{
	GElf_Dyn dyn;

	for (size_t i = 0; x->dynamic && i < x->ndynamic && gelf_getdyn(x->dynamic, i, &dyn); i++) {
		const char *s;

		if (dyn.d_tag == DT_NULL)
			break;
		if (dyn.d_tag != DT_NEEDED)
			continue;
		s = elf_strptr(x->elf, x->dynamic_names, dyn.d_un.d_val);
		if (s && !strncmp(s, prefix, strlen(prefix)))
			return s;
	}
	return NULL;
}

void exe_layout(const struct exe *x, struct exe_layout *ret)
{
	struct exe_layout l = {.start_code = UINT64_MAX};
	GElf_Phdr ph;

	for (size_t i = 0; i < x->nphdr && gelf_getphdr(x->elf, i, &ph); i++) {
		uint64_t end = ph.p_vaddr + ph.p_filesz;

		if (ph.p_type != PT_LOAD)
			continue;
		if (ph.p_flags & PF_X && ph.p_vaddr < l.start_code)
			l.start_code = ph.p_vaddr;
		if (ph.p_flags & PF_X && end > l.end_code)
			l.end_code = end;
		if (ph.p_vaddr > l.start_data)
			l.start_data = ph.p_vaddr;
		if (end > l.end_data)
			l.end_data = end;
	}
	*ret = l;
}

/* As ld.so(8) is set up by Debian, Fedora and the rest. */
static const char *const folders[] = {
	"/lib/" EXE_TRIPLET, "/usr/lib/" EXE_TRIPLET, "/lib64", "/usr/lib64", "/lib", "/usr/lib",
};

bool exe_is_remote(uint32_t magic)
{
	/* FUSE, NFS, SMB, SMB2, CIFS, 9p, Ceph, AFS, Coda. */
	static const uint32_t remote[] = {0x65735546, 0x6969,	  0x517b,
					  0xfe534d42, 0xff534d42, 0x01021997,
					  0x00c36400, 0x5346414f, 0x73757245};

	for (size_t i = 0; i < ARRAY_SIZE(remote); i++)
		if (magic == remote[i])
			return true;
	return false;
}

int exe_fd(const struct exe *x)
{
	return x->fd;
}

int exe_openat(int root, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY),
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
	};
	int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

int exe_open_in(struct exe **ret, int root, const char *path, struct err *err)
{
	_cleanup_close_ int fd = exe_openat(root, path, O_RDONLY);
	char link[32];

	if (fd < 0)
		return err_set(err, fd, "cannot open '%s' in the root of a process: %s", path,
			       strerror(-fd));
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	return exe_open(ret, link, err);
}

int exe_open_library_in(struct exe **ret, int root, const char *soname, struct err *err)
{
	char path[256];

	for (size_t i = 0; i < ARRAY_SIZE(folders) && !strchr(soname, '/'); i++) {
		int n = snprintf(path, sizeof(path), "%s/%s", folders[i], soname);

		if (n > 0 && (size_t)n < sizeof(path) && !exe_open_in(ret, root, path, NULL))
			return 0;
	}
	return err_set(err, -ENOENT, "the root of a process has no %.64s", soname);
}

int exe_open_library(struct exe **ret, const char *soname, char *path, size_t cap, struct err *err)
{
	if (strchr(soname, '/'))
		return err_set(err, -EINVAL, "'%s' isn't the name of a library", soname);
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		int n = snprintf(path, cap, "%s/%s", folders[i], soname);

		if (n > 0 && (size_t)n < cap && !exe_open(ret, path, NULL))
			return 0;
	}
	return err_set(err, -ENOENT,
		       "%s is in none of /lib/" EXE_TRIPLET ", /usr/lib/" EXE_TRIPLET
		       ", /lib64, /usr/lib64, /lib, /usr/lib",
		       soname);
}
